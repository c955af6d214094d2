"""Workers of runtime dpdk as primaries and standbys, of each other and of Python's.

Oracle: as in the tests of the Python runtime (test_replicate.py), which they are: a worker that is never
killed. Sanitizers watch the C part. Blind spot: ports and threads (emulated/test_dpdk_standbys.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import test_replicate as python
from dpdk_support import NEEDS_COMPILER
from support import eventually
from test_dpdk_transfer import IN_C, WAYS, BothRuntimes, config_of
from test_servernf_state import CASES, Case
from test_transfer import KEYS, NAPT, udp
from transfer_support import INSIDE, OF

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.standbys import LEASE_US
from servernf.python.variants import VARIANTS

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

DOUBLED = [case for case in CASES if case.nf in (*IN_C, "policer") and not case.is_full]
ASLEEP_US = (LEASE_US, 3_600_000_000)


@pytest.fixture(params=WAYS, ids="-".join)
def sites(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sites whose primary and standby are of these runtimes."""
    with ExitStack() as ending:

        def of_case(case: Case) -> BothRuntimes:
            config, pool = config_of(case)
            return made(case.nf, config, KEYS[case.by], pool)

        def made(*words: Any) -> BothRuntimes:
            return BothRuntimes(*words, runtimes=request.param, ending=ending)

        monkeypatch.setattr(python, "site_of", of_case)
        monkeypatch.setattr(python, "Site", made)
        yield


@pytest.mark.parametrize("case", DOUBLED, ids=str)
def test_a_standby_goes_on_as_its_primary_would_have(case: Case, sites: None) -> None:
    python.test_a_standby_goes_on_as_its_primary_would_have(case)


@pytest.mark.parametrize("variant", VARIANTS["replicate"])
def test_a_standby_sends_nothing_and_counts_nothing(variant: str, sites: None) -> None:
    python.test_a_standby_sends_nothing_and_counts_nothing(variant)


@pytest.mark.parametrize("variant", VARIANTS["replicate"])
@pytest.mark.parametrize("asleep_us", ASLEEP_US)
def test_a_primary_that_was_asleep_sends_nothing(variant: str, asleep_us: int, sites: None) -> None:
    python.test_a_primary_that_was_asleep_sends_nothing(variant, asleep_us)


@pytest.mark.parametrize("every", [1, 10, 64])
def test_per_n_loses_updates_of_at_most_n_packets(every: int, sites: None) -> None:
    python.test_per_n_loses_updates_of_at_most_n_packets(every)


@pytest.mark.parametrize(
    "same",
    [
        python.test_on_syn_fin_loses_no_connection_that_was_opened,
        python.test_what_is_gone_is_gone_at_the_standby,
        python.test_what_is_there_already_is_copied_and_only_what_is_asked_for,
        python.test_a_dead_standby_is_told_and_stops_nothing,
        python.test_state_that_is_followed_does_not_move_meanwhile,
    ],
    ids=lambda same: same.__name__,
)
def test_as_runtime_python(same: Callable[[], None], sites: None) -> None:
    same()


@pytest.mark.exhaustive
def test_a_hundred_kills_at_random_instants_break_nothing(sites: None) -> None:
    for seed in range(100):
        rng = random.Random(seed)
        play = python.Play(NAPT, seed)
        play.run(rng.randrange(1, 120))
        play.killed(is_told=rng.random() < 0.5)
        play.run(50)


@pytest.fixture
def primary() -> Iterator[python.Play]:
    """A dpdk worker that a Python one follows."""
    config, pool = config_of(NAPT)
    with ExitStack() as ending, pytest.MonkeyPatch.context() as patch:
        site = BothRuntimes(
            "napt", config, KEYS["inside"], pool, runtimes=("dpdk", "python"), ending=ending
        )
        patch.setattr(python, "site_of", lambda _: site)
        yield python.Play(NAPT, 8)


def test_a_process_that_ends_is_followed_no_more(primary: python.Play) -> None:
    """What waited is gone with it, and the next one waits for nobody."""
    primary.run(20)
    site = primary.site
    assert isinstance(site, BothRuntimes)
    worker = site.engines["a"]
    worker.engine.process.close()
    told = eventually(lambda: lost(site), what="a primary that says so")
    assert "has ended" in told.why
    assert site.send("a", INSIDE, udp(0x0A000101))
    assert site.replicate(python.START, *range(OF)).state == "following"


def lost(site: BothRuntimes) -> vnf.ReplicateResponse:
    told = site.replicate(python.STATUS)
    assert told.state == "lost"
    return told


def test_a_marker_leaves_behind_what_waits(primary: python.Play) -> None:
    site = primary.site
    assert isinstance(site, BothRuntimes)
    worker = site.engines["a"]
    worker.marks.waiting.append(b"\2\0\0\1\0\0" + bytes(6) + b"a marker that leaves last")
    sent = site.workers["a"].process([site.frame("a", INSIDE, udp(0x0A000101))])
    assert len(sent) == 2
    assert sent[-1].endswith(b"a marker that leaves last")

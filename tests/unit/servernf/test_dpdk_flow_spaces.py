"""Flow spaces within buckets move, and are doubled, where packets are C's, and between both runtimes.

Oracle: as in the tests of the Python runtime (test_flow_spaces.py), which they are. Sanitizers watch the
C part. Blind spot: the switches' entries (tests/emulated/test_moves.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import test_flow_spaces as python
from dpdk_support import NEEDS_COMPILER
from test_dpdk_transfer import WAYS, BothRuntimes, config_of
from test_servernf_state import Case
from test_transfer import KEYS

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

SAME = [
    python.test_its_flows_move_and_no_other_ones,
    python.test_it_is_doubled_alone,
    python.test_spaces_that_meet_are_refused_and_others_run_together,
    python.test_their_number_is_bounded_and_told,
    python.test_the_rest_and_the_space_come_from_two_workers_to_a_third_at_once,
]


@pytest.fixture(params=WAYS, ids="-".join)
def sites(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sites whose source and destination are of these runtimes."""
    with ExitStack() as ending:

        def of_case(case: Case) -> BothRuntimes:
            config, pool = config_of(case)
            return BothRuntimes(
                case.nf, config, KEYS[case.by], pool, runtimes=request.param, ending=ending
            )

        monkeypatch.setattr(python, "site_of", of_case)
        yield


@pytest.mark.parametrize("same", SAME, ids=lambda same: same.__name__)
def test_as_runtime_python(same: Callable[[], None], sites: None) -> None:
    same()


def test_what_an_earlier_owner_has_left_of_a_space_goes_and_no_more(sites: None) -> None:
    site, talk = python.busy(python.FIREWALL, 10)
    before = {name: set(records) for name, records in site.of_flows("a").items()}
    for phase in (python.BEGIN, python.FINISH):
        site.workers["a"].transfer(python.request(site, phase))
    for port, frame, _ in talk.frames(60):
        if python.is_inside(port, frame):
            site.send("a", port, frame)  # as if an update had brought them back without their state
    back = python.request(site, python.FINISH, name="back")
    back.destination = "a"
    for back.phase in (python.BEGIN, python.FINISH):
        if back.phase == python.BEGIN:
            site.announce(back)
        site.workers["b"].transfer(back)
    assert {name: set(records) for name, records in site.of_flows("a").items()} == before
    assert not any(site.of_flows("b").values())


@pytest.mark.parametrize(
    ("case", "inside", "expected"),
    [
        (python.FIREWALL, "10.0.1.5/30", "scope.inside: '10.0.1.5/30' is no prefix"),
        (python.NAPT, python.SPACE, "shows its bucket, and no flow space"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_begun(
    case: Case, inside: str, expected: str, sites: None
) -> None:
    python.test_what_is_wrong_is_told_and_nothing_begun(case, inside, expected)

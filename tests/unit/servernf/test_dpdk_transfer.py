"""State that moves between workers of runtime dpdk, and between both runtimes, while packets come: as if
it had never moved.

Oracle: a Python worker that nothing leaves. Sanitizers watch the C parts. Blind spot: ports and threads
(tests/emulated), flow spaces (test_dpdk_flow_spaces.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from dpdk_support import HAS, NEEDS_COMPILER, executable
from test_servernf_state import CASES, Case
from test_transfer import ABORT, BEGIN, FINISH, KEYS, Play
from transfer_support import OF, OFFSET_US, Site

from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import WorkerProcess
from servernf.dpdk.worker import DpdkWorker
from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.worker import Worker
from servernf.wire.errors import InputError

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

IN_C = tuple(
    nf
    for nf in ("napt", "stateful_firewall", "dnat", "l4_load_balancer", "ids", "flow_monitor")
    if nf in HAS
)
MOVED = [case for case in CASES if case.nf in IN_C and not case.is_full]
WAYS = [("dpdk", "dpdk"), ("python", "dpdk"), ("dpdk", "python")]


@dataclass(slots=True)
class BothRuntimes(Site):
    """Workers `a` and `b` of these runtimes; `c`, from which nothing moves, is Python's."""

    runtimes: tuple[str, str] = ("dpdk", "dpdk")
    ending: ExitStack = field(default_factory=ExitStack)
    engines: dict[str, DpdkWorker] = field(default_factory=dict[str, DpdkWorker])

    def made(self, name: str, mac: int, clock: Callable[[], int]) -> Worker | None:
        if name == "c" or self.runtimes["ab".index(name)] != "dpdk":
            return None
        made = executable()
        engine = NfEngine(mac, lambda memory: WorkerProcess(made, mac, memory))
        worker = DpdkWorker(name, mac, engine, clock, dial=lambda _: None)  # type: ignore[arg-type, return-value]
        self.ending.callback(worker.close)
        self.engines[name] = worker
        return worker

    def records(self, worker: str) -> dict[str, dict[bytes, bytes]]:
        if worker not in self.engines:
            return Site.records(self, worker)
        now_us = self.now_us + "abc".index(worker) * OFFSET_US
        return self.engines[worker].state_of(self.instance).snapshot(now_us)


def config_of(case: Case) -> tuple[Mapping[str, Any], tuple[int, ...]]:
    if case.nf == "napt":
        return {**case.config, "buckets": OF}, (0xCB007101, 0xCB007102)
    return case.config, ()


@pytest.fixture
def site_of() -> Iterator[Callable[[Case, tuple[str, str]], BothRuntimes]]:
    with ExitStack() as ending:

        def made(case: Case, runtimes: tuple[str, str]) -> BothRuntimes:
            config, pool = config_of(case)
            return BothRuntimes(
                case.nf, config, KEYS[case.by], pool, runtimes=runtimes, ending=ending
            )

        yield made


@pytest.mark.parametrize("runtimes", WAYS, ids="-".join)
@pytest.mark.parametrize("case", MOVED, ids=str)
def test_buckets_move_as_if_they_had_not(
    case: Case, runtimes: tuple[str, str], site_of: Callable[..., BothRuntimes]
) -> None:
    moved = [Play(case, site_of(case, runtimes), seed).move_two_buckets(seed) for seed in range(2)]
    assert all(map(sum, zip(*moved, strict=True)))


@pytest.mark.parametrize("runtimes", WAYS, ids="-".join)
@pytest.mark.parametrize("case", MOVED, ids=str)
def test_all_of_an_instance_moves(
    case: Case, runtimes: tuple[str, str], site_of: Callable[..., BothRuntimes]
) -> None:
    """Counters and what is of no flow, too."""
    site = site_of(case, runtimes)
    play = Play(case, site, 1)
    play.run(200)
    assert site.transfer(BEGIN).state == "ready"
    site.owner = ["b"] * OF
    assert site.transfer(FINISH).state == "done"
    assert site.records("b") == site.records("c")
    assert not any(map(len, site.of_flows("a").values()))
    play.run(100)
    assert site.records("b") == site.records("c")


@pytest.mark.parametrize("runtimes", WAYS, ids="-".join)
def test_a_transfer_that_is_given_up(
    runtimes: tuple[str, str], site_of: Callable[..., BothRuntimes]
) -> None:
    """The source goes on with everything, also with what has come to the destination."""
    for case in MOVED:
        site = site_of(case, runtimes)
        play = Play(case, site, 3)
        play.run(150)
        play.moving = {0, 1}
        assert site.transfer(BEGIN, 0, 1).state == "ready"
        play.flip(0, 1)
        play.run(20)
        site.owner = ["a"] * OF
        assert site.transfer(ABORT, 0, 1).state == "aborted"
        assert site.idle("a") == [frame for frames in play.waiting for frame in frames]
        assert not any(map(len, site.of_flows("b").values()))
        play.moving = set()
        play.run(60)
        assert site.of_flows("a") == site.of_flows("c")


@pytest.mark.parametrize("case", MOVED, ids=str)
def test_a_standby_of_a_python_primary(case: Case, site_of: Callable[..., BothRuntimes]) -> None:
    """Once it is promoted it has what its primary had of the buckets."""
    site = site_of(case, ("python", "dpdk"))
    play = Play(case, site, 2)
    play.run(100)
    assert site.replicate(vnf.ReplicateRequest.START, 0, 1).state == "following"
    play.run(60)
    site.now_us += 200_000
    site.idle("a")
    assert site.replicate(vnf.ReplicateRequest.PROMOTE, at="b").state == "promoted"
    there, control = site.of_flows("b"), site.of_flows("c")
    assert any(there.values())
    for name, records in there.items():
        assert records.items() <= control[name].items()


def test_what_does_not_fit_is_refused(site_of: Callable[..., BothRuntimes]) -> None:
    """One that is there, one that is cut off, one without another: nothing of the message is entered."""
    case = MOVED[0]
    site = site_of(case, ("dpdk", "dpdk"))
    Play(case, site, 1).run(100)
    a, b = (site.engines[name] for name in "ab")
    batches = a.export_state(site.instance)
    assert b.import_state(site.instance, batches)
    before = b.state_of(site.instance).snapshot(site.now_us)
    with pytest.raises(InputError, match=r"state of napt: .* is there already"):
        b.import_state(site.instance, batches)
    with pytest.raises(InputError, match="state of napt"):
        b.import_state(site.instance, [batches[0][:-1]])
    assert b.state_of(site.instance).snapshot(site.now_us) == before
    b.delete_state(site.instance)
    sessions = [batch for batch in batches if b"sessions" in batch[:24]]
    with pytest.raises(InputError, match="comes without its mapping"):
        b.import_state(site.instance, sessions)
    assert not any(map(len, b.state_of(site.instance).snapshot(site.now_us).values()))

"""Events of NFs in C beside those of the same NFs in Python: the same packets, configurations and clock.

Packets come one by one: of a burst the C side tells what NFs say before what was dropped.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from dpdk_support import HAS, MAC, NEEDS_COMPILER, NEXT, frames, running, tagged
from servernf_support import tcp, udp
from support import eventually

from servernf.dpdk.worker import DpdkWorker
from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.changes import NfSpec
from servernf.python.runtime.worker import Worker
from servernf.python.telling import RATES

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

GONE = 11
"""A mapping's end (natEvent)."""
CLIENT, SERVER = "10.0.0.1", "198.51.100.9"
NAPT: dict[str, Any] = {
    "addresses": ["203.0.113.1"],
    "ports": [1024, 1087],
    "timeouts_s": {"udp": 1},
}
DENY = {"src": "10.0.0.0/30", "protocol": "udp", "action": "deny"}
WORD = {"content": "datagram", "id": 7, "protocol": "udp", "msg": "a word", "label": 3}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "acl": ("acl", {"rules": [DENY], "default": "permit", "reverse": "mirror"}),
    "acl default": ("acl", {"rules": [{**DENY, "action": "permit"}], "default": "deny"}),
    "firewall": ("stateful_firewall", {"rules": [{"action": "permit"}], "inbound_rules": [DENY]}),
    "ids": ("ids", {"signatures": [WORD, {**WORD, "id": 9, "content": "ram", "action": "drop"}]}),
    "napt": ("napt", NAPT),
    "router": ("router", {"routes": [{"prefix": "198.51.100.0/24"}]}),
    "ttl_guard": ("ttl_guard", {"rules": [{"min": 5}]}),
}


class Clock:
    us = 1_000_000

    def __call__(self) -> int:
        return self.us


class Both:
    """A worker of each runtime with one NF."""

    def __init__(self, worker: DpdkWorker, clock: Clock, kind: str, config: dict[str, Any]) -> None:
        self.clock = clock
        self.workers: tuple[DpdkWorker, Worker] = worker, Worker("w", MAC, clock)
        self.cursors = [0, 0]
        for one in self.workers:
            one.configure("g", [NfSpec("g/nf", kind, json.dumps(config))])
            for spi, port in ((40, "inside"), (41, "outside")):
                one.service_chain("g/nf", ChainScope(spi, 255, port), [ExitHop(NEXT, spi + 10, 7)])

    def send(self, *some: bytes, spi: int = 40) -> None:
        for one in self.workers:
            one.process([tagged(frame, spi) for frame in some])

    def told(self) -> tuple[list[vnf.Event], list[vnf.Event]]:
        """What is new, without when it was."""
        fast, slow = self.workers
        fast.read_samples()  # takes what has been told
        by_runtime: list[list[vnf.Event]] = [[], []]
        for at, one in enumerate((fast, slow)):
            while True:
                events, self.cursors[at], lost = one.events.read(self.cursors[at])
                assert not lost
                by_runtime[at] += events
                if not events:
                    break
            for event in by_runtime[at]:
                event.timestamp_us = 0
        return by_runtime[0], by_runtime[1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("name", CONFIGS)
def test_both_runtimes_tell_the_same(name: str, clock: Clock) -> None:
    kind, config = CONFIGS[name]
    if kind not in HAS:
        pytest.skip(f"{kind}: Hyperscan is not installed")
    rng = random.Random(3)
    told: tuple[list[vnf.Event], list[vnf.Event]] = [], []
    with running(clock) as worker:
        both = Both(worker, clock, kind, config)
        for turn in range(400):
            both.send(*frames(rng.randrange(1 << 30), 1), spi=rng.choice((40, 41)))
            clock.us += 20_000_000 if turn % 40 == 39 else rng.choice((10, 10_000))
            for some, new in zip(told, both.told(), strict=True):
                some += new
    for some in told:  # C has mappings in the order of their use within a second only
        gone = sorted((e for e in some if e.nat.event == GONE), key=str)
        some[:] = [e for e in some if e.nat.event != GONE] + gone
    assert told[0] == told[1]
    assert len(told[0]) > 20


def test_a_flood_is_told_by_its_number_and_silences_no_other(clock: Clock) -> None:
    with running(clock) as worker:
        both = Both(worker, clock, "acl", CONFIGS["acl"][1])
        frame = udp(CLIENT, 4001, SERVER, 53)
        burst = RATES["drop"][1]
        both.send(*[frame] * (burst + 500))
        told = both.told()
        assert [len(each) for each in told] == [burst, burst]
        for one in both.workers:
            one.events.settle()
        fast, slow = both.told()
        assert fast == slow
        assert (fast[0].suppressed.kind, fast[0].suppressed.count) == ("drop", 500)
        assert worker.metrics()["events.suppressed"] == 500
        # Another configuration goes on with the limits.
        denied = {"rules": [], "default": "deny"}
        for one in both.workers:
            one.configure("g", [NfSpec("g/nf", "acl", json.dumps(denied))])
        both.send(frame)
        assert both.told() == ([], [])
        clock.us += 20_000
        both.send(frame)
        fast, slow = both.told()
        assert fast == slow
        assert fast[-1].drop.rule == "default"


def test_mappings_that_are_taken_out_are_no_packets_doing(clock: Clock) -> None:
    with running(clock) as worker:
        both = Both(worker, clock, "napt", NAPT)
        both.send(udp(CLIENT, 4001, SERVER, 53), tcp(CLIENT, 4002, SERVER, 80, "S"))
        fast, slow = both.told()
        assert fast == slow
        assert [event.nat.event for event in fast] == [10, 10]
        for one in both.workers:
            assert one.delete_state("g/nf") == 3
        assert both.told() == ([], [])


def test_events_outlive_the_process(clock: Clock) -> None:
    with running(clock) as worker:
        both = Both(worker, clock, "acl", CONFIGS["acl"][1])
        before = worker.engine.process
        both.send(udp(CLIENT, 1, SERVER, 2))
        assert len(both.told()[0]) == 1
        before._process.kill()
        eventually(lambda: worker.engine.process is not before)
        eventually(lambda: worker.metrics()["process_restarts"] == 1)
        both.send(udp(CLIENT, 1, SERVER, 2))
        fast, slow = both.told()
        assert fast == slow
        assert _rules(fast) == ["rules[0]"]


def _rules(events: Sequence[vnf.Event]) -> list[str]:
    return [event.drop.rule for event in events]

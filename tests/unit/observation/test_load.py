"""Load from two readings, and what limits traffics; a slowed NF on a core in virtual time.

Oracle: the counters that readings are made of; for the core in virtual time, a queue model.
Blind spot: what real queues tell; `make bench ONLY=bottleneck_named` asks them.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from networks import topology

from orchestrator.cli.whatif import core_words
from orchestrator.model.topology import Topology
from orchestrator.observation.bottleneck import Bottleneck
from orchestrator.observation.health import CoreReading, DeviceReading, Reading
from orchestrator.observation.load import CoreLoad, NfLoad, core_loads, switch_loads
from orchestrator.presenters.bottleneck import bottleneck_json, found_between

NFS = ("fw", "ids", "nat")
IDLE = {"frames_in": 0, "batches": 0, "full_batches": 0, "busy_ns": 0}
QUEUE = 1000


def core(**metrics: int) -> CoreReading:
    return CoreReading("server1", 1, ("g",), "", IDLE | metrics)


def reading(at: float, *cores: CoreReading, device: DeviceReading | None = None) -> Reading:
    return Reading(at, (device,) if device else (), cores, {})


def limited(most: int) -> Topology:
    base = topology()
    switches = {n: replace(s, packets_per_second=most) for n, s in base.switches.items()}
    return replace(base, switches=switches)


def switch(at: float, *counts: int, lost: int = 0) -> DeviceReading:
    ports = dict(enumerate(counts, 1))
    return DeviceReading(
        "leaf1", "switch", "softswitch", ports=ports, drops={"receive_queue_full": lost}, at=at
    )


def test_a_core_between_two_readings() -> None:
    before = core(frames_in=100, batches=10, full_batches=1, busy_ns=10**9)
    after = core(
        frames_in=740,
        batches=50,
        full_batches=11,
        busy_ns=2 * 10**9,
        receive_queue_bytes=50,
        receive_queue_limit=200,
        **{"g/fw.packets": 640, "g/fw.timed": 40, "g/fw.timed_ns": 80_000},
        **{"g/fw.delay_p50_ns": 1500, "g/fw.delay_p99_ns": 9000, "g/ids.packets": 0},
    )
    (load,) = core_loads(reading(12.0, after), reading(10.0, before))
    assert (load.name, load.frames_per_second, load.busy) == ("server1.2", 320.0, 0.5)
    assert (load.fill, load.full, load.queue) == (16.0, 0.25, 0.25)
    fw, ids = load.nfs
    assert (fw.packets_per_second, fw.mean_us, fw.p50_us, fw.p99_us) == (320.0, 2.0, 1.5, 9.0)
    assert (ids.packets_per_second, ids.mean_us) == (0.0, None)


def test_a_core_in_words() -> None:
    fw = NfLoad("g", "fw", 320.0, 2.0, 1.5, 9.0)
    load = CoreLoad("server1.2", 320.0, 0.5, 16.0, 0.25, 0.25, 0.0, 0.0, 0.06, (fw,))
    assert (
        core_words(load) == "server1.2: 50% busy, 320.0 frames/s (6% planned); fw 1.5 us (p99 9.0)"
    )
    assert core_words(replace(load, busy=None, planned=None, nfs=())) == "server1.2: 320.0 frames/s"


def test_an_idle_core_has_no_batches_to_tell_of() -> None:
    (load,) = core_loads(reading(12.0, core()), reading(10.0, core()))
    assert (load.busy, load.fill, load.full, load.queue) == (0.0, None, None, None)


def test_a_core_that_could_not_be_read_has_no_load() -> None:
    gone = CoreReading("server1", 1, ("g",), "no answer")
    assert core_loads(reading(12.0, core()), reading(10.0, gone)) == []
    assert core_loads(reading(12.0, gone), reading(10.0, core())) == []


def test_a_switch_beside_what_it_carries() -> None:
    now, before = reading(12.0, device=switch(12.0, 3000, 500)), reading(10.0, device=switch(10.0))
    (load,) = switch_loads(limited(2000), now, before)
    assert (load.packets_per_second, load.most, load.share) == (1750.0, 2000, 0.875)
    assert load.by_port == {1: 1500.0, 2: 250.0}
    (unknown,) = switch_loads(topology(), now, before)
    assert unknown.share is None


@pytest.mark.parametrize(
    ("packets", "lost", "named"), [(1800, 0, False), (1950, 0, True), (9, 3, True)]
)
def test_a_switch_limits_when_it_carries_all_it_can_or_loses(
    packets: int, lost: int, named: bool
) -> None:
    before, now = (
        reading(1.0, device=switch(1.0)),
        reading(2.0, device=switch(2.0, packets, lost=lost)),
    )
    limiting = found_between(limited(2000), before, now)
    assert [(one.kind, one.name) for one in limiting] == ([("switch", "leaf1")] if named else [])


def test_what_is_found_is_told_as_json() -> None:
    one = Bottleneck("link", "a->b", ("g",), ("all of it",))
    told = bottleneck_json("net", [one])
    assert told["bottlenecks"] == [
        {"kind": "link", "name": "a->b", "graphs": ("g",), "evidence": ("all of it",)}
    ]


class Core:
    """One server with a queue in virtual time: packets come at random, batches of 64 are served."""

    def __init__(self, seed: int, spent_ns: dict[str, int]) -> None:
        self.chance = random.Random(seed)
        self.spent_ns = spent_ns
        self.metrics = IDLE | {"receive_queue_limit": QUEUE, "drop.receive_queue_full": 0}
        self.now_ns = 0
        self.waiting = 0
        self.next_ns = 0

    def run(self, seconds: float, every_ns: int) -> CoreReading:
        """Until then, packets coming every so many ns in the mean."""
        m, end = self.metrics, self.now_ns + int(seconds * 1e9)
        while self.now_ns < end:
            while self.next_ns <= self.now_ns:
                if self.waiting < QUEUE:
                    self.waiting += 1
                else:
                    m["drop.receive_queue_full"] += 1
                self.next_ns += int(self.chance.expovariate(1 / every_ns))
            if not self.waiting:
                self.now_ns = self.next_ns
                continue
            batch = min(64, self.waiting)
            self.waiting -= batch
            m["batches"] += 1
            m["full_batches"] += batch == 64
            m["frames_in"] += batch
            for nf, spent in self.spent_ns.items():
                self.now_ns += batch * spent
                m["busy_ns"] += batch * spent
                for key, more in (("packets", batch), ("timed", 1), ("timed_ns", spent)):
                    m[f"g/{nf}.{key}"] = m.get(f"g/{nf}.{key}", 0) + more
                m[f"g/{nf}.delay_p50_ns"] = m[f"g/{nf}.delay_p99_ns"] = spent
        m["receive_queue_bytes"] = self.waiting
        return CoreReading("server1", 1, ("g",), "", dict(m))


@pytest.mark.parametrize("seed", range(20))
def test_the_slowed_nf_is_named_and_nothing_of_a_healthy_chain(seed: int) -> None:
    chance = random.Random(seed)
    spent = {nf: chance.randint(2_000, 8_000) for nf in NFS}
    slowed = chance.choice(NFS)
    every_ns = int(sum(spent.values()) / chance.uniform(0.3, 0.85))
    healthy = Core(seed, spent)
    before, now = (reading(at, healthy.run(0.2, every_ns)) for at in (0.2, 0.4))
    assert found_between(topology(), before, now) == []
    sick = Core(seed, spent | {slowed: 10 * max(spent.values())})
    before, now = (reading(at, sick.run(0.02, every_ns)) for at in (0.02, 0.04))
    (only,) = found_between(topology(), before, now)
    assert (only.kind, only.name) == ("nf", f"g/{slowed} on server1.2")
    assert any("receive queue" in line for line in only.evidence)

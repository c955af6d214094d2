"""A frame on a simulated network, by hand arithmetic: when it arrives, what is lost, who is told."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from networks import topology

from orchestrator.errors import InputError
from orchestrator.model.topology import Host, Link, Switch, Topology
from orchestrator.simulation.clocks import Clock
from orchestrator.simulation.links import Faults
from orchestrator.simulation.memory import MemoryNetwork
from orchestrator.simulation.network import LoopError, Simulation, Stop, WireCrossing

MEGABIT = 1_000_000
FRAME = bytes(125)
"""1,000 bits: a millisecond on a link of 1 Mbit/s."""


class Hub:
    """Whatever comes leaves by the ports that its own says."""

    def __init__(self, ways: dict[int, tuple[int, ...]]) -> None:
        self.ways = ways

    def process(self, port: int, frame: bytes) -> list[tuple[int, bytes]]:
        return [(out, frame) for out in self.ways[port]]


def line(capacity: int = MEGABIT, latency_us: int = 50) -> Topology:
    """h1 - s1 - s2 - h2, all links alike."""
    switches = {n: Switch(n, i, "softswitch", "edge", {}) for i, n in ((1, "s1"), (2, "s2"))}
    hosts = {n: Host(n, i, (), ()) for i, n in ((1, "h1"), (2, "h2"))}
    ends = (("h1", 0, "s1", 1), ("s1", 2, "s2", 2), ("s2", 1, "h2", 0))
    links = tuple(Link(a, p, b, q, capacity, latency_us) for a, p, b, q in ends)
    return Topology("line", switches, {}, {}, hosts, links, 1)


def hubs(where: Topology, **options: int) -> Simulation:
    network = Simulation(where, timed=True, **options)
    for name in where.switches:
        network.add(name, Hub({1: (2,), 2: (1,)}))
    return network


def arrivals(network: Simulation) -> list[int]:
    network.run()
    return [delivery.at_us for delivery in network.taken()]


def test_a_frame_takes_the_latency_and_its_bits_of_every_link() -> None:
    (delivery,) = hubs(line()).send("h1", FRAME)
    assert (delivery.host, delivery.frame) == ("h2", FRAME)
    assert delivery.at_us == 3 * (1000 + 50)


def test_frames_wait_for_the_wire_one_after_the_other_each_way_for_itself() -> None:
    network = hubs(line())
    for _ in range(3):
        network.put("h1", FRAME)
    network.put("h2", FRAME)
    network.run()
    came = network.taken()
    assert [d.at_us for d in came if d.host == "h2"] == [3150, 4150, 5150]
    assert [d.at_us for d in came if d.host == "h1"] == [3150]


def test_a_frame_that_comes_when_the_wire_is_free_waits_for_nobody() -> None:
    network = hubs(line())
    network.put("h1", FRAME)
    network.put("h1", FRAME, after_us=1500)
    assert arrivals(network) == [3150, 4650]


def test_what_is_under_way_stays_there_until_time_passes() -> None:
    network = hubs(line())
    network.put("h1", FRAME)
    network.advance(3149)
    assert network.taken() == []
    network.advance(1)
    assert [d.at_us for d in network.taken()] == [3150]
    assert network.now_us == 3150


def test_without_links_timing_a_frame_is_there_at_once() -> None:
    network = Simulation(line())
    for name in ("s1", "s2"):
        network.add(name, Hub({1: (2,), 2: (1,)}))
    assert [d.at_us for d in network.send("h1", FRAME)] == [0]
    network.advance(7)
    assert [d.at_us for d in network.send("h1", FRAME)] == [7]


def numbered(count: int) -> list[bytes]:
    return [n.to_bytes(2, "big") + FRAME[2:] for n in range(count)]


def received(faults: Faults, seed: int, *, both: bool = False) -> list[int]:
    """The numbers of 400 frames, a millisecond apart, that h2 gets over a faulty link of the middle."""
    network = hubs(line(capacity=1000 * MEGABIT), seed=seed)
    network.set_faults("s1", "s2", faults)
    if both:
        network.set_faults("s2", "s1", faults)
    for number, frame in enumerate(numbered(400)):
        network.put("h1", frame, after_us=1000 * number)
        if both:
            network.put("h2", frame, after_us=1000 * number)
    network.run()
    return [int.from_bytes(d.frame[:2], "big") for d in network.taken() if d.host == "h2"]


def test_loss_is_a_share_and_the_same_for_a_seed() -> None:
    some = received(Faults(loss=0.25), 1)
    assert 250 < len(some) < 350
    assert some == sorted(some)
    assert some == received(Faults(loss=0.25), 1)
    assert some != received(Faults(loss=0.25), 2)
    assert received(Faults(loss=1), 1) == []


def test_what_one_wire_loses_does_not_depend_on_another() -> None:
    assert received(Faults(loss=0.25), 1) == received(Faults(loss=0.25), 1, both=True)


def test_reordered_frames_are_overtaken_and_none_is_lost() -> None:
    faults = Faults(reorder=0.1, reorder_us=5000)
    some = received(faults, 1)
    assert sorted(some) == list(range(400))
    assert some != sorted(some)
    assert some == received(faults, 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Faults(loss=1.5), "loss 1.5: a share of 0 to 1"),
        (lambda: Faults(reorder=0.5, reorder_us=0), "reorder_us 0: 1 or more"),
        (lambda: Clock(offset_us=-1), "offset_us -1: 0 or more"),
        (lambda: Clock(skew_ppm=-1e6), "more than -1,000,000"),
        (lambda: hubs(line()).set_faults("s1", "s9", None), "s1: unknown neighbour 's9'"),
        (lambda: hubs(line()).put("h9", FRAME), "unknown host 'h9'"),
    ],
)
def test_what_cannot_be_is_refused(wrong: object, words: str) -> None:
    assert callable(wrong)
    with pytest.raises(InputError, match=words):
        wrong()


def test_observers_hear_of_every_stop_and_every_wire() -> None:
    network = hubs(line())
    stops: list[Stop] = []
    crossings: list[WireCrossing] = []
    network.at_stops.append(stops.append)
    network.at_links.append(crossings.append)
    network.send("h1", FRAME)
    assert [stop.node for stop in stops] == ["s1", "s2", "h2"]
    assert [stop.parent for stop in stops] == [0, stops[0].number, stops[1].number]
    assert [stop.sent for stop in stops] == [((2, FRAME),), ((1, FRAME),), ()]
    assert [(c.near, c.far) for c in crossings] == [("h1", "s1"), ("s1", "s2"), ("s2", "h2")]
    assert [c.at_ns // 1000 for c in crossings] == [0, 1050, 2100]
    assert [c.arriving for c in crossings][-1] == ((FRAME, 3_150_000),)
    network.set_faults("s1", "s2", Faults(loss=1))
    network.send("h1", FRAME)
    assert crossings[-1].arriving == ()
    assert stops[-1].node == "s1"


def test_whoever_sits_on_a_link_drops_changes_adds_and_delays() -> None:
    network = hubs(line())

    def cheat(near: str, far: str, frame: bytes, now_us: int) -> Sequence[tuple[bytes, int]]:
        if (near, far) != ("s1", "s2"):
            return [(frame, 0)]
        assert now_us == 1050
        return [(b"forged".ljust(125), 0), (frame, 10_000)]

    network.tamper = cheat
    came = network.send("h1", FRAME)
    assert [(d.frame[:6], d.at_us) for d in came] == [(b"forged", 3150), (FRAME[:6], 14_150)]
    network.tamper = lambda near, far, frame, now_us: ()
    assert network.send("h1", FRAME) == []


def test_a_host_that_answers_does_so_when_the_frame_comes() -> None:
    network = hubs(line())
    network.hosts["h2"] = lambda frame, now_us: [now_us.to_bytes(125, "big")]
    (answer,) = network.send("h1", FRAME)
    assert (answer.host, answer.at_us) == ("h1", 6300)
    assert int.from_bytes(answer.frame, "big") == 3150


def test_what_a_port_without_a_link_sends_is_told_and_goes_nowhere() -> None:
    network = hubs(line())
    stops: list[Stop] = []
    network.at_stops.append(stops.append)
    network.add("s1", Hub({1: (9,)}))
    assert network.send("h1", FRAME) == []
    assert (stops[-1].node, stops[-1].port) == ("", 9)


def test_a_loop_ends_and_the_network_goes_on() -> None:
    network = hubs(line())
    network.add("s1", Hub({1: (2,), 2: (2,)}))
    network.add("s2", Hub({1: (2,), 2: (2,)}))
    with pytest.raises(LoopError, match="still moves after 10,000 hops"):
        network.send("h1", FRAME)
    for name in ("s1", "s2"):
        network.add(name, Hub({1: (2,), 2: (1,)}))
    assert len(network.send("h1", FRAME)) == 1


def test_a_clock_is_off_and_runs_at_its_own_pace() -> None:
    clock = Clock(offset_us=5, skew_ppm=100)
    assert clock.read_ns(0) == 5000
    assert clock.read_ns(10_000_000) == 10_006_000
    slow = Clock(skew_ppm=-500_000)
    assert slow.read_ns(slow.lasting_ns(1000)) >= 1000 > slow.read_ns(slow.lasting_ns(1000) - 2)


def test_devices_go_by_their_own_clocks() -> None:
    off = {"leaf1": Clock(offset_us=1000)}
    network = MemoryNetwork(topology(), clocks=off)
    network.advance(10_000)
    shown = {name: switch.soft.now() for name, switch in network.switches.items()}
    assert (shown["leaf1"], shown["leaf2"]) == (11_000, 10_000)

"""Layout: slots, segments, recirculation. A segment is a straight run in pipeline order.

Oracle for what the layouts do: frames through the in-memory network, against what the NFs say.
Blind spot: placements that the solver never chooses; `lay_out` itself is called for those.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from networks import (
    both_ways,
    compiled,
    in_memory,
    long_acl,
    make_graph,
    one_way,
    permits,
    router,
    static_nat,
    topology,
)
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from orchestrator.compiler.layout import EXIT_PREFIX, Layout, lay_out
from orchestrator.errors import DoesNotFit
from orchestrator.graph import functions_of
from orchestrator.model.cuts import SWITCH, Arc, Unit
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import ALL_VERSIONS
from orchestrator.model.refs import SegmentRef
from orchestrator.simulation.memory import MemoryNetwork
from orchestrator.targets.pipelines import SHIPPED
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

EDGE = SHIPPED.capability("edge", "softswitch")


def units_of(**specs: Any) -> dict[str, Unit]:
    """One switch unit for each NF, entered from inside."""
    graph = make_graph(specs, [])
    made: dict[str, Unit] = {}
    for name, function in functions_of(graph).items():
        elements = function.elements("inside")
        element = elements.elements[elements.entry]
        made[name] = Unit(name, SWITCH, name, "inside", element, "", "", ALL_VERSIONS, "")
    return made


def delivery(name: str = "end") -> Unit:
    return Unit(name, SWITCH, "", "", None, "outside", "", ALL_VERSIONS, "")


def laid(units: dict[str, Unit], *chain: str, entered: Any = (), first: Any = ()) -> Layout:
    """Layout of a chain; names that are no unit are on other devices."""
    arcs = [Arc(a, "outside", b) for a, b in pairwise(chain)]
    first = first or (() if entered else chain[:1])
    return lay_out("sw", EDGE, list(units.values()), arcs, entered, first)


def slots(layout: Layout) -> dict[str, str]:
    return {name: step.slot.instance for name, step in layout.steps.items() if step.slot}


class TestSlots:
    def test_elements_take_the_first_slot_behind_the_one_before(self) -> None:
        units = units_of(a=permits(), b=permits(), c=permits(), n=static_nat(), r=router())
        layout = laid({**units, "end": delivery()}, "a", "b", "c", "n", "r", "end")
        assert slots(layout) == {
            "a": "acl",
            "b": "steer",
            "c": "split",
            "n": "rewrite",
            "r": "route",
        }
        assert layout.recirculated == ()

    def test_a_fourth_filter_recirculates(self) -> None:
        names = "abcdefgh"
        units = units_of(**{name: permits() for name in names})
        layout = laid({**units, "end": delivery()}, *names, "end")
        assert layout.recirculated == (("c", "d"), ("f", "g"))
        assert layout.entered == ("d", "g")
        assert [slots(layout)[n] for n in names] == [
            *("acl", "steer", "split"),
            *("acl", "steer", "split"),
            *("acl", "steer"),
        ]

    @pytest.mark.parametrize(
        ("first", "second"),
        [("router", "acl"), ("router", "nat"), ("nat", "acl"), ("router", "r2")],
    )
    def test_an_order_against_the_pipeline_recirculates(self, first: str, second: str) -> None:
        kinds = {"router": router(), "acl": permits(), "nat": static_nat(), "r2": router()}
        units = units_of(x=kinds[first], y=kinds[second])
        layout = laid({**units, "end": delivery()}, "x", "y", "end")
        assert layout.recirculated == (("x", "y"),)
        assert layout.steps["x"].next == {"outside": EXIT_PREFIX + "y"}
        assert layout.exits("x") == ("y",)
        assert layout.steps[EXIT_PREFIX + "y"].is_exit

    def test_a_slot_that_is_too_small_is_skipped(self) -> None:
        units = units_of(small=permits(), large=long_acl(5000))
        layout = laid({**units, "end": delivery()}, "small", "large", "end")
        assert slots(layout) == {"small": "acl", "large": "acl"}
        assert layout.recirculated == (("small", "large"),)

    def test_what_no_slot_holds_is_an_error_in_words(self) -> None:
        with pytest.raises(DoesNotFit) as caught:
            laid({**units_of(huge=long_acl(16384)), "end": delivery()}, "huge", "end")
        assert "sw: pipeline edge has no acl block that holds huge" in str(caught.value)
        assert "16385 entries of ipv4" in str(caught.value)

    def test_slots_fill_up(self) -> None:
        """Two that are alone in their pass share a slot as long as it holds both."""
        units = units_of(a=long_acl(9000), b=long_acl(9000))
        with pytest.raises(DoesNotFit, match="holds b"):
            lay_out("sw", EDGE, list(units.values()), [], (), ("a", "b"))
        units = units_of(a=long_acl(8000), b=long_acl(8000))
        assert slots(lay_out("sw", EDGE, list(units.values()), [], (), ("a", "b"))) == {
            "a": "acl",
            "b": "acl",
        }


class TestSegments:
    @staticmethod
    def of(layout: Layout) -> dict[str, SegmentRef]:
        return {name: step.segment for name, step in layout.steps.items()}

    def test_a_straight_run_is_one_segment(self) -> None:
        units = units_of(a=permits(), b=permits(), r=router())
        layout = laid({**units, "end": delivery()}, "a", "b", "r", "end")
        assert set(self.of(layout).values()) == {SegmentRef("a")} == set(layout.segments)

    def test_a_door_starts_one(self) -> None:
        units = units_of(a=permits(), b=permits())
        layout = laid({**units, "end": delivery()}, "a", "b", "end", first=("a", "b"))
        assert self.of(layout)["a"] != self.of(layout)["b"] == self.of(layout)["end"]

    def test_a_join_starts_one(self) -> None:
        units = {**units_of(a=permits(), b=permits(), c=permits()), "end": delivery()}
        arcs = [Arc("a", "outside", "c"), Arc("b", "outside", "c"), Arc("c", "outside", "end")]
        segments = self.of(lay_out("sw", EDGE, list(units.values()), arcs, (), ("a", "b")))
        assert len({segments[name] for name in "abc"}) == 3

    def test_an_exit_that_hosts_enter_is_one(self) -> None:
        """Otherwise a host's frame would run through the element before the exit."""
        layout = laid(units_of(a=permits()), "a", "away", first=("a", "away"))
        assert self.of(layout)["a"] != self.of(layout)[EXIT_PREFIX + "away"]


class TestRewrites:
    """A rewrite cannot go to a segment: what follows it must be in its own."""

    @staticmethod
    def follower(layout: Layout, name: str) -> str:
        (following,) = layout.steps[name].next.values()
        assert layout.steps[following].segment == layout.steps[name].segment
        others = [
            step.name
            for step in layout.steps.values()
            if step.segment == layout.steps[name].segment
            and step.name not in (name, following)
            and step.slot
            and step.slot == layout.steps[following].slot
        ]
        assert others == [], "another element's entries would apply"
        return following

    def test_a_follower_of_its_own(self) -> None:
        units = units_of(n=static_nat(), r=router())
        assert self.follower(laid({**units, "end": delivery()}, "n", "r", "end"), "n") == "r"

    def test_a_shared_follower_is_copied(self) -> None:
        units = {**units_of(n=static_nat(), m=static_nat("10.0.1.12", "203.0.113.12"), r=router())}
        units["end"] = delivery()
        arcs = [Arc("n", "outside", "r"), Arc("m", "outside", "r"), Arc("r", "outside", "end")]
        layout = lay_out("sw", EDGE, list(units.values()), arcs, (), ("n", "m"))
        assert self.follower(layout, "n") != self.follower(layout, "m")

    @pytest.mark.parametrize("door", ["entered", "first"])
    def test_a_follower_that_frames_enter_from_elsewhere_too(self, door: str) -> None:
        units = {**units_of(n=static_nat(), r=router()), "end": delivery()}
        doors: dict[str, Any] = (
            {"entered": ("n", "r")} if door == "entered" else {"first": ("n", "r")}
        )
        layout = laid(units, "n", "r", "end", **doors)
        assert layout.steps["r"].segment != layout.steps["n"].segment
        assert self.follower(layout, "n") != "r"

    def test_a_recirculated_follower(self) -> None:
        units = {**units_of(n=static_nat(), a=permits()), "end": delivery()}
        layout = laid(units, "n", "a", "end")
        assert self.follower(layout, "n") == EXIT_PREFIX + "a"
        assert layout.steps["a"].segment != layout.steps["n"].segment

    def test_an_exit_to_another_device(self) -> None:
        assert self.follower(laid(units_of(n=static_nat()), "n", "away"), "n") == "->away"

    def test_an_exit_that_hosts_enter_too(self) -> None:
        layout = laid(units_of(n=static_nat()), "n", "away", first=("n", "away"))
        self.follower(layout, "n")
        assert layout.steps["->away"].segment != layout.steps["n"].segment


GATEWAY = mac_text(GATEWAY_MAC)


def sent(network: MemoryNetwork, host: str, payload: Any) -> list[tuple[str, Any]]:
    frame = Ether(src=mac_text(network.topology.hosts[host].mac), dst=GATEWAY) / payload
    return [(d.host, Ether(d.frame)) for d in network.send(host, bytes(frame))]


def flow(dport: int = 80, ttl: int = 64, dst: str = "198.51.100.13", kind: Any = TCP) -> Any:
    return IP(src="10.0.1.11", dst=dst, ttl=ttl) / kind(sport=1000, dport=dport)


def blocks(port: int) -> Any:
    rule = {"protocol": "tcp", "dst_port": port, "action": "deny"}
    return "acl", {"rules": [rule], "default": "permit", "reverse": "mirror"}


@pytest.mark.parametrize("where", ["single", "leaf-spine"])
class TestWhatFramesMeet:
    def run(self, graph: ServiceGraph, where: str) -> MemoryNetwork:
        assert topology(where).switches
        return in_memory(compiled(graph, where), where)

    def test_router_before_acl(self, where: str) -> None:
        nfs = {"r": router(), "a": blocks(23)}
        network = self.run(make_graph(nfs, one_way("inside", "r", "a", "outside")), where)
        assert sent(network, "h1", flow(23)) == []
        assert sent(network, "h1", flow(80, ttl=1)) == [], "the router comes first"
        ((host, frame),) = sent(network, "h1", flow(80))
        assert (host, frame[IP].ttl) == ("h3", 63)

    def test_seven_acls(self, where: str) -> None:
        nfs = {f"a{i}": blocks(20 + i) for i in range(7)}
        network = self.run(make_graph(nfs, both_ways("inside", *nfs, "outside")), where)
        for port in range(18, 29):
            assert len(sent(network, "h1", flow(port))) == (port not in range(20, 27)), port
            back = IP(src="198.51.100.13", dst="10.0.1.11") / TCP(sport=port, dport=9)
            assert len(sent(network, "h3", back)) == (port not in range(20, 27)), port

    @pytest.mark.parametrize("chain", ["na", "nra", "anra", "rna"])
    def test_static_nat_and_its_followers(self, where: str, chain: str) -> None:
        kinds: dict[str, Any] = {"n": static_nat(), "r": router(), "a": blocks(23)}
        names = [f"{kind}{i}" for i, kind in enumerate(chain)]
        nfs = {name: kinds[name[0]] for name in names}
        network = self.run(make_graph(nfs, one_way("inside", *names, "outside")), where)
        assert sent(network, "h1", flow(23)) == []
        ((host, frame),) = sent(network, "h1", flow(80))
        assert (host, frame[IP].src) == ("h3", "203.0.113.11")
        assert frame[IP].ttl == 64 - chain.count("r")
        ((_, other),) = sent(network, "h2", IP(src="10.0.1.12", dst="198.51.100.13") / UDP())
        assert other[IP].src == "10.0.1.12"

    def test_a_rewrite_joins_a_way_that_went_round_it(self, where: str) -> None:
        """Endpoint `inside` goes by the NAT to the router, `guests` straight to it."""
        graph = make_graph(
            {"n": static_nat(), "r": router()},
            ["inside n.inside", "n.outside r.inside", "guests r.inside", "r.outside outside"],
            endpoints={"inside": ("h1",), "guests": ("h2",), "outside": ("h3", "h4")},
        )
        network = self.run(graph, where)
        ((host, frame),) = sent(network, "h1", flow())
        assert (host, frame[IP].src, frame[IP].ttl) == ("h3", "203.0.113.11", 63)
        ((host, frame),) = sent(network, "h2", IP(src="10.0.1.12", dst="198.51.100.13") / UDP())
        assert (host, frame[IP].src, frame[IP].ttl) == ("h3", "10.0.1.12", 63)

"""Cuts: which parts of a graph need no state, and where packets change device."""

from __future__ import annotations

from typing import Any

import pytest
from networks import (
    both_ways,
    campus,
    demand,
    ids,
    make_graph,
    napt,
    one_way,
    permits,
    router,
    static_nat,
)

import orchestrator.nfs  # noqa: F401 - every NF registers itself
from orchestrator.compiler.cuts import cut
from orchestrator.graph import functions_of
from orchestrator.model.cuts import SERVER, SWITCH, Cuts
from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    Leave,
    StatefulProgram,
    StateKey,
)
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Match, PortRange, Prefix

ACCESS = {"h1": "leaf1", "h2": "leaf1", "h3": "leaf2", "h4": "leaf2"}


def cuts_of(graph: ServiceGraph, forced: dict[str, str] | None = None, **replaced: Any) -> Cuts:
    return cut(graph, {**functions_of(graph), **replaced}, ACCESS, forced)


def kinds(cuts: Cuts) -> dict[str, str]:
    return {unit.id: unit.kind for unit in cuts.units.values()}


def followers(cuts: Cuts, unit: str) -> dict[str, str]:
    return {arc.output: arc.target for arc in cuts.successors(unit)}


def test_the_demo_is_cut_as_metron_would() -> None:
    cuts = cuts_of(campus())
    assert kinds(cuts) == {
        "edge_acl.inside.rules@leaf1": SWITCH,
        "edge_ids.inside.prefilter@leaf1": SWITCH,
        "edge_ids.inside@server": SERVER,
        "edge_ids.inside@server~": SERVER,
        "edge_ids.inside~edge_nat.inside.select@leaf1": SWITCH,
        "edge_nat.inside.select@leaf1": SWITCH,
        "edge_nat.inside@server": SERVER,
        "edge_router.inside.routes@leaf1": SWITCH,
        "edge_router.inside.routes": SWITCH,
        "deliver.outside": SWITCH,
        "deliver.outside@leaf1": SWITCH,
        "edge_nat.outside.owner@leaf2": SWITCH,
        "edge_nat.outside@server": SERVER,
        "edge_ids.outside.prefilter@leaf2": SWITCH,
        "edge_ids.outside@server": SERVER,
        "deliver.inside": SWITCH,
        "deliver.inside@leaf2": SWITCH,
    }


def test_packets_that_an_ids_need_not_see_go_round_it() -> None:
    """And those that the NAPT need not see, too: IPv6 visits no server."""
    cuts = cuts_of(campus())
    assert followers(cuts, "edge_ids.inside.prefilter@leaf1") == {
        "inspect": "edge_ids.inside~edge_nat.inside.select@leaf1",
        "pass": "edge_nat.inside.select@leaf1",
    }
    assert followers(cuts, "edge_nat.inside.select@leaf1") == {
        "translate": "edge_nat.inside@server",
        "pass": "edge_router.inside.routes@leaf1",
    }
    assert followers(cuts, "edge_nat.inside@server") == {"outside": "edge_router.inside.routes"}


class TestClassesOfTheirOwn:
    """A class that meets no state behind the first function that keeps some has its own suffix."""

    def test_ipv6_leaves_the_server_before_the_nat(self) -> None:
        cuts = cuts_of(campus())
        gate = "edge_ids.inside~edge_nat.inside.select@leaf1"
        assert followers(cuts, gate) == {
            "early": "edge_ids.inside@server~",
            "stay": "edge_ids.inside@server",
        }
        assert followers(cuts, "edge_ids.inside@server~") == {
            "outside": "edge_router.inside.routes"
        }
        assert cuts.units["edge_ids.inside@server~"].nf == "edge_ids"
        assert {"edge_ids.inside@server", "edge_ids.inside@server~"} <= set(cuts.groups[0].units)

    def test_a_stateless_function_between_is_the_switchs_for_them(self) -> None:
        graph = make_graph(
            {"i": ids(), "a": permits(), "n": napt()}, one_way("inside", "i", "a", "n", "outside")
        )
        cuts = cuts_of(graph)
        assert followers(cuts, "i.inside@server~") == {"outside": "a.inside.rules~"}
        assert followers(cuts, "a.inside.rules~") == {"outside": "deliver.outside"}
        assert cuts.units["a.inside@server"].kind == SERVER, "for the others it stays there"

    def test_not_where_packets_change_on_the_way(self) -> None:
        """What a NAPT or a static NAT will have written, nobody knows in front of the server."""
        for first, between in ((napt(), permits()), (ids(), static_nat())):
            graph = make_graph(
                {"s": first, "b": between, "i": ids()}, one_way("inside", "s", "b", "i", "outside")
            )
            assert not [name for name in cuts_of(graph).units if "~" in name]

    def test_not_where_nothing_passes_by_the_later_state(self) -> None:
        nat = ("napt", {"addresses": ["203.0.113.1"], "ipv6": "drop"})
        graph = make_graph({"i": ids(), "n": nat}, one_way("inside", "i", "n", "outside"))
        assert not [name for name in cuts_of(graph).units if "~" in name]


def test_a_stateless_graph_visits_no_server() -> None:
    nfs = {"a": permits(), "n": static_nat(), "r": router()}
    cuts = cuts_of(make_graph(nfs, both_ways("inside", "a", "n", "r", "outside")))
    assert set(kinds(cuts).values()) == {SWITCH}
    assert cuts.groups == ()


def test_the_suffix_is_every_packets_alone() -> None:
    """Behind state, units know no ingress: one copy serves all access switches."""
    graph = make_graph({"i": ids(), "r": router()}, both_ways("inside", "i", "r", "outside"))
    behind = [unit for unit in cuts_of(graph).units.values() if unit.nf == "r"]
    assert {unit.ingress for unit in behind if unit.id == "r.inside.routes"} == {""}
    assert {unit.ingress for unit in behind if "@" in unit.id} == {"leaf1", "leaf2"}


def test_stateless_between_stateful_stays_on_the_server() -> None:
    graph = make_graph(
        {"i": ids(), "r": router(), "n": napt()}, one_way("inside", "i", "r", "n", "outside")
    )
    cuts = cuts_of(graph)
    between = cuts.units["r.inside@server"]
    assert between.kind == SERVER
    assert "between two stateful functions" in between.why
    assert len(cuts.groups) == 1
    assert set(cuts.groups[0].nfs) == {"i", "r", "n"}


def test_what_is_forced_on_a_server_says_why() -> None:
    graph = make_graph({"a": permits(), "r": router()}, one_way("inside", "a", "r", "outside"))
    cuts = cuts_of(graph, {"a": "no switch holds it: 9 entries"})
    assert cuts.units["a.inside@server"].why == "no switch holds it: 9 entries"
    assert cuts.units["r.inside.routes"].kind == SWITCH, "behind it, switches again"
    assert cuts.groups[0].nfs == ("a",)


def test_an_unconnected_output_drops() -> None:
    graph = make_graph({"a": permits()}, ["inside a.inside"], traffic=[demand()])
    cuts = cuts_of(graph)
    assert set(cuts.units) == {"a.inside.rules@leaf1"}
    assert cuts.arcs == ()


def test_endpoints_without_traffic_enter_nothing() -> None:
    graph = make_graph(
        {"a": permits()}, both_ways("inside", "a", "outside"), traffic=[demand("inside", "outside")]
    )
    cuts = cuts_of(graph)
    assert [entry.endpoint for entry in cuts.entries] == ["inside"]
    assert not [unit for unit in cuts.units.values() if unit.port == "outside"]


def test_every_access_switch_has_its_own_prefix() -> None:
    graph = make_graph(
        {"a": permits()},
        one_way("inside", "a", "outside"),
        endpoints={"inside": ("h1", "h3"), "outside": ("h4",)},
    )
    cuts = cuts_of(graph)
    assert {(entry.switch, entry.target) for entry in cuts.entries} == {
        ("leaf1", "a.inside.rules@leaf1"),
        ("leaf2", "a.inside.rules@leaf2"),
    }


class TestVersions:
    """Which kinds of packet reach a unit: entries for the others would be wasted."""

    def test_a_router_lets_only_ip_through(self) -> None:
        nfs = {"r": router({"prefix": "10.0.0.0/8"}), "a": permits()}
        graph = make_graph(nfs, one_way("inside", "r", "a", "outside"))
        units = cuts_of(graph).units
        assert units["r.inside.routes@leaf1"].versions == {4, 6, 0}
        assert units["a.inside.rules@leaf1"].versions == {4}
        assert units["deliver.outside@leaf1"].versions == {4}

    def test_a_napt_takes_ipv4_and_passes_ipv6(self) -> None:
        graph = make_graph({"n": napt(), "r": router()}, one_way("inside", "n", "r", "outside"))
        units = cuts_of(graph).units
        assert units["n.inside@server"].versions == {4}
        assert units["r.inside.routes@leaf1"].versions == {6}
        assert units["r.inside.routes"].versions == {4}

    def test_an_acl_narrows_by_what_it_denies(self) -> None:
        rules = [{"version": 6, "action": "deny"}, {"ether_type": "0x0806", "action": "permit"}]
        nfs = {"a": ("acl", {"rules": rules, "default": "permit"}), "b": permits()}
        units = cuts_of(make_graph(nfs, one_way("inside", "a", "b", "outside"))).units
        assert units["b.inside.rules@leaf1"].versions == {4, 0}

    def test_what_nothing_reaches_is_removed(self) -> None:
        rules = [{"version": 4, "action": "permit"}]
        nfs = {"a": ("acl", {"rules": rules, "default": "deny"}), "n": napt()}
        units = cuts_of(make_graph(nfs, one_way("inside", "a", "n", "outside"))).units
        assert "n.inside@server" in units
        assert "deliver.outside@leaf1" not in units, "only IPv6 would go round the NAPT"
        assert "deliver.outside" in units

    def test_a_rule_narrower_than_its_version_leaves_the_rest(self) -> None:
        rules = [{"src": "2001:db8::/32", "action": "deny"}]
        nfs = {"a": ("acl", {"rules": rules, "default": "permit"}), "b": permits()}
        units = cuts_of(make_graph(nfs, one_way("inside", "a", "b", "outside"))).units
        assert units["b.inside.rules@leaf1"].versions == {4, 6, 0}


class _Stateful:
    """An NF that needs state, with the given key."""

    ports = ("inside", "outside")
    cost = CostProfile(1, 0.0, "test")

    def __init__(self, type_: str, *fields: str, replicable: bool = True) -> None:
        self.type = type_
        self.state_key = StateKey(frozenset(fields)) if fields else None
        self.replicable = replicable

    def elements(self, port: str) -> ElementGraph:
        left = "outside" if port == "inside" else "inside"
        keep = Element("keep", StatefulProgram("keeps state"), (left,))
        return ElementGraph("keep", {"keep": keep}, {("keep", left): Leave(left)})


class TestSpread:
    """By what packets find their core: an address that every state key of the group has."""

    INSIDE = _Stateful("i", "inside_address")
    OUTSIDE = _Stateful("o", "outside_address")
    BOTH = _Stateful("b", "inside_address", "outside_address", "inside_port")
    FLOWLESS = _Stateful("f", "protocol")
    ALONE = _Stateful("x", "inside_address", replicable=False)

    @pytest.mark.parametrize(
        ("functions", "spread", "why"),
        [
            ((BOTH,), "pair", "every state key"),
            ((BOTH, BOTH), "pair", "every state key"),
            ((INSIDE,), "inside_address", "every state key shares"),
            ((OUTSIDE,), "outside_address", "every state key shares"),
            ((BOTH, INSIDE), "inside_address", "every state key shares"),
            ((OUTSIDE, BOTH), "outside_address", "every state key shares"),
            ((INSIDE, OUTSIDE), "one", "s1 shares no address with the functions before it"),
            ((FLOWLESS,), "one", "s0 shares no address"),
            ((BOTH, ALONE), "one", "s1 (x) cannot be replicated"),
        ],
    )
    def test_of_a_chain(self, functions: tuple[_Stateful, ...], spread: str, why: str) -> None:
        names = [f"s{i}" for i in range(len(functions))]
        graph = make_graph(dict.fromkeys(names, ids()), both_ways("inside", *names, "outside"))
        (group,) = cuts_of(graph, **dict(zip(names, functions, strict=True))).groups
        assert (group.spread, why in group.why) == (spread, True), group.why
        assert group.nfs == tuple(names)

    def test_a_rewrite_between_states_needs_one_core(self) -> None:
        graph = make_graph(
            {"s": ids(), "n": static_nat(), "t": ids()},
            both_ways("inside", "s", "n", "t", "outside"),
        )
        (group,) = cuts_of(graph).groups
        assert group.spread == "one"
        assert "n rewrites addresses" in group.why

    def test_an_acl_between_states_does_not(self) -> None:
        graph = make_graph(
            {"s": ids(), "a": permits(), "t": ids()},
            both_ways("inside", "s", "a", "t", "outside"),
        )
        (group,) = cuts_of(graph).groups
        assert group.spread == "pair"


def test_functions_that_share_no_packets_are_groups_of_their_own() -> None:
    graph = make_graph(
        {"i": ids(), "j": ids()},
        [*one_way("inside", "i", "outside"), *one_way("outside", "j", "inside")],
    )
    assert {group.nfs for group in cuts_of(graph).groups} == {("i",), ("j",)}


def test_both_directions_of_an_instance_are_one_group() -> None:
    graph = make_graph({"i": ids()}, both_ways("inside", "i", "outside"))
    (group,) = cuts_of(graph).groups
    assert set(group.units) == {"i.inside@server", "i.outside@server"}


def test_units_grow_with_elements_not_with_paths() -> None:
    """Two ways between each pair of twelve prefilters are 4,096 paths."""
    names = [f"i{i}" for i in range(12)]
    graph = make_graph(dict.fromkeys(names, ids()), one_way("inside", *names, "outside"))
    assert len(cuts_of(graph).units) <= 2 * 3 * len(names) + 2


def test_traffic_matches_do_not_change_the_cut() -> None:
    """They limit what enters, not what a unit must be able to do."""
    narrow = Match(src=Prefix(4, 0x0A000000, 8), protocol=6, dst_port=PortRange(80, 80))
    nfs, edges = {"a": permits()}, one_way("inside", "a", "outside")
    one = cuts_of(make_graph(nfs, edges, traffic=[demand(match=narrow)]))
    assert kinds(one) == kinds(cuts_of(make_graph(nfs, edges)))

"""Synthesis: what goes, what is merged and what is not, and that no packet is treated otherwise.

The oracle is an interpreter of cuts below, on headers. Blind spot: lowering (tests/verification).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import both_ways, campus, demand, ids, make_graph, napt, one_way, router, static_nat

import orchestrator.nfs  # noqa: F401 - every NF registers itself
from orchestrator.compiler.cuts import cut
from orchestrator.compiler.first_match import first_match, shadowed
from orchestrator.compiler.merging import Costs, composed, entries_of, meet
from orchestrator.compiler.synthesis import synthesise
from orchestrator.errors import TooManyClasses
from orchestrator.graph import functions_of
from orchestrator.graph.paths import check_paths
from orchestrator.memo import Memo
from orchestrator.model.cuts import SERVER, Cuts
from orchestrator.model.elements import (
    DROP,
    FilterProgram,
    FilterRule,
    RewriteProgram,
    RouteProgram,
)
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix
from orchestrator.nfs.matching import Headers, meets

ACCESS = {"h1": "leaf1", "h2": "leaf1", "h3": "leaf2", "h4": "leaf2"}
PLENTY = Costs({0: 1000, 4: 1000, 6: 1000}, worth=1.0, least_gain=1)
"""Any gain counts: the cases here are small."""


def cuts_of(graph: ServiceGraph) -> Cuts:
    return cut(graph, functions_of(graph), ACCESS)


def synthesised(graph: ServiceGraph, costs: Costs = PLENTY) -> Cuts:
    return synthesise(cuts_of(graph), graph, costs)


def acl(*rules: Mapping[str, Any], default: str = "permit", **extra: Any) -> Any:
    return "acl", {"rules": list(rules), "default": default, **extra}


def deny(**match: Any) -> dict[str, Any]:
    return {"action": "deny", **match}


def permit(**match: Any) -> dict[str, Any]:
    return {"action": "permit", **match}


def chain(*nfs: Any, way: Any = one_way, **extra: Any) -> ServiceGraph:
    names = {f"n{i}": nf for i, nf in enumerate(nfs)}
    return make_graph(names, way("inside", *names, "outside"), **extra)


def filters(cuts: Cuts) -> dict[str, FilterProgram]:
    return {
        name: unit.element.program
        for name, unit in cuts.units.items()
        if unit.element and isinstance(unit.element.program, FilterProgram)
    }


# -- an interpreter of cuts ---------------------------------------------------------------------


def destination(cuts: Cuts, endpoint: str, headers: Headers) -> tuple[str, Headers] | None:
    """The server unit or delivery that a packet gets to, with its headers there; None: dropped."""
    arcs = {(arc.source, arc.output): arc.target for arc in cuts.arcs}
    at: str | None = next(e.target for e in cuts.entries if e.endpoint == endpoint)
    while at is not None:
        unit = cuts.units[at]
        if unit.kind == SERVER or unit.element is None:
            return at, headers
        output, headers = step(unit.element.program, headers)
        only = unit.element.outputs[0]
        at = arcs.get((at, output or only))
    return None


def step(program: object, headers: Headers) -> tuple[str, Headers]:
    if isinstance(program, FilterProgram):
        rules = (r.output for r in program.rules if meets(r.match, headers))
        return next(rules, program.default), headers
    if isinstance(program, RewriteProgram):
        for version, old, new in program.pairs:
            if version == headers.version and getattr(headers, program.field) == old:
                return "", headers._replace(**{program.field: new})
        return "", headers
    assert isinstance(program, RouteProgram)
    fitting = [
        route
        for route in program.routes
        if headers.version == route.prefix.version
        and headers.dst & route.prefix.mask == route.prefix.value
    ]
    if not fitting:
        return DROP, headers
    return max(fitting, key=lambda route: route.prefix.length).output, headers


def packet(chance: random.Random) -> Headers:
    version = chance.choice((4, 4, 6, 0))
    if not version:
        ether_type = chance.choice((0x0806, 0x8863))
        return Headers(ether_type, 0, 0, 0, *(None,) * 4, False, None, None, UNTAGGED)
    base = {4: 10 << 24, 6: 0x20010DB8 << 96}[version]
    later, protocol = chance.random() < 0.1, chance.choice((6, 17, 1, 58, 47))
    ported = protocol in (6, 17) and not later
    icmp = protocol == {4: 1, 6: 58}[version] and not later
    return Headers(
        {4: 0x0800, 6: 0x86DD}[version],
        version,
        base + chance.randrange(6),
        base + chance.randrange(6),
        protocol,
        chance.choice((79, 80, 81)) if ported else None,
        chance.choice((79, 80, 81)) if ported else None,
        chance.choice((0, 2, 18)) if protocol == 6 and not later else None,
        later,
        chance.choice((0, 8)) if icmp else None,
        0 if icmp else None,
        UNTAGGED,
    )


def assert_same(graph: ServiceGraph, costs: Costs = PLENTY, packets: int = 300) -> Cuts:
    before, after = cuts_of(graph), synthesised(graph, costs)
    asked = {
        t.ingress: [u.match for u in graph.traffic if u.ingress == t.ingress] for t in graph.traffic
    }
    chance = random.Random(7)
    for endpoint, wanted in asked.items():
        for _ in range(packets):
            headers = packet(chance)
            if any(meets(match, headers) for match in wanted):
                want = destination(before, endpoint, headers)
                got = destination(after, endpoint, headers)
                assert got == want, f"{headers} from {endpoint}: {after.changes}"
    return after


# -- whole random chains ------------------------------------------------------------------------


def match_fields() -> st.SearchStrategy[dict[str, Any]]:
    v4 = st.sampled_from(("10.0.0.0/8", "10.0.0.0/30", "10.0.0.2/31", "10.0.0.1/32", "10.0.0.4/32"))
    v6 = st.sampled_from(("2001:db8::/32", "2001:db8::2/127", "2001:db8::1/128"))
    ports = st.sampled_from((79, "80-81", "0-65535"))
    tcp_only = {
        "protocol": st.just("tcp"),
        "tcp_flags": st.sampled_from(("0x02/0x02", "0x10/0x12")),
    }
    icmp = {"protocol": st.just("icmp"), "icmp_type": st.sampled_from((0, 8))}
    return st.one_of(
        st.fixed_dictionaries({}, optional={"src": v4, "dst": v4}),
        st.fixed_dictionaries({}, optional={"src": v6, "dst": v6, "protocol": st.just("udp")}),
        st.fixed_dictionaries({}, optional={"dst": v4, "src_port": ports, "dst_port": ports}),
        st.fixed_dictionaries(
            {"protocol": st.sampled_from(("tcp", "udp"))}, optional={"dst_port": ports}
        ),
        st.fixed_dictionaries(tcp_only, optional={"src": v4}),
        st.fixed_dictionaries(icmp),
        st.fixed_dictionaries({"later_fragment": st.booleans()}, optional={"src": v4}),
        st.fixed_dictionaries({"version": st.sampled_from((4, 6))}),
        st.fixed_dictionaries({"ether_type": st.just("0x0806")}),
    )


rules = st.lists(
    st.builds(
        lambda fields, action: {**fields, "action": action},
        match_fields(),
        st.sampled_from(("permit", "deny")),
    ),
    max_size=6,
)
acls = st.builds(
    lambda fixed, default, reverse: acl(*fixed, default=default, reverse=reverse),
    rules,
    st.sampled_from(("permit", "deny")),
    st.sampled_from(("permit", "mirror", "same")),
)
nats = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    min_size=1,
    max_size=3,
    unique_by=(lambda pair: pair[0], lambda pair: pair[1]),
).map(
    lambda pairs: (
        "static_nat",
        {"pairs": [{"inside": f"10.0.0.{a}", "outside": f"10.0.0.{b}"} for a, b in pairs]},
    )
)
routers = st.sampled_from(
    (
        router({"prefix": "10.0.0.0/30"}, {"prefix": "2001:db8::/32"}),
        router({"prefix": "0.0.0.0/0"}, {"prefix": "10.0.0.0/31", "port": "inside"}),
        router(
            {"prefix": "0.0.0.0/0"}, {"prefix": "::/0"}, {"prefix": "10.0.0.4/32", "port": "dmz"}
        ),
    )
)
services = st.lists(
    st.one_of(acls, acls, nats, routers, st.just(ids()), st.just(napt())), min_size=1, max_size=5
)


@settings(max_examples=200, deadline=None)
@given(services, st.sampled_from((Match(), Match(version=4), Match(version=4, protocol=6))))
@pytest.mark.slow
def test_no_packet_of_a_random_chain_is_treated_otherwise(nfs: list[Any], wanted: Match) -> None:
    traffic = [demand("inside", "outside", match=wanted), demand("outside", "inside")]
    graph = chain(*nfs, way=both_ways, traffic=traffic)
    assume(not check_paths(graph, functions_of(graph)).problems)
    assert_same(graph, packets=150)


# -- shadowed rules -----------------------------------------------------------------------------


def test_a_shadowed_rule_goes_and_says_what_shadows_it() -> None:
    after = assert_same(
        chain(
            acl(
                deny(dst="10.0.0.0/8"), permit(dst="10.0.0.1/32", protocol="tcp"), deny(src_port=80)
            )
        )
    )
    (gone,) = after.removed
    assert (str(gone.place), gone.rule) == ("n0.inside.rules", "rules[1]")
    assert gone.why == "shadowed by rules[0]"
    (program,) = filters(after).values()
    assert [rule.rule for rule in program.rules] == ["rules[0]", "rules[2]"]


def test_a_rule_may_be_shadowed_by_several_together() -> None:
    halves = [deny(dst="10.0.0.0/9"), deny(dst="10.128.0.0/9")]
    after = assert_same(chain(acl(*halves, permit(dst="10.0.0.0/8"))))
    assert [gone.why for gone in after.removed] == ["shadowed by rules[0], rules[1]"]
    ports = [deny(protocol="udp", dst_port="0-99"), deny(protocol="udp", dst_port="100-65535")]
    after = assert_same(chain(acl(*ports, permit(protocol="udp"))))
    assert not after.removed, "later fragments have no ports"
    after = assert_same(
        chain(acl(*ports, deny(protocol="udp", later_fragment=True), permit(protocol="udp")))
    )
    assert [gone.rule for gone in after.removed] == ["rules[3]"]


def test_what_no_packet_can_meet_goes() -> None:
    rule = FilterRule(Match(protocol=1, dst_port=PortRange(0, 9)), "out", "f.rules:1")
    program = first_match(FilterProgram((rule,), DROP), Memo())
    assert program is not None
    assert shadowed(program, Memo()) == {0: ()}


def test_a_rule_for_a_version_that_never_comes_goes() -> None:
    graph = chain(
        acl(deny(src="2001:db8::/32"), deny(src="10.0.0.1/32")),
        traffic=[demand(match=Match(version=4))],
    )
    (gone,) = assert_same(graph).removed
    assert gone.rule == "rules[0]"
    assert gone.why.endswith("no traffic of the graph brings one")


def test_what_a_filter_before_drops_needs_no_rule_behind() -> None:
    """Behind the NAT: the class is found through the rewrite."""
    graph = chain(
        acl(deny(src="10.0.0.1/32")),
        static_nat("10.0.0.1", "10.0.0.9"),
        acl(*[deny(src="10.0.0.9/32"), deny(src="10.0.0.1/32"), deny(src="10.0.0.2/32")]),
    )
    after = assert_same(graph)
    gone = {f"{r.place.nf} {r.rule}": r.why for r in after.removed}
    assert set(gone) >= {"n2 rules[1]", "n1 pairs[0]"}
    assert "n0: rules[0]" in gone["n2 rules[1]"]


def test_few_rules_that_another_nf_makes_useless_stay() -> None:
    """A changed rule there would change the entries here; what leads nowhere else goes all the same."""
    denied = acl(deny(protocol="tcp", dst_port=80))
    behind = acl(deny(protocol="tcp", dst_port=80), deny(dst_port=81))
    after = assert_same(chain(denied, behind), Costs(PLENTY.table_entries))
    assert not after.removed
    assert [str(one) for one in after.unmet] == [
        "n1: rules[0]: no packet that it asks for arrives, because of n0: rules[0]"
    ]
    signature = {"id": 1, "content": "x", "protocol": "tcp", "ports": ["80"]}
    inspected = ("ids", {"signatures": [signature], "action": "alert"})
    closed = acl(deny(protocol="tcp", dst_port=80), deny(protocol="tcp", src_port=80))
    after = assert_same(chain(closed, inspected), Costs(PLENTY.table_entries))
    assert not [unit for unit in after.units.values() if unit.kind == SERVER]


# -- early discard ------------------------------------------------------------------------------


def test_what_is_dropped_later_for_sure_is_dropped_at_once() -> None:
    graph = chain(
        acl(permit(protocol="udp", dst_port=79), deny(protocol="tcp", dst_port=79)),
        router({"prefix": "0.0.0.0/0"}, {"prefix": "::/0"}),
        acl(deny(protocol="udp")),
        ids(),
    )
    after = assert_same(graph, Costs(merging=False))
    first = filters(after)["n0.inside.rules@leaf1"]
    assert first.rules[0].output == DROP
    assert first.rules[0].rule == "rules[0] & n2: rules[0]"
    assert any("early discard" in change for change in after.changes)


def test_a_route_that_is_missing_drops_early_too() -> None:
    graph = chain(
        acl(permit(dst="192.0.2.0/24"), deny(dst_port=79)), router({"prefix": "10.0.0.0/8"})
    )
    after = assert_same(graph)
    assert filters(after)["n0.inside.rules@leaf1"].rules[0].output == DROP


def test_nothing_is_discarded_early_across_state() -> None:
    """The IDS must have seen it, although it is dropped behind."""
    graph = chain(acl(permit(protocol="tcp", dst_port=80)), ids(), acl(deny(protocol="tcp")))
    before, after = cuts_of(graph), assert_same(graph)
    assert "n1.inside@server" in after.units
    assert before.units.keys() >= {"n1.inside@server"}
    outputs = {r.output for program in filters(after).values() for r in program.rules}
    assert "inspect" in outputs


# -- rewrites -----------------------------------------------------------------------------------


def test_two_rewrites_become_one() -> None:
    graph = chain(static_nat("10.0.0.1", "10.0.0.2"), static_nat("10.0.0.2", "10.0.0.3"))
    after = assert_same(graph)
    (unit,) = [u for u in after.units.values() if u.element]
    assert unit.element is not None
    base = 10 << 24
    assert unit.element.program == RewriteProgram(
        "src", ((4, base + 1, base + 3), (4, base + 2, base + 3))
    )
    assert [str(place) for place in unit.merged] == ["n1.inside.rewrite"]


def test_a_rewrite_that_is_undone_stays_a_rewrite() -> None:
    """A checksum of 0xffff becomes 0, as it does when rewritten twice."""
    one = RewriteProgram("src", ((4, 1, 2),))
    assert composed(one, RewriteProgram("src", ((4, 2, 1),))).pairs == ((4, 1, 1), (4, 2, 1))


def test_a_rewrite_of_addresses_that_never_come_is_left_out() -> None:
    wanted = [demand(match=Match(version=4, src=Prefix(4, 192 << 24, 8)))]
    after = assert_same(chain(static_nat("10.0.0.1", "10.0.0.2"), traffic=wanted))
    assert not [unit for unit in after.units.values() if unit.nf]
    assert [gone.rule for gone in after.removed] == ["pairs[0]"]


# -- order --------------------------------------------------------------------------------------


def test_a_filter_comes_before_the_routing_that_it_follows() -> None:
    after = assert_same(chain(router({"prefix": "10.0.0.0/8"}), acl(deny(dst_port=80))))
    arcs = {(arc.source, arc.target) for arc in after.arcs}
    assert ("n1.inside.rules@leaf1", "n0.inside.routes@leaf1") in arcs
    assert after.entries[0].target == "n1.inside.rules@leaf1"


def test_a_filter_before_a_rewrite_asks_for_the_addresses_that_packets_have_there() -> None:
    graph = chain(
        static_nat("10.0.0.1", "10.0.0.9"), acl(deny(src="10.0.0.9/32"), deny(src="10.0.0.1/32"))
    )
    after = assert_same(graph)
    program = filters(after)["n1.inside.rules@leaf1"]
    told = [(str(rule.match), rule.output) for rule in program.rules]
    assert told[0] == ("src 10.0.0.1/32", DROP)
    assert after.entries[0].target == "n1.inside.rules@leaf1"


def test_a_filter_stays_behind_a_rewrite_if_translating_it_explodes() -> None:
    pairs = [{"inside": f"10.1.0.{i}", "outside": f"10.2.0.{i}"} for i in range(200)]
    graph = chain(
        ("static_nat", {"pairs": pairs}),
        acl(deny(src="10.0.0.0/8", dst_port=80), deny(src="10.0.0.0/8", dst_port=81)),
    )
    after = assert_same(graph)
    assert after.entries[0].target == "n0.inside.rewrite@leaf1"


# -- merging ------------------------------------------------------------------------------------


def test_tables_are_merged_where_the_product_is_smaller_and_origins_survive() -> None:
    graph = chain(
        acl(deny(protocol="udp", dst_port=79), permit(dst="10.0.0.0/8"), default="deny"),
        acl(deny(dst="10.0.0.1/32"), permit(dst="10.0.0.0/30"), default="deny"),
    )
    after = assert_same(graph)
    (unit,) = [u for u in after.units.values() if u.element]
    assert unit.element is not None
    program = unit.element.program
    assert isinstance(program, FilterProgram)
    names = [rule.rule for rule in program.rules]
    assert names == [
        "rules[0]",
        "rules[1] & n1: rules[0]",
        "rules[1] & n1: rules[1]",
        "rules[1] & n1: default",
    ]
    assert [str(place) for place in unit.merged] == ["n1.inside.rules"]
    assert "n0 and n1 in one table" in unit.why


def test_tables_are_not_merged_where_the_product_explodes() -> None:
    first = [permit(src=f"10.0.{i}.0/24") for i in range(20)]
    second = [permit(dst=f"10.0.{i}.0/24") for i in range(20)]
    after = assert_same(chain(acl(*first, default="deny"), acl(*second, default="deny")))
    assert len(filters(after)) == 2
    assert sum(len(program.rules) for program in filters(after).values()) == 40


def test_a_merged_table_must_fit_a_table() -> None:
    graph = chain(*[acl(*[deny(dst=f"10.{n}.0.{i}/32") for i in range(9)]) for n in range(2)])

    def tables(entries: int) -> int:
        costs = Costs({0: 99, 4: entries, 6: 99}, worth=1.0, least_gain=1)
        return len(filters(assert_same(graph, costs)))

    assert (tables(19), tables(18)) == (1, 2)


def test_a_small_gain_is_not_worth_that_rules_depend_on_each_other() -> None:
    graph = chain(acl(deny(dst_port=79)), acl(deny(dst_port=79), deny(dst_port=80)))
    assert len(filters(assert_same(graph, Costs(PLENTY.table_entries)))) == 2


def test_but_any_gain_is_where_it_saves_a_pass() -> None:
    listed = [acl(deny(dst_port=79), deny(dst_port=80 + n)) for n in range(5)]
    after = assert_same(chain(*listed), Costs(PLENTY.table_entries, filter_slots=3))
    assert len(filters(after)) == 3


def test_five_equal_access_lists_are_one() -> None:
    listed = acl(deny(protocol="tcp", dst_port="79-80"), permit(version=4), deny(protocol="icmpv6"))
    after = assert_same(chain(*[listed] * 5))
    (program,) = filters(after).values()
    assert len(program.rules) == 3
    assert entries_of(program, frozenset({4})) == 3


def test_a_filter_that_several_ways_lead_to_is_not_merged() -> None:
    graph = make_graph(
        {"a": acl(deny(dst_port=80)), "i": ids(), "b": acl(deny(dst_port=81))},
        one_way("inside", "a", "i", "b", "outside"),
    )
    after = assert_same(graph)
    assert any(unit.startswith("b.inside.rules") for unit in after.units)


def test_an_acl_without_rules_is_no_table() -> None:
    after = assert_same(chain(acl(deny(dst_port=80)), way=both_ways))
    assert "n0.outside.rules@leaf2" not in after.units


# -- limits, what is kept -----------------------------------------------------------------------


def test_classes_that_explode_name_the_pair_and_by_how_much() -> None:
    first = [permit(src=f"10.0.{i}.0/24") for i in range(20)]
    second = [permit(dst=f"10.0.{i}.0/24") for i in range(20)]
    graph = chain(acl(*first, default="deny"), acl(*second, default="deny"))
    with pytest.raises(
        TooManyClasses, match=r"n0 \(20 rules\) and n1 \(20 rules\) make 420 "
    ) as told:
        synthesised(graph, Costs(most_classes=100))
    assert "320 more than the limit of 100" in str(told.value)
    assert told.value.nfs == ("n0", "n1")
    assert synthesised(graph, Costs(most_classes=420)).units


def test_a_graph_of_which_nothing_can_be_said_shorter_stays() -> None:
    graph = campus()
    kept = {name for name, unit in assert_same(graph).units.items() if unit.kind == SERVER}
    assert kept == {name for name, unit in cuts_of(graph).units.items() if unit.kind == SERVER}


def test_groups_forget_units_that_no_packet_reaches() -> None:
    graph = chain(ids(), traffic=[demand(match=Match(version=4, protocol=17))])
    after = assert_same(graph)
    assert after.groups == ()
    assert not [unit for unit in after.units.values() if unit.kind == SERVER]


def test_the_same_graph_gives_the_same_cuts() -> None:
    graph = campus()
    assert synthesised(graph) == synthesised(graph)


@settings(max_examples=200, deadline=None)
@given(match_fields(), match_fields(), st.integers())
def test_the_meet_of_two_matches(one: dict[str, Any], other: dict[str, Any], seed: int) -> None:
    from orchestrator.nfs.matching import MatchFields

    a, b = (MatchFields.model_validate(fields).to_match() for fields in (one, other))
    both, chance = meet(a, b), random.Random(seed)
    for _ in range(60):
        headers = packet(chance)
        wanted = meets(a, headers) and meets(b, headers)
        assert wanted == (both is not None and meets(both, headers))

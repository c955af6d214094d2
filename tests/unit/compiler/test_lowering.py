"""Lowering: the entries are those that placement counted, and every packet finds exactly one way.

Oracle for footprints: `targets.pipelines.footprint`, which placement trusts, counted against the real
entries block by block. Blind spot: what the entries do (tests/p4, tests/verification).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from networks import (
    both_ways,
    campus,
    compiled,
    demand,
    ids,
    long_acl,
    make_graph,
    napt,
    one_way,
    permits,
    router,
    static_nat,
    topology,
)

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.compiler.keys import match_keys
from orchestrator.model.entries import Between, Exact, Lpm, TableEntry, Ternary
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Match, PortRange, Prefix
from orchestrator.model.plan import Core
from orchestrator.network.fabric import Fabric
from orchestrator.targets.block import (
    ADMISSION_TABLES,
    EPOCH_TABLE,
    FIRST_TABLES,
    SOURCE_TABLES,
)
from orchestrator.targets.pipelines import SHIPPED, footprint
from servernf.wire.addresses import GATEWAY_MAC, device_mac
from servernf.wire.buckets import bucket_ports

EDGE = SHIPPED.capability("edge", "softswitch")

GRAPHS: dict[str, ServiceGraph] = {
    "campus": campus(),
    "router before acl": make_graph(
        {"r": router(), "a": permits()}, one_way("inside", "r", "a", "outside")
    ),
    "six acls": make_graph(
        {f"a{i}": permits() for i in range(6)},
        both_ways("inside", *(f"a{i}" for i in range(6)), "outside"),
    ),
    "mirrored acl": make_graph(
        {
            "a": (
                "acl",
                {
                    "rules": [
                        {"src": "10.0.0.0/8", "action": "deny"},
                        {"dst": "2001:db8::/32", "protocol": "tcp", "action": "permit"},
                        {"ether_type": "0x0806", "action": "permit"},
                        {"protocol": "udp", "src_port": "1-9", "action": "deny"},
                        {"version": 4, "later_fragment": True, "action": "deny"},
                        {"tcp_flags": "0x02/0x12", "action": "permit"},
                        {"action": "permit"},
                    ],
                    "reverse": "mirror",
                },
            )
        },
        both_ways("inside", "a", "outside"),
    ),
    "static nat": make_graph(
        {"n": static_nat(), "m": static_nat("2001:db8:1::11", "2001:db8:f::11"), "r": router()},
        one_way("inside", "n", "m", "r", "outside"),
    ),
    "nat beside": make_graph(
        {"n": static_nat(), "r": router()},
        ["inside n.inside", "n.outside r.inside", "guests r.inside", "r.outside outside"],
        endpoints={"inside": ("h1",), "guests": ("h2",), "outside": ("h3", "h4")},
    ),
    "router behind ids": make_graph(
        {"i": ids(), "r": router()},
        [*one_way("inside", "i", "r", "outside"), "outside i.outside", "i.inside inside"],
    ),
}


@pytest.fixture(scope="module", params=["leaf-spine", "single"])
def where(request: pytest.FixtureRequest) -> str:
    return request.param


_compiled: dict[tuple[str, str], Compiled] = {}


def of(name: str, where: str) -> Compiled:
    if (name, where) not in _compiled:
        _compiled[name, where] = compiled(GRAPHS[name], where)
    return _compiled[name, where]


def counted(result: Compiled) -> dict[str, Counter[tuple[str, str]]]:
    """Real entries by switch, block and table, of the blocks that footprints speak of."""
    block_of = {slot.instance: slot.block for slot in EDGE.slots}
    counters: dict[str, Counter[tuple[str, str]]] = {}
    for switch, program in result.bundle.programs.items():
        for table, count in program.entries_by_table().items():
            instance, name = table.split(".")
            if instance in block_of:
                counters.setdefault(switch, Counter())[block_of[instance], name] += count
    return counters


@pytest.mark.parametrize("name", GRAPHS)
class TestEveryGraph:
    def test_the_estimate_is_what_was_lowered(self, name: str, where: str) -> None:
        result = of(name, where)
        expected: dict[str, Counter[tuple[str, str]]] = {}
        for unit, switch in result.plan.device_of.items():
            need = footprint(result.cuts.units[unit], [EDGE])
            if need:
                expected.setdefault(switch, Counter()).update(need)
        assert counted(result) == expected

    def test_the_bundle_books_what_was_lowered(self, name: str, where: str) -> None:
        """`block_use` is what later graphs are told is taken."""
        result = of(name, where)
        use_of = result.bundle.block_use
        booked = {s: Counter(use_of[s]) for s in result.bundle.programs if use_of.get(s)}
        real = {
            switch: Counter({f"{block}.{table}": n for (block, table), n in counts.items()})
            for switch, counts in counted(result).items()
        }
        assert booked == real

    def test_entries_are_unique_as_p4runtime_sees_them(self, name: str, where: str) -> None:
        for program in of(name, where).bundle.programs.values():
            entries = (*program.entries, *program.activation)
            seen = Counter((e.table, frozenset(e.keys), e.priority) for e in entries)
            assert [k for k, n in seen.items() if n > 1] == []

    def test_service_paths_are_unique_and_fall(self, name: str, where: str) -> None:
        result = of(name, where)
        paths = result.lowered.paths
        assert len(set(paths.values())) == len(paths)
        for path, count in Counter(paths.values()).items():
            assert count == 1
            assert 0 < path.si <= 255
        falls = [
            (paths[switch, unit].si, [p.si for (_, u), p in paths.items() if u == target])
            for switch, layout in result.lowered.layouts.items()
            for unit in layout.entered
            for target in layout.exits(unit)
        ] + [
            (chain.si, [hop.si for hop in chain.hops if not hop.nf])
            for worker in result.bundle.workers
            for chain in worker.chains
        ]
        assert all(after and max(after) < before for before, after in falls), falls

    def test_every_way_out_has_a_way_in(self, name: str, where: str) -> None:
        """(SPI, SI) that some device writes is one that the addressed device knows."""
        result = of(name, where)
        ids_of = {s.id: n for n, s in topology(where).switches.items()}
        servers = {s.id: n for n, s in topology(where).servers.items()}
        ways = {
            (switch, dict(e.keys)["spi"], dict(e.keys)["si"])
            for switch, program in result.bundle.programs.items()
            for e in program.entries
            if e.table == "flowtag_arrival.paths"
        } | {
            (Core(w.server, w.core), Exact(chain.spi), Exact(chain.si))
            for w in result.bundle.workers
            for chain in w.chains
        }
        written = [
            dict(e.params)
            for program in result.bundle.programs.values()
            for e in program.entries
            if "spi" in dict(e.params)
        ] + [
            {"mac": hop.mac, "spi": hop.spi, "si": hop.si}
            for w in result.bundle.workers
            for chain in w.chains
            for hop in chain.hops
            if not hop.nf
        ]
        for params in written:
            device, core = params["mac"] >> 16 & 0xFFFF, params["mac"] & 0xFFFF
            target: Any = ids_of[device] if device in ids_of else Core(servers[device], core - 1)
            assert (target, Exact(params["spi"]), Exact(params["si"])) in ways
        entered = {k for k in ways if isinstance(k[0], str)}
        assert len(entered) == sum(len(lay.entered) for lay in result.lowered.layouts.values())

    def test_a_server_may_write_the_tags_of_its_chains_and_no_others(
        self, name: str, where: str
    ) -> None:
        result = of(name, where)
        fabric = Fabric(topology(where))
        written = {
            (at.switch, at.port, hop.mac, hop.spi, hop.si)
            for w in result.bundle.workers
            for at in [fabric.attachments[w.server]]
            for chain in w.chains
            for hop in chain.hops
            if not hop.nf
        }
        taken = [
            (switch, *(dict(e.keys)[k].value for k in ("ingress_port", "mac", "spi", "si")))  # type: ignore[union-attr]
            for switch, program in result.bundle.programs.items()
            for e in program.entries
            if e.table == "flowtag_arrival.origins"
        ]
        assert Counter(taken) == Counter(written)

    def test_segments_are_the_graphs_own(self, name: str, where: str) -> None:
        result = compiled(GRAPHS[name], where, graph_id=77)
        for program in result.bundle.programs.values():
            for entry in (*program.entries, *program.activation):
                for field, value in (*entry.keys, *entry.params):
                    if field == "segment":
                        number = value.value if isinstance(value, Exact) else value
                        assert number >> 14 == 77  # type: ignore[operator]
            for flood in program.floods:
                assert flood.group >> 6 == 77
                assert flood.group < 1 << 16

    def test_hash_prefixes_cover_the_space_exactly(self, name: str, where: str) -> None:
        for program in of(name, where).bundle.programs.values():
            by_segment: dict[Any, list[range]] = {}
            for entry in program.entries:
                if entry.table == "dispatch.next":
                    keys = dict(entry.keys)
                    lpm = keys.get("hash", Lpm(0, 0))
                    assert isinstance(lpm, Lpm)
                    size = 1 << 16 - lpm.length
                    assert lpm.value % size == 0
                    by_segment.setdefault(keys["segment"], []).append(
                        range(lpm.value, lpm.value + size)
                    )
            for covered in by_segment.values():
                covered.sort(key=lambda r: r.start)
                assert covered[0].start == 0
                assert covered[-1].stop == 1 << 16
                assert all(a.stop == b.start for a, b in pairwise(covered))


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 6])
def test_cores_get_equal_parts_of_the_hash(workers: int) -> None:
    graph = make_graph({"i": (*ids(), {"min_workers": workers})}, one_way("inside", "i", "outside"))
    base = topology("leaf-spine")
    many = replace(
        base, servers={n: replace(s, cores=16, reserved_cores=2) for n, s in base.servers.items()}
    )
    result = compile_graph(CompileRequest(graph, many))
    share: Counter[int] = Counter()
    for program in result.bundle.programs.values():
        for entry in program.entries:
            if entry.table == "dispatch.next" and entry.origin.startswith("to i."):
                lpm = dict(entry.keys).get("hash", Lpm(0, 0))
                assert isinstance(lpm, Lpm)
                share[dict(entry.params)["mac"]] += 1 << 16 - lpm.length
    assert len(share) == workers
    assert sum(share.values()) == 1 << 16
    assert max(share.values()) <= 1.1 * (1 << 16) / workers


class TestOwners:
    """NAPT's return classification: each worker's share of the pool, no more, no less."""

    @staticmethod
    def owners(workers: int, addresses: tuple[str, ...]) -> tuple[Compiled, list[TableEntry]]:
        graph = make_graph(
            {"n": napt(addresses, min_workers=workers)}, both_ways("inside", "n", "outside")
        )
        result = compiled(graph)
        owning = [
            entry
            for program in result.bundle.programs.values()
            for entry in program.entries
            if entry.table == "dispatch.owner"
        ]
        return result, owning

    def test_a_core_that_owns_all_buckets_needs_no_ports(self) -> None:
        _, owning = self.owners(1, ("203.0.113.1", "203.0.113.2"))
        assert [set(dict(e.keys)) for e in owning] == [{"segment", "address"}] * 2
        assert len({dict(e.params)["mac"] for e in owning}) == 1

    def test_else_ranges_that_cover_the_ports_exactly(self) -> None:
        result, owning = self.owners(3, ("203.0.113.1",))
        ranges = sorted(dict(e.keys)["port"] for e in owning)
        assert ranges[0] == Between(1024, ranges[0][1])
        assert ranges[-1][1] == 65535
        assert all(a[1] + 1 == b[0] for a, b in pairwise(ranges))
        assert all(dict(e.keys)["has_port"] == Ternary(1, 1) for e in owning)
        assert {w.nfs["n"][1]["buckets"] for w in result.bundle.workers} == {64}

    def test_a_buckets_ports_have_the_core_of_its_hash(self) -> None:
        result, owning = self.owners(3, ("203.0.113.1", "203.0.113.2"))
        ids_of = {s.name: s.id for s in topology().servers.values()}
        (classes,) = result.plan.dispatch[0]
        for bucket in range(64):
            low, _ = bucket_ports(1024, 65535, bucket, bucket, 64)
            (core,) = {s.core for s in classes.slices if s.low <= bucket << 10 < s.high}
            for address in (0xCB007101, 0xCB007102):
                (mac,) = {
                    dict(e.params)["mac"] & ~(0xFF << 32)
                    for e in owning
                    if dict(e.keys)["address"] == (address,)
                    and dict(e.keys)["port"][0] <= low <= dict(e.keys)["port"][1]
                }
                assert mac == device_mac(ids_of[core.server], core=core.index + 1)


class TestRoutes:
    def routes(self, *routes: dict[str, str]) -> dict[str, TableEntry]:
        graph = make_graph({"r": router(*routes)}, one_way("inside", "r", "outside"))
        program = compiled(graph, "single").bundle.programs["switch1"]
        return {
            e.origin.split(": ")[1]: e for e in program.entries if e.table.startswith("route.ip")
        }

    def test_a_next_hop_is_a_hosts_mac(self) -> None:
        (entry,) = self.routes({"prefix": "0.0.0.0/0", "next_hop": "198.51.100.13"}).values()
        params = dict(entry.params)
        assert entry.action == "route.ipv4.next_hop"
        assert params["mac"] == topology("single").hosts["h3"].mac
        assert params["gateway_mac"] == GATEWAY_MAC
        assert [name for name, _ in entry.keys] == ["segment"], "a default route has no dst key"

    def test_a_next_hop_that_is_nobodys_is_unreachable(self) -> None:
        (entry,) = self.routes({"prefix": "192.0.2.0/24", "next_hop": "198.51.100.99"}).values()
        assert (entry.action, entry.params) == ("route.ipv4.unreachable", ())

    def test_a_port_that_leads_nowhere_is_unreachable(self) -> None:
        by_prefix = self.routes(
            {"prefix": "192.0.2.0/24", "port": "uplink"}, {"prefix": "10.0.0.0/8"}
        )
        assert [e.action for e in by_prefix.values()] == [
            "route.ipv4.unreachable",
            "route.ipv4.connected",
        ]


class TestMatchKeys:
    """A match as keys: what it does not ask is left out; ports mean TCP or UDP, no later fragment."""

    @pytest.mark.parametrize(
        ("match", "version", "keys"),
        [
            (Match(), 4, {}),
            (Match(version=4), 4, {}),
            (Match(src=Prefix(4, 0, 0)), 4, {}),
            (Match(src=Prefix(4, 0x0A000000, 8)), 4, {"src": Ternary(0x0A000000, 0xFF000000)}),
            (Match(protocol=17), 6, {"protocol": Ternary(17, 255)}),
            (
                Match(dst_port=PortRange(80, 80)),
                4,
                {"l4": Ternary(1, 3), "dst_port": Between(80, 80)},
            ),
            (Match(src_port=PortRange(0, 65535)), 4, {"l4": Ternary(1, 3)}),
            (Match(later_fragment=True), 4, {"l4": Ternary(2, 2)}),
            (Match(later_fragment=False), 4, {"l4": Ternary(0, 2)}),
            (
                Match(tcp_flags=(0x02, 0x12)),
                4,
                {
                    "protocol": Ternary(6, 255),
                    "l4": Ternary(1, 3),
                    "tcp_flags": Ternary(0x02, 0x12),
                },
            ),
            (Match(ether_type=0x0806), 0, {"ether_type": Ternary(0x0806, 0xFFFF)}),
            (Match(ether_type=0x0800), 4, {}),
            (Match(), 0, {}),
        ],
    )
    def test_of(self, match: Match, version: int, keys: dict[str, Any]) -> None:
        assert dict(match_keys(match, version)) == keys


class TestAdmission:
    """Every frame that some traffic asks for is admitted, and finds its first segment."""

    def entries(self, table: str, *traffic: Any) -> list[TableEntry]:
        graph = make_graph({"a": permits()}, one_way("inside", "a", "outside"), traffic=traffic)
        program = compiled(graph).bundle.programs["leaf1"]
        return [e for e in program.entries if e.table.startswith(f"classify.{table}")]

    def test_every_port_of_the_endpoint_and_every_kind(self) -> None:
        entries = self.entries("", demand())
        tables = [*FIRST_TABLES, *ADMISSION_TABLES, *SOURCE_TABLES]
        assert Counter(e.table for e in entries) == dict.fromkeys(tables, 2)

    def test_only_what_some_traffic_asks_for(self) -> None:
        web = demand(match=Match(version=4, protocol=6))
        for table in ("ipv4", "first_"):
            (one, other) = self.entries(table, web)
            assert dict(one.keys)["protocol"] == Ternary(6, 255)
            assert dict(one.keys)["ingress_port"] != dict(other.keys)["ingress_port"]

    def test_the_first_traffic_wins(self) -> None:
        entries = self.entries(
            "first_",
            demand(name="one", match=Match(version=4, protocol=6)),
            demand(name="two", match=Match(version=4)),
        )
        by_name = {e.origin: e.priority for e in entries}
        assert by_name["traffic one"] > by_name["traffic two"] > 0

    def test_two_traffics_with_one_match_are_admitted_once(self) -> None:
        entries = self.entries("ipv4", demand(name="one"), demand(name="two"))
        assert len(entries) == 2

    def test_a_host_sends_from_its_own_addresses_and_its_endpoints_networks(self) -> None:
        sources = self.sources(prefixes=(Prefix(4, 0xC0A80000, 16), Prefix(6, 0xFC << 120, 7)))
        host = topology("leaf-spine").hosts["h1"]
        own = {a.version: Lpm(int(a.ip), a.max_prefixlen) for a in host.addresses}
        assert sources == {
            ("sources_ipv4", own[4]): "allow",
            ("sources_ipv4", Lpm(0xC0A80000, 16)): "allow",
            ("sources_ipv4", None): "refuse",
            ("sources_ipv6", own[6]): "allow",
            ("sources_ipv6", Lpm(0xFC << 120, 7)): "allow",
            ("sources_ipv6", None): "refuse",
        }

    def test_an_endpoint_may_be_the_internet_or_go_unguarded(self) -> None:
        everything = self.sources(prefixes=(Prefix(4, 0, 0),))
        assert everything["sources_ipv4", None] == "allow"
        assert everything["sources_ipv6", None] == "refuse"
        assert self.sources(source_guard=False) == {
            ("sources_ipv4", None): "allow",
            ("sources_ipv6", None): "allow",
        }

    def sources(self, **endpoint: Any) -> dict[tuple[str, Any], str]:
        """Actions by table and prefix, at the port of h1."""
        graph = make_graph({"a": permits()}, one_way("inside", "a", "outside"), guarded=True)
        inside = replace(graph.endpoints["inside"], **endpoint)
        graph = replace(graph, endpoints={**graph.endpoints, "inside": inside})
        port = Exact(Fabric(topology("leaf-spine")).attachments["h1"].port)
        return {
            (e.table.split(".")[1], dict(e.keys).get("src")): e.action.rpartition(".")[2]
            for e in compiled(graph).bundle.programs["leaf1"].entries
            if e.table in SOURCE_TABLES and dict(e.keys)["ingress_port"] == port
        }

    def test_one_entry_puts_it_in_force(self) -> None:
        graph = make_graph({"a": permits()}, one_way("inside", "a", "outside"))
        programs = compiled(graph).bundle.programs
        assert [e.table for e in programs["leaf1"].activation] == [EPOCH_TABLE]
        assert all(not p.activation for name, p in programs.items() if name != "leaf1")


def test_rules_keep_their_order_as_priorities() -> None:
    program = compiled(
        make_graph({"a": long_acl(50)}, one_way("inside", "a", "outside")), "single"
    ).bundle.programs["switch1"]
    rules = [e for e in program.entries if e.table == "acl.ipv4"]
    assert [e.priority for e in rules] == sorted((e.priority for e in rules), reverse=True)
    assert rules[-1].origin == "a: default"
    assert len({e.priority for e in rules}) == 51
    assert all(e.origin for e in program.entries)


def test_neighbours_are_answered_where_they_can_be_asked() -> None:
    """A NAPT's pool is the outside's: inside hosts go by their gateway."""
    result = compiled(campus())
    answered = {
        switch: sorted(
            (dict(e.keys)["ingress_port"][0], dict(e.keys)["target"][0])
            for e in program.entries
            if e.table == "neighbor.arp"
        )
        for switch, program in result.bundle.programs.items()
    }
    pool = [0xCB007101, 0xCB007102]
    ports = sorted({port for port, _ in answered["leaf2"]})
    assert answered["leaf1"] == []
    assert answered["leaf2"] == [(port, address) for port in ports for address in pool]
    assert len(ports) == 2

"""Lowering of a program into its block: one function for each kind of program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch

from orchestrator.compiler.keys import match_keys
from orchestrator.compiler.matching import STRIDE
from orchestrator.model.cuts import Unit
from orchestrator.model.elements import (
    COPY,
    DROP,
    PASS,
    DecapProgram,
    DscpProgram,
    EncapProgram,
    FilterProgram,
    HashProgram,
    MeterProgram,
    MirrorProgram,
    Program,
    RewriteProgram,
    RouteProgram,
    TtlProgram,
    VlanPopProgram,
    VlanPushProgram,
)
from orchestrator.model.entries import Exact, Key, Lpm, Meter, TableEntry
from orchestrator.model.packet import internet_checksum
from orchestrator.model.topology import Host
from orchestrator.model.versions import versions_of
from orchestrator.targets.footprints import BY_SEGMENT, VERSION_TABLE
from orchestrator.wire.addresses import GATEWAY_MAC

BASE_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class Site:
    """Where a unit's program is lowered: into which instance of its block, for which segment.

    `following[output]` is the segment of what follows on this switch; an output that is not there
    drops. `hosts` are those of the graph by (IP version, address).
    """

    unit: Unit
    instance: str
    segment: int
    following: Mapping[str, int]
    hosts: Mapping[tuple[int, int], Host]

    def entry(
        self,
        table: str,
        keys: tuple[tuple[str, Key], ...],
        action: str,
        origin: str,
        *,
        priority: int = 0,
        **params: int,
    ) -> TableEntry:
        """An entry of this segment in the instance's table."""
        return TableEntry(
            f"{self.instance}.{table}",
            (("segment", Exact(self.segment)), *keys),
            f"{self.instance}.{action}",
            tuple(params.items()),
            priority,
            f"{self.unit.nf}: {origin}",
        )

    def only_entry(self, action: str, origin: str, **params: int) -> TableEntry:
        """The one entry that a segment has in a block which asks for nothing else."""
        return self.entry(BY_SEGMENT, (), action, origin, **params)


@singledispatch
def program_entries(program: Program, site: Site) -> Iterator[TableEntry]:
    """The entries that make a block execute a program for the packets of a segment."""
    raise TypeError(f"{type(program).__name__} runs on no switch")


def verdict(site: Site, output: str) -> tuple[str, dict[str, int]]:
    """The action of a filter's entry whose packets leave by an output, and its parameters."""
    segment = None if output == DROP else site.following.get(output)
    if segment is None:
        return "deny", {}
    return ("permit", {}) if segment == site.segment else ("go_to", {"segment": segment})


@program_entries.register
def _filter(program: FilterProgram, site: Site) -> Iterator[TableEntry]:
    outputs = {rule.output for rule in program.rules} | {program.default}
    actions = {output: verdict(site, output) for output in outputs}
    count = len(program.rules)
    for rank, rule in enumerate(program.rules):
        name, params = actions[rule.output]
        for version in sorted(versions_of(rule.match) & site.unit.versions):
            keys = tuple(match_keys(rule.match, version))
            priority = (count - rank) * STRIDE + BASE_PRIORITY
            table = VERSION_TABLE[version]
            yield site.entry(table, keys, name, rule.rule, priority=priority, **params)
    name, params = actions[program.default]
    for version in sorted(site.unit.versions):
        table = VERSION_TABLE[version]
        yield site.entry(table, (), name, program.default_rule, priority=BASE_PRIORITY, **params)


@program_entries.register
def _rewrite(program: RewriteProgram, site: Site) -> Iterator[TableEntry]:
    for version, old, new in program.pairs:
        if version in site.unit.versions:
            table = f"{program.field}_ipv{version}"
            keys = ((program.field, Exact(old)),)
            yield site.entry(table, keys, f"set_{table}", "pair", address=new)


@program_entries.register
def _routes(program: RouteProgram, site: Site) -> Iterator[TableEntry]:
    segments = site.entry("segments_routed", (), "route_here", "")
    yield segments._replace(origin=site.unit.nf)
    for route in program.routes:
        prefix = route.prefix
        if prefix.version not in site.unit.versions:
            continue
        go = None if route.output == DROP else site.following.get(route.output)
        keys: tuple[tuple[str, Key], ...] = ()
        if prefix.length:
            keys = (("dst", Lpm(prefix.value, prefix.length)),)
        action, params = "unreachable", dict[str, int]()
        if go is not None and route.next_hop is None:
            action, params = "connected", {"segment": go}
        elif go is not None and route.next_hop is not None:
            host = site.hosts.get(route.next_hop)
            if host is not None:  # else nobody's address; `graph check` warns
                macs = {"mac": host.mac, "gateway_mac": GATEWAY_MAC}
                action, params = "next_hop", {**macs, "segment": go}
        yield site.entry(VERSION_TABLE[prefix.version], keys, action, route.rule, **params)


@program_entries.register
def _dscp(program: DscpProgram, site: Site) -> Iterator[TableEntry]:
    yield site.only_entry("set_dscp", f"DSCP {program.dscp}", dscp=program.dscp)


@program_entries.register
def _ttl(program: TtlProgram, site: Site) -> Iterator[TableEntry]:
    action = "limit_ttl" if program.clamp else "require_ttl"
    origin = f"TTL {program.low}-{program.high}"
    yield site.only_entry(action, origin, low=program.low, high=program.high)


@program_entries.register
def _vlan_push(program: VlanPushProgram, site: Site) -> Iterator[TableEntry]:
    yield site.only_entry(
        "push",
        f"VLAN {program.vid}",
        ether_type=program.ether_type,
        pcp=program.pcp,
        vid=program.vid,
    )


@program_entries.register
def _vlan_pop(program: VlanPopProgram, site: Site) -> Iterator[TableEntry]:
    strict = int(program.strict)
    if program.vid is None:
        yield site.only_entry("pop_any", "any VLAN", strict=strict)
    else:
        yield site.only_entry("pop", f"VLAN {program.vid}", vid=program.vid, strict=strict)


@program_entries.register
def _hash(program: HashProgram, site: Site) -> Iterator[TableEntry]:
    action = "by_ports" if program.by_ports else "by_addresses"
    yield site.only_entry(action, f"{len(program.buckets)} buckets")
    name = f"ipv{program.version}"
    for bucket, address in enumerate(program.buckets):
        keys = (("bucket", Exact(bucket)),)
        origin = f"bucket {bucket}"
        yield site.entry(f"buckets_{name}", keys, f"set_dst_{name}", origin, address=address)


_VERDICTS = {PASS: 0, DROP: 1}
_SET_DSCP = 2  # blocks/policer.p4


@program_entries.register
def _meter(program: MeterProgram, site: Site) -> Iterator[TableEntry]:
    params: dict[str, int] = {}
    for colour, verdict in (("yellow", program.yellow), ("red", program.red)):
        params[colour] = _VERDICTS[verdict] if isinstance(verdict, str) else _SET_DSCP
        params[f"{colour}_dscp"] = 0 if isinstance(verdict, str) else verdict
    entry = site.only_entry("police", f"{8 * program.rate} bit/s", **params)
    meter = Meter(program.rate, program.burst, program.peak_rate, program.peak_burst)
    yield entry._replace(meter=meter)


@program_entries.register
def _mirror(program: MirrorProgram, site: Site) -> Iterator[TableEntry]:
    if COPY in site.following:  # else nobody listens
        yield site.only_entry("copy_to", "mirror", segment=site.following[COPY])


@program_entries.register
def _encap(program: EncapProgram, site: Site) -> Iterator[TableEntry]:
    segment = next(iter(site.following.values()), None)
    if segment is None:
        yield site.only_entry("refuse", "nothing is connected")
        return
    # The outer header without length and checksum (RFC 791): DF, TTL 64, UDP.
    header = bytes.fromhex("450000000000400040110000")
    addresses = program.source.to_bytes(4, "big") + program.destination.to_bytes(4, "big")
    yield site.only_entry(
        "encap",
        f"VNI {program.vni}",
        mac=GATEWAY_MAC,
        src=program.source,
        dst=program.destination,
        checksum=internet_checksum(header + addresses),
        vni=program.vni,
        segment=segment,
    )


@program_entries.register
def _decap(program: DecapProgram, site: Site) -> Iterator[TableEntry]:
    segment = next(iter(site.following.values()), None)
    if segment is None:
        yield site.only_entry("refuse", "nothing is connected")
        return
    origin = f"VNI {program.vni}"
    yield site.only_entry("decap", origin, dst=program.address, vni=program.vni, segment=segment)

"""Lowering of a program into its block: one function for each kind of program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial, singledispatch
from hashlib import blake2b
from typing import Any

from orchestrator.compiler.keys import match_keys
from orchestrator.memo import Memo
from orchestrator.model.checksums import internet_checksum
from orchestrator.model.elements import (
    COPY,
    DROP,
    PASS,
    TOLD,
    DecapProgram,
    DscpProgram,
    ElementProgram,
    EncapProgram,
    FilterProgram,
    HashProgram,
    MeterProgram,
    MirrorProgram,
    RewriteProgram,
    RouteProgram,
    TtlProgram,
    VlanPopProgram,
    VlanPushProgram,
)
from orchestrator.model.entries import PRIORITY_STRIDE, Exact, Key, Lpm, Meter
from orchestrator.model.refs import Ref, SegmentRef
from orchestrator.model.routes import NextHop
from orchestrator.model.symbolic import Section, SymbolicEntry, SymbolicPart, Unmade
from orchestrator.targets.block import BY_SEGMENT, OTHER_FIELD, VERSION_TABLE
from servernf.wire.addresses import GATEWAY_MAC

BASE_PRIORITY = 1
_KEY_BYTES = 16
_Params = tuple[tuple[str, int | Ref], ...]


@dataclass(frozen=True)
class Site:
    """Where an NF's program is lowered: into which instance of its block, for which segment, on
    whichever switch.

    `versions` are the kinds of packet that arrive. `ways` are (output, segment of what follows on the
    switch); an output that is not there drops. `neighbors` are ((IP version, address), MAC) of the
    graph's hosts.
    """

    nf: str
    versions: frozenset[int]
    instance: str
    segment: SegmentRef
    ways: tuple[tuple[str, SegmentRef], ...]
    neighbors: tuple[tuple[tuple[int, int], int], ...]

    @property
    def segments(self) -> tuple[SegmentRef, ...]:
        """All that entries may refer to, its own first."""
        return tuple(dict.fromkeys((self.segment, *(segment for _, segment in self.ways))))

    @cached_property
    def following(self) -> Mapping[str, SegmentRef]:
        """Segment by output."""
        return dict(self.ways)

    @cached_property
    def macs(self) -> Mapping[tuple[int, int], int]:
        """MAC by (IP version, address)."""
        return dict(self.neighbors)

    def entry(
        self,
        table: str,
        keys: tuple[tuple[str, Key], ...],
        action: str,
        origin: str,
        *,
        priority: int = 0,
        **params: int | Ref,
    ) -> SymbolicEntry:
        """An entry of this segment in the instance's table."""
        return SymbolicEntry(
            f"{self.instance}.{table}",
            (("segment", self.segment), *keys),
            f"{self.instance}.{action}",
            tuple(params.items()),
            priority,
            f"{self.nf}: {origin}",
        )

    def only_entry(self, action: str, origin: str, **params: int | Ref) -> SymbolicEntry:
        """The one entry that a segment has in a block which asks for nothing else."""
        return self.entry(BY_SEGMENT, (), action, origin, priority=0, **params)


def section(program: ElementProgram, site: Site, memo: Memo) -> Section:
    """The entries of a program, by the nodes that they belong to."""

    def made(program: ElementProgram) -> Section:
        return Section(site.segments, tuple(node_parts(program, site, memo)))

    return memo.of(("section", site), program, made)


@singledispatch
def node_parts(program: ElementProgram, site: Site, memo: Memo) -> Sequence[SymbolicPart]:
    """The parts of a kind of program: all belong to the segment, unless another one registers."""
    return (SymbolicPart(site.segment, tuple(program_entries(program, site))),)


@singledispatch
def program_entries(program: ElementProgram, site: Site) -> Iterator[SymbolicEntry]:
    """The entries that make a block execute a program for the packets of a segment."""
    raise TypeError(f"{type(program).__name__} runs on no switch")


def verdict(site: Site, output: str) -> tuple[str, dict[str, SegmentRef]]:
    """The action of a filter's entry whose packets leave by an output, and its parameters."""
    segment = None if output == DROP else site.following.get(output)
    if segment is None:
        return "deny", {}
    return ("permit", {}) if segment == site.segment else ("go_to", {"segment": segment})


@program_entries.register
def _filter(program: FilterProgram, site: Site) -> Iterator[SymbolicEntry]:
    outputs = {rule.output for rule in program.rules} | {program.default}
    actions = {output: verdict(site, output) for output in outputs}
    count = len(program.rules)
    here = {asked: sorted(asked & site.versions) for asked in program.counts}
    pairs = zip(program.rules, program.kinds, strict=True) if any(here.values()) else ()
    for rank, (rule, (asked, _)) in enumerate(pairs):
        name, params = actions[rule.output]
        for version in here[asked]:
            keys = tuple(match_keys(rule.match, version))
            priority = (count - rank) * PRIORITY_STRIDE + BASE_PRIORITY
            table = VERSION_TABLE[version]
            action = f"{table}.{name}"
            yield site.entry(table, keys, action, rule.rule, priority=priority, **params)
    name, params = actions[program.default]
    for version in sorted(site.versions):
        table = VERSION_TABLE[version]
        action = f"{table}.{name}"
        yield site.entry(table, (), action, program.default_rule, priority=BASE_PRIORITY, **params)


@program_entries.register
def _rewrite(program: RewriteProgram, site: Site) -> Iterator[SymbolicEntry]:
    for version, old, new in program.pairs:
        if version in site.versions:
            table = f"{program.field}_ipv{version}"
            keys = ((program.field, Exact(old)),)
            yield site.entry(table, keys, f"set_{table}", "pair", address=new)
            quoted = OTHER_FIELD[program.field]
            table, keys = f"quoted_{quoted}_ipv{version}", ((quoted, Exact(old)),)
            yield site.entry(table, keys, f"set_{table}", "pair, in ICMP errors", address=new)


@node_parts.register
def _unmade_routes(program: RouteProgram, site: Site, memo: Memo) -> Sequence[SymbolicPart]:
    """They are many and plain: what is asked of them before they are written needs none of them."""
    routes, tables = program.routes, Counter({f"{site.instance}.segments_routed": 1})
    for version, count in routes.counts.items():
        if version in site.versions:
            tables[f"{site.instance}.{VERSION_TABLE[version]}"] = count
    action = _RouteActions(site)
    doings = {action.of(*way) for way in routes.ways if way[0] in site.versions}
    named = frozenset(v for _, params in doings for _, v in params if isinstance(v, SegmentRef))
    if program.tells and TOLD in site.following:
        named |= {site.following[TOLD]}
    told = (
        program.tells,
        program.mtu,
        site.nf,
        site.instance,
        site.segment,
        site.ways,
        site.neighbors,
        sorted(site.versions),
    )
    key = blake2b(routes.digest + repr(told).encode(), digest_size=_KEY_BYTES).digest()
    entries = Unmade(partial(program_entries, program, site), tables, named, key)
    return (SymbolicPart(site.segment, entries),)


class _RouteActions:
    """What is done with packets of a route, of an IP version: the same objects for routes alike."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[tuple[int, str, NextHop | None], tuple[str, _Params]] = {}

    def of(self, version: int, output: str, next_hop: NextHop | None) -> tuple[str, _Params]:
        """(action, parameters)."""
        way = (version, output, next_hop)
        action = self._known.get(way)
        if action is None:
            action = self._known[way] = self._made(*way)
        return action

    def _made(self, version: int, output: str, next_hop: NextHop | None) -> tuple[str, _Params]:
        site = self._site
        table = f"{site.instance}.{VERSION_TABLE[version]}"
        go = None if output == DROP else site.following.get(output)
        if go is not None and next_hop is None:
            return f"{table}.connected", (("segment", go),)
        mac = None if next_hop is None else site.macs.get(next_hop)
        if go is None or mac is None:  # nobody's address; `graph check` warns
            return f"{table}.unreachable", ()
        params: _Params = (("mac", mac), ("gateway_mac", GATEWAY_MAC), ("segment", go))
        return f"{table}.next_hop", params


@program_entries.register
def _routes(program: RouteProgram, site: Site) -> Iterator[SymbolicEntry]:
    told = site.following.get(TOLD) if program.tells else None
    name, params = "route_here", dict[str, Any](gateway_mac=GATEWAY_MAC)
    if told is not None:
        name = "route_and_tell"
        params |= {"mtu": program.mtu, "segment": told}
    yield site.entry("segments_routed", (), name, "", **params)._replace(origin=site.nf)
    action = _RouteActions(site).of
    tables = {v: f"{site.instance}.{VERSION_TABLE[v]}" for v in site.versions}
    segment = ("segment", site.segment)
    for row in program.routes.rows():
        version, value, length, output, next_hop, *_ = row
        if version in tables:
            keys = (segment, ("dst", Lpm(value, length))) if length else (segment,)
            name, params = action(version, output, next_hop)
            yield SymbolicEntry(tables[version], keys, name, params, 0, f"{site.nf}: {row.rule}")


@program_entries.register
def _dscp(program: DscpProgram, site: Site) -> Iterator[SymbolicEntry]:
    yield site.only_entry("set_dscp", f"DSCP {program.dscp}", dscp=program.dscp)


@program_entries.register
def _ttl(program: TtlProgram, site: Site) -> Iterator[SymbolicEntry]:
    action = "limit_ttl" if program.clamp else "require_ttl"
    origin = f"TTL {program.low}-{program.high}"
    yield site.only_entry(action, origin, low=program.low, high=program.high)


@program_entries.register
def _vlan_push(program: VlanPushProgram, site: Site) -> Iterator[SymbolicEntry]:
    yield site.only_entry(
        "push",
        f"VLAN {program.vid}",
        ether_type=program.ether_type,
        pcp=program.pcp,
        vid=program.vid,
    )


@program_entries.register
def _vlan_pop(program: VlanPopProgram, site: Site) -> Iterator[SymbolicEntry]:
    strict = int(program.strict)
    if program.vid is None:
        yield site.only_entry("pop_any", "any VLAN", strict=strict)
    else:
        yield site.only_entry("pop", f"VLAN {program.vid}", vid=program.vid, strict=strict)


@program_entries.register
def _hash(program: HashProgram, site: Site) -> Iterator[SymbolicEntry]:
    action = "by_ports" if program.by_ports else "by_addresses"
    yield site.only_entry(action, f"{len(program.buckets)} buckets")
    name = f"ipv{program.version}"
    for bucket, address in enumerate(program.buckets):
        keys = (("bucket", Exact(bucket)),)
        origin = f"bucket {bucket}"
        yield site.entry(f"buckets_{name}", keys, f"set_dst_{name}", origin, address=address)


_VERDICTS = {PASS: "permit", DROP: "deny"}
_COLOURS = {"yellow": 1, "red": 2}  # RFC 2698, as meters of P4 number them


@program_entries.register
def _meter(program: MeterProgram, site: Site) -> Iterator[SymbolicEntry]:
    origin = f"{8 * program.rate} bit/s"
    meter = Meter(program.rate, program.burst, program.peak_rate, program.peak_burst)
    yield site.only_entry("police", origin)._replace(meter=meter)
    for colour, verdict in (("yellow", program.yellow), ("red", program.red)):
        keys = (("colour", Exact(_COLOURS[colour])),)
        if isinstance(verdict, str):
            action, params = _VERDICTS[verdict], dict[str, int]()
        else:
            action, params = "set_dscp", {"dscp": verdict}
        yield site.entry("colours", keys, action, f"{origin} {colour}", priority=0, **params)


@program_entries.register
def _mirror(program: MirrorProgram, site: Site) -> Iterator[SymbolicEntry]:
    if COPY in site.following:  # else nobody listens
        yield site.only_entry("copy_to", "mirror", segment=site.following[COPY])


@program_entries.register
def _encap(program: EncapProgram, site: Site) -> Iterator[SymbolicEntry]:
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
def _decap(program: DecapProgram, site: Site) -> Iterator[SymbolicEntry]:
    segment = next(iter(site.following.values()), None)
    if segment is None:
        yield site.only_entry("refuse", "nothing is connected")
        return
    origin = f"VNI {program.vni}"
    yield site.only_entry("decap", origin, dst=program.address, vni=program.vni, segment=segment)

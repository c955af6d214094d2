"""Elements: the indivisible match-action or stateful steps of an NF, and how they are joined.

An NF gives, for each port that a packet can enter, an `ElementGraph`. Stateless elements carry a
program that a switch can execute; a stateful element is executed by the NF's server runtime.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from orchestrator.model.match import Match, PacketKind
from orchestrator.model.routes import Routes

DROP = "drop"
"""The output of an element that ends a packet's life."""
COPY = "copy"
"""The output by which a program that copies sends the copy, beside the packet itself."""


TOLD = "told"
"""The output of a router for packets whose senders are told by ICMP that they go no further."""


class ElementProgram:
    """What an element does. The class attributes are what the compiler asks of a kind of program."""

    __slots__ = ()
    block: ClassVar[str] = ""
    """The block of a pipeline that executes it; empty: no switch does."""
    branches: ClassVar[bool] = False
    """Whether its entries name the segment that follows; else packets stay in theirs."""
    restarts: ClassVar[bool] = False
    """Whether it makes another packet of it, which must be parsed anew before anything follows."""
    copies: ClassVar[bool] = False
    """Whether a copy leaves by output COPY, to pass the pipeline from its beginning."""
    rewrites_addresses: ClassVar[bool] = False
    one_place: ClassVar[bool] = False
    """Whether a switch keeps something for it (a meter), so that all packets must pass one switch."""


@dataclass(frozen=True, slots=True)
class FilterRule:
    """First match wins. `output` is one of the element's outputs or DROP; `rule` names its origin."""

    match: Match
    output: str
    rule: str


@dataclass(frozen=True)
class FilterProgram(ElementProgram):
    """Ordered rules over headers (access list, prefilter, virtual address, owner check).

    What is often asked of a long list is found out once.
    """

    block: ClassVar[str] = "acl"
    branches: ClassVar[bool] = True
    rules: tuple[FilterRule, ...]
    default: str
    default_rule: str = "default"
    """The default's name in provenance."""

    @cached_property
    def matches(self) -> list[Match]:
        """What each rule asks for."""
        return [rule.match for rule in self.rules]

    @cached_property
    def kinds(self) -> list[PacketKind]:
        """The kind of packet that each rule can match."""
        return [match.kind for match in self.matches]

    @cached_property
    def ways(self) -> tuple[tuple[str, PacketKind], ...]:
        """(output, kind) of the rules, in order, without those of which there was one before."""
        outputs = [rule.output for rule in self.rules]
        return tuple(dict.fromkeys(zip(outputs, self.kinds, strict=True)))

    @cached_property
    def counts(self) -> Counter[frozenset[int]]:
        """Rules by the IP versions that they can match."""
        return Counter([kind.versions for kind in self.kinds])

    @cached_property
    def prefix_counts(self) -> Counter[frozenset[int]]:
        """Entries of a table that knows no ranges, by IP versions."""
        counts: Counter[frozenset[int]] = Counter()
        for match in self.matches:
            counts[match.kind.versions] += match.prefixes
        return counts


@dataclass(frozen=True, slots=True)
class RewriteProgram(ElementProgram):
    """One-to-one replacement of addresses; `field` is 'src' or 'dst'. Others pass unchanged.

    What an ICMP error quotes went the other way: there the other address is replaced (RFC 5508, 4).
    `pairs`: (version, old address, new address) as integers. One output.
    """

    block: ClassVar[str] = "rewrite"
    rewrites_addresses: ClassVar[bool] = True
    field: str
    pairs: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class RouteProgram(ElementProgram):
    """Longest-prefix match on the destination; decrements TTL. Dropped are non-IP, frames for others
    and martian addresses; TTL <= 1, no route, and packets longer than `mtu` (bytes of IP) leave by TOLD,
    if that is an output, else are dropped, too.
    """

    block: ClassVar[str] = "route"
    branches: ClassVar[bool] = True
    routes: Routes
    tells: bool = False
    mtu: int = 0xFFFF


@dataclass(frozen=True, slots=True)
class DscpProgram(ElementProgram):
    """Sets the DSCP (RFC 2474) of IP packets, 0 to 63; ECN stays. Others pass unchanged."""

    block: ClassVar[str] = "mark"
    dscp: int


@dataclass(frozen=True, slots=True)
class TtlProgram(ElementProgram):
    """Asks that TTL or hop limit be `low` to `high`: else drops, or with `clamp` sets the bound."""

    block: ClassVar[str] = "mark"
    low: int
    high: int
    clamp: bool


@dataclass(frozen=True, slots=True)
class VlanPushProgram(ElementProgram):
    """Adds an outermost VLAN tag (802.1Q); a frame that has two already is dropped."""

    block: ClassVar[str] = "vlan"
    ether_type: int
    pcp: int
    vid: int


@dataclass(frozen=True, slots=True)
class VlanPopProgram(ElementProgram):
    """Takes the outermost VLAN tag off if its VID is `vid` (None: any); more than two tags: drop.

    Other frames pass unchanged, or are dropped with `strict`.
    """

    block: ClassVar[str] = "vlan"
    vid: int | None
    strict: bool


@dataclass(frozen=True, slots=True)
class HashProgram(ElementProgram):
    """Rewrites the destination to `buckets[CRC-32 of the flow mod their number]` (IP `version` only),
    and in an ICMP error the quoted source, if that is the destination.

    The flow is (source, destination), with `by_ports` and where there are ports in an unfragmented
    packet also (source port, destination port, protocol); an ICMP error's is that of what it quotes,
    source and destination swapped.
    """

    block: ClassVar[str] = "hash_lb"
    rewrites_addresses: ClassVar[bool] = True
    version: int
    by_ports: bool
    buckets: tuple[int, ...]


PASS = "pass"
"""A verdict of a meter, beside DROP and a DSCP."""


@dataclass(frozen=True, slots=True)
class MeterProgram(ElementProgram):
    """Two rates, three colours (RFC 2698), colour-blind: bytes/s and bytes of whole frames.

    `yellow` and `red` say what becomes of such packets: PASS, DROP, or the DSCP they get.
    """

    block: ClassVar[str] = "policer"
    one_place: ClassVar[bool] = True
    rate: int
    burst: int
    peak_rate: int
    peak_burst: int
    yellow: str | int
    red: str | int


@dataclass(frozen=True, slots=True)
class MirrorProgram(ElementProgram):
    """Lets packets pass and gives a copy of each to output COPY; the other output is the first."""

    block: ClassVar[str] = "mirror"
    copies: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class EncapProgram(ElementProgram):
    """Puts the frame into VXLAN (RFC 7348) from IPv4 `source` to `destination`."""

    block: ClassVar[str] = "tunnel"
    branches: ClassVar[bool] = True
    restarts: ClassVar[bool] = True
    rewrites_addresses: ClassVar[bool] = True
    source: int
    destination: int
    vni: int


@dataclass(frozen=True, slots=True)
class DecapProgram(ElementProgram):
    """Takes the frame out of VXLAN packets of `vni` to IPv4 `address`; drops all others."""

    block: ClassVar[str] = "tunnel"
    branches: ClassVar[bool] = True
    restarts: ClassVar[bool] = True
    rewrites_addresses: ClassVar[bool] = True
    address: int
    vni: int


@dataclass(frozen=True, slots=True)
class StatefulProgram(ElementProgram):
    """Per-flow state: only a server runs it, and it runs the whole NF from this port on.

    `keeps_headers`: a packet that leaves still has everything that a match asks for as it came.
    """

    reason: str
    keeps_headers: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """`name` is unique within the NF's port, e.g. `rules`; the outputs lead to other elements."""

    name: str
    program: ElementProgram
    outputs: tuple[str, ...]

    @property
    def stateful(self) -> bool:
        """Whether it needs per-flow state."""
        return isinstance(self.program, StatefulProgram)


@dataclass(frozen=True, slots=True)
class Leave:
    """Where an output leaves the NF: through this port."""

    port: str


@dataclass(frozen=True, slots=True)
class ElementGraph:
    """What an NF does with packets that enter one port: `entry`, then along `edges`.

    `edges[(element name, output)]` is the next element's name or a `Leave`.
    """

    entry: str
    elements: dict[str, Element]
    edges: dict[tuple[str, str], str | Leave]


FLOW_FIELDS = ("inside_address", "outside_address", "inside_port", "outside_port", "protocol")


@dataclass(frozen=True, slots=True)
class StateKey:
    """The fields that own an NF's state, named from the NF's own inside and outside.

    For packets entering `inside` the source is the inside; for those entering `outside` it is the
    destination. `partitioned` names the ports whose packets show an address from a pool instead, of
    which each bucket has a share (NAPT's outside): the switch classifies them by that share.
    """

    fields: frozenset[str]
    partitioned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PoolShare:
    """What some buckets have of a partitioned pool: ports `low`..`high` of IPv4 `addresses`.

    ICMP identifiers share the range. A whole address (0..65535) needs no port to be recognised,
    so later fragments find their owner too.
    """

    addresses: tuple[int, ...]
    low: int = 0
    high: int = 65535


@dataclass(frozen=True, slots=True)
class CostProfile:
    """Cycles that one packet costs a server core, with where the figure comes from; and the memory of
    a worker (bytes): fixed, and for each entry of its state."""

    cycles_per_packet: int
    cycles_per_byte: float
    source: str
    memory_bytes: int = 1 << 20
    """Our estimate: an NF's code, rules and small tables beside those of the worker's runtime."""
    state_entry_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Relation:
    """How the output of a runtime may differ from the reference (docs/testing.md).

    `kind`: 'exact', 'consistent_mapping' (NAPT), 'consistent_choice' (load balancer), 'tolerance'
    (meters) or 'equal_decrypted' (encryption: `NetworkFunction.canonical` are compared).
    """

    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An element at one place of a service graph: NF instance, entered port, element."""

    nf: str
    port: str
    element: str

    def __str__(self) -> str:
        return f"{self.nf}.{self.port}.{self.element}"


@dataclass(frozen=True, slots=True)
class Counters:
    """Named counts, as an NF reports them."""

    values: dict[str, int] = field(default_factory=dict[str, int])

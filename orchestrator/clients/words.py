"""Entries in words: prefixes, ranges, MACs and ports the way an operator writes them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from finsy.proto import p4r

from orchestrator.clients.p4info import Schema, TableInfo
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry
from orchestrator.model.ids import segment_words
from orchestrator.model.refs import Role
from orchestrator.targets.references import belonging, key_role, param_role
from servernf.wire.addresses import mac_text

SECRETS = frozenset({"key0", "key1"})
"""Parameters that are never shown: the keys of the sampling hash."""

SECRET = "(secret)"

Ports = Mapping[int, str]
"""What is behind each port of a switch, by number."""

NO_PORTS: Ports = {}

Placing = Callable[[str, TableEntry], str]
"""(graph, an entry that came from a device) -> its origin with the places of rules."""


def as_told(graph: str, entry: TableEntry) -> str:
    """What the device was told: no place."""
    return entry.origin


NO_NF = frozenset({"path"})
"""Heads of origins (`path: ...`) that are no NF's."""

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_TAGGED = 1 << 12  # p4src/shared/metadata.p4
_L4 = {0: "no ports", 1: "has ports", 2: "later fragment", 4: "ICMP"}


@dataclass(frozen=True, slots=True)
class EntityWords:
    """An entity in words; `rule` is what it is for where it comes from no NF."""

    table: str
    match: str
    priority: int
    action: str
    graph: str
    nf: str
    rule: str

    def __str__(self) -> str:
        """`acl.ipv4 [dst 10.0.0.0/8] -> acl.ipv4.deny (graph campus, NF fw, access.json:14)`."""
        priority = f" priority {self.priority}" if self.priority else ""
        nf = f"NF {self.nf}" if self.nf else ""
        graph = f"graph {self.graph}" if self.graph else ""
        origin = ", ".join(part for part in (graph, nf, self.rule) if part)
        match = f" [{self.match}]" if self.match else ""
        action = f" -> {self.action}" if self.action else ""
        return f"{self.table}{match}{priority}{action}" + (f" ({origin})" if origin else "")


def entity_words(
    schema: Schema,
    entity: p4r.Entity | bytes,
    ports: Ports = NO_PORTS,
    placing: Placing = as_told,
) -> EntityWords:
    """What an entity is, by the names of a pipeline; secrets never."""
    if isinstance(entity, bytes):
        entity = p4r.Entity.FromString(entity)
    kind = entity.WhichOneof("entity")
    if kind == "table_entry" and schema.table_by_id(entity.table_entry.table_id):
        graph, entry = schema.decode(entity.table_entry)
        nf, rule = split_origin(placing(graph, entry))
        table = schema.table(entry.table)
        segment = segment_of(entry)
        match = key_words(table, entry, ports)
        match = f"segment {segment}, {match}" if segment else match
        action = action_words(entry, ports) if entity.table_entry.HasField("action") else ""
        if entity.table_entry.is_default_action:
            match = "default action"
        return EntityWords(entry.table, match, entry.priority, action, graph, nf, rule)
    replication = entity.packet_replication_engine_entry
    if kind == "packet_replication_engine_entry":
        group = replication.multicast_group_entry
        if group.multicast_group_id:
            name, copies = f"multicast group {group.multicast_group_id}", group.replicas
        else:
            session = replication.clone_session_entry
            name, copies = f"clone session {session.session_id}", session.replicas
        return EntityWords(name, "", 0, _copies(copies, ports), "", "", "")
    if kind == "table_entry":
        return EntityWords(f"table {entity.table_entry.table_id}", "", 0, "", "", "", "")
    return EntityWords(kind or "nothing", " ".join(str(entity).split()), 0, "", "", "", "")


def _copies(replicas: Iterable[p4r.Replica], ports: Ports) -> str:
    # BMv2 knows only the older of the two ways to name a port.
    numbers = [r.egress_port for r in replicas]  # pyright: ignore[reportDeprecated]
    return "copies to " + ", ".join(port_text(n, ports) for n in numbers) if numbers else ""


def split_origin(origin: str) -> tuple[str, str]:
    """`edge_acl: access.json:14` as (NF, rule)."""
    head, colon, rest = origin.partition(": ")
    if not colon or " " in head or head in NO_NF:
        return "", origin
    return head, rest


@lru_cache(1 << 14)
def origins_of(origin: str) -> tuple[tuple[str, str], ...]:
    """Every (NF, rule) that an entry comes from: a merged one is `fw: rules[3] & steer: rules[1]`."""
    if not split_origin(origin)[0]:
        return ()
    return tuple(split_origin(part) for part in origin.split(" & "))


def key_texts(table: TableInfo, entry: TableEntry, ports: Ports = NO_PORTS) -> dict[str, str]:
    """What each key asks, by name, the segment left out: `{"src": "10.0.0.0/8"}`."""
    return {
        name: key_text(name, table.keys[name].bits, key, ports, key_role(table.name, name))
        for name, key in entry.keys
        if not is_own_segment(table.name, name)
    }


def is_own_segment(table: str, name: str) -> bool:
    """Whether a key says whose segment the entry is: that is told apart from what it matches."""
    return key_role(table, name) is Role.SEGMENT and name in belonging(table).names


def key_words(table: TableInfo, entry: TableEntry, ports: Ports = NO_PORTS) -> str:
    """`src 10.0.0.0/8, dst_port 80-443`; `any` when nothing is asked."""
    texts = key_texts(table, entry, ports)
    return ", ".join(f"{name} {text}" for name, text in texts.items()) or "any"


def segment_of(entry: TableEntry) -> str:
    """The segment as `graph.number`, or nothing."""
    for name, key in entry.keys:
        if is_own_segment(entry.table, name) and isinstance(key, Exact):
            return segment_words(key.value)
    return ""


def action_words(entry: TableEntry, ports: Ports = NO_PORTS) -> str:
    """`acl.ipv4.go_to(segment 1.4)`; sampling keys are never shown."""
    return call_words(entry.action, dict(entry.params), ports)


def call_words(action: str, params: Mapping[str, int], ports: Ports = NO_PORTS) -> str:
    """An action with its parameters in words."""
    texts = (
        f"{name} {param_text(name, value, ports, param_role(action, name))}"
        for name, value in params.items()
    )
    shown = ", ".join(texts)
    return f"{action}({shown})" if shown else action


def key_text(
    name: str, bits: int, key: Key, ports: Ports = NO_PORTS, role: Role | None = None
) -> str:
    """One key in words."""
    if isinstance(key, Exact) and name in ("ingress_port", "egress_port"):
        return port_text(key.value, ports)
    if isinstance(key, Between):
        return f"{key.low}-{key.high}" if key.low != key.high else str(key.low)
    if isinstance(key, Exact):
        return value_text(name, bits, key.value, role)
    if isinstance(key, Lpm):
        return f"{value_text(name, bits, key.value)}/{key.length}"
    length = key.mask.bit_count()
    is_prefix = key.mask == ((1 << length) - 1) << (bits - length)
    if is_prefix and bits in (32, 128):
        return f"{value_text(name, bits, key.value)}/{length}"
    if name == "l4":
        return _L4.get(key.value, str(key.value))
    if name == "vlan" and not key.value & _TAGGED & key.mask:
        return "none"
    if key.mask == (1 << bits) - 1:
        return value_text(name, bits, key.value)
    return f"{key.value:#x}/{key.mask:#x}"


def value_text(name: str, bits: int, value: int, role: Role | None = None) -> str:
    """A field's value in words; a width of 0 is a P4Runtime string."""
    if role is Role.SEGMENT:
        return segment_words(value)
    if role is Role.TREE_NODE:
        return f"{value:#010x}"
    plain = name.rpartition(".")[2]
    if plain == "protocol":
        return PROTOCOLS.get(value, str(value))
    if plain in ("ether_type", "etherType"):
        return f"{value:#06x}"
    if bits == 0:
        return value.to_bytes((value.bit_length() + 7) // 8, "big").decode(errors="replace")
    if plain == "l4":
        return _L4.get(value, str(value))
    if plain == "vlan":
        return str(value & ~_TAGGED) if value & _TAGGED else "none"
    if bits == 32 and _is_address(plain):
        return str(ipaddress.IPv4Address(value))
    if bits == 48 and _is_address(plain):
        return mac_text(value)
    if plain == "word":  # that a decision tree looks at
        return f"{value:#010x}"
    if bits == 128:
        small = value < 1 << 32
        return str(ipaddress.IPv4Address(value) if small else ipaddress.IPv6Address(value))
    return str(value)


_ADDRESS_WORDS = ("addr", "src", "dst", "mac", "target", "device", "next_hop", "ip")


def _is_address(plain: str) -> bool:
    """Whether a field of 32 or 48 bits is an address, by its name."""
    return any(word in plain.lower() for word in _ADDRESS_WORDS)


def port_text(port: int, ports: Ports) -> str:
    """`2 (h1)`."""
    return f"{port} ({ports[port]})" if port in ports else str(port)


def param_text(name: str, value: int, ports: Ports = NO_PORTS, role: Role | None = None) -> str:
    """A parameter's value in words."""
    if name in ("port", "egress_port"):
        return port_text(value, ports)
    if name in SECRETS:
        return SECRET
    if name.endswith("mac"):
        return mac_text(value)
    if role is Role.SEGMENT:
        return segment_words(value)
    if role is Role.TREE_NODE:
        return f"node {value:#010x}"
    if name == "address":
        return value_text(name, 32 if value < 1 << 32 else 128, value)
    return str(value)

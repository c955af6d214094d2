"""Entries in words: prefixes, ranges, MACs and ports the way an operator writes them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from orchestrator.clients.p4info import Table
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry
from orchestrator.wire.addresses import mac_text

SECRETS = frozenset({"key0", "key1"})
"""Parameters that are never shown: the keys of the sampling hash."""

SECRET = "(secret)"

Ports = Mapping[int, str]
"""What is behind each port of a switch, by number."""

NO_PORTS: Ports = {}

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_L4 = {0: "no ports", 1: "has ports", 2: "later fragment"}


def key_texts(table: Table, entry: TableEntry, ports: Ports = NO_PORTS) -> dict[str, str]:
    """What each key asks, by name, the segment left out: `{"src": "10.0.0.0/8"}`."""
    return {
        name: key_text(name, table.keys[name].bits, key, ports)
        for name, key in entry.keys
        if name != "segment"
    }


def key_words(table: Table, entry: TableEntry, ports: Ports = NO_PORTS) -> str:
    """`src 10.0.0.0/8, dst_port 80-443`; `any` when nothing is asked."""
    texts = key_texts(table, entry, ports)
    return ", ".join(f"{name} {text}" for name, text in texts.items()) or "any"


def segment_of(entry: TableEntry) -> str:
    """The segment as `graph.number`, or nothing."""
    for name, key in entry.keys:
        if name == "segment" and isinstance(key, Exact):
            return segment_words(key.value)
    return ""


def segment_words(segment: int) -> str:
    """`1.3`: segment 3 of graph 1."""
    return f"{segment >> 14}.{segment & 0xFFF}"


def action_words(entry: TableEntry, ports: Ports = NO_PORTS) -> str:
    """`acl.go_to(segment 1.4)`; sampling keys are never shown."""
    return call_words(entry.action, dict(entry.params), ports)


def call_words(action: str, params: Mapping[str, int], ports: Ports = NO_PORTS) -> str:
    """An action with its parameters in words."""
    shown = ", ".join(f"{name} {param_text(name, v, ports)}" for name, v in params.items())
    return f"{action}({shown})" if shown else action


def key_text(name: str, bits: int, key: Key, ports: Ports = NO_PORTS) -> str:
    """One key in words."""
    if isinstance(key, Exact) and name in ("ingress_port", "egress_port"):
        return port_text(key.value, ports)
    if isinstance(key, Between):
        return f"{key.low}-{key.high}" if key.low != key.high else str(key.low)
    if isinstance(key, Exact):
        return value_text(name, bits, key.value)
    if isinstance(key, Lpm):
        return f"{value_text(name, bits, key.value)}/{key.length}"
    length = key.mask.bit_count()
    is_prefix = key.mask == ((1 << length) - 1) << (bits - length)
    if is_prefix and bits in (32, 128):
        return f"{value_text(name, bits, key.value)}/{length}"
    if name == "l4":
        return _L4.get(key.value, str(key.value))
    if key.mask == (1 << bits) - 1:
        return value_text(name, bits, key.value)
    return f"{key.value:#x}/{key.mask:#x}"


def value_text(name: str, bits: int, value: int) -> str:
    """A field's value in words; a width of 0 is a P4Runtime string."""
    plain = name.rpartition(".")[2]
    if plain == "protocol":
        return PROTOCOLS.get(value, str(value))
    if plain in ("ether_type", "etherType"):
        return f"{value:#06x}"
    if plain == "segment":
        return segment_words(value)
    if bits == 0:
        return value.to_bytes((value.bit_length() + 7) // 8, "big").decode(errors="replace")
    if plain == "l4":
        return _L4.get(value, str(value))
    if bits == 32 and _is_address(plain):
        return str(ipaddress.IPv4Address(value))
    if bits == 48 and _is_address(plain):
        return mac_text(value)
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


def param_text(name: str, value: int, ports: Ports = NO_PORTS) -> str:
    """A parameter's value in words."""
    if name in ("port", "egress_port"):
        return port_text(value, ports)
    if name in SECRETS:
        return SECRET
    if name.endswith("mac"):
        return mac_text(value)
    if name == "segment":
        return segment_words(value)
    if name == "address":
        return value_text(name, 32 if value < 1 << 32 else 128, value)
    return str(value)

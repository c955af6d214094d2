"""Entries in words: prefixes, ranges, MACs and ports the way an operator writes them."""

from __future__ import annotations

import ipaddress

from orchestrator.clients.p4info import Table
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry, Ternary
from orchestrator.wire.addresses import mac_text

_SECRETS = {"key0", "key1"}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_L4 = {0: "no ports", 1: "has ports", 2: "later fragment"}


def key_words(table: Table, entry: TableEntry) -> str:
    """`src 10.0.0.0/8, dst_port 80-443`; `any` when nothing is asked."""
    words = [
        f"{name} {_key(name, table.keys[name].bits, key)}"
        for name, key in entry.keys
        if name != "segment"
    ]
    return ", ".join(words) or "any"


def segment_of(entry: TableEntry) -> str:
    """The segment as `graph.number`, or nothing."""
    for name, key in entry.keys:
        if name == "segment" and isinstance(key, Exact):
            return segment_words(key.value)
    return ""


def segment_words(segment: int) -> str:
    """`1.3`: segment 3 of graph 1."""
    return f"{segment >> 14}.{segment & 0xFFF}"


def action_words(entry: TableEntry) -> str:
    """`acl.go_to(segment 1.4)`; sampling keys are never shown."""
    params = ", ".join(f"{name} {_param(name, value)}" for name, value in entry.params)
    return f"{entry.action}({params})" if params else entry.action


def _key(name: str, bits: int, key: Key) -> str:
    if isinstance(key, Between):
        return f"{key.low}-{key.high}" if key.low != key.high else str(key.low)
    if isinstance(key, Exact):
        return _value(name, bits, key.value)
    if isinstance(key, Lpm):
        if bits == 48:
            return f"{mac_text(key.value)}/{key.length}"
        return f"{_value(name, bits, key.value)}/{key.length}"
    if name in ("src", "dst"):
        length = key.mask.bit_count()
        if key.mask == ((1 << length) - 1) << (bits - length):
            return f"{_value(name, bits, key.value)}/{length}"
    if name == "l4":
        return _L4.get(key.value, str(key.value))
    if key.mask == (1 << bits) - 1:
        return _value(name, bits, key.value)
    return f"{key.value:#x}/{key.mask:#x}"


def _value(name: str, bits: int, value: int) -> str:
    if name == "protocol":
        return _PROTOCOLS.get(value, str(value))
    if name == "ether_type":
        return f"{value:#06x}"
    if bits == 32:
        return str(ipaddress.IPv4Address(value))
    if bits == 48:
        return mac_text(value)
    if bits == 128:
        small = value < 1 << 32
        return str(ipaddress.IPv4Address(value) if small else ipaddress.IPv6Address(value))
    return str(value)


def _param(name: str, value: int) -> str:
    if name in _SECRETS:
        return "(secret)"
    if name.endswith("mac"):
        return mac_text(value)
    if name == "segment":
        return segment_words(value)
    if name == "address":
        return _value(name, 32 if value < 1 << 32 else 128, value)
    return str(value)


def match_covers(key: Key, value: int) -> bool:
    """Whether a key would match a value (for `tables --match`)."""
    if isinstance(key, Exact):
        return key.value == value
    if isinstance(key, Between):
        return key.low <= value <= key.high
    if isinstance(key, Ternary):
        return value & key.mask == key.value
    return True

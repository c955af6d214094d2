"""`--match dst=10.0.0.5`: which entries a packet with these fields could hit, or overlap them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.clients.p4info import Schema, TableInfo
from orchestrator.clients.words import PROTOCOLS
from orchestrator.errors import InputError, unknown
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry, Ternary
from orchestrator.model.ids import parse_segment
from orchestrator.model.refs import Role
from orchestrator.targets.references import key_role
from servernf.wire.addresses import parse_mac, parse_network

_MOST_VALUES = 1 << 16


@dataclass(frozen=True, slots=True)
class FieldWanted:
    """One condition: a field's name and the text of what it should be."""

    field: str
    text: str

    def in_table(self, table: TableInfo) -> str | None:
        """The table's name of the field, if it asks for such a one."""
        names = [n for n in table.keys if n == self.field or n.rpartition(".")[2] == self.field]
        return names[0] if names else None


def parse_matches(texts: Sequence[str], schema: Schema) -> tuple[FieldWanted, ...]:
    """`FIELD=VALUE` texts; InputError when no table has such a field or no field such a value."""
    fields_wanted: list[FieldWanted] = []
    problems: list[str] = []
    for text in texts:
        field, equals, value = text.partition("=")
        wanted = FieldWanted(field.strip(), value.strip())
        if not equals or not wanted.field or not wanted.text:
            problems.append(f"--match '{text}': FIELD=VALUE is expected, as in dst=10.0.0.5")
            continue
        asked = {
            (table.keys[name].bits, key_role(table.name, name))
            for table in schema.tables.values()
            if (name := wanted.in_table(table)) is not None
        }
        if not asked:
            fields = {name for table in schema.tables.values() for name in table.keys}
            problems.append(f"--match: {unknown('field', wanted.field, sorted(fields))}")
        elif all(_question(wanted, *field) is None for field in asked):
            wide = " or ".join(str(bits) for bits in sorted({bits for bits, _ in asked}))
            problems.append(f"--match {text}: '{wanted.text}' is no value of a {wide}-bit field")
        else:
            fields_wanted.append(wanted)
    if problems:
        raise InputError(problems)
    return tuple(fields_wanted)


def matches(table: TableInfo, entry: TableEntry, wanted: Sequence[FieldWanted]) -> bool:
    """Whether all conditions overlap what the entry asks; a key left out is overlapped by all."""
    keys = dict(entry.keys)
    for condition in wanted:
        name = condition.in_table(table)
        if name is None:
            return False
        bits = table.keys[name].bits
        asked = _question(condition, bits, key_role(table.name, name))
        if asked is None:
            return False
        key = keys.get(name)
        if key is None:
            if bits == 128 and _is_ipv4(condition.text):
                return False  # an IPv6 table: no IPv4 packet comes here
        elif not overlap(key, asked, bits):
            return False
    return True


def overlap(key: Key, asked: Key, bits: int) -> bool:
    """Whether some value satisfies both."""
    one, other = _masked(key, bits), _masked(asked, bits)
    if one is not None and other is not None:
        return (one[0] ^ other[0]) & one[1] & other[1] == 0
    one_range, other_range = _range(key, bits), _range(asked, bits)
    if one_range is not None and other_range is not None:
        return one_range[0] <= other_range[1] and other_range[0] <= one_range[1]
    # A range and a mask with holes: try the values of the range, which ports' ranges allow.
    between = one_range if one_range is not None and one is None else other_range
    masked = one if one is not None else other
    assert between is not None
    assert masked is not None
    low, high = between
    if high - low >= _MOST_VALUES:
        return True
    return any(value & masked[1] == masked[0] for value in range(low, high + 1))


def _masked(key: Key, bits: int) -> tuple[int, int] | None:
    """(value, mask), None for a range of several values."""
    ones = (1 << bits) - 1
    if isinstance(key, Exact):
        return key.value, ones
    if isinstance(key, Ternary):
        return key.value & key.mask, key.mask
    if isinstance(key, Lpm):
        mask = ones >> (bits - key.length) << (bits - key.length) if key.length else 0
        return key.value & mask, mask
    return (key.low, ones) if key.low == key.high else None


def _range(key: Key, bits: int) -> tuple[int, int] | None:
    """(low, high), None for a mask that is no prefix."""
    if isinstance(key, Between):
        return key.low, key.high
    masked = _masked(key, bits)
    assert masked is not None
    value, mask = masked
    free = (1 << bits) - 1 ^ mask
    return (value, value | free) if free & (free + 1) == 0 else None


def _question(wanted: FieldWanted, bits: int, role: Role | None) -> Key | None:
    """The text as a key of a field of this width; None when it is no value of such a one."""
    text = wanted.text
    if bits in (32, 128) and ("." in text or ":" in text):
        return _address(text, bits)
    if bits == 48 and ":" in text:
        try:
            return Exact(parse_mac(text))
        except ValueError:
            return None
    if role is Role.SEGMENT and "." in text:
        segment = parse_segment(text)
        return None if segment is None else Exact(segment)
    named = {word: number for number, word in PROTOCOLS.items()}
    if wanted.field.endswith("protocol") and text in named:
        return Exact(named[text])
    low, dash, high = text.partition("-")
    first, last = _number(low), _number(high if dash else low)
    if first is None or last is None or first > last or (bits and last >> bits):
        return None
    return Exact(first) if first == last else Between(first, last)


def _address(text: str, bits: int) -> Key | None:
    try:
        network = parse_network(text, strict=False)
    except ValueError:
        return None
    if network.version == 4 and bits == 128:
        # dispatch keeps both versions in one 128-bit field, IPv4 as a small number.
        return Exact(int(network.network_address)) if network.prefixlen == 32 else None
    if network.max_prefixlen != bits:
        return None
    return Lpm(int(network.network_address), network.prefixlen)


def _is_ipv4(text: str) -> bool:
    return "." in text and ":" not in text


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None

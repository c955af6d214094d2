"""`--match`: which entries a packet could hit.

Oracle: enumeration of every value of small fields.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspection_support import campus

from orchestrator.clients.p4info import Schema
from orchestrator.errors import InputError
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry, Ternary
from orchestrator.model.ids import GATED
from orchestrator.observation.matching import matches, overlap, parse_matches
from orchestrator.targets.pipelines import build_for, p4info

BITS = 5
VALUES = st.integers(0, (1 << BITS) - 1)


def keys() -> st.SearchStrategy[Key]:
    return st.one_of(
        VALUES.map(Exact),
        st.tuples(VALUES, VALUES).map(lambda vm: Ternary(vm[0] & vm[1], vm[1])),
        st.tuples(VALUES, st.integers(0, BITS)).map(
            lambda vl: Lpm(vl[0] >> (BITS - vl[1]) << (BITS - vl[1]), vl[1])
        ),
        st.tuples(VALUES, VALUES).map(lambda ab: Between(min(ab), max(ab))),
    )


def satisfies(key: Key, value: int) -> bool:
    if isinstance(key, Exact):
        return value == key.value
    if isinstance(key, Ternary):
        return value & key.mask == key.value
    if isinstance(key, Lpm):
        return value >> (BITS - key.length) == key.value >> (BITS - key.length)
    return key.low <= value <= key.high


@given(keys(), keys())
def test_overlap_is_a_common_value(one: Key, other: Key) -> None:
    common = any(satisfies(one, v) and satisfies(other, v) for v in range(1 << BITS))
    assert overlap(one, other, BITS) is common


SCHEMA = Schema(p4info(build_for(campus(), "leaf1")))


def rule(table: str, **asked: Key) -> TableEntry:
    return TableEntry(
        table, (("segment", Exact(1)), *asked.items()), "acl.ipv4.deny", (), 1, "fw: r:1"
    )


def gated(entry: TableEntry) -> TableEntry:
    return entry._replace(keys=(("segment", Exact(1 | GATED)), *entry.keys[1:]))


@pytest.mark.parametrize(
    ("wanted", "entry", "shown"),
    [
        (["dst=10.0.0.5"], rule("acl.ipv4", dst=Ternary(10 << 24, 255 << 24)), True),
        (["dst=11.0.0.5"], rule("acl.ipv4", dst=Ternary(10 << 24, 255 << 24)), False),
        (["dst=10.0.0.0/7"], rule("acl.ipv4", dst=Ternary(10 << 24, 255 << 24)), True),
        (["dst=10.0.0.5"], rule("acl.ipv4"), True),
        (["dst=10.0.0.5"], rule("acl.ipv6"), False),
        (["dst=2001:db8::1"], rule("acl.ipv6"), True),
        (["dst_port=23"], rule("acl.ipv4", dst_port=Between(20, 23)), True),
        (["dst_port=24-30"], rule("acl.ipv4", dst_port=Between(20, 23)), False),
        (["protocol=udp"], rule("acl.ipv4", protocol=Ternary(6, 255)), False),
        (["protocol=tcp", "dst_port=80"], rule("acl.ipv4", protocol=Ternary(6, 255)), True),
        (["segment=0.1"], rule("acl.ipv4"), True),
        (["segment=0.2"], rule("acl.ipv4"), False),
        (["segment=0.1"], gated(rule("acl.ipv4")), False),
        (["segment=0.1g"], gated(rule("acl.ipv4")), True),
        (["dst_port=23"], rule("acl.other"), False),
    ],
)
def test_which_entries_are_shown(wanted: list[str], entry: TableEntry, shown: bool) -> None:
    assert matches(SCHEMA.table(entry.table), entry, parse_matches(wanted, SCHEMA)) is shown


def test_every_problem_is_told_with_what_would_be_valid() -> None:
    with pytest.raises(InputError) as caught:
        parse_matches(["dts=10.0.0.5", "dst", "dst_port=99999"], SCHEMA)
    text = str(caught.value)
    assert "did you mean 'dst'" in text
    assert "FIELD=VALUE" in text
    assert "16-bit" in text

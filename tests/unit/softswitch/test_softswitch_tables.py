"""Table lookup against a linear scan of the same entries."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.softswitch.ir.program import Key
from orchestrator.softswitch.state.tables import (
    MEMO_MAX,
    ExactTable,
    LpmTable,
    StoredEntry,
    TernaryTable,
    make_table,
)

Match = tuple[int, int, tuple[tuple[int, int], ...], int]

WIDTH = 6
FULL = (1 << WIDTH) - 1


def key(name: str, kind: str, width: int = WIDTH) -> Key:
    return Key(name, kind, "h", name, width, None)


@dataclass(frozen=True)
class Rule:
    """What a linear scan needs; `index` is its insertion order and its action argument."""

    value: int
    mask: int
    low: int
    high: int
    priority: int
    index: int

    def matches(self, ternary: int, number: int) -> bool:
        return ternary & self.mask == self.value and self.low <= number <= self.high


def best(rules: list[Rule], ternary: int, number: int) -> int | None:
    hits = [r for r in rules if r.matches(ternary, number)]
    if not hits:
        return None
    return min(hits, key=lambda r: (-r.priority, r.index)).index


rule = st.tuples(
    st.integers(0, FULL),
    st.one_of(st.integers(0, FULL), st.just(FULL), st.just(0)),
    st.integers(0, FULL),
    st.integers(0, FULL),
    st.integers(1, 6),
)


@settings(deadline=None)
@given(
    st.lists(rule, max_size=40),
    st.lists(st.integers(0, 39), max_size=20),
    st.lists(st.tuples(st.integers(0, FULL), st.integers(0, FULL)), min_size=1, max_size=20),
)
def test_ternary_equals_linear_scan(
    rules: list[tuple[int, int, int, int, int]],
    removed: list[int],
    packets: list[tuple[int, int]],
) -> None:
    table = make_table("t", [key("a", "ternary"), key("b", "range")], 100)
    assert isinstance(table, TernaryTable)
    installed: dict[Match, tuple[Rule, StoredEntry]] = {}
    for i, (value, mask, a, b, priority) in enumerate(rules):
        r = Rule(value & mask, mask, min(a, b), max(a, b), priority, i)
        match = (r.value << WIDTH, mask << WIDTH, ((r.low, r.high),), priority)
        if table.find(match) is not None:
            continue
        entry = table.make(0, (i,))
        table.add(match, entry)
        assert table.find(match) is entry
        installed[match] = (r, entry)
    table.commit()

    def check() -> None:
        left = [r for r, _ in installed.values()]
        assert table.count == len(left) == len(list(table))
        for packet in packets:
            expected = best(left, *packet)
            for _ in range(2):  # the second time from the memo
                hit = table.probe(packet) or table.search(packet)
                assert (None if hit is table.miss else hit.args[0]) == expected

    check()
    for at in removed:
        keys = list(installed)
        if not keys:
            break
        match = keys[at % len(keys)]
        table.remove(installed.pop(match)[1])
        assert table.find(match) is None
    table.commit()
    check()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, FULL), st.integers(0, WIDTH)), max_size=30
    ),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, FULL)), min_size=1, max_size=20),
)
def test_lpm_equals_linear_scan(
    prefixes: list[tuple[int, int, int]], packets: list[tuple[int, int]]
) -> None:
    table = make_table("t", [key("segment", "exact", 2), key("dst", "lpm")], 100)
    assert isinstance(table, LpmTable)
    entries: dict[tuple[int, int, int], StoredEntry] = {}
    for segment, value, length in prefixes:
        mask = FULL >> (WIDTH - length) << (WIDTH - length)
        name = (segment, value & mask, length)
        match = (segment << WIDTH | value & mask, length)
        assert (table.find(match) is not None) == (name in entries)
        if name not in entries:
            entries[name] = table.make(0, (len(entries),))
            table.add(match, entries[name])
    table.commit()
    for segment, dst in packets:
        hits = [
            (length, e)
            for (s, v, length), e in entries.items()
            if s == segment and dst >> (WIDTH - length) == v >> (WIDTH - length)
        ]
        expected = max(hits, key=lambda h: h[0])[1] if hits else table.miss
        assert (table.probe((segment, dst)) or table.search((segment, dst))) is expected
    for entry in entries.values():
        table.remove(entry)
    table.commit()
    assert table.count == 0
    assert all(table.search(p) is table.miss for p in packets)


def test_ternary_probes_one_dict_a_mask_not_an_entry() -> None:
    table = TernaryTable("t", [key("src", "ternary", 32)], 100_000)
    for i in range(20_000):
        table.add((i << 8, 0xFFFFFF00, (), i + 1), table.make(0, (i,)))
    table.add((0, 0, (), 30_000), table.make(0, (-1,)))
    table.commit()
    assert len(table.order) == 2
    assert table.order[0][2] == 30_000
    assert table.search(77 << 8).args == (-1,)


def test_range_that_is_a_prefix_needs_no_check() -> None:
    table = TernaryTable("t", [key("port", "range", 16)], 10)
    prefix = table.make(0, ())
    table.add((0, 0, ((1024, 2047),), 1), prefix)
    odd = table.make(0, ())
    table.add((0, 0, ((1024, 2046),), 2), odd)
    table.commit()
    assert table.search(2046) is odd
    assert table.search(2047) is prefix
    assert table.search(2048) is table.miss


def test_memo_is_bounded_and_forgets_on_commit() -> None:
    table = LpmTable("t", [key("dst", "lpm", 32)], 10)
    table.commit()
    for i in range(MEMO_MAX + 10):
        table.search(i)
    assert len(table.memo) <= MEMO_MAX


def test_keys_with_one_hash_do_not_fill_the_memo() -> None:
    """Whoever sends packets may know CPython's hash of integers: modulo 2^61 - 1."""
    table = LpmTable("t", [key("dst", "lpm", 128)], 10)
    first = 0x20010DB8 << 96
    keys = [first + number * ((1 << 61) - 1) for number in range(500)]
    assert len(set(map(hash, keys))) == 1
    for one in (*keys, 7):
        assert table.search(one) is table.miss
    assert set(table.memo) == {first, 7}
    table.commit()
    table.search(keys[1])
    assert set(table.memo) == {keys[1]}
    assert table.search(5) is table.miss
    entry = table.make(0, ())
    table.add((0, 8), entry)
    table.commit()
    assert (table.probe(5) or table.search(5)) is entry


def test_exact_table_takes_scalars_and_tuples() -> None:
    one = ExactTable("t", [key("a", "exact")], 10)
    entry = one.make(0, ())
    one.add(5, entry)
    assert one.probe(5) is entry
    two = ExactTable("t", [key("a", "exact"), key("b", "exact")], 10)
    two.add((1, 2), entry)
    assert two.probe((1, 2)) is entry
    two.remove(entry)
    assert two.count == 0

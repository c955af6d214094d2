"""Match tables: what a packet looks up and what P4Runtime writes.

A lookup never scans entries. Exact tables are one dict. LPM tables hold one
dict a prefix length, probed longest first. Tables with a ternary, range or
optional key use tuple-space search (Srinivasan et al., SIGCOMM 1999): entries
with the same mask share a dict, groups are probed by descending best priority
and the search ends when no group left can win. What a range fixes in its
leading bits goes into the mask; the rest is checked on the candidates.

In front of the last two sits a memo (full key -> result), bounded and cleared
by `commit` after writes, so that a flow costs one dict probe a table.

Keys: the generated code looks up a scalar (one key field) or a tuple. Inside,
LPM and ternary tables pack all fields into one integer, first field highest,
so that masking a key is a single operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.softswitch.ir.program import Key, Lookup, lookup_of
from orchestrator.softswitch.state.meters import RunningMeter

MEMO_MAX = 16_384

Args = Any
"""An action's arguments; in a table with an action profile, a Member or Group."""
Ranges = tuple[tuple[int, int], ...]


class StoredEntry:
    """One entry (or a table's miss result).

    `a` indexes the table's actions and `args` are the action's parameters;
    `n` and `b` are the direct counter (packets, bytes). `key` is the table's own
    form of the match, `spec` what else identifies it: the prefix length (LPM)
    or the ranges (ternary). `extra` is None or (metadata, controller_metadata,
    idle_timeout_ns): most entries carry none, so it costs one slot. `handle` is set
    where packets find a copy elsewhere: what that is called there.
    """

    __slots__ = ("a", "args", "b", "extra", "handle", "key", "n", "priority", "spec")

    handle: int

    def __init__(self, a: int, args: Args) -> None:
        self.a = a
        self.args = args
        self.n = 0
        self.b = 0
        self.key: Any = None
        self.spec: Any = None
        self.priority = 0
        self.extra: tuple[bytes, int, int] | None = None


class TernaryEntry(StoredEntry):
    """An entry of a mask group; `next` chains those with the same masked value."""

    __slots__ = ("checks", "mask", "next", "seq")

    def __init__(self, a: int, args: Args) -> None:
        super().__init__(a, args)
        self.mask = 0
        self.seq = 0
        self.next: TernaryEntry | None = None
        self.checks: tuple[tuple[int, int, int, int], ...] = ()


class RichEntry(StoredEntry):
    """An entry of a table with a direct meter or idle timeouts.

    `ts` is when it was last hit (or written), in microseconds of the switch;
    `told` is the `ts` that the controller was told has timed out.
    """

    __slots__ = ("meter", "told", "ts", "ttl_ns")

    def __init__(self, a: int, args: Args) -> None:
        super().__init__(a, args)
        self.ts = 0
        self.ttl_ns = 0
        self.told = -1
        self.meter: RunningMeter | None = None


class RichTernaryEntry(TernaryEntry):
    """`RichEntry` in a mask group."""

    __slots__ = ("meter", "told", "ts", "ttl_ns")

    def __init__(self, a: int, args: Args) -> None:
        super().__init__(a, args)
        self.ts = 0
        self.ttl_ns = 0
        self.told = -1
        self.meter: RunningMeter | None = None


Rich = RichEntry | RichTernaryEntry


class MatchTable:
    """Base: a named table with a size and a miss entry.

    `probe` and `search` are what generated code calls: `probe(key)` is a dict's
    bound `get`, `search(key)` the slow path when that gives None.
    """

    def __init__(self, name: str, keys: Sequence[Key], size: int, rich: bool = False) -> None:
        self.name = name
        self.keys = tuple(keys)
        self.size = size
        self.count = 0
        self.rich = rich
        self.miss: StoredEntry = RichEntry(0, ()) if rich else StoredEntry(0, ())
        self.memo: dict[Any, StoredEntry] = {}
        self._hashes: set[int] = set()
        shift = 0
        shifts: list[int] = []
        for key in reversed(self.keys):
            shifts.append(shift)
            shift += key.width
        self.shifts = tuple(reversed(shifts))
        self.width = shift

    @property
    def probe(self) -> Callable[[Any], StoredEntry | None]:
        return self.memo.get

    def search(self, key: Any) -> StoredEntry:
        return self.miss

    def remember(self, key: Any, entry: StoredEntry) -> None:
        """What a look-up has found, for the next one.

        Hashes of integers and their tuples have no secret, so packets can be made whose keys all
        have one. Only the first of these is remembered; the others are as slow as any new key.
        """
        if len(self.memo) >= MEMO_MAX:
            self.forget()
        mark = hash(key)
        if mark not in self._hashes:
            self._hashes.add(mark)
            self.memo[key] = entry

    def forget(self) -> None:
        """What look-ups have found."""
        self.memo.clear()
        self._hashes.clear()

    def pack(self, key: Any) -> int:
        """The packed integer of a lookup key (scalar or tuple)."""
        if len(self.keys) == 1:
            return key
        value = 0
        for part, field in zip(key, self.keys, strict=True):
            value = value << field.width | part
        return value

    def make(self, a: int, args: Args) -> StoredEntry:
        return RichEntry(a, args) if self.rich else StoredEntry(a, args)

    def find(self, match: Any) -> StoredEntry | None:
        """The entry with exactly this match, not a lookup."""
        raise NotImplementedError

    def add(self, match: Any, entry: StoredEntry) -> None:
        raise NotImplementedError

    def remove(self, entry: StoredEntry) -> None:
        raise NotImplementedError

    def changed(self, entry: StoredEntry, *, counted: bool = False) -> None:
        """An entry, or `miss`, has another action or meter, or (`counted`) another count: for tables
        that are a copy of one elsewhere."""

    def __iter__(self) -> Iterator[StoredEntry]:
        return iter(())

    def clear(self) -> None:
        self.count = 0

    def commit(self) -> None:
        """Make writes visible: called once a batch, before packets run again."""
        self.forget()


class KeylessTable(MatchTable):
    """A table without key: always its default entry."""


class ExactTable(MatchTable):
    """match = lookup key itself."""

    def __init__(self, name: str, keys: Sequence[Key], size: int, rich: bool = False) -> None:
        super().__init__(name, keys, size, rich)
        self.entries: dict[Any, StoredEntry] = {}

    @property
    def probe(self) -> Callable[[Any], StoredEntry | None]:
        return self.entries.get

    def search(self, key: Any) -> StoredEntry:
        return self.entries.get(key, self.miss)

    def find(self, match: Any) -> StoredEntry | None:
        return self.entries.get(match)

    def add(self, match: Any, entry: StoredEntry) -> None:
        entry.key = match
        self.entries[match] = entry
        self.count += 1

    def remove(self, entry: StoredEntry) -> None:
        del self.entries[entry.key]
        self.count -= 1

    def __iter__(self) -> Iterator[StoredEntry]:
        return iter(self.entries.values())

    def clear(self) -> None:
        self.entries.clear()
        self.count = 0

    def commit(self) -> None:
        pass


class LpmTable(MatchTable):
    """match = (packed value, prefix length of the LPM field); other keys exact."""

    def __init__(self, name: str, keys: Sequence[Key], size: int, rich: bool = False) -> None:
        super().__init__(name, keys, size, rich)
        self.by_length: dict[int, dict[int, StoredEntry]] = {}
        self.order: list[tuple[int, Callable[[int], StoredEntry | None]]] = []
        self.stale = False
        lpm = next(i for i, k in enumerate(self.keys) if k.kind == "lpm")
        self.lpm_width = self.keys[lpm].width
        self.lpm_shift = self.shifts[lpm]
        full = (1 << self.width) - 1
        self.other_mask = full ^ (((1 << self.lpm_width) - 1) << self.lpm_shift)

    def mask_of(self, length: int) -> int:
        ones = (1 << length) - 1
        return self.other_mask | (ones << (self.lpm_width - length) << self.lpm_shift)

    def search(self, key: Any) -> StoredEntry:
        value = self.pack(key)
        best = self.miss
        for mask, get in self.order:
            entry = get(value & mask)
            if entry is not None:
                best = entry
                break
        self.remember(key, best)
        return best

    def find(self, match: tuple[int, int]) -> StoredEntry | None:
        group = self.by_length.get(match[1])
        return None if group is None else group.get(match[0])

    def add(self, match: tuple[int, int], entry: StoredEntry) -> None:
        entry.key, entry.spec = match
        group = self.by_length.get(match[1])
        if group is None:
            group = self.by_length[match[1]] = {}
            self.stale = True
        group[match[0]] = entry
        self.count += 1

    def remove(self, entry: StoredEntry) -> None:
        group = self.by_length[entry.spec]
        del group[entry.key]
        self.count -= 1
        if not group:
            del self.by_length[entry.spec]
            self.stale = True

    def __iter__(self) -> Iterator[StoredEntry]:
        for length in sorted(self.by_length, reverse=True):
            yield from self.by_length[length].values()

    def clear(self) -> None:
        self.by_length.clear()
        self.count = 0
        self.stale = True

    def commit(self) -> None:
        self.forget()
        if self.stale:
            self.stale = False
            self.order = [
                (self.mask_of(n), self.by_length[n].get)
                for n in sorted(self.by_length, reverse=True)
            ]


class _Group:
    """Entries of one mask: masked value -> chain by descending priority."""

    __slots__ = ("best", "chains", "count", "mask", "peak")

    def __init__(self, mask: int) -> None:
        self.mask = mask
        self.best = 0
        self.count = 0
        self.peak = 0
        self.chains: dict[int, TernaryEntry] = {}


def prefix_of_range(low: int, high: int, width: int) -> int:
    """Mask of the leading bits that every value in [low, high] shares."""
    free = (low ^ high).bit_length()
    return ((1 << width) - 1) >> free << free


class TernaryTable(MatchTable):
    """match = (packed value, packed mask, ranges, priority); higher priority wins.

    `ranges` has one (low, high) a range field, in key order. Among equal
    priorities the entry inserted first wins (P4Runtime leaves it open).
    """

    def __init__(self, name: str, keys: Sequence[Key], size: int, rich: bool = False) -> None:
        super().__init__(name, keys, size, rich)
        self.groups: dict[int, _Group] = {}
        self.order: list[tuple[int, Callable[[int], TernaryEntry | None], int]] = []
        self.stale = False
        self.seq = 0
        self.range_fields = tuple(
            (self.shifts[i], k.width) for i, k in enumerate(self.keys) if k.kind == "range"
        )

    def make(self, a: int, args: Args) -> StoredEntry:
        return RichTernaryEntry(a, args) if self.rich else TernaryEntry(a, args)

    def search(self, key: Any) -> StoredEntry:
        value = self.pack(key)
        winner: StoredEntry = self.miss
        priority = -1
        seq = 0
        for mask, get, best in self.order:
            if best < priority:
                break
            entry = get(value & mask)
            while entry is not None:
                if entry.priority < priority or (entry.priority == priority and entry.seq > seq):
                    break
                for shift, ones, low, high in entry.checks:
                    if not low <= (value >> shift & ones) <= high:
                        break
                else:
                    winner = entry
                    priority = entry.priority
                    seq = entry.seq
                    break
                entry = entry.next
        self.remember(key, winner)
        return winner

    def full_mask(self, mask: int, value: int, ranges: Ranges) -> tuple[int, int]:
        """(mask, value) with the leading bits that each range fixes added."""
        for (shift, width), (low, high) in zip(self.range_fields, ranges, strict=True):
            shared = prefix_of_range(low, high, width)
            mask |= shared << shift
            value |= (low & shared) << shift
        return mask, value

    def checks_of(self, ranges: Ranges) -> tuple[tuple[int, int, int, int], ...]:
        """(shift, ones, low, high) of what no mask says of ranges."""
        return tuple(
            (shift, (1 << width) - 1, low, high)
            for (shift, width), (low, high) in zip(self.range_fields, ranges, strict=True)
            if not is_prefix(low, high)
        )

    def find(self, match: tuple[int, int, Ranges, int]) -> StoredEntry | None:
        value, mask, ranges, priority = match
        if ranges:
            mask, value = self.full_mask(mask, value, ranges)
        group = self.groups.get(mask)
        if group is None:
            return None
        entry = group.chains.get(value)
        while entry is not None:
            if entry.priority == priority and entry.spec == ranges:
                return entry
            entry = entry.next
        return None

    def add(self, match: tuple[int, int, Ranges, int], entry: StoredEntry) -> None:
        assert isinstance(entry, TernaryEntry)
        value, mask, ranges, priority = match
        if ranges:
            mask, value = self.full_mask(mask, value, ranges)
            entry.checks = self.checks_of(ranges)
        group = self.groups.get(mask)
        if group is None:
            group = self.groups[mask] = _Group(mask)
            self.stale = True
        entry.key = value
        entry.mask = group.mask
        entry.spec = ranges
        entry.priority = priority
        entry.seq = self.seq
        self.seq += 1
        head = group.chains.get(value)
        if head is None or head.priority < priority:
            entry.next = head
            group.chains[value] = entry
        else:
            while head.next is not None and head.next.priority >= priority:
                head = head.next
            entry.next = head.next
            head.next = entry
        group.count += 1
        group.peak = max(group.peak, group.count)
        self.count += 1
        if priority > group.best:
            group.best = priority
            self.stale = True

    def remove(self, entry: StoredEntry) -> None:
        assert isinstance(entry, TernaryEntry)
        group = self.groups[entry.mask]
        head = group.chains[entry.key]
        if head is entry:
            if entry.next is None:
                del group.chains[entry.key]
            else:
                group.chains[entry.key] = entry.next
        else:
            while head.next is not entry:
                assert head.next is not None
                head = head.next
            head.next = entry.next
        group.count -= 1
        self.count -= 1
        if not group.count:
            del self.groups[entry.mask]
            self.stale = True
        elif entry.priority == group.best and group.count * 2 <= group.peak:
            # `best` is an upper bound; tightening it on every removal would
            # make deleting n entries quadratic.
            group.best = max(e.priority for e in group.chains.values())
            group.peak = group.count
            self.stale = True

    def __iter__(self) -> Iterator[StoredEntry]:
        for group in self.groups.values():
            for entry in group.chains.values():
                chained: TernaryEntry | None = entry
                while chained is not None:
                    yield chained
                    chained = chained.next

    def clear(self) -> None:
        self.groups.clear()
        self.count = 0
        self.stale = True

    def commit(self) -> None:
        self.forget()
        if self.stale:
            self.stale = False
            groups = sorted(self.groups.values(), key=lambda g: -g.best)
            self.order = [(g.mask, g.chains.get, g.best) for g in groups]


def is_prefix(low: int, high: int) -> bool:
    """True when [low, high] is exactly one prefix, so that a mask says it all."""
    size = (low ^ high) + 1
    return size & (size - 1) == 0 and low & (size - 1) == 0 and high - low + 1 == size


_TABLES: Mapping[Lookup, type[MatchTable]] = {
    Lookup.KEYLESS: KeylessTable,
    Lookup.EXACT: ExactTable,
    Lookup.LPM: LpmTable,
    Lookup.TERNARY: TernaryTable,
}


def make_table(name: str, keys: Sequence[Key], size: int, rich: bool = False) -> MatchTable:
    """The table structure that fits the match kinds of the keys."""
    return _TABLES[lookup_of(keys)](name, keys, size, rich)

"""Which entries of a node's old and new version are the same, and priorities for those between."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

from orchestrator.model.entries import PRIORITY_STRIDE as STRIDE
from orchestrator.model.entries import Key, TableEntry

MOST_PRIORITY = (1 << 24) - 1
"""TNA's priorities have 24 bits."""


@dataclass(frozen=True)
class Matched:
    """Pairs with equal matches in the same order of precedence; `after` has its final priority.

    `before` None: new; `after` None: gone. `crowded`: there was no room between two priorities.
    """

    pairs: tuple[tuple[TableEntry | None, TableEntry | None], ...]
    crowded: bool = False

    @cached_property
    def doubtful(self) -> tuple[int, ...]:
        """Which pairs may differ within one node: not those alike whose action has no parameter, so that
        they name no other node."""
        return tuple(
            at
            for at, (before, after) in enumerate(self.pairs)
            if before is None or after is None or after.params or not before.same_effect(after)
        )


_Keys = frozenset[tuple[str, Key]]
_Ids = tuple[int, ...]


class Matching:
    """`match_entries`, answered once: many switches have the very entries of one access list.

    They are told by identity, so they must live as long as this.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[_Ids, _Ids, frozenset[str]], Matched] = {}

    def __call__(
        self, old: Sequence[TableEntry], new: Sequence[TableEntry], ids: frozenset[str]
    ) -> Matched:
        """What `match_entries` says."""
        asked = tuple(map(id, old)), tuple(map(id, new)), ids
        matched = self._known.get(asked)
        if matched is None:
            matched = self._known[asked] = match_entries(old, new, ids)
        return matched


def match_entries(
    old: Sequence[TableEntry], new: Sequence[TableEntry], ids: frozenset[str]
) -> Matched:
    """Match the entries of one table; `ids` are the keys that hold the node's own number.

    Of entries with priorities, a longest run that is in the same order in both versions stays; what
    moved is deleted and inserted.
    """

    def keys(entry: TableEntry) -> _Keys:
        return frozenset(pair for pair in entry.keys if pair[0] not in ids)

    if not any(entry.priority for entry in (*old, *new)):
        there = {keys(entry): entry for entry in old}
        pairs = [(there.pop(keys(entry), None), entry) for entry in new]
        return Matched((*pairs, *((entry, None) for entry in there.values())))
    olds, news = _ordered(old), _ordered(new)
    kept = _same_order(olds, news, [keys(e) for e in olds], [keys(e) for e in news])
    priorities = _priorities([kept.get(i) for i in range(len(news))], news)
    if priorities is None:
        return Matched((*((None, e) for e in new), *((e, None) for e in old)), crowded=True)
    paired: list[tuple[TableEntry | None, TableEntry | None]] = [
        (kept.get(i), entry if entry.priority == priority else entry._replace(priority=priority))
        for i, (entry, priority) in enumerate(zip(news, priorities, strict=True))
    ]
    stays = {id(entry) for entry in kept.values()}
    return Matched((*paired, *((entry, None) for entry in olds if id(entry) not in stays)))


def same_effects(some: Sequence[TableEntry], others: Sequence[TableEntry]) -> bool:
    """Whether entries in a row differ in provenance at most."""
    return len(some) == len(others) and all(map(TableEntry.same_effect, some, others))


def by_table(
    old: Iterable[TableEntry], new: Iterable[TableEntry], but: Set[tuple[object, ...]] = frozenset()
) -> dict[str, tuple[list[TableEntry], list[TableEntry]]]:
    """(old, new) entries of two versions by table, in the new one's order of tables; without those of
    `but` (their effects)."""
    tables: dict[str, tuple[list[TableEntry], list[TableEntry]]] = {}
    for side, entries in ((1, new), (0, old)):
        for entry in entries:
            if not but or entry.effect not in but:
                tables.setdefault(entry.table, ([], []))[side].append(entry)
    return tables


def _ordered(entries: Sequence[TableEntry]) -> list[TableEntry]:
    return sorted(entries, key=lambda e: (-e.priority, repr(sorted(e.keys))))


def _same_order(
    olds: list[TableEntry], news: list[TableEntry], old_keys: list[_Keys], new_keys: list[_Keys]
) -> dict[int, TableEntry]:
    """Index in `news` -> the old entry that it may keep: a longest increasing subsequence."""
    where: dict[_Keys, list[int]] = defaultdict(list)
    for index in range(len(olds) - 1, -1, -1):
        where[old_keys[index]].append(index)
    tails: list[int] = []  # the smallest last old index of a run of each length ...
    ends: list[int] = []  # ... and where in `news` that run ends
    behind: dict[int, int | None] = {}
    at: dict[int, int] = {}
    for index, key in enumerate(new_keys):
        if not where.get(key):
            continue
        old = at[index] = where[key].pop()
        length = bisect_left(tails, old)
        behind[index] = ends[length - 1] if length else None
        tails[length : length + 1] = [old]
        ends[length : length + 1] = [index]
    run: list[int] = []
    last = ends[-1] if ends else None
    while last is not None:
        run.append(last)
        last = behind[last]
    kept: dict[int, TableEntry] = {}
    above: tuple[int, int] | None = None
    for index in reversed(run):
        here = (news[index].priority, olds[at[index]].priority)
        # Two that were equal in rank and are no more cannot both keep their priority.
        if above is None or above[0] == here[0] or above[1] > here[1]:
            kept[index] = olds[at[index]]
            above = here
    return kept


def _priorities(kept: Sequence[TableEntry | None], news: list[TableEntry]) -> list[int] | None:
    """Final priorities, in falling order; None when there is no room between two that stay."""
    fixed: dict[int, int] = {}
    for old, entry in zip(kept, news, strict=True):
        if old is not None:
            fixed.setdefault(entry.priority, old.priority)
    final = dict(fixed)
    ranks = list(dict.fromkeys(entry.priority for entry in news))
    waiting: list[int] = []
    above: int | None = None
    for rank in [*ranks, None]:
        if rank is not None and rank not in fixed:
            waiting.append(rank)
            continue
        below = fixed[rank] if rank is not None else 0
        count = len(waiting)
        top = above if above is not None else min(below + (count + 1) * STRIDE, MOST_PRIORITY + 1)
        step = (top - below) // (count + 1)
        if count and step < 1:
            return None
        for place, waits in enumerate(waiting, 1):
            final[waits] = top - place * step
        waiting, above = [], below
    return [
        old.priority if old is not None else final[entry.priority]
        for old, entry in zip(kept, news, strict=True)
    ]

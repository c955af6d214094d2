"""A bounded table in which every source has room, however much another one fills in.

Entries are transitory until they are established. Beyond the bound one goes: of the source with
most transitory entries the one longest not refreshed, the new one counted with them. Where all but
the new one are established, one of these goes only if its source has more of them than the new one's
source has entries; else the new one does. So no flood takes the established entries of others.

All is done in constant time. Sources with as many entries stand in the order in which they came to have
so many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from typing import TypeVar

from servernf.python.tables import RecordTable
from servernf.wire.state import Values


class FairEntry:
    """What a table holds; its owner's subclasses say what is kept."""

    __slots__ = ("key", "queue", "share")

    key: bytes
    share: SourceShare
    queue: OrderedDict[FairEntry, None]

    @property
    def established(self) -> bool:
        """Whether it is safe from others' floods."""
        return self.queue is self.share.established

    @property
    def source(self) -> bytes:
        """Whom it is counted for."""
        return self.share.source


_NONE: OrderedDict[FairEntry, None] = OrderedDict()
"""Stands for the established entries of a source that never had any: most floods have none."""


class SourceShare:
    """The entries of one source, least recently refreshed first."""

    __slots__ = ("established", "source", "transitory")

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.transitory: OrderedDict[FairEntry, None] = OrderedDict()
        self.established = _NONE

    def established_queue(self) -> OrderedDict[FairEntry, None]:
        """`established`, for an entry to come."""
        if self.established is _NONE:
            self.established = OrderedDict()
        return self.established


class _Ranking:
    """Shares by a count of theirs, which changes by one at a time."""

    __slots__ = ("_by_count", "_highest")

    def __init__(self) -> None:
        self._by_count: dict[int, OrderedDict[SourceShare, None]] = {}
        self._highest = 0

    def move(self, share: SourceShare, before: int, now: int) -> None:
        by_count = self._by_count
        if now:
            by_count.setdefault(now, OrderedDict())[share] = None
            if now > self._highest:
                self._highest = now
        if before:
            del by_count[before][share]
            if not by_count[before]:
                del by_count[before]
                if before == self._highest:
                    self._highest = now

    @property
    def first(self) -> SourceShare | None:
        return next(iter(self._by_count[self._highest])) if self._highest else None

    def in_order(self) -> list[SourceShare]:
        """Those with fewest first, and of as many the one that came to have so many first."""
        return [share for count in sorted(self._by_count) for share in self._by_count[count]]


E = TypeVar("E", bound=FairEntry)


class FairTable(RecordTable[bytes, E]):
    """Entries by key; `size` is the bound, `evicted` how many had to go for others."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.evicted = 0
        self._entries = self.records
        self._shares: dict[bytes, SourceShare] = {}
        self._by_transitory = _Ranking()
        self._by_established = _Ranking()

    @property
    def room(self) -> int:
        return self.size

    def add(self, key: bytes, entry: E, source: bytes) -> list[E]:
        """Enter what has a new key; those that had to go for it, perhaps itself."""
        self.enter(key, entry, source)
        gone: list[E] = []
        while len(self._entries) > self.size:
            victim = self._victim(entry)
            self.remove(victim)
            self.evicted += 1
            gone.append(victim)
            if victim is entry:
                break
        return gone

    def enter(self, key: bytes, entry: E, source: bytes, *, established: bool = False) -> None:
        """As `add`, whether there is room or not."""
        share = self._shares.get(source)
        if share is None:
            share = self._shares[source] = SourceShare(source)
        entry.key, entry.share = key, share
        self._entries[key] = entry
        self._enter(entry, share.established_queue() if established else share.transitory)
        if self.index is not None:
            self.index.enter(key, entry)
        self.entered(entry)

    def refresh(self, entry: E) -> None:
        """It has been used: of its source's and kind's it will be the last to go."""
        entry.queue.move_to_end(entry)

    def establish(self, entry: E, established: bool = True) -> None:
        """Make it safe from others' floods, or no longer."""
        share = entry.share
        queue = share.established_queue() if established else share.transitory
        if queue is not entry.queue:
            self._leave(entry)
            self._enter(entry, queue)

    def remove(self, entry: E) -> None:
        """Forget one that is held."""
        share = entry.share
        del self._entries[entry.key]
        self._leave(entry)
        if not (share.transitory or share.established):
            del self._shares[share.source]
        if self.index is not None:
            self.index.leave(entry.key, entry)
        self.left(entry)

    def entered(self, entry: E) -> None:
        """Called for what has been entered; for what is derived from the entries."""

    def left(self, entry: E) -> None:
        """Called for what is there no more."""

    def insert(self, key: bytes, record: E, values: Values) -> None:
        # Whom it is counted for and whether it is established are written last (`state.entries`).
        source, established = values[-2:]
        assert isinstance(source, bytes)
        self.enter(key, record, source, established=bool(established))

    def discard(self, key: bytes) -> None:
        self.remove(self._entries[key])

    def in_order(self, keys: Collection[bytes] | None) -> Iterator[bytes]:
        if keys is None:
            for share in self._by_transitory.in_order():
                yield from (entry.key for entry in share.transitory)
            for share in self._by_established.in_order():
                yield from (entry.key for entry in share.established)
            return
        # Of some keys only their sources are looked at, however many others there are.
        mine = dict.fromkeys(self._entries[key].share for key in keys)
        for queue in sorted((share.transitory for share in mine), key=len):
            yield from (entry.key for entry in queue if entry.key in keys)
        for queue in sorted((share.established for share in mine), key=len):
            yield from (entry.key for entry in queue if entry.key in keys)

    def items(self) -> list[tuple[bytes, E]]:
        """All, in no order that means anything; may be called from another thread."""
        return list(self._entries.items())

    def _victim(self, new: E) -> E:
        share = self._by_transitory.first
        assert share is not None, "the new one is transitory"
        victim = next(iter(share.transitory))
        if victim is new:
            richest, own = self._by_established.first, new.share
            if richest is not None and len(richest.established) > len(own.established) + 1:
                victim = next(iter(richest.established))
        return victim  # type: ignore[return-value]

    def _enter(self, entry: E, queue: OrderedDict[FairEntry, None]) -> None:
        queue[entry] = None
        entry.queue = queue
        self._ranking(entry).move(entry.share, len(queue) - 1, len(queue))

    def _leave(self, entry: E) -> None:
        queue = entry.queue
        del queue[entry]
        self._ranking(entry).move(entry.share, len(queue) + 1, len(queue))

    def _ranking(self, entry: E) -> _Ranking:
        return self._by_established if entry.established else self._by_transitory

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
from typing import Generic, TypeVar


class Entry:
    """What a table holds; its owner's subclasses say what is kept."""

    __slots__ = ("key", "queue", "share")

    key: bytes
    share: Share
    queue: OrderedDict[Entry, None]

    @property
    def established(self) -> bool:
        """Whether it is safe from others' floods."""
        return self.queue is self.share.established


_NONE: OrderedDict[Entry, None] = OrderedDict()
"""Stands for the established entries of a source that never had any: most floods have none."""


class Share:
    """The entries of one source, least recently refreshed first."""

    __slots__ = ("established", "source", "transitory")

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.transitory: OrderedDict[Entry, None] = OrderedDict()
        self.established = _NONE


class _Ranking:
    """Shares by a count of theirs, which changes by one at a time."""

    __slots__ = ("_by_count", "_highest")

    def __init__(self) -> None:
        self._by_count: dict[int, OrderedDict[Share, None]] = {}
        self._highest = 0

    def move(self, share: Share, before: int, now: int) -> None:
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
    def first(self) -> Share | None:
        return next(iter(self._by_count[self._highest])) if self._highest else None


E = TypeVar("E", bound=Entry)


class FairTable(Generic[E]):
    """Entries by key; `size` is the bound, `evicted` how many had to go for others."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.evicted = 0
        self._entries: dict[bytes, E] = {}
        self._shares: dict[bytes, Share] = {}
        self._by_transitory = _Ranking()
        self._by_established = _Ranking()
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: bytes, entry: E, source: bytes) -> list[E]:
        """Enter what has a new key; those that had to go for it, perhaps itself."""
        share = self._shares.get(source)
        if share is None:
            share = self._shares[source] = Share(source)
        entry.key, entry.share = key, share
        self._entries[key] = entry
        self._enter(entry, share.transitory)
        gone: list[E] = []
        while len(self._entries) > self.size:
            victim = self._victim(entry)
            self.remove(victim)
            self.evicted += 1
            gone.append(victim)
            if victim is entry:
                break
        return gone

    def refresh(self, entry: E) -> None:
        """It has been used: of its source's and kind's it will be the last to go."""
        entry.queue.move_to_end(entry)

    def establish(self, entry: E, established: bool = True) -> None:
        """Make it safe from others' floods, or no longer."""
        share = entry.share
        if established and share.established is _NONE:
            share.established = OrderedDict()
        queue = share.established if established else share.transitory
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

    def _enter(self, entry: E, queue: OrderedDict[Entry, None]) -> None:
        queue[entry] = None
        entry.queue = queue
        self._ranking(entry).move(entry.share, len(queue) - 1, len(queue))

    def _leave(self, entry: E) -> None:
        queue = entry.queue
        del queue[entry]
        self._ranking(entry).move(entry.share, len(queue) + 1, len(queue))

    def _ranking(self, entry: E) -> _Ranking:
        return self._by_established if entry.established else self._by_transitory

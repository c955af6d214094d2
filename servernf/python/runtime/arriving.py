"""The destination's side of a transfer: enter records, hold packets back until it owns them.

What comes is of a peer: it is measured, and must be of the flows that were announced. Every method is a
job of the data path's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from servernf.python.runtime.held import HeldFrames
from servernf.python.runtime.moving import all_buckets, check_divided, import_state
from servernf.python.runtime.tables import CompiledCall, Instance
from servernf.python.scope import EVERYTHING, Buckets
from servernf.python.tables import Fixed
from servernf.wire.errors import InputError
from servernf.wire.state import decode

MOST_FRAMES = 65_536
MOST_BYTES = 64 << 20
"""What is held back at most; the source has to treat what is more."""
_SCANNED = 1_024
"""Records that are looked at between two batches of packets."""


class Arriving:
    """Instances of which some buckets, or all (None), arrive."""

    def __init__(
        self,
        instances: Mapping[str, Instance],
        buckets: Buckets | None,
    ) -> None:
        self.instances = dict(instances)
        self.buckets = buckets
        self._whole = all_buckets(self.instances.values()) if buckets is None else None
        self.is_open = True
        self.held = 0
        """How many frames have ever been held back."""
        self.lost = 0
        self.frames: deque[tuple[int, bytes]] = deque()
        """With the time (us) at which each has come."""
        self._bytes = 0
        self._keys: dict[tuple[str, int], list[tuple[str, Any]]] = {}
        self._left = self._there()
        if buckets is not None:
            for instance in self.instances.values():
                check_divided(instance, buckets)
            return
        problems = [
            f"scope: {name} has state already, and all of another's cannot be entered beside it"
            for name, instance in self.instances.items()
            if any(
                not isinstance(d.table, Fixed) and d.table.records
                for d in instance.nf.state.tables.values()
            )
        ]
        if problems:
            raise InputError(problems)

    def clear(self) -> bool:
        """Take out, some at a time, what is here of the flows: an earlier owner's, that stayed behind
        when they went without it. Whether there is more."""
        some = list(islice(self._left, _SCANNED))
        for instance, name, key in some:
            declared = instance.nf.state.tables[name]
            record, flow_of = declared.table.records.get(key), declared.kind.flow_of
            if record is None or flow_of is None or self.buckets is None:
                continue
            if self.buckets.group_of(flow_of(key, record)) is not None:
                instance.nf.state.discard({name: [key]})
        return len(some) == _SCANNED

    def _there(self) -> Iterator[tuple[Instance, str, Any]]:
        if self.buckets is None:
            return
        for instance in self.instances.values():
            for name, declared in instance.nf.state.tables.items():
                if declared.kind.flow_of is not None and not declared.shared:
                    for key in list(declared.table.records):
                        yield instance, name, key

    def hold(self, frame: bytes, now_us: int) -> None:
        """Keep a frame for later; with no room it is lost, and counted."""
        if len(self.frames) >= MOST_FRAMES or self._bytes + len(frame) > MOST_BYTES:
            self.lost += 1
            return
        self.held += 1
        self._bytes += len(frame)
        self.frames.append((now_us, frame))

    def pull(self, more_than: int) -> list[bytes]:
        """Frames that the source treats: the first ones, until so many are left."""
        return [self._pop() for _ in range(max(0, len(self.frames) - more_than))]

    def waited_us(self, now_us: int) -> int:
        """For how long packets have been held back."""
        return now_us - self.frames[0][0] if self.frames else 0

    def _pop(self) -> bytes:
        _, frame = self.frames.popleft()
        self._bytes -= len(frame)
        return frame

    def _checked(self, groups: Sequence[int], batches: Sequence[bytes]) -> Buckets:
        """The buckets that arrive, which have all groups of a chunk; InputError: they do not."""
        buckets = self.buckets or self._whole
        if buckets is None:
            raise InputError("chunk.groups: there are none of state of all flows together")
        if batches and not groups:
            raise InputError("chunk.groups: name those of the records")
        if strange := [group for group in groups if not buckets.holds(group)]:
            raise InputError(
                f"chunk.groups: {strange[0]} is in none of the buckets that were opened"
            )
        return buckets

    def enter(self, nf: str, groups: Sequence[int], batches: Sequence[bytes], now_us: int) -> int:
        """Have these records of groups in the place of all that came of them before; how many."""
        state, buckets = self._instance(nf).nf.state, self._checked(groups, batches)
        for group in groups:
            state.discard(_by_table(self._keys.pop((nf, group), ())))
        read = [decode(data, lambda _: state.layouts) for data in batches]
        count = state.enter(read, now_us)
        by_group: dict[int | None, list[tuple[str, Any]]] = {}
        for batch in read:
            declared = state.tables.get(batch.table)
            if declared is None or declared.kind.flow_of is None:
                continue
            for record in batch.records:
                key = declared.kind.unpack_key(record.key)
                flow = declared.kind.flow_of(key, declared.table.records[key])
                by_group.setdefault(buckets.group_of(flow), []).append((batch.table, key))
        if by_group.keys() - set(groups):
            for keys in by_group.values():
                state.discard(_by_table(keys))
            raise InputError("chunk.batches: a record is of none of the chunk's groups")
        for group in groups:
            self._keys[nf, group] = by_group.get(group, [])
        return count

    def enter_all(
        self,
        nf: str,
        batches: Sequence[bytes],
        held: HeldFrames,
        steps: Mapping[int, CompiledCall],
        now_us: int,
    ) -> int:
        """Have all that another instance had; how many records."""
        return import_state(self._instance(nf), held, steps, batches, now_us)

    def forget(self, held: HeldFrames) -> None:
        """Take all out that has come."""
        for (nf, _), keys in self._keys.items():
            self.instances[nf].nf.state.discard(_by_table(keys))
        self._keys.clear()
        if self.buckets is None:
            for name, instance in self.instances.items():
                instance.nf.state.delete(EVERYTHING)
                held.forget(name)

    def end(self) -> None:
        """Called when it is over."""

    def _instance(self, nf: str) -> Instance:
        if nf not in self.instances:
            raise InputError(
                f"chunk.nf: '{nf}' was not opened (opened: {', '.join(self.instances)})"
            )
        return self.instances[nf]


def _by_table(keys: Sequence[tuple[str, Any]]) -> dict[str, list[Any]]:
    by_table: dict[str, list[Any]] = {}
    for name, key in keys:
        by_table.setdefault(name, []).append(key)
    return by_table

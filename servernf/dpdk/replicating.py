"""Replications of a dpdk primary: what of Python's (`runtime.replicas`) is about records and frames.

The C side notes which groups packets touch, and keeps what leaves until the standby has them
(c/holding.h), so that it is fenced whatever becomes of this side. All records of a group go out when
one has changed: what the standby has of the group is replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import ProcessRequest, packed_frames, unpacked_frames
from servernf.dpdk.state import InstanceState, bits_of
from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.arrivals import Arrivals, TransferHost
from servernf.python.runtime.moving import all_buckets, check_divided
from servernf.python.runtime.replicas import FENCED, PERIOD_US, Replica, Replicas
from servernf.python.runtime.tables import Instance
from servernf.python.scope import Buckets
from servernf.python.state import CHUNK
from servernf.wire.errors import InputError, ServerError
from servernf.wire.variants import ON_SYN_FIN, PER_N, PER_PACKET, PERIODIC

_KINDS = {PER_PACKET: 0, ON_SYN_FIN: 1, PER_N: 2, PERIODIC: 3}
"""`enum hold_for` (c/holding.h)."""
_MOST = 256
WAITS = 4
"""`TOLD_WAITS` (c/boundary.h)."""


class EngineChanged:
    """As `servernf.python.runtime.changed.Changed`."""

    def __init__(self, engine: NfEngine, instance: Instance, buckets: Buckets | None) -> None:
        self.name = instance.name
        self.opened = False
        """The C side knows by itself whether records come and go."""
        self._engine, self._instance = engine, instance
        if not instance.nf.state.tables:
            raise InputError(f"nfs: {instance.name} ({instance.type_name}) has no state")
        if buckets is not None:
            check_divided(instance, buckets)
        self._state = InstanceState(engine, instance, buckets)
        wanted = buckets or all_buckets([instance])
        if wanted is None and self._state.tables:
            raise InputError(f"nfs: {instance.name}: its state is of all flows together")
        self._buckets = wanted
        self._todo: dict[int, int] = {}
        """Groups, and how many records they have."""
        self._is_listed = self._is_watched = False
        self._own: dict[tuple[str, Any], bytes] = {}
        """Records that are Python's own, as the standby has them."""
        self._own_todo: dict[str, list[Any]] = {}

    def begin(self) -> None:
        """Note from now on which groups packets touch."""
        if self._buckets is None:
            return
        self._state.group(self._buckets.key)
        try:
            self._state.watch(bits_of(self._buckets))
        except ServerError:
            self._state.ungroup()
            raise
        self._is_watched = True

    def watch(self, instances: Iterable[Instance]) -> bool:
        """False: no instance goes on with the same tables by this name."""
        mine = {id(d.table) for d in self._instance.nf.state.tables.values()}
        return any(
            instance.name == self.name
            and any(id(d.table) in mine for d in instance.nf.state.tables.values())
            for instance in instances
        )

    def end(self) -> None:
        """Note nothing any more."""
        if not self._is_watched:
            return
        self._is_watched = False
        with suppress(ServerError):  # another process knows of none
            self._state.unwatch()
            self._state.ungroup()

    @property
    def is_dirty(self) -> bool:
        """Whether there is anything that is known to be missing at the standby."""
        return bool(self._todo or self._own_todo)

    def scan(self) -> bool:
        """Look at some of what was there in the beginning; False: all has been looked at."""
        if self._is_listed:
            return False
        if self._state.build():
            self._todo = self._state.touched(every=True)[0]
            self._is_listed = True
        return True

    def gather(self) -> None:
        """What has changed until now is to go out."""
        if self._is_watched:
            self._todo |= self._state.touched()[0]
        self._engine.refresh()
        state, made = self._instance.nf.state, {table.name for table in self._state.tables}
        for name, declared in state.tables.items():
            if name in made or (self._buckets_asked and not declared.shared):
                continue
            for key, record in declared.table.records.items():
                packed = declared.kind.pack(record, 0)
                if self._own.get((name, key)) != packed:
                    self._own[name, key] = packed
                    self._own_todo.setdefault(name, []).append(key)

    @property
    def _buckets_asked(self) -> bool:
        return self._buckets is not None and self._buckets.of > 1

    def chunk(self, now_us: int) -> vnf.NfDelta | None:
        """Some whole groups of what is to go out; None: nothing is left."""
        told = vnf.NfDelta(nf=self.name)
        if self._own_todo:
            told.batches.extend(self._instance.nf.state.written(self._own_todo, now_us))
            self._own_todo = {}
            return told
        if not self._todo:
            return None
        size = 0
        while self._todo and (not told.groups or size < CHUNK):
            group, count = self._todo.popitem()
            told.groups.append(group)
            size += count
        told.batches.extend(self._state.written(told.groups, now_us))
        return told


class EngineReplicas(Replicas):
    """Those whose primary is a worker of this runtime."""

    def __init__(self, host: TransferHost, arrivals: Arrivals, engine: NfEngine) -> None:
        super().__init__(host, arrivals)
        self._engine = engine
        self._numbers: dict[str, tuple[Replica, int]] = {}
        """By id: those that the C side knows, and by which number."""
        self._free = list(range(_MOST - 1, -1, -1))
        self.left: list[bytes] = []
        """Frames that have left by no port."""

    def attend(self) -> None:
        """Something waits for a standby."""
        for replica in list(self.all.values()):
            replica.asked.set()

    def settled_up(self, now_us: int) -> list[bytes]:
        """Where nothing but this call moves packets: tell standbys what is due, and what leaves then."""
        if self._numbers:
            _, is_asked = self._counts()
            for replica, _ in list(self._numbers.values()):
                if is_asked or now_us - replica.heard_us >= PERIOD_US:
                    self._tried(replica, None, now_us)
        left, self.left = self.left, []
        return left

    def is_due(self, now_us: int) -> bool:
        """Whether a standby is to be told although no packet comes."""
        return bool(self.left) or any(
            now_us - replica.heard_us >= PERIOD_US for replica, _ in self._numbers.values()
        )

    def process_ended(self, why: str) -> None:
        """Job: another process begins anew; so do those that follow."""
        for replica in list(self.all.values()):
            self._end(replica, "lost", why)

    def settled(self) -> None:
        super().settled()
        self._close()

    def _changed_of(self, instance: Instance, buckets: Buckets | None) -> EngineChanged:
        return EngineChanged(self._engine, instance, buckets)

    def _follow(self, replica: Replica) -> None:
        if not self._free:
            raise InputError(f"scope: {_MOST} replications are under way, more are not at a time")
        now_us = self._host.now_us()
        said = struct.pack("=IIQ", _KINDS[replica.variant], replica.every, now_us)
        (self.total,) = struct.unpack("=Q", self._ask(ProcessRequest.HOLD, said, self._free[-1]))
        self._numbers[replica.id] = replica, self._free.pop()
        super()._follow(replica)

    def _end(self, replica: Replica, state: str, why: str = "") -> None:
        super()._end(replica, state, why)
        self._close()

    def _count(self) -> int:
        return self._counts()[0]

    def _counts(self) -> tuple[int, bool]:
        """Packets so far, and whether something waits of which this side was told."""
        answer = self._ask(ProcessRequest.COUNTED)
        self.total, _, is_asked = struct.unpack("=QII", answer)
        return self.total, bool(is_asked)

    def _acked(self, replica: Replica, total: int) -> None:
        super()._acked(replica, total)
        if replica.id in self._numbers:
            _, number = self._numbers[replica.id]
            said = struct.pack("=3Q", self._host.now_us(), total, replica.heard_us)
            self.left += unpacked_frames(self._ask(ProcessRequest.ACKED, said, number))

    def send_behind(self, frames: Iterable[bytes]) -> None:
        """Job: frames leave behind all others, also behind what waits."""
        said = struct.pack("=Q", self._host.now_us()) + packed_frames(frames)
        self.left += unpacked_frames(self._ask(ProcessRequest.SEND, said))

    def _close(self) -> None:
        """Have the C side wait no more for those that are over."""
        over = [name for name, (replica, _) in self._numbers.items() if replica.over.is_set()]
        for name in over:
            replica, number = self._numbers.pop(name)
            self._free.append(number)
            said = struct.pack("=QI", self._host.now_us(), replica.told.state == FENCED)
            with suppress(ServerError):  # another process knows of none
                answer = self._ask(ProcessRequest.UNHOLD, said, number)
                replica.told.dropped += int.from_bytes(answer[:8], "little")
                self.left += unpacked_frames(answer[8:])

    def _ask(self, kind: ProcessRequest, payload: bytes = b"", number: int = 0) -> bytes:
        return self._engine.ask(kind, payload, number)

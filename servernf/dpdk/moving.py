"""Transfers of a dpdk worker: what of `servernf.python.runtime` is about records and frames.

As there, records leave and arrive by group, the hash of their flow; here the C side has the groups and
notes which are touched, so that what a record costs Python is to pass its bytes on.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import ProcessRequest, packed_frames, unpacked_frames
from servernf.dpdk.state import InstanceState, bits_of, spaces_of, states_of
from servernf.python.runtime.arriving import Arriving
from servernf.python.runtime.departing import Chunk
from servernf.python.runtime.gates import Gate, Gates
from servernf.python.runtime.held import HeldFrames
from servernf.python.runtime.jobs import Jobs
from servernf.python.runtime.moving import check_divided
from servernf.python.runtime.tables import CompiledCall, Instance
from servernf.python.runtime.transfers import Transfers
from servernf.python.scope import Buckets
from servernf.python.state import CHUNK
from servernf.wire.buckets import KEYS
from servernf.wire.errors import InputError
from servernf.wire.state import decode

_DISCARD, _GO_ON, _HAND_OVER = range(3)
"""What becomes of the frames of a gate that is closed."""


class EngineJobs(Jobs):
    """The process takes one message after the other, between two bursts: who asks does the work.

    `live`: whether packets come by a port, so that what lasts is done by threads."""

    def __init__(self, *, live: bool) -> None:
        super().__init__()
        self._live = live

    @property
    def has_thread(self) -> bool:
        return self._live


class EngineGates(Gates):
    """Gates whose frames the C side keeps until they are fetched."""

    def __init__(
        self,
        core_mac: int,
        engine: NfEngine,
        now_us: Callable[[], int],
        transfers: Transfers,
    ) -> None:
        super().__init__(core_mac)
        self._engine, self._now_us, self._transfers = engine, now_us, transfers
        self._markers: list[int] = []
        """Numbers of markers that the C side knows."""
        self._open: dict[int, tuple[Gate, int, bytes]] = {}
        """By the identity of a gate: its number there, and what was said of it."""
        self._free = list(range(255, -1, -1))
        self.left: list[bytes] = []
        """Frames that have left by no port."""

    def fetch(self) -> None:
        for gate in list(self.all):
            if gate.opens is not None:
                gate.opens()
        if self._markers:
            self._ask_marks()
        for gate, number, _ in list(self._open.values()):
            answer = self._engine.ask(ProcessRequest.KEPT, b"", number)
            self._take(gate, unpacked_frames(answer[8:]))
        if self.released:
            self.settle()

    def _ask_marks(self) -> None:
        self._markers = self._transfers.markers
        markers = struct.pack(f"={len(self._markers)}I", *self._markers)
        for number, path in struct.iter_unpack(
            "=II", self._engine.ask(ProcessRequest.MARKS, markers, 0)
        ):
            self._transfers.mark((number, path))

    def settle(self) -> None:
        """Have the C side's gates be those that there are, and released frames treated."""
        if self._markers != self._transfers.markers:
            self._ask_marks()
        there = {id(gate) for gate in self.all}
        for key in [key for key in self._open if key not in there]:
            gate, number, _ = self._open.pop(key)
            self._close(number, _DISCARD if gate.is_over else _GO_ON)
        for gate in list(self.all):
            said = self._said(gate)
            opened = self._open.get(id(gate))
            if opened is not None and opened[2] == said:
                continue
            if opened is not None:  # other instances have its names now
                self._take(gate, unpacked_frames(self._closed(opened[1], _HAND_OVER, ())))
            if not self._free:
                raise InputError("scope: more is on its way than a core keeps apart")
            number = self._free.pop()
            self._engine.ask(ProcessRequest.GATE, said, number)
            self._open[id(gate)] = gate, number, said
        if self.released:
            frames, self.released = self.released, []
            payload = struct.pack("=Q", self._now_us()) + packed_frames(frames)
            self.left += unpacked_frames(self._engine.ask(ProcessRequest.GIVE, payload, 0))

    def again(self) -> None:
        """Tell another process."""
        gates, self._open, self._markers = self._open, {}, []
        self._free += [number for _, number, _ in gates.values()]
        self.settle()

    def _take(self, gate: Gate, frames: Iterable[bytes]) -> None:
        for frame in frames:
            if not gate.takes(frame):
                self.released.append(frame)

    def _close(self, number: int, how: int) -> None:
        frames, self.released = self.released, []
        self.left += unpacked_frames(self._closed(number, how, frames))

    def _closed(self, number: int, how: int, frames: Sequence[bytes]) -> bytes:
        payload = struct.pack("=QI", self._now_us(), how) + packed_frames(frames)
        answer = self._engine.ask(ProcessRequest.UNGATE, payload, number)
        self._free.append(number)
        return answer

    def _said(self, gate: Gate) -> bytes:
        numbers = self._engine.numbers_of(gate.nfs)
        buckets = gate.buckets
        if buckets is None:
            by, scope = 0, bytes(1 << 13)
        else:
            by, scope = KEYS.index(buckets.key), bits_of(buckets)
        head = [len(numbers), *numbers, buckets is None, by]
        return struct.pack(f"={len(head)}I", *head) + scope + spaces_of(buckets)


class EngineDeparting:
    """As `servernf.python.runtime.departing.Departing`."""

    def __init__(self, engine: NfEngine, instances: Iterable[Instance], buckets: Buckets) -> None:
        self._states = [InstanceState(engine, instance, buckets) for instance in instances]
        self._buckets = buckets
        self._todo: list[dict[int, int]] = [{} for _ in self._states]
        self._sent: list[set[int]] = [set() for _ in self._states]
        self._listed = [False for _ in self._states]
        self._forgetting = False

    def begin(self) -> None:
        for state in self._states:
            check_divided(state.instance, self._buckets)
        begun: list[InstanceState] = []
        try:
            for state in self._states:
                state.group(self._buckets.key)
                begun.append(state)
                state.watch(bits_of(self._buckets))
        except BaseException:
            for state in begun:
                state.unwatch()
                state.ungroup()
            raise

    def next(self, now_us: int) -> Chunk | None:
        for at, state in enumerate(self._states):
            name = state.instance.name
            if not self._listed[at]:
                if state.build():
                    self._todo[at], _ = state.touched(every=True)
                    self._listed[at] = True
                return Chunk(name, (), ())
            if self._todo[at]:
                return self._chunk(at, now_us)
        return None

    def _chunk(self, at: int, now_us: int) -> Chunk:
        todo, groups, size = self._todo[at], list[int](), 0
        while todo and (not groups or size < CHUNK):
            group, count = todo.popitem()
            groups.append(group)
            size += count
        self._sent[at].update(groups)
        state = self._states[at]
        return Chunk(state.instance.name, tuple(groups), tuple(state.written(groups, now_us)))

    def again(self) -> int:
        for todo, state in zip(self._todo, self._states, strict=True):
            todo |= state.touched()[0]
        return sum(sum(todo.values()) for todo in self._todo)

    def rest(self, now_us: int) -> list[Chunk]:
        self.again()
        chunks: list[Chunk] = []
        for at, todo in enumerate(self._todo):
            while todo:
                chunks.append(self._chunk(at, now_us))
        return chunks

    def touch_all(self) -> None:
        for todo, state in zip(self._todo, self._states, strict=True):
            todo |= state.touched(every=True)[0]

    def end(self) -> None:
        for state in self._states:
            state.unwatch()
            state.ungroup()

    def forget(self) -> bool:
        if not self._forgetting:
            for state in self._states:
                state.group(self._buckets.key)
            self._forgetting = True
        for state in self._states:
            if not state.build():
                return True
        for sent, state in zip(self._sent, self._states, strict=True):
            some = [sent.pop() for _ in range(min(CHUNK, len(sent)))]
            if some:
                state.discard(some)
                return True
        for state in self._states:
            state.ungroup()
        return False


class EngineArriving(Arriving):
    """Its records are entered on the C side."""

    def __init__(
        self,
        engine: NfEngine,
        instances: Mapping[str, Instance],
        buckets: Buckets | None,
    ) -> None:
        self._states = states_of(engine, instances, buckets)
        super().__init__(instances, buckets)
        if buckets is None:
            full = [name for name, state in self._states.items() if state.size()[0]]
            if full:
                raise InputError(
                    f"scope: {full[0]} has state already, and all of another's cannot be entered"
                    " beside it"
                )
        self._came: dict[str, set[int]] = {name: set() for name in instances}
        scope = buckets or self._whole
        self._grouped: list[InstanceState] = []
        self._behind: list[tuple[InstanceState, list[int]]] = []
        if scope is None:
            return
        for state in self._states.values():
            state.group(scope.key)
            self._grouped.append(state)
            while not state.build():
                pass
        self._behind = [] if buckets is None else [(s, self._there_of(s)) for s in self._grouped]

    def _there_of(self, state: InstanceState) -> list[int]:
        """Groups of the buckets that have records."""
        assert self.buckets is not None
        state.watch(bits_of(self.buckets))
        groups, _ = state.touched(every=True)
        state.unwatch()
        return list(groups)

    def clear(self) -> bool:
        while self._behind:
            state, groups = self._behind[-1]
            some, groups[:CHUNK] = groups[:CHUNK], []
            if some:
                state.discard(some)
                return True
            self._behind.pop()
        return False

    def enter(self, nf: str, groups: Sequence[int], batches: Sequence[bytes], now_us: int) -> int:
        instance = self._instance(nf)
        self._checked(groups, batches)
        state = self._states[nf]
        state.discard(groups)
        self._came[nf].update(groups)
        layouts = instance.nf.state.layouts
        return state.enter([decode(data, lambda _: layouts) for data in batches], now_us, groups)

    def enter_all(
        self,
        nf: str,
        batches: Sequence[bytes],
        held: HeldFrames,
        steps: Mapping[int, CompiledCall],
        now_us: int,
    ) -> int:
        layouts = self._instance(nf).nf.state.layouts
        read = [decode(data, lambda _: layouts) for data in batches]
        return self._states[nf].enter(read, now_us)

    def forget(self, held: HeldFrames) -> None:
        for name, groups in self._came.items():
            self._states[name].discard(sorted(groups))
            groups.clear()
            if self.buckets is None:
                self._states[name].clear()

    def end(self) -> None:
        for state in self._grouped:
            state.ungroup()
        self._grouped.clear()

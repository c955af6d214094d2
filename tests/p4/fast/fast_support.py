"""Both engines with one program, one clock and the same writes: what they do must be the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.softswitch.entity_errors import WriteError
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.switch import SoftSwitch

Frames = list[tuple[int, bytes]]


class Pair:
    """The Python engine and C with sanitizers. Time stands still, or moves with `now_ns`."""

    def __init__(self, program: Any, info: p4i.P4Info, *, sanitized: bool = True) -> None:
        self.now_ns = 0
        self.python = SoftSwitch(clock=lambda: self.now_ns)
        self.fast = FastSwitch(clock=lambda: self.now_ns, sanitized=sanitized)
        self.python.load(program, info)
        self.fast.load(program, info)
        self.now_ns = 5_000_000

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        self.fast.close()

    def write(self, updates: Sequence[p4r.Update]) -> list[int]:
        """The codes of the updates, which are the same of both."""
        codes = [_codes(switch, updates) for switch in (self.python, self.fast)]
        assert codes[0] == codes[1]
        return codes[0]

    def process(self, port: int, frames: Iterable[bytes]) -> Frames:
        """What leaves for each frame, one by one."""
        out: Frames = []
        for frame in frames:
            ours, theirs = self.python.process(port, frame), self.fast.process(port, frame)
            assert ours == theirs, f"port {port}, frame {frame.hex()}"
            out += ours
        assert list(self.python.packet_ins) == list(self.fast.packet_ins)
        assert list(self.python.digest_lists) == list(self.fast.digest_lists)
        state, counters = self.fast.counters(), self.python.counters
        assert (state.faults, state.loops_cut) == (counters.faults, counters.loops_cut)
        return out

    def read(self, entity: p4r.Entity) -> list[p4r.Entity]:
        """What both answer to a read, in no order."""
        entities = [
            sorted(switch.read(entity), key=lambda e: e.SerializeToString(deterministic=True))
            for switch in (self.python, self.fast)
        ]
        assert entities[0] == entities[1]
        return entities[0]


def _codes(switch: SoftSwitch | FastSwitch, updates: Sequence[p4r.Update]) -> list[int]:
    try:
        switch.write(updates)
    except WriteError as refused:
        return [0 if error is None else error.code for error in refused.errors]
    return [0] * len(updates)

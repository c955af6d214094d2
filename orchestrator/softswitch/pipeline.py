"""A program ready to run: its state, and the Python function that was made of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

from orchestrator.softswitch import codegen, hashes
from orchestrator.softswitch.architectures import PacketOrigin
from orchestrator.softswitch.state.pipeline import PipelineState
from orchestrator.softswitch.trace import log_text
from servernf.wire import prf

MAX_KEPT_SOURCE = 4 << 20
"""Characters of generated code; larger ones are compiled anew for each switch."""

Run = Callable[..., None]
"""`run(port, data, mode, aux, out, again)`: see `codegen`."""


class RunningPipeline:
    """Compiled code over `state`; a packet enters by `run`."""

    def __init__(self, state: PipelineState, drop_port: int, queues: int = 1) -> None:
        self.state = state
        self.program = state.program
        self.from_port = self.program.architecture.instance_types[PacketOrigin.PORT]
        """The `mode` of a packet that comes in by a port."""
        self.drop_port = drop_port
        self.queues = queues
        self._stateful = {
            c.name: hashes.STATEFUL[c.algo]()
            for c in self.program.calculations.values()
            if c.algo in hashes.STATEFUL
        }
        self.generated = codegen.generate(self.program, drop_port=drop_port, queues=queues)
        self.run = self._compile(self.generated, None)
        self._traced: Run | None = None
        self._sink: Callable[..., None] = _ignore

    def _compile(self, generated: codegen.Generated, trace: Callable[..., None] | None) -> Run:
        state = self.state
        scope: dict[str, Any] = {
            "now": state.now,
            "groups": state.groups,
            "clone_sessions": state.clone_sessions,
            "randint": state.random.randint,
            "gather": gather,
            "T": trace,
            "learn": state.learn,
            "log_msg": self.log,
        }
        for identifier, (kind, name) in generated.outside.items():
            scope[identifier] = self._outside(kind, name)
        small = len(generated.source) <= MAX_KEPT_SOURCE
        code = _kept(generated.source) if small else _compiled(generated.source)
        exec(code, scope)  # noqa: S102
        return scope["run"]

    def _outside(self, kind: str, name: str) -> Any:
        """What a global of the generated code is: see `codegen.Generated.outside`."""
        state = self.state
        match kind:
            case "probe":
                return state.tables[name].probe
            case "search":
                return state.tables[name].search
            case "miss":
                return state.tables[name].miss
            case "packets":
                return state.counters[name][0]
            case "bytes":
                return state.counters[name][1]
            case "register":
                return state.registers[name]
            case "execute":
                return state.meters[name].execute
            case "contains":
                return state.value_sets[name].contains
            case "contains_masked":
                return state.value_sets[name].contains_masked
            case "hash":
                return hashes.ALGORITHMS[name]
            case "stateful":
                return self._stateful[name]
            case "prf":
                return prf.of_words(int(name))
            case "pack":
                return struct.Struct(name).pack
            case _:
                return struct.Struct(name).unpack_from

    def log(self, text: str, values: tuple[int, ...]) -> None:
        """log_msg: kept, newest last, for whoever looks."""
        self.state.messages.append(log_text(text, values))

    def traced(self, trace: Callable[..., None]) -> Run:
        """`run` with a call of `trace(kind, ...)` at every step; same tables and state."""
        if self._traced is None:
            generated = codegen.generate(
                self.program, trace=True, drop_port=self.drop_port, queues=self.queues
            )
            self._traced = self._compile(generated, lambda *step: self._sink(*step))
        self._sink = trace
        return self._traced


def _compiled(source: str) -> CodeType:
    return compile(source, "<softswitch pipeline>", "exec")


_kept = lru_cache(maxsize=4)(_compiled)
"""Switches of one process mostly run the same program, and compiling is half of loading it."""


def _ignore(*step: Any) -> None:
    return


def gather(items: Sequence[tuple[Any, int, int]], tail: bytes) -> bytes:
    """Bytes of calculation inputs (valid?, value, bits), padded on the right, plus payload."""
    number = bits = 0
    for valid, value, width in items:
        if valid:
            number = number << width | value
            bits += width
    pad = -bits % 8
    return (number << pad).to_bytes((bits + pad) // 8, "big") + tail

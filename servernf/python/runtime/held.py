"""Frames that NFs hold back: the worker sends them when they are due, with the tag they came with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from servernf.python.network_function import Emitted
from servernf.python.runtime.tables import CompiledCall, path_text
from servernf.python.runtime.tag import Beside, Tagged
from servernf.wire.errors import InputError
from servernf.wire.state import RecordField, RecordLayout, StateRecord

_MOST_FRAME = 65_600
HELD = RecordLayout(
    "held",
    2,
    (RecordField("number", "u64"),),
    (
        RecordField("due", "age"),
        RecordField("path", "u32"),
        RecordField("label", "u32"),
        RecordField("context", "u32"),
        RecordField("entered", "bytes", 200),
        RecordField("port", "bytes", 200),
        RecordField("base", "bytes", 4),
        RecordField("words", "bytes", 16),
        RecordField("frame", "bytes", _MOST_FRAME),
    ),
)
"""By order. `path` is (SPI, SI) and `entered` the port by which the packet came to the NF; `base` and
`words` are of the tag to send."""


class _Held(NamedTuple):
    at_us: int
    number: int
    beside: Beside
    tag: Tagged


class HeldFrames:
    """What is held, by when it is due; in the order in which it came where that is the same."""

    def __init__(self) -> None:
        self._heap: list[_Held] = []
        self._count = 0

    @property
    def next_us(self) -> int | None:
        """When the next one is due."""
        return self._heap[0].at_us if self._heap else None

    def hold(self, beside: Beside, tag: Tagged) -> None:
        """Until the time that its NF says."""
        self._count += 1
        heappush(self._heap, _Held(beside[1].at_us, self._count, beside, tag))

    def due(self, now_us: int) -> Iterator[tuple[Beside, Tagged]]:
        """Those that are held no longer."""
        while self._heap and self._heap[0].at_us <= now_us:
            _, _, beside, tag = heappop(self._heap)
            yield beside, tag

    def records(self, nf: str, now_us: int) -> list[StateRecord]:
        """What is held for an instance, as it is written."""
        mine = sorted(held for held in self._heap if held.beside[0].instance.name == nf)
        return [
            StateRecord(HELD.pack_key((number,)), _packed(held, now_us))
            for number, held in enumerate(mine)
        ]

    def forget(self, nf: str) -> None:
        """Hold nothing for an instance any more."""
        self._heap = [held for held in self._heap if held.beside[0].instance.name != nf]
        heapify(self._heap)


def read_held(
    nf: str,
    records: Sequence[StateRecord],
    now_us: int,
    step_of: Callable[[int, str, str], CompiledCall | None],
) -> list[tuple[Beside, Tagged]]:
    """What another worker has held for an instance; InputError says what has no chain here.

    `step_of` answers where packets of a path enter an instance by a port.
    """
    held: list[tuple[Beside, Tagged]] = []
    problems: list[str] = []
    for number, record in enumerate(records):
        due, path, label, context, entered, port, base, words, frame = HELD.unpack(record.body)
        assert isinstance(due, int)
        assert isinstance(path, int)
        assert isinstance(label, int)
        assert isinstance(context, int)
        names = [
            raw.decode("utf-8", "replace") for raw in (entered, port) if isinstance(raw, bytes)
        ]
        parts = [raw for raw in (base, words, frame) if isinstance(raw, bytes)]
        step = step_of(path, nf, names[0])
        if step is None or len(parts[0]) != 4 or len(parts[1]) != 16:
            problems.append(
                f"state of {nf}: held[{number}]: no chain of {path_text(path)} enters by '{names[0]}'"
            )
            continue
        emitted = Emitted(names[1], parts[2], now_us - due)
        held.append(((step, emitted, context), Tagged(parts[0], parts[1], path, label)))
    if problems:
        raise InputError(problems)
    return held


def _packed(held: _Held, now_us: int) -> bytes:
    step, emitted, context = held.beside
    tag = held.tag
    return HELD.pack(
        (
            now_us - held.at_us,
            tag.path,
            tag.label,
            context,
            step.port.encode(),
            emitted.port.encode(),
            tag.base,
            tag.words,
            emitted.frame,
        )
    )

"""What NFs do with frames: for each one a configuration, and steps of a frame in and frames out.

Whoever has an oracle makes more of them (`judged`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

INSIDE, OUTSIDE = "inside", "outside"
Judge = Callable[[bytes], str]
"""What is wrong with a frame that may be one of several; "": nothing."""
Out = tuple[str, bytes | Judge]
Sent = tuple[str, bytes]
"""(port entered, frame)."""
Oracle = Callable[[str, Mapping[str, Any], Sequence[Sent]], Sequence[Sequence[tuple[str, bytes]]]]
"""(NF type, configuration, what is sent) -> what leaves for each, in order."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A frame that enters a port, and what leaves for it, in order; NF context labels beside it."""

    port: str
    frame: bytes
    out: tuple[Out, ...]
    label: int = 0
    label_out: int = 0


@dataclass(frozen=True, slots=True)
class Vector:
    """One NF instance's life. `files` (name -> text) lie in a folder that "{folder}" stands for."""

    nf: str
    why: str
    config: Mapping[str, Any]
    steps: tuple[Exchange, ...]
    ports: tuple[str, ...] = (INSIDE, OUTSIDE)
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    metrics: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of the NF's own indicators, those that the steps leave."""

    @property
    def name(self) -> str:
        """`napt: a mapping both ways`."""
        return f"{self.nf}: {self.why}"


def passes(
    port: str, frame: bytes, changed: bytes | Judge | None = None, **labels: int
) -> Exchange:
    """A frame that leaves by the other port, as it is or changed."""
    other = OUTSIDE if port == INSIDE else INSIDE
    return Exchange(port, frame, ((other, frame if changed is None else changed),), **labels)


def dropped(port: str, frame: bytes, **labels: int) -> Exchange:
    """A frame that nothing leaves for."""
    return Exchange(port, frame, (), **labels)


def judged(
    nf: str,
    config: Mapping[str, Any],
    sent: Sequence[Sent],
    oracle: Oracle,
    ports: tuple[str, ...] = (INSIDE, OUTSIDE),
) -> Vector:
    """A vector whose answers are an oracle's."""
    answers = oracle(nf, config, sent)
    steps = (Exchange(p, f, tuple(out)) for (p, f), out in zip(sent, answers, strict=True))
    return Vector(nf, "as its oracle", config, tuple(steps), ports)

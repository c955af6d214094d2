"""Which packets of a graph a witness watches: keys in epochs, and how much of a packet is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from servernf.wire.prf import flow_witnessed, witnessed

MOST_EPOCHS = 8
MOST_HEADERS = 1 << 16


@dataclass(frozen=True, slots=True)
class Epoch:
    """A key of a time: packets with PRF(key, label, time of ingress) < threshold are watched, and all
    packets of flows with PRF(key, flow) < flows.

    What is secret is in no `repr`, so it stays out of logs.
    """

    number: int
    key0: int = field(repr=False)
    key1: int = field(repr=False)
    threshold: int = field(repr=False)
    flows: int = field(default=0, repr=False)

    def watches(self, label: int, ingress_us: int, flow: int) -> bool:
        """Whether a packet is watched."""
        return witnessed(self.key0, self.key1, label, ingress_us, self.threshold) or (
            flow_witnessed(self.key0, self.key1, flow, self.flows)
        )


@dataclass(frozen=True, slots=True)
class Witness:
    """The epochs that are valid now (two while one follows the other), by number, how many bytes of a
    frame a record has (0: all), and whether it has the state that the packet met."""

    epochs: tuple[Epoch, ...]
    headers: int = 0
    state: bool = False

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        numbers = [epoch.number for epoch in self.epochs]
        if not 1 <= len(numbers) <= MOST_EPOCHS:
            yield f"witness.epochs: {len(numbers)}; 1 to {MOST_EPOCHS} are expected"
        if sorted(set(numbers)) != numbers:
            yield "witness.epochs: must be in the order of their numbers, each once"
        for at, epoch in enumerate(self.epochs):
            for name in ("threshold", "flows"):
                if not 0 <= getattr(epoch, name) <= 1 << 32:
                    yield f"witness.epochs[{at}].{name}: must be 0 to 2^32 (the rate times 2^32)"
            if not 1 <= epoch.number < 1 << 32:
                yield f"witness.epochs[{at}].number: must be 1 to 2^32 - 1"
        if not 0 <= self.headers <= MOST_HEADERS:
            yield f"witness.headers: must be 0 (whole frames) to {MOST_HEADERS} bytes"

"""One direction of a link: how long a frame takes, and what happens to it on the way."""

from __future__ import annotations

import random
from dataclasses import dataclass

from orchestrator.errors import InputError


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of frames (0 to 1) that a link loses, and that it holds back so that later ones overtake.

    One that is held back comes 1 to `reorder_us` later than it would.
    """

    loss: float = 0.0
    reorder: float = 0.0
    reorder_us: int = 1000

    def __post_init__(self) -> None:
        for name, share in (("loss", self.loss), ("reorder", self.reorder)):
            if not 0 <= share <= 1:
                raise InputError(f"faults of a link: {name} {share}: a share of 0 to 1 is expected")
        if self.reorder_us < 1:
            raise InputError(
                f"faults of a link: reorder_us {self.reorder_us}: 1 or more is expected"
            )


class Wire:
    """From `near` to `far`, where it ends at a port: frames leave one after the other.

    `capacity` in bit/s; 0: a frame takes no time to send. What waits for the wire waits as long as it
    must. `seed` decides which faults happen, whatever other wires carry.
    """

    __slots__ = (
        "_bits", "_faults", "_free_ns", "_latency_ns", "_random", "at_once", "far", "far_port", "near",
    )  # fmt: skip

    def __init__(
        self, near: str, far: str, far_port: int, *, latency_us: int, capacity: int, seed: int
    ) -> None:
        self.near, self.far, self.far_port = near, far, far_port
        self._latency_ns = latency_us * 1000
        self._bits = capacity
        self._free_ns = 0
        """When the frame that was given to it last has left."""
        self._random = random.Random(f"{seed} {near} {far} {far_port}")
        self._faults: Faults | None = None
        self.at_once = False
        """Whether what is given to it is at its end then."""
        self.set_faults(None)

    def set_faults(self, faults: Faults | None) -> None:
        """What happens to frames from now on."""
        self._faults = faults
        self.at_once = not self._bits and not self._latency_ns and faults is None

    def arrival_ns(self, now_ns: int, size: int) -> int | None:
        """When a frame of `size` bytes that is given to it now arrives; None: it is lost."""
        leaves = now_ns
        if self._bits:
            leaves = max(now_ns, self._free_ns) + -(-size * 8_000_000_000 // self._bits)
            self._free_ns = leaves
        arrives = leaves + self._latency_ns
        if self._faults is not None:
            if self._random.random() < self._faults.loss:
                return None
            if self._random.random() < self._faults.reorder:
                arrives += 1000 * self._random.randint(1, self._faults.reorder_us)
        return arrives

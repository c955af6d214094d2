"""Variants of moving state, and how they compare (the southbound paper, 4.2: ordinal measures)."""

from __future__ import annotations

from typing import Final, NamedTuple

from servernf.wire.errors import InputError, unknown

ORDER_PRESERVING: Final = "order_preserving"
LOSS_FREE: Final = "loss_free"
FORWARD: Final = "forward"
STOP_COPY: Final = "stop_copy"


class Measures(NamedTuple):
    """More is better, of resources it is more; they order the variants of an operation, no more."""

    performance: int
    accuracy: int
    resources: int


VARIANTS: Final = {
    "transfer": {
        # Packets wait from the switches' change until the last ones in transit are known to have come.
        ORDER_PRESERVING: Measures(3, 3, 2),
        # Until it is unlikely that more come.
        LOSS_FREE: Measures(2, 2, 2),
        # None waits, but each takes the way by the source; those in transit may come behind them.
        FORWARD: Measures(4, 1, 3),
        # All state is written while packets wait.
        STOP_COPY: Measures(1, 3, 1),
    },
    "replicate": dict[str, Measures](),
}


def check_variant(operation: str, variant: str) -> None:
    """InputError when an operation has no such variant."""
    known = VARIANTS[operation]
    if variant not in known:
        raise InputError(f"variant: {unknown('variant', variant, sorted(known))}")

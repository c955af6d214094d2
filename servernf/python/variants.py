"""Variants of moving and doubling state, and how they compare (southbound paper, 4.2: ordinal)."""

from __future__ import annotations

from typing import Final, NamedTuple

from servernf.wire.errors import InputError, unknown
from servernf.wire.variants import (
    FORWARD,
    LOSS_FREE,
    ON_SYN_FIN,
    ORDER_PRESERVING,
    PER_N,
    PER_PACKET,
    PERIODIC,
    STOP_COPY,
)


class Measures(NamedTuple):
    """More is better, of resources it is more; they order the variants of an operation, no more.

    Of `replicate`: how short packets wait, how little is lost with the primary, how much is sent."""

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
    "replicate": {
        # No packet leaves before the standby has what it has changed.
        PER_PACKET: Measures(1, 4, 3),
        # Packets wait only while more than n are not told of.
        PER_N: Measures(2, 2, 3),
        # Packets that open or close something wait, the others do not; they are told of by time.
        ON_SYN_FIN: Measures(3, 3, 2),
        # None waits, and what has changed is sent some times a second.
        PERIODIC: Measures(4, 1, 1),
    },
}


def check_variant(operation: str, variant: str) -> None:
    """InputError when an operation has no such variant."""
    variants = VARIANTS[operation]
    if variant not in variants:
        raise InputError(f"variant: {unknown('variant', variant, sorted(variants))}")

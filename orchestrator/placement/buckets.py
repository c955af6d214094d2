"""Buckets of a group's state: what of the hash goes to a core, and from core to core, as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.model.plan import HashSlice
from orchestrator.nfs.base import Functions
from servernf.wire.buckets import BUCKETS, HASH_BITS

_FOR_EACH_CORE = 4
"""A group has so many buckets for each of its cores, if that is more than 64."""


def group_buckets(functions: Functions, nfs: Iterable[str], cores: int) -> int:
    """How many buckets a group's state is divided into: a power of two."""
    pools = [buckets for nf in nfs if (buckets := functions[nf].pool_buckets(cores)) is not None]
    return min(pools, default=max(BUCKETS, _FOR_EACH_CORE << (cores - 1).bit_length()))


def with_pools(functions: Functions) -> frozenset[str]:
    """NFs that answer for a pool, which is dealt to buckets."""
    return frozenset(
        nf for nf, function in functions.items() if function.pool_buckets(1) is not None
    )


def whole_buckets(slices: Iterable[HashSlice], buckets: int) -> list[HashSlice]:
    """Slices that cover the hash, with bounds between buckets."""
    unit = (1 << HASH_BITS) // buckets
    rounded = (
        replace(s, low=round(s.low / unit) * unit, high=round(s.high / unit) * unit) for s in slices
    )
    return sorted((s for s in rounded if s.low < s.high), key=lambda s: s.low)

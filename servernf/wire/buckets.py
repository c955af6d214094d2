"""Buckets: shares of the hash over the address that all state of a group of NFs has in common.

A switch dispatches by the same hash (p4src/blocks/dispatch.p4): CRC-16/ARC over the 128 bits of an
address (IPv4: zeros in front), or of both, exclusively or-ed. A bucket is the hash's first bits: one
prefix there, and what moves from core to core.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

HASH_BITS: Final = 16
BUCKET_BITS: Final = 6
BUCKETS: Final = 1 << BUCKET_BITS
"""Of a group; a pool of few ports has fewer (`pool_buckets`)."""
MOST_BUCKETS: Final = 1 << 10
MOST_SPACES: Final = 64
"""Flow spaces that are elsewhere than the rest of their buckets, of a group; and that a worker moves."""
KEYS: Final = ("inside_address", "outside_address", "pair")
"""What a group's buckets may be a hash of."""
_ADDRESS_BYTES: Final = 16
_LEAST_PORTS: Final = 64
"""Of a bucket's share of a pool; smaller pools are dealt to fewer buckets."""
_POLYNOMIAL: Final = 0xA001  # 0x8005 reflected


def _row(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_ROWS: Final = tuple(map(_row, range(256)))


def crc16(data: bytes) -> int:
    """CRC-16/ARC."""
    value = 0
    for byte in data:
        value = value >> 8 ^ _ROWS[(value ^ byte) & 0xFF]
    return value


@lru_cache(1 << 16)
def hash_of(chosen: int) -> int:
    """The hash of an address, or of two exclusively or-ed."""
    return crc16(chosen.to_bytes(_ADDRESS_BYTES, "big"))


def bucket_of(chosen: int, buckets: int = BUCKETS) -> int:
    """The bucket of an address, or of two exclusively or-ed; `buckets` is a power of two."""
    return hash_of(chosen) * buckets >> HASH_BITS


def pool_buckets(ports: int, replicas: int = 1) -> int:
    """To how many buckets a pool of so many ports an address is dealt, a power of two: 64, fewer where a
    bucket would have less than 64 ports, more where many replicas need them."""
    wanted = min(BUCKETS, 1 << max(0, (ports // _LEAST_PORTS).bit_length() - 1))
    needed = 1 << (replicas - 1).bit_length()
    most = 1 << max(0, ports.bit_length() - 1)
    return min(max(wanted, needed if replicas <= BUCKETS // 4 else 4 * needed), most)


def bucket_ports(low: int, high: int, first: int, last: int, buckets: int) -> tuple[int, int]:
    """The ports, lowest and highest, that buckets `first` to `last` have of a pool's `low` to `high`."""
    span = high - low + 1
    return low + span * first // buckets, low + span * (last + 1) // buckets - 1

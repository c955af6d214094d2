"""What a table of so many entries takes of a stage: memory, crossbar, hash.

After p4lang/p4c, backends/tofino: `mau/table_format.h` (the layout of a row), `mau/table_layout.cpp`
(ways and packing), `mau/resource_estimate.cpp` (entries a word, units that count and meter),
`mau/tofino/memories.h` (ternary tables, what a unit reaches), `specs/mau_spec.h` (a stage).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import ceil

from orchestrator.fitting.steps import Step
from orchestrator.softswitch.ir.program import Key, Lookup, lookup_of
from orchestrator.targets.chip import SRAM_BITS, SRAM_ROWS, TCAM_BITS, TCAM_ROWS, StageUse

WAYS = 4
"""Of an exact table: the hashes under which an entry may lie."""
MOST_IN_ROW = 5
VERSION_BITS = 4
GHOST_BITS = 10
"""Of an exact key: they are where the entry lies, so they need not be kept."""
IMMEDIATE_BITS = 32
"""Parameters up to these are kept with the entry; larger ones in a memory of their own."""
POINTER_BITS = 19
NEXT_BITS = 4
"""Which action, and which table comes next."""
HASH_BITS = 52
"""Of a hash group: the addresses of the ways."""
INDEX_BITS = 10
GATEWAY_BITS = 44
"""That one gateway looks at: four bytes, twelve bits by way of the hash."""
COUNTERS_IN_ROW = 1
"""Packets and bytes: 64 bits each."""
COUNTER_BLOCKS, METER_BLOCKS = 18, 24
"""That one unit reaches (`mau/tofino/memories.h`)."""


@lru_cache(maxsize=1 << 14)
def part(step: Step, entries: int) -> StageUse:
    """What so many of a step's entries take, as where a table is spread over stages."""
    if step.asks is not None:
        return StageUse(gateways=max(1, ceil(step.asked_bits / GATEWAY_BITS)))
    if not step.keys or not entries:
        bits = sum(w.hash_bits for way in step.ways for w in way.writes)
        return StageUse(logical_tables=1, hash_bits=min(bits, HASH_BITS))
    use = _exact(step, entries) if exact(step) else _ternary(step, entries)
    return use + StageUse(logical_tables=1) + _beside(step, entries)


def _exact(step: Step, entries: int) -> StageUse:
    key = _bits(step.keys)
    entry = max(1, key - GHOST_BITS) + VERSION_BITS + _overhead(step)
    ways = _ways(key)
    blocks, rams = min(
        (max(ways, rams) * width, rams)
        for per_row, width in _packings(entry)
        for rams in [ceil(entries / (SRAM_ROWS * per_row))]
    )
    hashed = min(HASH_BITS, INDEX_BITS * ways + max(0, (ceil(rams / ways) - 1).bit_length()) * ways)
    return StageUse(sram=blocks, exact_bytes=_bytes(step.keys), hash_bits=hashed)


def _ternary(step: Step, entries: int) -> StageUse:
    key = 8 * _bytes(step.keys)  # keys come by bytes, each of one field
    wide = ceil((key + VERSION_BITS) / TCAM_BITS)
    tcam = wide * ceil(entries / TCAM_ROWS)
    overhead = 1 << max(3, (_overhead(step) - 1).bit_length())
    indirect = ceil(entries / (SRAM_ROWS * (SRAM_BITS // min(64, overhead))))
    return StageUse(sram=indirect, tcam=tcam, ternary_bytes=_bytes(step.keys), ternary_tables=1)


def _ways(key_bits: int) -> int:
    return WAYS if key_bits > INDEX_BITS else 1


def _packings(entry_bits: int) -> list[tuple[int, int]]:
    """(entries, rows side by side): several rows together may hold one entry more, or a wide one."""
    choices = [(min(MOST_IN_ROW, SRAM_BITS * width // entry_bits), width) for width in range(1, 9)]
    return [(count, width) for count, width in choices if count] or [(1, 8)]


def _overhead(step: Step) -> int:
    """Bits beside the key that an entry has with it."""
    bits = NEXT_BITS
    data = _data_bits(step)
    bits += data if data <= IMMEDIATE_BITS else POINTER_BITS
    return bits + (POINTER_BITS if step.counted and not exact(step) else 0)


def _beside(step: Step, entries: int) -> StageUse:
    """Of parameters, counters and meters; the latter two with a spare block for each unit's bank.

    Each place where an entry may lie has one of each: a small hashed table as many as its ways have
    rows.
    """
    use = StageUse()
    if exact(step):
        ways = _ways(_bits(step.keys))
        entries = max(entries, ways * SRAM_ROWS) if ways > 1 else entries
    data = _data_bits(step)
    if data > IMMEDIATE_BITS:
        size = 1 << max(3, (data - 1).bit_length())
        use += StageUse(sram=ceil(entries / (SRAM_ROWS * (SRAM_BITS / size))))
    if step.counted:
        blocks = ceil(entries / (SRAM_ROWS * COUNTERS_IN_ROW))
        units = ceil(blocks / (COUNTER_BLOCKS - 1))
        use += StageUse(sram=blocks + units, map_ram=blocks + units, counters=units)
    if step.metered:
        blocks = ceil(entries / SRAM_ROWS)
        units = ceil(blocks / (METER_BLOCKS - 1))
        use += StageUse(sram=blocks + units, map_ram=blocks + units, meters=units)
    return use


def _data_bits(step: Step) -> int:
    return max((way.data_bits for way in step.ways), default=0)


def exact(step: Step) -> bool:
    """Whether a table is hashed into SRAM; any other stands in TCAM."""
    return lookup_of(step.keys) is Lookup.EXACT


def key_bytes(key: Key) -> int:
    """Of a crossbar."""
    return ceil(key.width / 8)


def _bits(keys: Iterable[Key]) -> int:
    return sum(key.width for key in keys)


def _bytes(keys: Iterable[Key]) -> int:
    return sum(map(key_bytes, keys))

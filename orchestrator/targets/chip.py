"""Switch chips with match-action stages (RMT: Bosshart et al., SIGCOMM 2013), as they are counted.

Every stage has the same of everything; ingress and egress share the stages. What a pipeline takes of
a chip is worked out in orchestrator/fitting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

SRAM_ROWS, SRAM_BITS = 1024, 128
TCAM_ROWS, TCAM_BITS = 512, 44
"""Of one block of memory."""


@dataclass(frozen=True, slots=True)
class StageUse:
    """What is taken of a stage, or what one has. `*_bytes` are of the crossbars of keys; `counters` and
    `meters` the units that count and meter, one for a table."""

    logical_tables: int = 0
    gateways: int = 0
    sram: int = 0
    tcam: int = 0
    map_ram: int = 0
    exact_bytes: int = 0
    ternary_bytes: int = 0
    hash_bits: int = 0
    ternary_tables: int = 0
    counters: int = 0
    meters: int = 0

    def __add__(self, other: StageUse) -> StageUse:
        return StageUse(
            *(mine + its for mine, its in zip(self.values(), other.values(), strict=True))
        )

    def values(self) -> Iterator[int]:
        """The counts, in the order of the fields."""
        return (getattr(self, name) for name in RESOURCES)

    def beyond(self, most: StageUse) -> tuple[str, ...]:
        """The resources of which this is more than there are."""
        pairs = zip(RESOURCES, self.values(), most.values(), strict=True)
        return tuple(name for name, mine, limit in pairs if mine > limit)


RESOURCES = tuple(one.name for one in fields(StageUse))


@dataclass(frozen=True, slots=True)
class Chip:
    """A pipe of a chip. Memories are counted in blocks (`SRAM_ROWS`, `TCAM_ROWS`). `phv_bits` are
    those of the containers that stages see; packet headers that no stage touches may lie elsewhere.

    `elsewhere` are fields that its parser or deparser makes, so that no stage does; `known` are those
    that always have one value there. `sizes` are entries of tables that every pipeline has, where they
    are made smaller on it (0: the table is left out). `lacks` are NF blocks that it cannot execute.
    """

    title: str
    stages: int
    phv_bits: int
    elsewhere: frozenset[tuple[str, str]] = frozenset()
    known: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    lacks: frozenset[str] = frozenset()
    stage: StageUse = StageUse(
        logical_tables=16,
        gateways=16,
        sram=80,
        tcam=24,
        map_ram=48,
        exact_bytes=128,
        ternary_bytes=66,
        hash_bits=416,
        ternary_tables=8,
        counters=4,
        meters=4,
    )

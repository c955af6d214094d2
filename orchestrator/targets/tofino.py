"""Tofino: what its stages hold, and what the forms of a filter take of them, as estimates.

Stages: p4lang/p4c, backends/tofino, `specs/mau_spec.h`, `specs/device.h`, `specs/phv_spec.cpp`.
Every form runs at line rate; what counts are the stages that it takes from the other blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

from orchestrator.targets.chip import SRAM_BITS, SRAM_ROWS, TCAM_BITS, TCAM_ROWS, Chip
from orchestrator.targets.costs import FilterCosts
from orchestrator.targets.target import Cloning, ReservedPorts, Target, target

_STAGE = Chip("any", 0, 0).stage

ACL_KEY_BITS = 24 + 32 + 32 + 8 + 3 + 16 + 16 + 8
"""Segment, addresses, protocol, L4 kind, ports, TCP flags (p4src/blocks/acl.p4)."""
LEVEL_KEY_BITS = 24 + 32 + 32
"""Segment, node, word (p4src/blocks/tree.p4)."""
_ACTION_BITS = 64
_PIVOT_SHARE = 32
"""Algorithmic LPM keeps one entry of so many in TCAM and the others in SRAM (Open-Tofino, ALPM)."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Blocks of memory, and stages that a chain of dependent tables takes at least."""

    tcam_blocks: int
    sram_blocks: int
    stages: int


def ternary(entries: int, key_bits: int = ACL_KEY_BITS) -> Resources:
    """One ternary table; its actions are in SRAM."""
    tcam = ceil(entries / TCAM_ROWS) * ceil(key_bits / TCAM_BITS)
    sram = _sram(entries, _ACTION_BITS)
    return Resources(tcam, sram, max(ceil(tcam / _STAGE.tcam), ceil(sram / _STAGE.sram)))


def tree(levels: int, branches: int) -> Resources:
    """LPM tables of which each needs the one before, the exact table of roots, and the verdict."""
    pivots = ternary(ceil(branches / _PIVOT_SHARE), LEVEL_KEY_BITS)
    sram = pivots.sram_blocks + _sram(branches, LEVEL_KEY_BITS + _ACTION_BITS)
    memory = max(ceil(pivots.tcam_blocks / _STAGE.tcam), ceil(sram / _STAGE.sram))
    return Resources(pivots.tcam_blocks, sram, max(levels + 2, memory + 2))


def _sram(entries: int, bits: int) -> int:
    return ceil(ceil(entries * bits / SRAM_BITS) / SRAM_ROWS)


@dataclass(frozen=True, slots=True)
class TofinoCosts:
    """Stages that a filter takes; a range costs a ternary entry for each of its prefixes."""

    ranges: bool = False
    least_gain: float = 0.5

    def plain(self, entries: int) -> float:
        return ternary(entries).stages

    def decided(self, levels: int, branches: int, weighed: int) -> float:
        return tree(levels, branches).stages + ternary(weighed + 1).stages - 1


ELSEWHERE = frozenset(
    {
        # The deparser's checksum units.
        ("ipv4", "hdr_checksum"),
        ("tcp", "checksum"),
        ("udp", "checksum"),
        ("icmp", "checksum"),
        ("quoted_ipv4", "hdr_checksum"),
        ("quoted_l4", "dst_port"),
        ("quoted_l4", "sequence"),
        ("tunnel", "ip_checksum"),
        # The parser has port and time in front of the frame.
        ("scalars", "metadata_t.arrival_port"),
        ("scalars", "metadata_t.arrival_us"),
    }
)
KNOWN = {("standard_metadata", "parser_error"): 0}
"""The parser drops what is malformed."""
SIZES = {
    "neighbor.arp": 512,
    "neighbor.nd": 512,
    "neighbor.echo_ipv4": 512,
    "neighbor.echo_ipv6": 512,
    "classify.ipv4": 512,
    "classify.ipv6": 512,
    "classify.first_ipv4": 512,
    "classify.first_ipv6": 512,
    "classify.sources_ipv4": 512,
    "classify.sources_ipv6": 512,
    "flowtag_arrival.paths": 2048,
    "flowtag_arrival.origins": 2048,
    "dispatch.owner": 1024,
    "dispatch.classes": 512,
    "dispatch.next": 4096,
    "deliver.mac": 2048,
    "deliver.ipv4": 2048,
    "deliver.ipv6": 1024,
    "fabric.devices": 2048,
    # HalfSipHash's eight rounds are some fifty stages: no trajectory samples, no records.
    "trajectory_sample.manifests": 0,
    "witness.epochs": 0,
    "record.collectors": 0,
}
"""Each in one stage, so that the blocks that every pipeline has leave room for others."""


LACKS = frozenset({"hash_lb", "tunnel"})
"""No unit takes a hash modulo 251; a frame's length is known behind the replication engine only."""


@target("tofino")
class Tofino(Target):
    """It can be planned for; no TNA build is shipped yet, so v1model's blocks are assumed."""

    architecture: ClassVar[str] = "tna"
    assumed: ClassVar[str] = "v1model"
    # Open-Tofino: pipe 0's CPU port over Ethernet.
    ports: ClassVar[ReservedPorts] = ReservedPorts(cpu=64)
    cloning: ClassVar[Cloning] = Cloning(session=100, copies=(1, 2, 3, 4))
    costs: ClassVar[FilterCosts] = TofinoCosts()
    chip: ClassVar[Chip | None] = Chip("Tofino", 12, 4096, ELSEWHERE, KNOWN, SIZES, LACKS)

"""The shipped pipeline `edge`: its instances of the blocks in order, and how large they are.

p4src/build.py writes it into p4src/pipelines/edge.p4; how blocks are applied is in targets/block.py.
"""

from __future__ import annotations

from orchestrator.model.builds import Slot
from orchestrator.targets.block import TREE_LEVELS, TREE_ROOTS, Text, nf_blocks

EDGE = "edge"
EDGE_SLOTS = (
    Slot("acl", "acl"),
    Slot("steer", "acl"),
    Slot("mirror", "mirror"),
    Slot("policer", "policer"),
    Slot("mark", "mark"),
    Slot("hash_lb", "hash_lb"),
    Slot("untag", "vlan"),
    Slot("split", "acl"),
    Slot("rewrite", "rewrite"),
    Slot("route", "route"),
    Slot("tag", "vlan"),
    Slot("tunnel", "tunnel"),
)
"""The blocks between steer and split look at the packet as the filters before them left it."""

_LEVELS = (16_384, 131_072, 131_072, 65_536, 65_536)
EDGE_SIZES = {
    "acl.ipv4": 16_384,
    "acl.ipv6": 8_192,
    "acl.other": 1_024,
    f"acl.{TREE_ROOTS}": 1_024,  # as tree.p4 has it
    **{f"acl.{level}": size for level, size in zip(TREE_LEVELS, _LEVELS, strict=True)},
    "steer.ipv4": 4_096,
    "steer.ipv6": 4_096,
    "steer.other": 1_024,
    "split.ipv4": 4_096,
    "split.ipv6": 4_096,
    "split.other": 1_024,
    "route.ipv4": 1_048_576,
    "route.ipv6": 262_144,
    "route.segments_routed": 1_024,
}
"""Entries of the tables whose sizes are the blocks' parameters."""


def edge_text() -> Text:
    """The NF blocks of p4src/pipelines/edge.p4."""
    return nf_blocks(EDGE_SLOTS, EDGE_SIZES)

"""What entries refer to: by name until they are linked, by number (`Node`) from then on.

Lowering says `SegmentRef("leaf1", "fw.inside.rules")`; the linker gives the number, beside those that
the version which runs has. Which key or parameter refers to what is said in P4 (targets/references.py).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from orchestrator.model import ids

SEGMENT, TREE, GROUP, PATH, ROOT = "segment", "tree", "group", "path", "root"
"""Kinds of nodes."""


class Role(Enum):
    """What a key or parameter refers to; the values are those of the annotations in p4src/blocks."""

    GRAPH = "graph"
    SEGMENT = "segment"
    TREE_NODE = "tree_node"
    """Of the decision tree of the entry's own segment."""
    GROUP = "group"
    PATH = "path"
    """The SPI: with POSITION it names a node."""
    POSITION = "position"
    """The SI."""
    EPOCH = "epoch"
    """A version of the graph: the root of all that its frames meet at this switch."""
    TRAFFIC_CLASS = "traffic_class"
    """A label in the tag, by which no table decides."""
    HOST_PORT = "host_port"
    """A port of the switch, with a host of the graph behind it."""
    SERVER_PORT = "server_port"
    """A port of the switch, with a server behind it."""
    DEVICE = "device"
    """The MAC of a switch, or of a core that works for the graph."""
    HOST = "host"
    """The MAC of a host of the graph."""
    GATEWAY = "gateway"
    """The one MAC of every gateway."""
    VALUE = ""
    """Nothing: it is of packets, or counts within the entry's own segment, path or group."""


LAYOUTS = {
    Role.GRAPH: ids.GRAPH,
    Role.SEGMENT: ids.SEGMENT,
    Role.GROUP: ids.GROUP,
    Role.PATH: ids.PATH,
}
"""Of the numbers that say which graph they belong to, by role."""


class SegmentRef(NamedTuple):
    """A segment of the entry's own switch. `gated`: its packets come to gated blocks."""

    name: str
    gated: bool = False


class TreeRef(NamedTuple):
    """A node of a segment's decision tree, by the id that its diagram gave it (model/decision.py)."""

    segment: SegmentRef
    node: int


class GroupRef(NamedTuple):
    """A multicast group of the entry's own switch."""

    name: str


class PathRef(NamedTuple):
    """A position on a service path, which is named after the unit that is entered first."""

    path: str
    si: int


class RootRef(NamedTuple):
    """The graph, and its version: the first segments of its frames at the entry's own switch."""


class ClassRef(NamedTuple):
    """A traffic class of the entry's own."""


Ref = SegmentRef | TreeRef | GroupRef | PathRef | RootRef | ClassRef
REFS = frozenset({SegmentRef, TreeRef, GroupRef, PathRef, RootRef, ClassRef})


class Node(NamedTuple):
    """What entries belong to and refer to, by its number: a node of a bundle (linker/nodes.py).

    `number`: a segment; a tree's node (`segment << 32 | id`); a multicast group; a root's epoch; SPI and
    SI (`spi << 8 | si`, no `switch`).
    """

    kind: str
    switch: str
    number: int


def path_node(spi: int, si: int) -> Node:
    """The node of a service path's position."""
    return Node(PATH, "", ids.PathPosition(spi, si).number)


def tree_node(switch: str, segment: int, number: int) -> Node:
    """A node of a segment's decision tree."""
    return Node(TREE, switch, ids.TreeNode(segment, number).number)


def segment_of(node: Node) -> Node:
    """The segment that a node of a tree belongs to; a segment itself."""
    if node.kind != TREE:
        return node
    return Node(SEGMENT, node.switch, ids.tree_node(node.number).segment)


def numbers_of(node: Node, graph_id: int) -> dict[Role, int]:
    """What the keys or parameters that name a node hold, by role."""
    match node.kind:
        case "tree":
            segment, inner = ids.tree_node(node.number)
            return {Role.SEGMENT: segment, Role.TREE_NODE: inner}
        case "path":
            spi, si = ids.hop(node.number)
            return {Role.PATH: spi, Role.POSITION: si}
        case "root":
            return {Role.GRAPH: graph_id, Role.EPOCH: node.number}
        case "group":
            return {Role.GROUP: node.number}
        case _:
            return {Role.SEGMENT: node.number}

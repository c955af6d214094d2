"""What an architecture adds to P4: its controls, what it knows of a packet, its externs, and what
happens to a packet between and behind its controls.

An `Architecture` is a value: readers of programs (`ir`) check against it, code generators and the
tracer ask it. Another architecture is another file beside `v1model`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Operand = Literal[
    "lvalue",
    "value",
    "header",
    "stack",
    "any stack",
    "union",
    "union stack",
    "varbit",
    "const",
    "text",
    "values",
    "calculation",
    "counter",
    "register",
    "meter",
]
"""What a parameter of a primitive is."""


class PacketOrigin(Enum):
    """Where a packet comes from that enters a control; the text is for those who read traces."""

    PORT = "port"
    INGRESS_CLONE = "ingress clone"
    EGRESS_CLONE = "egress clone"
    RECIRCULATION = "recirculation"
    MULTICAST = "multicast"
    RESUBMISSION = "resubmission"


class TrafficStep(Enum):
    """What is looked at behind a control or the deparser."""

    CLONE = "clone"
    """Copies by a clone session, with the metadata of a field list."""
    DIGEST = "digest"
    RESUBMIT = "resubmit"
    """The packet as it came in enters ingress again; nothing else happens to it."""
    MULTICAST = "multicast"
    """A copy for each replica of a group, instead of the packet itself."""
    FORWARD = "forward"
    """On to what comes next, unless it is to be dropped."""
    RECIRCULATE = "recirculate"
    """The packet as it leaves the deparser enters ingress again."""
    SEND = "send"


@dataclass(frozen=True, slots=True)
class Control:
    """A match-action control by its name in the program, and what is looked at behind it, in order."""

    name: str
    after: tuple[TrafficStep, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata through which program and switch speak."""

    header: str
    required: tuple[str, ...]
    """Fields without which a program is none of this architecture."""
    intrinsic: tuple[str, ...]
    """Fields that the switch itself reads or writes for every packet, used by the program or not."""
    elsewhere: Mapping[str, str]
    """Field -> the header in which older programs have it instead."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A packet passes the parser and `ingress` once, then `egress` and the deparser once a copy."""

    name: str
    parser: str
    deparser: str
    ingress: Control
    egress: Control
    behind_deparser: tuple[TrafficStep, ...]
    asked_by: Mapping[TrafficStep, frozenset[str]]
    """The externs by which a program asks for a step; the others are taken unasked."""
    instance_types: Mapping[PacketOrigin, int]
    """Where a packet comes from, as the program reads it."""
    metadata: Metadata
    externs: Mapping[str, tuple[Operand, ...]]
    """Primitives beside the language's own, and what their parameters are."""
    match_kinds: tuple[str, ...]
    algorithms: frozenset[str]
    """Checksums and hashes."""

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls in the order in which a packet passes them."""
        return self.ingress.name, self.egress.name

    def may_take(self, step: TrafficStep, primitives: Set[str]) -> bool:
        """Whether a program with these primitives can come to a step, wherever that is taken."""
        if step not in (*self.ingress.after, *self.egress.after, *self.behind_deparser):
            return False
        return step not in self.asked_by or bool(self.asked_by[step] & primitives)

"""The pipelines that come with the package: compiled by p4c, checked in, ready to load.

Those that were made for a network (targets.specialised), or came in a bundle, are known by name, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from finsy.proto import p4i
from google.protobuf import text_format

from orchestrator.errors import InputError, unknown
from orchestrator.model.builds import Slot
from orchestrator.resources import shipped
from orchestrator.targets.edge import EDGE_SLOTS
from orchestrator.targets.pipeline import Pipeline

_ARCHITECTURE = {"bmv2": "v1model", "softswitch": "v1model", "auto": "v1model"}
SPECIALISED = "specialised"
"""Such pipelines are called `specialised-<digest>`."""
_SLOTS = {"edge": EDGE_SLOTS}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loadable pipeline: P4Info text and device config; `cookie` is a digest of both."""

    name: str
    p4info_text: bytes
    device_config: bytes

    @property
    def cookie(self) -> int:
        """Tells whether a switch runs this very pipeline (P4Runtime, 7.2)."""
        digest = hashlib.sha256(self.p4info_text + b"\0" + self.device_config).digest()
        return int.from_bytes(digest[:8], "big")

    def p4info(self) -> p4i.P4Info:
        """The parsed P4Info."""
        return text_format.Parse(self.p4info_text, p4i.P4Info())


_registered: dict[str, tuple[Artifact, tuple[Slot, ...]]] = {}


def register(made: Artifact, slots: tuple[Slot, ...]) -> None:
    """Make a pipeline known by its name, which contains a digest of it."""
    _registered[made.name] = (made, slots)


def is_known(made: Artifact, slots: tuple[Slot, ...]) -> bool:
    """Whether this very pipeline is known by its name already."""
    return _registered.get(made.name) == (made, slots)


def slots_of(pipeline: str) -> tuple[Slot, ...]:
    """A known pipeline's slots."""
    return _registered[pipeline][1] if pipeline in _registered else _SLOTS[pipeline]


def artifact(pipeline: str, target: str) -> Artifact:
    """The build of a pipeline for a target; InputError naming the valid ones."""
    if pipeline in _registered:
        return _registered[pipeline][0]
    return _shipped(pipeline, target)


@cache
def _shipped(pipeline: str, target: str) -> Artifact:
    if target not in _ARCHITECTURE:
        raise InputError(
            f"no pipeline is shipped for {unknown('target', target, tuple(_ARCHITECTURE))}"
        )
    if pipeline not in _SLOTS:
        raise InputError(unknown("pipeline", pipeline, tuple(_SLOTS)))
    name = f"{pipeline}_{_ARCHITECTURE[target]}"
    build = shipped("p4src") / "build"
    return Artifact(
        name,
        (build / f"{name}.p4info.txtpb").read_bytes(),
        (build / f"{name}.json").read_bytes(),
    )


@cache
def capability(pipeline: str, target: str) -> Pipeline:
    """What the pipeline offers: its slots and its tables' sizes, from its P4Info."""
    info = artifact(pipeline, target).p4info()
    sizes = {table.preamble.name.split(".", 1)[1]: table.size for table in info.tables}
    return Pipeline(pipeline, slots_of(pipeline), sizes)

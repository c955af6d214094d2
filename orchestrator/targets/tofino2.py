"""Tofino 2: eight stages more, of the same."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.targets.chip import Chip
from orchestrator.targets.target import target
from orchestrator.targets.tofino import ELSEWHERE, KNOWN, LACKS, SIZES, Tofino


@target("tofino2")
class Tofino2(Tofino):
    """As Tofino (p4lang/p4c, backends/tofino, `specs/device.h`, `specs/phv_spec.cpp`)."""

    chip: ClassVar[Chip | None] = Chip("Tofino 2", 20, 5120, ELSEWHERE, KNOWN, SIZES, LACKS)

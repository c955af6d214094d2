"""The bundle: everything that one compile emits, and all that a deployment needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.model.builds import Build
from orchestrator.model.devices import Device
from orchestrator.model.entries import PipelineProgram, WorkerProgram
from orchestrator.model.plan import Plan


@dataclass(frozen=True, slots=True)
class Story:
    """Where one element, NF or delivery runs, and why (`compile --explain`)."""

    unit: str
    kind: str
    device: str
    slot: str
    entries: int
    why: str


@dataclass(frozen=True, slots=True)
class Slo:
    """What a traffic will offer (bit/s) and what was promised to it; None: nothing was."""

    rate: int
    min_rate: int | None
    max_latency_us: int | None


@dataclass(frozen=True)
class Bundle:
    """One compiled graph.

    `devices` are all that the graph was compiled for, by name; `fabric` the entries that every graph
    shares and `programs` the graph's own, by device with a pipeline;
    `block_use[device]` is what the graph takes of each device's tables
    ('block.table') and each server's memory ('memory_bytes'). `removed` are rules
    that no device is given: (`fw: rules[3]`, why). `slos` by traffic, hosts of `endpoints` by name.
    `builds` are the pipelines in `pipeline_of` that were made for a network: no package ships them.
    """

    graph: str
    owner: str
    graph_id: int
    topology: str
    sampling_rate: float
    devices: Mapping[str, Device]
    fabric: dict[str, PipelineProgram]
    programs: dict[str, PipelineProgram]
    workers: tuple[WorkerProgram, ...]
    plan: Plan
    block_use: dict[str, dict[str, int]]
    stories: tuple[Story, ...]
    warnings: tuple[str, ...]
    removed: tuple[tuple[str, str], ...] = ()
    slos: Mapping[str, Slo] = field(default_factory=dict[str, Slo])
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    builds: tuple[Build, ...] = ()

    @cached_property
    def pipeline_of(self) -> dict[str, tuple[str, str]]:
        """(pipeline, target) of each device that has one."""
        return {
            name: (device.pipeline, device.target)
            for name, device in self.devices.items()
            if device.has_pipeline
        }

    def entries_by_table(self) -> dict[str, Counter[str]]:
        """Entries per device and table that the graph installs."""
        return {name: program.entries_by_table() for name, program in self.programs.items()}

"""Pipelines: their builds as a value that is passed, and what each offers to placement and lowering.

Those that come with the package are compiled by p4c, checked in, ready to load. Those that were made
for a network (targets.specialised) are carried by the bundles that need them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from finsy.proto import p4i
from google.protobuf import text_format

from orchestrator.errors import InputError, unknown
from orchestrator.model.builds import Build, Slot
from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import Unit
from orchestrator.resources import shipped
from orchestrator.targets.edge import EDGE, EDGE_SLOTS
from orchestrator.targets.target import Target, choices, compiled_for, lookup

SPECIALISED = "specialised"
"""Such pipelines are called `specialised-<digest>`."""
_SLOTS = {EDGE: EDGE_SLOTS}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A compiled pipeline: its block instances in order, each table's size in entries, and the target
    that executes it."""

    name: str
    slots: tuple[Slot, ...]
    table_sizes: dict[str, int]
    target: Target

    def capacity(self, block: str, table: str) -> int:
        """Entries that all instances of a block hold in tables of this name."""
        return sum(
            self.table_sizes.get(f"{slot.instance}.{table}", 0)
            for slot in self.slots
            if slot.block == block
        )

    def tables(self) -> dict[str, int]:
        """Entries by 'block.table', as a topology's `table_sizes` name them: what all instances hold."""
        block_of = {slot.instance: slot.block for slot in self.slots}
        sizes: Counter[str] = Counter()
        for name, size in self.table_sizes.items():
            instance, _, table = name.partition(".")
            sizes[f"{block_of.get(instance, instance)}.{table}"] += size
        return dict(sizes)


def footprint(unit: Unit, pipelines: Iterable[Pipeline]) -> Counter[tuple[str, str]]:
    """Entries that a switch unit needs, by (block, table), on whichever of the pipelines it stands: an
    upper bound that lowering keeps."""
    need: Counter[tuple[str, str]] = Counter()
    if unit.element is not None:
        for target in {pipeline.target.name: pipeline.target for pipeline in pipelines}.values():
            need |= target.footprint(unit.element.program, unit.versions)
    return need


@dataclass(frozen=True, slots=True)
class Pipelines:
    """The pipelines that can be loaded: this package's, and those `made` for a network, by name."""

    made: Mapping[str, Build] = field(default_factory=dict[str, Build])

    @classmethod
    def of(cls, *builds: Iterable[Build]) -> Pipelines:
        """Those of the package and these."""
        return cls({build.name: build for some in builds for build in some})

    def build(self, pipeline: str, target: str) -> Build:
        """The build of a pipeline for a target; InputError naming the valid ones."""
        return self.made[pipeline] if pipeline in self.made else _shipped(pipeline, target)

    def capability(self, pipeline: str, target: str) -> Pipeline:
        """What the pipeline offers: its slots and its tables' sizes, from its P4Info."""
        return _offered(pipeline, self.build(pipeline, target), target)

    def planned(self, pipeline: str, target: str) -> Pipeline:
        """What plans take it to offer, also on a target without builds (Target.assumed)."""
        return _offered(pipeline, self.planned_build(pipeline, target), target)

    def planned_build(self, pipeline: str, target: str) -> Build:
        """The build that plans take for the target's own."""
        assumed = lookup(target).assumed
        if not assumed or pipeline in self.made:
            return self.build(pipeline, target)
        return _of_architecture(pipeline, assumed)

    def needed(self, names: Iterable[str]) -> tuple[Build, ...]:
        """The made ones among these."""
        return tuple(self.made[name] for name in sorted(set(names)) if name in self.made)


SHIPPED = Pipelines()


def size_problem(pipeline: str, target: str, table: str, size: int) -> str:
    """What is wrong with a topology's size for a 'block.table'; "" for nothing, or for a pipeline that
    was made for a network: its tables come with a bundle."""
    if pipeline not in _SLOTS:
        return ""
    tables = SHIPPED.planned(pipeline, target).tables()
    if table not in tables:
        return unknown("table", table, sorted(tables))
    most = tables[table]
    return f"the pipeline holds {most:,} entries at most, not {size:,}" if size > most else ""


def shipped_builds(architecture: str) -> tuple[Build, ...]:
    """All that come with the package for an architecture."""
    return tuple(_of_architecture(name, architecture) for name in _SLOTS)


def build_for(bundle: Bundle, device: str) -> Build:
    """The build that a bundle wants on a device."""
    return Pipelines.of(bundle.builds).build(*bundle.pipeline_of[device])


def target_for(bundle: Bundle, device: str) -> Target:
    """The target that a bundle was compiled for on a device."""
    return lookup(bundle.pipeline_of[device][1])


def capability_for(bundle: Bundle, device: str) -> Pipeline:
    """What that one offers."""
    return Pipelines.of(bundle.builds).capability(*bundle.pipeline_of[device])


@cache
def p4info(build: Build) -> p4i.P4Info:
    """The parsed P4Info; not to be changed."""
    return text_format.Parse(build.p4info_text, p4i.P4Info())


def sizes_of(build: Build) -> dict[str, int]:
    """Entries by table."""
    return {t.preamble.name.split(".", 1)[1]: t.size for t in p4info(build).tables}


@cache
def _shipped(pipeline: str, target: str) -> Build:
    loadable = tuple(name for name in choices() if lookup(name).suffix)
    if target not in loadable and target in choices():
        raise InputError(
            f"no pipeline is shipped for target '{target}': it can be planned for (whatif, compile "
            f"--resources), not loaded (loadable: {', '.join(loadable)})"
        )
    if target not in loadable:
        raise InputError(f"no pipeline is shipped for {unknown('target', target, loadable)}")
    return _of_architecture(pipeline, lookup(target).architecture)


@cache
def _of_architecture(pipeline: str, architecture: str) -> Build:
    if pipeline not in _SLOTS:
        raise InputError(unknown("pipeline", pipeline, tuple(_SLOTS)))
    name = f"{pipeline}_{architecture}"
    folder = shipped("p4src") / "build"
    return Build(
        name,
        (folder / f"{name}.p4info.txtpb").read_bytes(),
        (folder / f"{name}{compiled_for(architecture).suffix}").read_bytes(),
        _SLOTS[pipeline],
    )


@cache
def _offered(pipeline: str, build: Build, target: str) -> Pipeline:
    return Pipeline(pipeline, build.slots, sizes_of(build), lookup(target))

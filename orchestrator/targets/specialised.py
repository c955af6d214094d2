"""Pipelines of a network's own: the shipped one with the NF blocks that its graphs need, in their order.

An instance is named after its NF (table `edge_fw.ipv4`) and is as large as its entries, with room to
grow. The text is the shipped pipeline's; only what stands between its marks of NF blocks is made here,
and that is instantiations of the same blocks. p4c compiles it; what p4c says of the result is compared
with what was planned.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import CompileError
from orchestrator.model.builds import Build, Slot
from orchestrator.resources import shipped
from orchestrator.targets.block import BLOCKS, filled, nf_blocks
from orchestrator.targets.pipelines import SPECIALISED, Pipeline, sizes_of
from orchestrator.targets.target import Target

MOST_ENTRIES = 1 << 20
"""Entries that a table may have before it is known how many it needs."""
_LEAST_ENTRIES = 64
_KEPT = "*"
_NAMES = re.compile(r"\W")


@dataclass(frozen=True, slots=True)
class BlockWanted:
    """An NF's step that needs a block: `nf` and the port by which packets enter it."""

    nf: str
    port: str
    block: str


def slots_for(wanted: Sequence[BlockWanted], kept: Sequence[Slot]) -> tuple[Slot, ...]:
    """Instances for steps in packet order, behind those that other graphs use.

    An NF whose steps are all of one block and port gives its name alone; else port or block follow.
    """
    taken = {slot.instance for slot in kept} | _reserved()
    slots: list[Slot] = []
    steps = list(dict.fromkeys(wanted))
    for step in steps:
        same = [other for other in steps if other.nf == step.nf]
        name = _NAMES.sub("_", step.nf)
        if len({other.port for other in same}) > 1:
            name += f"_{step.port}"
        if len({other.block for other in same if other.port == step.port}) > 1:
            name += f"_{step.block}"
        while name in taken or not name[0].isalpha():
            name = f"nf_{name}"
        taken.add(name)
        slots.append(Slot(name, step.block, step.nf))
    return tuple(sorted([*kept, *slots], key=lambda slot: BLOCKS[slot.block].rank))


def roomy(slots: Sequence[Slot], edge: Pipeline) -> Pipeline:
    """A pipeline of these slots as large as tables may be: to see how much is needed."""
    sizes = {
        name: size
        for name, size in edge.table_sizes.items()
        if not any(name.startswith(f"{slot.instance}.") for slot in edge.slots)
    }
    instance_of = {slot.block: slot.instance for slot in edge.slots}
    for slot in slots:
        block = BLOCKS[slot.block]
        tables = block.sized
        if block.helper is not None:
            tables = (*tables, *block.helper.sized, block.helper.needed_for)
        prefix = f"{instance_of[slot.block]}."
        at_most = {
            name.removeprefix(prefix): size
            for name, size in edge.table_sizes.items()
            if name.startswith(prefix)
        }
        at_most |= dict.fromkeys(tables, MOST_ENTRIES)
        sizes |= {f"{slot.instance}.{table}": size for table, size in at_most.items()}
    return Pipeline(SPECIALISED, tuple(slots), sizes, edge.target)


def program_text(slots: Sequence[Slot], need: Mapping[str, int]) -> str:
    """The P4-16 program; `need` are entries by table."""
    sizes: dict[str, int] = {}
    for slot in slots:
        block = BLOCKS[slot.block]
        sized = block.sized
        if block.helper is not None and need.get(f"{slot.instance}.{block.helper.needed_for}"):
            sized = (*sized, *block.helper.sized, block.helper.needed_for)
        names = [f"{slot.instance}.{table}" for table in sized]
        sizes |= {name: size_for(need.get(name, 0)) for name in names}
    return filled(template(), nf_blocks(slots, sizes))


def build(slots: Sequence[Slot], need: Mapping[str, int], target: Target) -> Build:
    """Compile and check a pipeline; its name contains a digest of it.

    EnvironmentMissing without p4c, CompileError when the result is not what was planned.
    """
    text = program_text(slots, need)
    made = Build(SPECIALISED, *_compiled(text, target), tuple(slots))
    name = f"{SPECIALISED}-{made.cookie:016x}"
    sizes = sizes_of(made)
    need = {table: count for table, count in need.items() if count}
    problems = [
        f"table {table} should have {count} entries and "
        + (f"has {sizes[table]}" if table in sizes else "is not there")
        for table, count in sorted(need.items())
        if sizes.get(table, -1) < count
    ]
    if problems:
        told = (f"{name}: p4c's P4Info is not as planned: {problem}" for problem in problems)
        raise CompileError("\n".join(told))
    return replace(made, name=name)


def rebuilt(made: Build, target: Target) -> bool:
    """Whether p4c makes this very pipeline of the shipped text and its slots: it then is ours.

    EnvironmentMissing without p4c. Sizes are those of the P4Info; another release of p4c may differ.
    """
    sizes, slots = sizes_of(made), made.slots
    all_known = all(slot.block in BLOCKS for slot in slots)
    if not all_known or len({slot.instance for slot in slots}) < len(slots):
        return False
    need = {table: size // 2 for table, size in sizes.items()}  # `size_for` makes it of that again
    text = program_text(slots, need)
    return _compiled(text, target) == (made.p4info_text, made.device_config)


def kept_slots(tables: Iterable[str], pipeline: Pipeline) -> tuple[Slot, ...]:
    """The slots of a running pipeline that have entries: they are kept as they are."""
    prefixes = {table.split(".", 1)[0] for table in tables}
    return tuple(slot for slot in pipeline.slots if slot.instance in prefixes)


def reserved(slots: Sequence[Slot], kept: Collection[Slot]) -> tuple[Slot, ...]:
    """The slots with those that are kept for nobody else."""
    return tuple(replace(slot, nf=_KEPT) if slot in kept else slot for slot in slots)


def size_for(need: int) -> int:
    """A power of two with room for half as many again, so that a small change needs no new pipeline."""
    return 1 << (max(_LEAST_ENTRIES, need + need // 2) - 1).bit_length()


def template() -> str:
    """The shipped pipeline's text, whose NF blocks are put in anew."""
    return (shipped("p4src") / "pipelines" / "edge.p4").read_text()


def _reserved() -> set[str]:
    """Names that the shipped pipeline gives its other instances, and what it calls its parameters."""
    text = template()
    instances = re.findall(r"^    \w+\([^)]*\) (\w+);", text, re.MULTILINE)
    parameters = {"hdr", "meta", "standard_metadata", "apply", "ingress"}
    return parameters.union(instances)


def _compiled(text: str, target: Target) -> tuple[bytes, bytes]:
    """(P4Info text, device config) of a program."""
    main = f"pipelines/{SPECIALISED}_{target.architecture}.p4"
    shipped_main = shipped("p4src") / "pipelines" / f"edge_{target.architecture}.p4"
    made = target.compile({"pipelines/edge.p4": text, main: shipped_main.read_text()})
    return made.p4info, made.device_config

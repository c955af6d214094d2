"""The P4 blocks that execute elements: what each is called, holds and needs, said once.

A pipeline's text is made of these (`nf_blocks`), whatever its architecture: the shipped one's
(targets/edge.py, written into p4src/pipelines/edge.p4 by p4src/build.py) and those that are made for a
network (targets/specialised.py). Placement and lowering read the same descriptors. A new block is a
file in p4src/blocks, named after it, and its descriptor here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from orchestrator.model.builds import Slot
from orchestrator.model.decision import LEVELS
from orchestrator.model.ids import GATE_BIT

VERSION_TABLE = {4: "ipv4", 6: "ipv6", 0: "other"}
"""The table of a block with one for each kind of packet, by IP version (0: not IP)."""
OTHER_FIELD = {"src": "dst", "dst": "src"}
"""What an ICMP error quotes went the other way."""
BY_SEGMENT = "segments"
"""The table of a block in which a segment has one entry."""
ADMISSION_TABLES = frozenset(f"classify.{name}" for name in VERSION_TABLE.values())
EPOCH_TABLE = "classify.epoch"
"""By one entry a graph, which of its versions is in force."""
FIRST_TABLES = frozenset(f"classify.first_{name}" for name in VERSION_TABLE.values())
SOURCE_TABLES = frozenset(f"classify.sources_{VERSION_TABLE[version]}" for version in (4, 6))
ORIGINS_TABLE = "flowtag_arrival.origins"
"""Where a path's frames may come from."""
OWN_INSTANCES = frozenset(
    {"neighbor", "classify", "flowtag_arrival", "dispatch", "deliver", "flood"}
)
"""Instances, besides those of NF blocks, in which a graph has entries; all others are the network's."""
TREE_ROOTS = "tree.roots"
TREE_LEVELS = tuple(f"tree.level_{level}" for level in range(1, LEVELS + 1))
"""Tables of a filter's tree, by level."""

_GATE = f"meta.segment[{GATE_BIT}:{GATE_BIT}] == 1"
_ALIVE = "meta.drop == 0"


@dataclass(frozen=True, slots=True)
class Block:
    """A block: control `<name>_block` in p4src/blocks/<name>.p4.

    `sized` are the tables whose sizes are its constructor's parameters, in their order; other tables
    have one size, which P4Info tells. `arguments` are those of its apply; what differs between
    architectures is a macro of theirs (p4src/arch). `gated`: only packets of a gated
    segment (model/ids.py) come to it, the others pay nothing. `drops`: it may drop, and what it drops
    does not reach what follows. `rank`: where it must stand among steps in packet order, lower ones
    first.
    `helper`: a block of its own behind it, for packets that it hands over (`helper.when`), in a
    pipeline that needs entries in `helper.needed_for`; called `<instance>.<helper's name>`.
    """

    name: str
    sized: tuple[str, ...] = ()
    arguments: str = "hdr, meta"
    gated: bool = False
    drops: bool = True
    rank: int = 0
    helper: Helper | None = None


@dataclass(frozen=True, slots=True)
class Helper:
    """See Block.helper; tables are called as the block's own, `<name>.<table>`."""

    name: str
    sized: tuple[str, ...]
    when: str
    needed_for: str


BLOCKS: Mapping[str, Block] = {
    block.name: block
    for block in (
        Block(
            "acl",
            sized=("ipv4", "ipv6", "other"),
            helper=Helper("tree", TREE_LEVELS, "meta.tree == 1", TREE_ROOTS),
        ),
        # A copy is made of what arrived, so nothing may change it before.
        Block("mirror", arguments="meta", gated=True, drops=False, rank=-1),
        Block("policer", gated=True),
        Block("mark", gated=True),
        Block("hash_lb", gated=True, drops=False),
        Block("vlan", gated=True),
        # It ends the pass.
        Block("tunnel", arguments="hdr, meta, FRAME_BYTES", gated=True, rank=1),
        Block("rewrite", drops=False),
        Block("route", sized=("ipv4", "ipv6", "segments_routed")),
    )
}
"""By name, in the order in which instances are declared."""


def gated(block: str) -> bool:
    """Whether only packets of gated segments come to a block."""
    return BLOCKS[block].gated


@dataclass(frozen=True, slots=True)
class Text:
    """What stands between the marks of a pipeline's text, line by line."""

    files: list[str] = field(default_factory=list[str])
    instances: list[str] = field(default_factory=list[str])
    order: list[str] = field(default_factory=list[str])


def nf_blocks(
    slots: Sequence[Slot], sizes: Mapping[str, int], blocks: Mapping[str, Block] = BLOCKS
) -> Text:
    """P4 of instances in pipeline order; `sizes` by `<instance>.<table>`, of all tables in `sized`.

    A helper is there whose `needed_for` has a size.
    """
    order = list(_applied(slots, sizes, blocks))
    used = [block for block in blocks.values() if any(slot.block == block.name for slot in slots)]
    files: list[str] = []
    instances: list[str] = []
    for block in used:
        mine = [slot for slot in slots if slot.block == block.name]
        files.append(_include(block.name))
        for slot in mine:
            instances.append(
                f"{block.name}_block({_numbers(slot, block.sized, sizes)}) {slot.instance};"
            )
            if block.helper is not None and _helped(slot, block.helper, sizes):
                helper, numbers = block.helper, _numbers(slot, block.helper.sized, sizes)
                instances.append(f'@name("{slot.instance}.{helper.name}")')
                instances.append(f"{helper.name}_block({numbers}) {slot.instance}_{helper.name};")
        if block.helper is not None and any(_helped(s, block.helper, sizes) for s in mine):
            files.append(_include(block.helper.name))
    return Text(files, instances, order)


def filled(template: str, text: Text) -> str:
    """A pipeline's text with these blocks between its marks."""
    for title, lines, indent in (
        ("files", text.files, 0),
        ("instances", text.instances, 4),
        ("order", text.order, 12),
    ):
        mark = f"// NF blocks: {title}\n"
        begin = template.index(mark) + len(mark)
        end = template.index("// end of NF blocks", begin)
        body = "".join(f"{' ' * indent}{line}\n" for line in lines)
        template = f"{template[:begin]}{body}{' ' * indent}{template[end:]}"
    return template


def _applied(
    slots: Sequence[Slot], sizes: Mapping[str, int], blocks: Mapping[str, Block]
) -> Iterator[str]:
    """Apply statements: one condition for neighbours behind a gate, or that no drop can part."""
    alive = True  # what comes here has not been dropped
    for is_gated, behind_gate in groupby(slots, lambda slot: blocks[slot.block].gated):
        inside = alive or is_gated
        indent = "    " if is_gated else ""
        if is_gated:
            yield f"if ({_ALIVE} && {_GATE}) {{"
        for run in _runs(behind_gate, blocks):
            lines = [line for slot in run for line in _apply(slot, sizes, blocks[slot.block])]
            if not inside:
                lines = [f"if ({_ALIVE}) {{", *(f"    {line}" for line in lines), "}"]
            yield from (f"{indent}{line}" for line in lines)
            inside = False
        if is_gated:
            yield "}"
        alive = False


def _runs(slots: Iterable[Slot], blocks: Mapping[str, Block]) -> Iterator[list[Slot]]:
    """Slots up to each that drops."""
    run: list[Slot] = []
    for slot in slots:
        run.append(slot)
        if blocks[slot.block].drops:
            yield run
            run = []
    if run:
        yield run


def _apply(slot: Slot, sizes: Mapping[str, int], block: Block) -> Iterator[str]:
    yield f"{slot.instance}.apply({block.arguments});"
    if block.helper is not None and _helped(slot, block.helper, sizes):
        yield f"if ({block.helper.when}) {{"
        yield f"    {slot.instance}_{block.helper.name}.apply(hdr, meta);"
        yield "}"


def _helped(slot: Slot, helper: Helper, sizes: Mapping[str, int]) -> bool:
    return bool(sizes.get(f"{slot.instance}.{helper.needed_for}"))


def _numbers(slot: Slot, tables: Iterable[str], sizes: Mapping[str, int]) -> str:
    return ", ".join(str(sizes[f"{slot.instance}.{table}"]) for table in tables)


def _include(name: str) -> str:
    return f'#include "../blocks/{name}.p4"'

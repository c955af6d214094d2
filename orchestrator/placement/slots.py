"""Block instances of a switch: a task lies wholly in one instance of each block that it needs.

Only blocks of which a switch has several instances are looked at here; one instance is the switch's
capacity. Their order is no constraint: what comes too early in the pipeline is recirculated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping

from orchestrator.placement.problem import BlockRoom, Problem, SlotOf, Task, TaskDevice


def several(device: TaskDevice) -> dict[str, tuple[BlockRoom, ...]]:
    """The blocks of which a device has several instances, with these."""
    rooms: dict[str, list[BlockRoom]] = defaultdict(list)
    for slot in device.slots:
        rooms[slot.block].append(slot)
    return {block: tuple(slots) for block, slots in rooms.items() if len(slots) > 1}


def needs_of(task: Task, kind: str, block: str) -> dict[str, int]:
    """What a task needs of a block, by resource."""
    start = f"{block}."
    return {r: n for r, n in task.needs.get(kind, {}).items() if n and r.startswith(start)}


def holds(slot: BlockRoom, task: Task, need: Mapping[str, int], used: Mapping[str, int]) -> bool:
    """Whether a slot has room for what a task needs, beside what is used of it."""
    return slot.nf in ("", task.label) and all(
        used.get(r, 0) + n <= slot.free.get(r, 0) for r, n in need.items()
    )


def contended(device: TaskDevice, tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """The blocks of which no instance holds all of these tasks, with those that need them."""
    by_block: dict[str, list[Task]] = {}
    chosen = list(tasks)
    for block, slots in several(device).items():
        total: dict[str, int] = defaultdict(int)
        mine: list[Task] = []
        for task in chosen:
            need = needs_of(task, device.kind, block)
            if need:
                mine.append(task)
            for resource, n in need.items():
                total[resource] += n
        if mine and not any(all(holds(s, t, total, {}) for t in mine) for s in slots):
            by_block[block] = mine
    return by_block


def pack(
    device: TaskDevice, tasks: Iterable[Task], without: Container[str] = ()
) -> dict[tuple[str, str], str] | None:
    """A slot for each (task, block), the largest tasks first; None when this finds no room.

    It finds room whenever one instance holds all of them. Blocks in `without` are left out."""
    packed: dict[tuple[str, str], str] = {}
    chosen = list(tasks)
    for block, slots in several(device).items():
        if block in without:
            continue
        needs = {task.id: needs_of(task, device.kind, block) for task in chosen}
        used: dict[str, dict[str, int]] = {slot.name: defaultdict(int) for slot in slots}
        for task in sorted(chosen, key=lambda t: -sum(needs[t.id].values())):
            need = needs[task.id]
            if not need:
                continue
            slot = next((s for s in slots if holds(s, task, need, used[s.name])), None)
            if slot is None:
                return None
            packed[task.id, block] = slot.name
            for resource, n in need.items():
                used[slot.name][resource] += n
    return packed


def pack_all(problem: Problem, device_of: Mapping[str, str]) -> SlotOf | None:
    """Slots for all tasks of a placement; None when a device has no room as far as `pack` sees."""
    slots: dict[tuple[str, str], str] = {}
    at: dict[str, list[Task]] = defaultdict(list)
    for task, device in device_of.items():
        if problem.devices[device].slots:
            at[device].append(problem.tasks[task])
    for device, tasks in at.items():
        packed = pack(problem.devices[device], tasks)
        if packed is None:
            return None
        slots |= packed
    return slots

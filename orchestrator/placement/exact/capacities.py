"""Table entries, block slots, SmartNIC rules and memory of a device hold what its tasks need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from orchestrator.errors import Constraint
from orchestrator.placement.exact.draft import Linear, ModelDraft, listed
from orchestrator.placement.exact.words import memory_words
from orchestrator.placement.problem import MEMORY, SMARTNIC, SWITCH, Task, TaskDevice
from orchestrator.placement.slots import contended, needs_of, several

_KIB = 1024


def capacities(draft: ModelDraft) -> None:
    """Table entries and rules of a device hold what its tasks need."""
    for device in draft.problem.devices.values():
        needs: dict[str, list[tuple[int, str]]] = defaultdict(list)
        tasks = [t for t in draft.problem.tasks.values() if (t.id, device.name) in draft.on]
        for task in tasks:
            for resource, amount in task.needs.get(device.kind, {}).items():
                if amount:
                    needs[resource].append((amount, task.id))
        for resource, terms in sorted(needs.items()):
            free = device.capacity.get(resource, 0)
            if sum(amount for amount, _ in terms) <= free:
                continue
            guard = draft.group(*_capacity_group(draft, device.kind, resource))
            draft.model.add(
                sum(amount * draft.on[task, device.name] for amount, task in terms) <= free
            ).only_enforce_if(guard)
        for block, mine in contended(device, tasks).items():
            _slots(draft, device, block, mine)


def _slots(draft: ModelDraft, device: TaskDevice, block: str, tasks: list[Task]) -> None:
    """slot[task,device,slot]: a task lies wholly in one instance of a block."""
    slots = several(device)[block]
    terms: dict[tuple[str, str], list[Linear]] = defaultdict(list)
    for task in tasks:
        need = needs_of(task, device.kind, block)
        literals: list[Linear] = []
        for slot in slots:
            if slot.nf not in ("", task.label):
                continue
            name = f"slot[{task.id},{device.name},{slot.name}]"
            literal = draft.model.new_bool_var(name)
            draft.slot[task.id, device.name, slot.name] = literal
            literals.append(literal)
            for resource, amount in need.items():
                terms[slot.name, resource].append(amount * literal)
        guard = draft.group(*_capacity_group(draft, device.kind, min(need)))
        draft.model.add(sum(literals) == draft.on[task.id, device.name]).only_enforce_if(guard)
    free = {slot.name: slot.free for slot in slots}
    for (slot, resource), used in terms.items():
        guard = draft.group(*_capacity_group(draft, device.kind, resource))
        draft.model.add(sum(used) <= free[slot].get(resource, 0)).only_enforce_if(guard)


def memory(draft: ModelDraft) -> None:
    """The workers of a server fit its memory together (KiB, rounded against them)."""
    problem = draft.problem
    for server in problem.servers():
        free = server.capacity.get(MEMORY, 0)
        terms: list[Linear] = []
        for pool in problem.pools.values():
            each = -(-pool.worker_memory_bytes // _KIB)
            if each and (pool.name, server.name) in draft.workers:
                terms.append(each * draft.workers[pool.name, server.name])
        largest = max((p.worker_memory_bytes for p in problem.pools.values()), default=0)
        if not terms or (not draft.diagnose and (largest + _KIB) * server.cores <= free):
            continue
        guard = draft.group(
            Constraint.MEMORY, (server.name,), lambda s=server: memory_words(draft, s)
        )
        draft.model.add(sum(terms) <= free // _KIB).only_enforce_if(guard)


def _capacity_group(
    draft: ModelDraft, kind: str, resource: str
) -> tuple[Constraint, tuple[str, ...], Callable[[], str]]:
    def sentence() -> str:
        amounts = {
            t.label or t.id: t.needs.get(kind, {}).get(resource, 0)
            for t in draft.problem.tasks.values()
            if t.needs.get(kind, {}).get(resource, 0)
        }
        most = max(amounts, key=lambda name: amounts[name])
        free = listed(
            f"{d.name} {_room(d, resource)}"
            for d in draft.problem.devices.values()
            if d.kind == kind
        )
        total = sum(t.needs.get(kind, {}).get(resource, 0) for t in draft.problem.tasks.values())
        what = {SWITCH: f"table {resource}", SMARTNIC: "SmartNIC rules"}.get(kind, resource)
        return (
            f"{what}: the largest element ({most}) needs {amounts[most]} entries, all that may "
            f"stand there need {total}; free: {free}"
        )

    constraint = Constraint.TABLES if kind == SWITCH else Constraint.RULES
    return constraint, (resource,), sentence


def _room(device: TaskDevice, resource: str) -> str:
    """What is free of a resource: in all, and by block instance where these are several."""
    free = device.capacity.get(resource, 0)
    parts = [
        (slot.name, slot.free[resource])
        for slots in several(device).values()
        for slot in slots
        if resource in slot.free
    ]
    if len(parts) < 2 or free <= max(room for _, room in parts):
        return str(free)
    return f"{free} ({', '.join(f'{name} {room}' for name, room in parts)})"

"""Table entries, SmartNIC rules and memory of a device hold what its tasks need."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from orchestrator.placement.exact.draft import Draft, listed
from orchestrator.placement.problem import SMARTNIC, SWITCH


def capacities(draft: Draft) -> None:
    """Table entries, rules and memory of a device hold what its tasks need."""
    for device in draft.problem.devices.values():
        needs: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for task in draft.problem.tasks.values():
            if (task.id, device.name) not in draft.on:
                continue
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


def _capacity_group(draft: Draft, kind: str, resource: str) -> tuple[str, Callable[[], str]]:
    def sentence() -> str:
        amounts = {
            t.label or t.id: t.needs.get(kind, {}).get(resource, 0)
            for t in draft.problem.tasks.values()
            if t.needs.get(kind, {}).get(resource, 0)
        }
        most = max(amounts, key=lambda name: amounts[name])
        free = listed(
            f"{d.name} {d.capacity.get(resource, 0)}"
            for d in draft.problem.devices.values()
            if d.kind == kind
        )
        total = sum(t.needs.get(kind, {}).get(resource, 0) for t in draft.problem.tasks.values())
        what = {SWITCH: f"table {resource}", SMARTNIC: "SmartNIC rules"}.get(kind, resource)
        return (
            f"{what}: the largest element ({most}) needs {amounts[most]} entries, all that may "
            f"stand there need {total}; free: {free}"
        )

    return (f"tables:{resource}" if kind == SWITCH else f"{kind}:{resource}"), sentence

"""Where a control is straight: actions that follow each other whatever the packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.softswitch.codegen.controls import hidden, next_of
from orchestrator.softswitch.ir.program import Action, ControlGraph, P4Program

_LEAVING = ("_jump", "_jump_if_zero", "exit")


@dataclass(frozen=True, slots=True)
class StraightRun:
    """Actions without parameters that run in a row; none of them runs anywhere else."""

    actions: tuple[Action, ...]
    condition: tuple[str, str] | None
    """(pipeline, node) of the condition behind it, where nothing else leads there."""


def chains_of(program: P4Program) -> list[StraightRun]:
    """All of a program, each as long as it can be."""
    uses = Counter(action.id for table in program.tables() for action in table.actions)
    for pipe in program.pipelines.values():
        uses.update(call.action.id for call in pipe.calls.values())
    return [chain for pipe in program.pipelines.values() for chain in _chains(pipe, uses)]


def _chains(pipe: ControlGraph, uses: Counter[int]) -> Iterator[StraightRun]:
    steps = {name: step for name, step in _steps(pipe) if _is_straight(step[0], uses)}
    ways = Counter(_ways(pipe))
    behind = {
        name: to for name, (_, to) in steps.items() if to in steps and ways[to] == 1 and to != name
    }
    led_to = set(behind.values())
    for first in (name for name in steps if name not in led_to):
        names = [first]
        while (to := behind.get(names[-1])) is not None:
            names.append(to)
        last = steps[names[-1]][1]
        alone = last in pipe.conditionals and ways[last] == 1
        condition = (pipe.name, last) if alone and last is not None else None
        yield StraightRun(tuple(steps[name][0] for name in names), condition)


def _steps(pipe: ControlGraph) -> Iterator[tuple[str, tuple[Action, str | None]]]:
    """Nodes that always run one action: its name, the action, and what comes next."""
    for name, call in pipe.calls.items():
        yield name, (call.action, call.next)
    for name, table in pipe.tables.items():
        if hidden(table):
            action = table.actions[table.action_index(table.default_action)]
            yield name, (action, next_of(table, action, False))


def _is_straight(action: Action, uses: Counter[int]) -> bool:
    leaves = any(primitive["op"] in _LEAVING for primitive in action.primitives)
    return not leaves and not action.params and uses[action.id] == 1


def _ways(pipe: ControlGraph) -> Iterator[str | None]:
    """Where each edge of the graph leads."""
    yield pipe.init
    for node in pipe.conditionals.values():
        yield from (node.true_next, node.false_next)
    for call in pipe.calls.values():
        yield call.next
    for table in pipe.tables.values():
        yield from (*dict.fromkeys((*table.next_tables.values(), table.base_next)),)

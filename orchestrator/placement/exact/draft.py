"""The model under construction: problem, CP-SAT model, and the variables that its parts share.

Units inside: kbit/s, thousandths of cycles/s, ns: why nothing overflows is argued in
docs/decisions/0010-placement-model.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ortools.sat.python import cp_model

from orchestrator.errors import Blocking, Constraint
from orchestrator.placement.problem import SWITCH, ArcWay, Problem

Linear = cp_model.LinearExpr | int
KBIT = 1000
MILLI = 1000
HORIZON_NS = 10**12


@dataclass(frozen=True, slots=True)
class ConstraintGroup:
    """A constraint group that can be switched off: its literal and its sentence."""

    literal: cp_model.IntVar
    sentence: Callable[[], str]


class ModelDraft:
    """Variables: on[task,device]; hop[arc][way]; cores[pool,server]; where the instances of a block
    are too small for all tasks slot[task,device,slot]; with rates to be chosen also rate[chain]
    (kbit/s); with shared cores share, uses and core_on. `workers` are processes by (pool, server).
    With `soft`, rates and latencies may miss their SLO; with `diagnose`, every constraint group has
    a switch."""

    def __init__(
        self, problem: Problem, objectives: Sequence[str], *, soft: bool, diagnose: bool
    ) -> None:
        self.problem, self.objectives = problem, tuple(objectives)
        self.soft, self.diagnose = soft, diagnose
        self.model = cp_model.CpModel()
        self.groups: dict[Blocking, ConstraintGroup] = {}
        self.free_rates = soft or "throughput" in self.objectives
        self.on: dict[tuple[str, str], cp_model.IntVar] = {}
        self.slot: dict[tuple[str, str, str], cp_model.IntVar] = {}
        self.rate: dict[str, Linear] = {}
        self.hop: list[dict[ArcWay, cp_model.IntVar]] = []
        self.cores: dict[tuple[str, str], Linear] = {}
        self.workers: dict[tuple[str, str], Linear] = {}
        self.share: dict[tuple[str, str, int], cp_model.IntVar] = {}
        self.uses: dict[tuple[str, str, int], cp_model.IntVar] = {}
        self.core_on: dict[tuple[str, int], cp_model.IntVar] = {}
        self.latency_ns: dict[str, Linear] = {}
        self.late_ns: dict[str, cp_model.IntVar] = {}
        self.expressions: dict[str, Linear] = {}

    def group(
        self, kind: Constraint, names: tuple[str, ...], sentence: Callable[[], str]
    ) -> list[cp_model.IntVar]:
        """What to enforce a constraint with: nothing, or the group's switch when diagnosing."""
        if not self.diagnose:
            return []
        what = Blocking(kind, names)
        if what not in self.groups:
            self.groups[what] = ConstraintGroup(self.model.new_bool_var(f"group[{what}]"), sentence)
        return [self.groups[what].literal]

    def most(self, chain: str) -> int:
        """The highest rate that a chain can get, kbit/s."""
        spec = self.problem.chains[chain]
        least = math.ceil(spec.rate / KBIT)
        return max(least, spec.max_rate // KBIT) if "throughput" in self.objectives else least

    def at_rate(self, chain: str, literals: Sequence[cp_model.IntVar], name: str) -> list[Linear]:
        """For literals of which exactly one holds: the chain's rate if it holds, else 0, kbit/s."""
        rate = self.rate[chain]
        if isinstance(rate, int):
            return [rate * literal for literal in literals]
        most = self.most(chain)
        parts: list[Linear] = []
        for i, literal in enumerate(literals):
            part = self.model.new_int_var(0, most, f"{name}[{i}]")
            self.model.add(part <= most * literal)
            parts.append(part)
        self.model.add(sum(parts) == rate)
        return parts

    def literal(self, node: str, device: str) -> cp_model.IntVar | bool:
        return True if node.startswith("@") else self.on[node, device]

    def ends(self, node: str) -> tuple[str, ...]:
        if node.startswith("@"):
            return (node[1:],)
        return tuple(d for d in self.problem.tasks[node].candidates if (node, d) in self.on)

    def words(self, node: str) -> str:
        return node[1:] if node.startswith("@") else (self.problem.tasks[node].label or node)


def kind_of(problem: Problem, name: str) -> str:
    """What kind of device a name is; fixed nodes that are no devices count as switches."""
    device = problem.devices.get(name)
    return SWITCH if device is None else device.kind


def listed(words: Iterable[str], most: int = 6) -> str:
    """Words with commas, at most so many."""
    parts = list(words)
    if len(parts) > most:
        return ", ".join(parts[:most]) + f", and {len(parts) - most} more"
    return ", ".join(parts)

"""Shapes: where a chain's tasks can run, relative to the server that it uses.

Left out is what offloads more than another without needing fewer cores or entering the server less
often: the other uses a subset of every resource, so no optimum is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.placement.measure import cores_needed
from orchestrator.placement.problem import SERVER, SWITCH, Problem

INGRESS, NEAR, FAR, EGRESS, HOST = "ingress", "near", "far", "egress", "host"


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a chain's tasks run: INGRESS, NEAR (the server's switch), FAR (a switch that is chosen,
    too: a detour), HOST or EGRESS for each."""

    places: tuple[str, ...]
    cores: int
    visits: int
    """How often packets enter the server."""
    tables: Mapping[str, Mapping[str, int]] = field(compare=False)
    """Entries by place and table."""

    @property
    def served(self) -> bool:
        """Whether it depends on the choice of a server."""
        return HOST in self.places

    @property
    def detours(self) -> bool:
        """Whether it depends on the choice of another switch."""
        return FAR in self.places


@dataclass(frozen=True, slots=True)
class Option:
    """Which of a chain's tasks (by position) are offloaded, wherever that may be, and what is left."""

    offloaded: frozenset[int]
    cores: int
    visits: int


@dataclass(frozen=True, slots=True)
class ChainLine:
    """A chain as columns see it: tasks in order, access switches of its ends."""

    name: str
    tasks: tuple[str, ...]
    ingress: str
    egress: str


def line_of(problem: Problem, chain: str) -> ChainLine:
    """A chain whose arcs are a line from a fixed ingress to a task that has one candidate."""
    arcs = [problem.arcs[i] for i in problem.chain_arcs[chain]]
    egress = problem.tasks[arcs[-1].target].candidates[0]
    return ChainLine(chain, tuple(a.target for a in arcs)[:-1], arcs[0].source[1:], egress)


def options_of(
    problem: Problem, line: ChainLine, server: str, most_cores: int, fits: Callable[[str], bool]
) -> list[Option]:
    """What a chain may offload; `fits` says whether some switch could hold a task. `server` is any of
    the servers: all are alike."""
    kinds = [{problem.devices[d].kind for d in problem.tasks[t].candidates} for t in line.tasks]
    holds = [SERVER not in kind or fits(t) for t, kind in zip(line.tasks, kinds, strict=True)]
    flexible = [i for i, kind in enumerate(kinds) if kind != {SERVER} and holds[i]]
    flexible = [i for i in flexible if SERVER in kinds[i]]
    fixed = {i for i, kind in enumerate(kinds) if SERVER not in kind}
    options: list[Option] = []
    for mask in sorted(range(1 << len(flexible)), key=int.bit_count):
        offloaded = frozenset({f for bit, f in enumerate(flexible) if mask >> bit & 1} | fixed)
        kept = [t for i, t in enumerate(line.tasks) if i not in offloaded]
        cores = _cores(problem, line.name, kept, server, most_cores)
        if cores is None:
            continue
        visits = sum(
            i not in offloaded and (i == 0 or i - 1 in offloaded) for i in range(len(line.tasks))
        )
        if not any(
            o.offloaded <= offloaded and o.cores <= cores and o.visits <= visits for o in options
        ):
            options.append(Option(offloaded, cores, visits))
    return options


def shapes_of(problem: Problem, line: ChainLine, option: Option) -> Iterable[Shape]:
    """An option at each split over ingress, the server's switch (or a far one) and egress."""
    offloaded = option.offloaded
    kept = [i for i in range(len(line.tasks)) if i not in offloaded]
    first, last = (kept[0], kept[-1]) if kept else (len(line.tasks), -1)
    before = [i for i in sorted(offloaded) if i < first]
    after = [i for i in sorted(offloaded) if i > last] if kept else []
    for split in range(len(before) + 1):
        for other in range(len(after) + 1):
            places: list[str] = []
            for i in range(len(line.tasks)):
                if i not in offloaded:
                    places.append(HOST)
                elif i < first:
                    early = before.index(i) < split
                    places.append(INGRESS if early else (NEAR if kept else EGRESS))
                elif i > last:
                    places.append(NEAR if after.index(i) < other else EGRESS)
                else:
                    places.append(NEAR)
            yield _shape(problem, line, option, places)
            if NEAR in places:
                yield _shape(problem, line, option, [FAR if p == NEAR else p for p in places])
    if not kept and line.tasks:
        yield _shape(problem, line, option, [FAR] * len(line.tasks))


def _shape(problem: Problem, line: ChainLine, option: Option, places: Sequence[str]) -> Shape:
    tables: dict[str, dict[str, int]] = {}
    for task, where in zip(line.tasks, places, strict=True):
        if where != HOST:
            at = tables.setdefault(where, {})
            for table, amount in problem.tasks[task].needs.get(SWITCH, {}).items():
                if amount:
                    at[table] = at.get(table, 0) + amount
    return Shape(tuple(places), option.cores, option.visits, tables)


def _cores(
    problem: Problem, chain: str, tasks: Sequence[str], server: str, room: int
) -> int | None:
    if not tasks:
        return 0
    rates = {chain: problem.chains[chain].rate}
    count = cores_needed(problem, chain, server, tasks, rates)
    most = problem.pools[chain].max_workers
    if any(not problem.tasks[t].replicable for t in tasks):
        most = 1
    return count if count <= room and (most is None or count <= most) else None

"""Block instances and memory: what placement accepts, lowering accepts; what neither has is explained.

Oracle: every assignment of elements to instances tried; the checker. Blind spot: trees, whose levels are
resources like the others.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from networks import ids, long_acl, make_graph, one_way, topology

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.compiler.layout import lay_out
from orchestrator.errors import Blocking, Constraint, InfeasibleError
from orchestrator.graph import functions_of
from orchestrator.model.cuts import SWITCH, Unit
from orchestrator.network.fabric import Fabric
from orchestrator.placement.baselines import BASELINES, run_baseline
from orchestrator.placement.checker import check
from orchestrator.placement.devices import devices_of
from orchestrator.placement.problem import Problem, Task
from orchestrator.placement.resources import Network, Used, used_by
from orchestrator.placement.slots import contended
from orchestrator.placement.solve import solve
from orchestrator.targets.pipelines import SHIPPED, Pipeline, footprint

SINGLE = topology("single")
EDGE = SHIPPED.capability("edge", "softswitch")


def pipeline(sizes: dict[str, int]) -> Pipeline:
    """The shipped one with other sizes of the filters."""
    changed = {f"{slot}.ipv4": size for slot, size in sizes.items()}
    return replace(EDGE, table_sizes=EDGE.table_sizes | changed)


def units_of(rules: list[int]) -> dict[str, Unit]:
    """A filter of so many rules each (and one entry for its default)."""
    made: dict[str, Unit] = {}
    specs = {f"a{i}": long_acl(n, net=192 + i) for i, n in enumerate(rules)}
    for name, function in functions_of(make_graph(specs, [])).items():
        elements = function.elements("inside")
        element = elements.elements[elements.entry]
        made[name] = Unit(name, SWITCH, name, "inside", element, "", "", frozenset({4}), "")
    return made


def problem_of(units: dict[str, Unit], switch: Pipeline, taken: Counter[str]) -> Problem:
    fabric = Fabric(SINGLE)
    network = Network({"switch1": switch}, Used(tables={"switch1": taken}))
    tasks = {
        name: Task(
            name,
            ("switch1",),
            needs={SWITCH: {f"{b}.{t}": n for (b, t), n in footprint(unit, [EDGE]).items() if n}},
            label=name,
        )
        for name, unit in units.items()
    }
    return Problem("slots", devices_of(fabric, network), fabric, {}, tasks, {}, ())


@pytest.mark.parametrize("seed", range(40))
def test_placement_and_lowering_agree_on_what_fits(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {slot: rng.randint(6, 14) for slot in ("acl", "steer", "split")}
    taken = Counter({"steer.ipv4": rng.randint(0, 4)})
    switch, rules = pipeline(sizes), [rng.randint(1, 9) for _ in range(rng.randint(2, 6))]
    units = units_of(rules)
    problem = problem_of(units, switch, taken)
    room = [sizes[slot] - taken[f"{slot}.ipv4"] for slot in ("acl", "steer", "split")]
    fits = any(
        all(
            sum(n + 1 for n, at in zip(rules, where, strict=True) if at == i) <= room[i]
            for i in range(3)
        )
        for where in product(range(3), repeat=len(rules))
    )
    for name in BASELINES:
        baseline = run_baseline(problem, name)
        assert baseline is None or check(problem, baseline) == ()
    if not fits:
        with pytest.raises(InfeasibleError, match=r"table acl\.ipv4"):
            solve(problem)
        return
    best = solve(problem)
    assert check(problem, best) == ()
    device = problem.devices["switch1"]
    named = {t.id for tasks in contended(device, problem.tasks.values()).values() for t in tasks}
    slot_of = {task: slot for (task, _), slot in best.slot_of.items() if task in named}
    layout = lay_out("switch1", switch, list(units.values()), [], (), tuple(units), taken, slot_of)
    used = Counter(
        dict.fromkeys(sizes, 0),
    )
    for name, step in layout.steps.items():
        if step.slot is not None:
            used[step.slot.instance] += footprint(units[name], [EDGE])["acl", "ipv4"]
    assert [used[s] <= n for s, n in zip(("acl", "steer", "split"), room, strict=True)] == [
        True
    ] * 3


def test_the_checker_sees_a_slot_that_is_too_full() -> None:
    units = units_of([5, 5])
    problem = problem_of(units, pipeline({"acl": 6, "steer": 6, "split": 6}), Counter())
    best = solve(problem)
    crowded = replace(best, slot_of=dict.fromkeys(best.slot_of, "acl"))
    assert check(problem, crowded) == ("switch1: 12 of acl.ipv4 used in block acl, 6 free",)
    (first, _) = best.slot_of
    nowhere = replace(best, slot_of={k: s for k, s in best.slot_of.items() if k != first})
    assert check(problem, nowhere) == (f"{first[0]} cannot be in acl block none of switch1",)


LEAF_SPINE = topology("leaf-spine")
MIB = 1 << 20


def with_memory(size: int):  # type: ignore[no-untyped-def]
    servers = {n: replace(s, memory_bytes=size) for n, s in LEAF_SPINE.servers.items()}
    return replace(LEAF_SPINE, servers=servers)


def chain(workers: int, name: str = "g"):  # type: ignore[no-untyped-def]
    kind, config = ids()[:2]
    nfs = {"nf0": (kind, config, {"min_workers": workers})}
    graph = make_graph(nfs, one_way("inside", "nf0", "outside"))
    return replace(graph, name=name)


def test_workers_must_fit_their_servers_memory() -> None:
    """An IDS takes some 141 MiB for each worker: 65,536 connections, 64 MiB of bytes held."""
    assert compile_graph(CompileRequest(chain(3), with_memory(430 * MIB))).plan.cores_of
    with pytest.raises(InfeasibleError) as caught:
        compile_graph(CompileRequest(chain(3), with_memory(200 * MIB)))
    text = str(caught.value)
    assert "has 200 MiB of memory free; a worker of nf0 takes 141 MiB" in text
    assert Blocking(Constraint.MEMORY, ("server1",)) in caught.value.blocking


def test_other_graphs_hold_memory() -> None:
    on = with_memory(400 * MIB)
    first = compile_graph(CompileRequest(chain(1, "a"), on))
    server = first.plan.cores_of[0][0].server
    used = used_by({"a": first.bundle}, on)
    assert 140 * MIB < used.memory_bytes[server] < 142 * MIB
    left = {n: replace(s, memory_bytes=150 * MIB) for n, s in on.servers.items()}
    second = compile_graph(
        CompileRequest(chain(1, "b"), replace(on, servers=left), graph_id=2, used=used)
    )
    assert second.plan.cores_of[0][0].server != server


def test_the_checker_and_baselines_count_memory() -> None:
    from bench.placement_instances import small_instance

    problem = small_instance(0)
    pools = {n: replace(p, worker_memory_bytes=MIB) for n, p in problem.pools.items()}
    best = solve(problem := replace(problem, pools=pools))
    servers = {c.server for cores in best.cores_of.values() for c in cores}
    assert servers
    devices = {
        n: replace(d, capacity={**d.capacity, "memory_bytes": MIB - 1}) if n in servers else d
        for n, d in problem.devices.items()
    }
    tight = replace(problem, devices=devices)
    assert any("its workers take" in violation for violation in check(tight, best))
    for name in BASELINES:
        solution = run_baseline(tight, name)
        assert solution is None or check(tight, solution) == ()

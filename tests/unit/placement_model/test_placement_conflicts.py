"""What is said when nothing fits, and that every group that is named is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.placement_instances import CATALOGUE, network_of

from orchestrator.errors import Blocking, Constraint, InfeasibleError, InputError
from orchestrator.network.fabric import Fabric
from orchestrator.placement.chains import CatalogueNf, ChainSpec, Policy, chains_problem
from orchestrator.placement.checker import check
from orchestrator.placement.conflicts import explain
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.problem import CoreShare, Problem
from orchestrator.placement.solve import solve
from orchestrator.placement.topologies import fat_tree

WEB = ChainSpec("web", ("chacha",), "h-p0e0-1", "h-p1e0-1", 1_100_000_000, 1500)


def problem_of(
    *chains: ChainSpec, cores: int = 14, tables: dict[str, int] | None = None
) -> Problem:
    topology = fat_tree(4, table_sizes=tables)
    kept = {n: s for n, s in topology.servers.items() if n in ("s-p0e0-0", "s-p1e0-0")}
    topology = replace(
        topology,
        servers={n: replace(s, cores=cores, reserved_cores=0) for n, s in kept.items()},
        links=tuple(x for x in topology.links if not x.b.startswith("s-") or x.b in kept),
    )
    network = network_of(topology)
    return chains_problem("t", Fabric(topology), network, CATALOGUE, chains, Policy(0.75))


def refused(problem: Problem) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as error:
        solve(problem, limits=Limits(seconds=5))
    return error.value


def test_too_few_cores_is_said_in_cores() -> None:
    big = replace(WEB, rate=10_000_000_000)
    error = refused(problem_of(big, cores=2))
    assert list(map(str, error.blocking)) == ["need web", "cores s-p0e0-0", "cores s-p1e0-0"]
    assert "chain web needs 5 cores at 10 Gbit/s" in str(error)
    assert "s-p0e0-0 has 2 free cores; s-p1e0-0 has 2 free cores" in str(error)


def test_latency_is_named() -> None:
    error = refused(problem_of(replace(WEB, max_latency_us=3)))
    assert error.blocking == (Blocking(Constraint.LATENCY, ("web",)),)
    assert "chain web: latency at most 3 us" in str(error)


def test_a_table_that_is_too_small_is_named() -> None:
    switch_only = CatalogueNf("big", 0, frozenset({"switch"}), entries={"acl.ipv4": 500})
    base = problem_of(WEB, tables={"acl.ipv4": 100})
    problem = chains_problem(
        "t",
        base.fabric,
        network_of(base.fabric.topology),
        {"big": switch_only},
        [replace(WEB, nfs=("big",))],
        Policy(near=True),
    )
    error = refused(problem)
    assert error.blocking == (Blocking(Constraint.TABLES, ("acl.ipv4",)),)
    assert "needs 500 entries" in str(error)


def test_nothing_is_searched_for_where_nobody_asks_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.placement.solve.explain", None)
    with pytest.raises(InfeasibleError) as error:
        solve(problem_of(replace(WEB, max_latency_us=3)), explained=False)
    assert error.value.blocking == ()


def test_every_named_group_is_needed() -> None:
    shaper = replace(WEB, name="shaped", nfs=("shaper", "dedup"), rate=2_000_000_000)
    problem = problem_of(WEB, shaper)
    pair = ("shaped/0.shaper", "shaped/1.dedup")
    conflict = explain(replace(problem, together=(pair,)))
    assert conflict.irreducible
    assert list(map(str, conflict.groups)) == [
        "need shaped",
        "workers shaped",
        f"together {pair[0]} {pair[1]}",
    ]
    solve(problem)  # without one of them, it can be done


def test_pinning_and_anti_affinity() -> None:
    other = replace(WEB, name="other")
    problem = problem_of(WEB, other)
    a, b = "web/0.chacha", "other/0.chacha"
    apart = solve(replace(problem, apart=((a, b),)))
    assert apart.device_of[a] != apart.device_of[b]
    pinned = solve(replace(problem, pinned={a: "s-p1e0-0"}, together=((a, b),)))
    assert pinned.device_of[a] == pinned.device_of[b] == "s-p1e0-0"
    clash = replace(problem, apart=((a, b),), together=((a, b),))
    assert refused(clash).blocking == (
        Blocking(Constraint.APART, (a, b)),
        Blocking(Constraint.TOGETHER, (a, b)),
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ingress": "h9"}, "unknown host 'h9'"),
        ({"nfs": ("chachq",)}, "unknown NF 'chachq'; did you mean 'chacha'?"),
        ({"rate": 10**12}, "1000 Gbit/s; the link of h-p0e0-1 carries 40 Gbit/s"),
    ],
)
def test_bad_input_is_one_clear_error(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        problem_of(replace(WEB, **change))  # type: ignore[arg-type]
    assert words in str(error.value)


def test_deterministic_runs_agree() -> None:
    chains = [replace(WEB, name=f"c{i}", rate=10**9 + i * 10**8) for i in range(4)]
    first, second = (solve(problem_of(*chains), limits=Limits(3.0)) for _ in range(2))
    assert (first.device_of, first.ways) == (second.device_of, second.ways)


def test_the_checker_sees_each_kind_of_violation() -> None:
    problem = problem_of(replace(WEB, max_latency_us=200))
    good = solve(problem)
    assert check(problem, good) == ()
    task, server = "web/0.chacha", good.device_of["web/0.chacha"]
    cases = {
        "is on no device": replace(good, device_of={}),
        "cannot run it": replace(good, device_of={**good.device_of, task: "c0"}),
        "not every arc": replace(good, ways=good.ways[:-1]),
        "misses": replace(good, ways=good.ways[::-1]),
        "bit/s": replace(good, rate_of={"web": 1}),
        "is not free": replace(good, cores_of={"web": (CoreShare(server, 99, 1.0),)}),
        "not all its load": replace(good, cores_of={"web": (CoreShare(server, 0, 0.5),)}),
        "fewer than": replace(good, cores_of={}),
    }
    for words, broken in cases.items():
        assert any(words in problem_told for problem_told in check(problem, broken)), words
    slow = replace(problem, chains={"web": replace(problem.chains["web"], max_latency_us=2)})
    assert any("us, at most 2" in problem_told for problem_told in check(slow, good))
    tight = replace(
        problem,
        link_taken={
            ("p0e0", server): 40 * 10**9,
            (server, "p0e0"): 40 * 10**9,
            ("p1e0", server): 40 * 10**9,
        },
    )
    assert any("Gbit/s" in problem_told for problem_told in check(tight, good))

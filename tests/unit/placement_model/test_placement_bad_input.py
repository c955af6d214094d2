"""Bad input of placement: one clear error each, from the model and from the command.

Oracle: the sentences here. Blind spot: files that are no graphs or topologies at all (tests/unit/graph).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench.placement_instances import CATALOGUE, network_of
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.errors import InputError
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.chains import ChainSpec, Policy, chains_problem
from orchestrator.placement.offers import check_offers
from orchestrator.placement.topologies import fat_tree

GRAPH = Path(__file__).parents[3] / "examples" / "campus_edge" / "graph.json"
CAMPUS = load_graph(GRAPH).graph
LEAF_SPINE = load_topology("leaf-spine")


def without(on: Topology, *names: str) -> Topology:
    """Without the links of these nodes."""
    return replace(on, links=tuple(x for x in on.links if not {x.a, x.b} & set(names)))


def split() -> Topology:
    """Two islands: leaf1 with h1 and h2, leaf2 with all others."""
    return replace(
        LEAF_SPINE,
        links=tuple(x for x in LEAF_SPINE.links if {x.a, x.b} & set(LEAF_SPINE.hosts)),
    )


def test_a_host_that_is_linked_to_nothing() -> None:
    host = CAMPUS.endpoints["inside"].hosts[0]
    with pytest.raises(InputError) as caught:
        check_offers(CAMPUS, Fabric(without(LEAF_SPINE, host)))
    assert caught.value.problems == (
        f"{CAMPUS.source}: host {host} of endpoint inside is linked to no switch",
    )


def test_a_host_that_cannot_be_reached() -> None:
    one = replace(
        CAMPUS,
        traffic=CAMPUS.traffic[:1],
        endpoints={n: replace(e, hosts=e.hosts[:1]) for n, e in CAMPUS.endpoints.items()},
    )
    with pytest.raises(InputError) as caught:
        check_offers(one, Fabric(split()))
    (problem,) = caught.value.problems
    assert f"traffic {one.traffic[0].name}: host" in problem
    assert "cannot be reached from" in problem


def test_rates_over_what_the_access_links_carry() -> None:
    traffic = replace(CAMPUS.traffic[0], rate=10**15, min_rate=None)
    with pytest.raises(InputError) as caught:
        compile_graph(CompileRequest(replace(CAMPUS, traffic=(traffic,)), LEAF_SPINE))
    assert all("1e+06 Gbit/s; the access links" in p for p in caught.value.problems)
    assert len(caught.value.problems) == 2, "one for each end"


@pytest.mark.parametrize("where", ["cut off", "unlinked"])
def test_a_chains_hosts_must_reach_each_other(where: str) -> None:
    topology = fat_tree(4)
    if where == "unlinked":
        topology = without(topology, "h-p1e0-1")
        words = "chain c: host h-p1e0-1 is linked to no switch"
    else:
        topology = replace(
            topology,
            links=tuple(
                x
                for x in topology.links
                if not ("p1e0" in (x.a, x.b) and {x.a, x.b} <= set(topology.switches))
            ),
        )
        words = "chain c: h-p1e0-1 cannot be reached from h-p0e0-1"
    chain = ChainSpec("c", ("chacha",), "h-p0e0-1", "h-p1e0-1", 10**9)
    with pytest.raises(InputError) as caught:
        chains_problem(
            "t", Fabric(topology), network_of(topology), CATALOGUE, (chain,), Policy(near=True)
        )
    assert caught.value.problems == (words,)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fail", "node:leaf9"), "--fail node:leaf9: unknown node 'leaf9'; did you mean"),
        (
            ("--set", "leaf1-spine1.capacity=-1G"),
            "--set leaf1-spine1.capacity=-1G: -1G is negative",
        ),
        (
            ("--set", "server1.cores=-2"),
            "--set server1.cores=-2: -2 is negative",
        ),
        (
            ("--set", "server1.memory_bytes=4Gbit/s"),
            "unknown unit 'Gbit/s' (known: B, KiB, MiB, GiB, TiB)",
        ),
        (("--set", "server9.cores=2"), "unknown node or link 'server9'"),
        (("-t", "topohub:caida/nowhere"), "topohub:caida/nowhere: no such topology"),
    ],
)
def test_the_command_says_it_once(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app, ["whatif", str(GRAPH), *words, "--json"])
    assert isinstance(result.exception, InputError)
    (problem,) = result.exception.problems
    assert message in problem


def test_a_caida_topology_is_placed() -> None:
    from orchestrator.placement.checker import check
    from orchestrator.placement.cpsat import Limits
    from orchestrator.placement.solve import solve
    from orchestrator.placement.topologies import resolve_topology

    pytest.importorskip("topohub")
    topology = resolve_topology("topohub:caida/2024-08/1257")
    hosts = list(topology.hosts)
    chains = [
        ChainSpec(f"c{i}", ("acl", "measure", "router"), a, b, 10**9)
        for i, (a, b) in enumerate([(hosts[0], hosts[-1]), (hosts[1], hosts[2])])
    ]
    problem = chains_problem(
        "caida", Fabric(topology), network_of(topology), CATALOGUE, chains, Policy(near=True)
    )
    solution = solve(problem, objectives=("slo", "cores"), limits=Limits(seconds=10))
    assert check(problem, solution) == ()
    assert {solution.device_of[f"c{i}/1.measure"] for i in range(2)} <= set(topology.servers)

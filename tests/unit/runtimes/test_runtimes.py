"""A runtime is one file: a toy of two NFs is defined here, and graphs are compiled for servers of it.

Blind spot: nothing executes it; what a runtime does is for `servernf.conformance`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from networks import both_ways, demand, ids, make_graph, napt, topology

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.errors import InfeasibleError, InputError
from orchestrator.graph import load_topology
from orchestrator.model.elements import CostProfile
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.nfs import lookup
from orchestrator.placement.resources import used_by
from orchestrator.runtimes import Runtime, base, dpdk, register, runtime
from orchestrator.runtimes.base import DEFAULT
from servernf.dpdk.nfs import router
from servernf.proto import vnf_pb2
from servernf.python.local import LocalWorker

FAST = CostProfile(50, 0.0, "a toy's", memory_bytes=7 << 20)
SLOW = CostProfile(3_000, 0.0, "a toy's")
COSTS = {"napt": FAST, "flow_monitor": SLOW}
TOY = Runtime("toy", lambda nf: COSTS.get(nf.type))
LEAF_SPINE = topology("leaf-spine")
FEED = json.loads(Path("topologies/leaf-spine.json").read_text())


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    register(TOY)


def network(**runtimes: str) -> Topology:
    """The leaf-spine with these runtimes."""
    servers = {n: replace(LEAF_SPINE.servers[n], runtime=r) for n, r in runtimes.items()}
    return replace(LEAF_SPINE, servers={**LEAF_SPINE.servers, **servers})


def graph(*kinds: str, rate: int = 10**9) -> ServiceGraph:
    """A chain of these NFs, for traffic of small packets both ways."""
    some = {"napt": napt(), "ids": ids(), "flow_monitor": ("flow_monitor", {})}
    asked = [demand("inside", "outside", name="t", rate=rate, size=125)]
    nfs = {kind: some[kind] for kind in kinds}
    return make_graph(nfs, both_ways("inside", *nfs, "outside"), traffic=asked)


def cores(result: Compiled) -> list[str]:
    return [core.server for group in result.plan.cores_of for core in group]


def test_a_group_stands_where_the_runtime_has_its_nfs() -> None:
    both = network(server1="python", server2="toy")
    assert set(cores(compile_graph(CompileRequest(graph("napt", "ids"), both)))) == {"server1"}
    assert set(cores(compile_graph(CompileRequest(graph("ids"), network(server1="toy"))))) == {
        "server2"
    }


def test_the_story_says_why_a_group_is_on_its_runtime() -> None:
    both = network(server1="python", server2="toy")
    told = {
        s.unit: s.why
        for s in compile_graph(CompileRequest(graph("napt", "ids"), both)).bundle.stories
    }
    for unit, why in told.items():
        assert ("runtime python; toy has no ids" in why) == unit.endswith("@server")
    alone = compile_graph(CompileRequest(graph("napt", "ids"), network())).bundle
    assert not any("runtime" in story.why for story in alone.stories)


def test_costs_are_those_of_the_servers_runtime() -> None:
    """4 million packets a second: two cores of Python, a part of one of the toy; or the other way."""
    fast = graph("napt", rate=4 * 10**9)
    python, toy = network(), network(server1="toy", server2="toy")
    assert len(cores(compile_graph(CompileRequest(fast, python)))) == 2
    assert len(cores(compile_graph(CompileRequest(fast, toy)))) == 1
    assert cores(compile_graph(CompileRequest(fast, network(server2="toy")))) == ["server2"]
    slow = graph("flow_monitor", rate=10**9)
    assert len(cores(compile_graph(CompileRequest(slow, python)))) == 1
    assert len(cores(compile_graph(CompileRequest(slow, toy)))) == 3
    assert cores(compile_graph(CompileRequest(slow, network(server1="toy")))) == ["server2"]


def test_memory_is_that_of_the_servers_runtime() -> None:
    there = network(server1="toy", server2="toy")
    made = compile_graph(CompileRequest(graph("napt"), there))
    (server,) = set(cores(made))
    assert used_by({"g": made.bundle}, there).memory_bytes[server] == 7 << 20


def test_a_router_of_many_routes_takes_the_memory_that_dpdk_has() -> None:
    assert dpdk.MANY_ROUTES == router.MANY_PREFIXES, "it is the worker that decides"
    cls, there = lookup("router"), runtime("dpdk")
    routes = [{"prefix": f"10.{n >> 8}.{n & 255}.0/24"} for n in range(dpdk.MANY_ROUTES)]
    few, many = (
        cls("r", cls.Config.model_validate({"routes": routes[:count]}))
        for count in (dpdk.MANY_ROUTES - 1, dpdk.MANY_ROUTES)
    )
    assert there.memory_bytes(many) - there.memory_bytes(few) == dpdk.DPDK_BYTES
    assert runtime("python").memory_bytes(many) == runtime("python").memory_bytes(few)


def test_an_nf_that_no_runtime_has_is_refused_by_name() -> None:
    with pytest.raises(InfeasibleError) as caught:
        compile_graph(CompileRequest(graph("ids"), network(server1="toy", server2="toy")))
    assert str(caught.value) == (
        "g: ids must run on a server, and no server of leaf-spine has a runtime with ids "
        "(toy has flow_monitor, napt)"
    )


def test_a_topology_names_a_runtime_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    FEED["servers"]["server1"]["runtime"] = "toy"
    path.write_text(json.dumps(FEED))
    loaded = load_topology(path)
    assert [s.runtime for s in loaded.servers.values()] == ["toy", DEFAULT]
    FEED["servers"]["server1"]["runtime"] = "pyton"
    path.write_text(json.dumps(FEED))
    with pytest.raises(InputError) as caught:
        load_topology(path)
    assert str(caught.value) == (
        f"{path}: servers.server1.runtime: unknown runtime 'pyton'; did you mean 'python'? "
        "(known: dpdk, python, toy)"
    )


def test_the_python_runtime_has_what_its_workers_say() -> None:
    """Compile time and run time name the same NFs."""
    worker = LocalWorker("w", 0x0200_0001_0001, lambda: 0)
    told = worker.getStatus(vnf_pb2.StatusRequest()).nf_types
    assert tuple(told) == runtime("python").nf_types

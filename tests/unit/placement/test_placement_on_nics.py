"""What stands on SmartNICs, and why: what no switch holds, what is pinned; limits on packets/s.

Oracle: the plan's devices. Blind spot: several graphs' packets/s on one NIC.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from networks import campus, demand, ids, long_acl, make_graph, one_way, with_nics

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.errors import Blocking, Constraint, InfeasibleError
from orchestrator.graph import load_topology
from orchestrator.model.graph import PlacementRules, ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.whatif.scenarios import change, fail, fail_each


@pytest.fixture(scope="module")
def nics(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    """leaf-spine with a NIC in each server."""
    folder = tmp_path_factory.mktemp("nics")
    return load_topology(with_nics(folder, packets_per_second=1_000_000))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    """Only NICs have room for a long access list."""
    return load_topology(with_nics(tmp_path_factory.mktemp("full"), 100))


def guarded(rules: int = 300, **placement: object) -> ServiceGraph:
    graph = make_graph(
        {"a": long_acl(rules), "i": ids()}, one_way("inside", "a", "i", "outside"), name="guarded"
    )
    return replace(graph, placement=PlacementRules(**placement))  # type: ignore[arg-type]


def compiled(graph: ServiceGraph, topology: Topology) -> Compiled:
    return compile_graph(CompileRequest(graph, topology))


def on_nics(result: Compiled) -> dict[str, str]:
    return {s.unit: s.why for s in result.bundle.stories if s.device.endswith("-nic")}


def test_what_switches_hold_is_not_there(nics: Topology) -> None:
    assert on_nics(compiled(guarded(), nics)) == {}
    assert on_nics(compiled(campus(), nics)) == {}


def test_what_no_switch_holds_is_there_and_says_why(full: Topology) -> None:
    result = compiled(guarded(), full)
    why_there = on_nics(result)
    why = "a NIC: leaf1 has room for 100 entries of acl.ipv4, not for 301"
    assert why in why_there["a.inside.rules@leaf1"]
    behind = [
        why for why in why_there.values() if "behind a.inside.rules@leaf1, which is there" in why
    ]
    assert behind
    assert not any("runs on a server" in warning for warning in result.bundle.warnings)
    # Without NICs the access list ends on the server.
    bare = full
    for server in bare.servers:
        bare = change(bare, f"{server}.nics=none")
    assert not any(s.server for s in bare.switches.values())
    assert any("runs on a server" in w for w in compiled(guarded(), bare).bundle.warnings)


def test_what_is_pinned_is_there(nics: Topology) -> None:
    result = compiled(guarded(pinned={"a": "server2-nic", "i": "server2"}), nics)
    assert {s.device for s in result.bundle.stories if s.unit.startswith("a.")} == {"server2-nic"}
    assert "placement.pin says server2-nic" in on_nics(result)["a.inside.rules@leaf1"]


def test_more_packets_than_it_carries_are_refused(nics: Topology) -> None:
    """1,000,000 packets/s, each in and out: 400,000 of a chain fit, 600,000 do not."""
    for packets, fits in ((400_000, True), (600_000, False)):
        graph = guarded(2, pinned={"i": "server1"})
        graph = replace(graph, traffic=(demand(rate=packets * 8 * 800, size=800),))
        if fits:
            compiled(graph, nics)
            continue
        with pytest.raises(InfeasibleError) as caught:
            compiled(graph, nics)
        assert Blocking(Constraint.PACKETS, ("server1-nic",)) in caught.value.blocking
        assert "server1-nic carries 1,000,000 packets/s" in str(caught.value)


def test_what_fails_with_it(nics: Topology) -> None:
    """A server's NIC goes with it; the ports of a NIC to its server fail as one."""
    assert "server1-nic" not in fail(nics, "node:server1").switches
    cut = fail(nics, "link:server1-nic-server1")
    assert not any("server1" in (x.a, x.b) for x in cut.links)
    names = [scenario.name for scenario in fail_each(nics, "link")]
    assert len(names) == len(set(names))

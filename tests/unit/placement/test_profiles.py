"""Plans with what was measured: costs of NFs and frames, switches' packets/s, latency and its parts.

Oracle: the profiles' figures, added up by hand. Blind spot: whether they are true of a machine, which
`make bench ONLY=predicted_saturation_error` asks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from networks import ids, make_graph, one_way

from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.errors import Constraint, InfeasibleError, InputError
from orchestrator.graph import functions_of, load_graph
from orchestrator.model.graph import ServiceGraph
from orchestrator.nfs.base import known_types
from orchestrator.placement.topologies import resolve_topology
from orchestrator.profiles import (
    FOLDER,
    SHIPPED,
    CostPoint,
    Measurement,
    NfCost,
    RuntimeProfile,
    SwitchProfile,
    between,
    dumped,
    runtime_profile,
    switch_profile,
)
from orchestrator.profiling.workloads import WORKLOADS
from orchestrator.runtimes import runtime
from orchestrator.whatif.cases import Settings
from orchestrator.whatif.run import capacity_end, run_scenario
from orchestrator.whatif.scenarios import RATE, Case, Scenario, change

HERE = Measurement(
    cpu="a CPU", cycles_per_second=10**9, system="Linux", when="2026-11-30", software="tests"
)
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def point(size: int, ns: float, entries: int = 0, *, fresh: bool = False) -> CostPoint:
    return CostPoint(bytes=size, entries=entries, fresh=fresh, ns=ns)


PYTHON = RuntimeProfile(
    name="python",
    measured=HERE,
    frame_ns={64: 8_000, 1500: 10_000},
    alone_us=50,
    nfs={
        "ids": NfCost(
            points=(
                point(64, 4_000),
                point(1500, 8_000),
                point(64, 9_000, 1000),
                point(64, 1, fresh=True),
            )
        ),
    },
)
SOFTSWITCH = SwitchProfile(
    name="softswitch", measured=HERE, pass_ns={64: 30_000, 1500: 40_000}, alone_us=100
)


@pytest.fixture(autouse=True)
def _measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "python.json").write_text(dumped(PYTHON))
    (folder / "softswitch-switch.json").write_text(dumped(SOFTSWITCH))
    monkeypatch.setenv(FOLDER, str(folder))


def watched(rate: int, size: int = 64, *, latency: int | None = None) -> ServiceGraph:
    graph = make_graph({"i": ids()}, one_way("inside", "i", "outside"), name="watched")
    traffic = [
        replace(t, rate=rate, packet_bytes=size, max_latency_us=latency) for t in graph.traffic
    ]
    return replace(graph, traffic=tuple(traffic))


def compiled(graph: ServiceGraph) -> Compiled:
    topology = resolve_topology("leaf-spine")
    switches = {n: replace(s, target="softswitch") for n, s in topology.switches.items()}
    return compile_graph(CompileRequest(graph, replace(topology, switches=switches)))


def pps(packets: int, size: int = 64) -> int:
    return packets * 8 * size


def test_a_core_is_planned_with_its_frames_and_its_nfs() -> None:
    load = compiled(watched(pps(10_000))).plan.core_load
    # 8 us for a frame and 4 us in the IDS, of which one packet in 100 us is 12 %.
    assert list(load.values()) == [pytest.approx(0.12, abs=0.001)]


def test_sizes_between_the_measured_ones_and_entries_count() -> None:
    assert between({64: 1.0, 1500: 2.0}, 782) == 1.5
    assert (between({64: 1.0, 1500: 2.0}, 20), between({64: 1.0, 1500: 2.0}, 9000)) == (1.0, 2.0)
    cost = PYTHON.nfs["ids"]
    assert cost.ns(64, 500) == 4_000 + 2_500
    assert cost.ns(1500, 10**6) == 8_000 + 5_000


FIREWALL = NfCost(points=(point(64, 50_000), point(1500, 60_000), point(64, 250_000, fresh=True)))


def test_packets_that_begin_a_flow_cost_what_was_measured_of_them() -> None:
    """At any size they cost so much more; where nothing was measured, they cost no more."""
    assert FIREWALL.ns(64) == 50_000
    assert FIREWALL.ns(64, new_flows=1.0) == 250_000
    assert FIREWALL.ns(1500, new_flows=0.1) == 60_000 + 20_000
    assert PYTHON.nfs["ids"].ns(64, 1000, 0.5) == pytest.approx(9_000 - 0.5 * 3_999)
    assert NfCost(points=FIREWALL.points[:2]).ns(64, new_flows=1.0) == 50_000


def guarded(packets: int, new_flows: float) -> ServiceGraph:
    edges = one_way("inside", "f", "outside")
    firewall = ("stateful_firewall", {"default": "permit"})
    graph = make_graph({"f": firewall}, edges, name="guarded")
    traffic = [
        replace(t, rate=pps(packets), packet_bytes=64, new_flows=new_flows) for t in graph.traffic
    ]
    return replace(graph, traffic=tuple(traffic))


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, NfCost], None]:
    """Have a folder of that name in which a firewall's cost was measured, too."""

    def measured(name: str, firewall: NfCost) -> None:
        folder = tmp_path / name
        folder.mkdir()
        nfs = {**PYTHON.nfs, "stateful_firewall": firewall}
        (folder / "python.json").write_text(dumped(PYTHON.model_copy(update={"nfs": nfs})))
        (folder / "softswitch-switch.json").write_text(dumped(SOFTSWITCH))
        monkeypatch.setenv(FOLDER, str(folder))

    return measured


def test_a_plan_counts_new_flows(measure: Callable[[str, NfCost], None]) -> None:
    """10,000 packets/s of 8 + 50 us are one core's work; if one in ten begins a flow, they are not."""
    measure("new", FIREWALL)
    plans = [compiled(guarded(10_000, share)).plan for share in (0.0, 0.1, 0.5)]
    loads = [sum(plan.core_load.values()) for plan in plans]
    assert loads == pytest.approx([0.58, 0.78, 1.58], abs=0.01)
    assert [len(plan.core_load) for plan in plans] == [1, 2, 3]


def test_a_plan_says_where_new_flows_were_not_measured(
    measure: Callable[[str, NfCost], None],
) -> None:
    note = "f (stateful_firewall): packets that begin a flow count as others, unmeasured"
    measure("new", FIREWALL)
    assert note not in compiled(guarded(1_000, 0.5)).plan.notes
    measure("known", NfCost(points=FIREWALL.points[:2]))
    for share in (0.0, 0.5):
        assert (note in compiled(guarded(1_000, share)).plan.notes) is bool(share)


def test_what_if_keeps_the_share_of_new_flows() -> None:
    case = Case((guarded(20_000, 0.5),), None, resolve_topology("leaf-spine"))
    (twice,) = Scenario("twice", total_rate=pps(40_000)).apply(case).graphs
    assert [(t.rate, t.new_flows) for t in twice.traffic] == [(pps(40_000), 0.5)]


def test_an_nf_that_was_not_measured_costs_its_estimate() -> None:
    there = runtime("python")
    graph = make_graph({"i": ids()}, one_way("inside", "i", "outside"))
    (nf,) = functions_of(graph).values()
    assert there.cycles(nf, 64) == pytest.approx(4_000, rel=0.01)
    assert "measured on a CPU at 1.00 GHz" in there.source(nf)
    (monitor,) = functions_of(
        make_graph({"m": ("flow_monitor", {})}, one_way("inside", "m", "outside"))
    ).values()
    assert there.cycles(monitor, 64) == 400
    assert "estimate" in there.source(monitor)


def test_more_packets_than_a_switch_carries_are_refused_with_the_reason() -> None:
    assert compiled(watched(pps(10_000))).plan.device_of
    with pytest.raises(InfeasibleError) as refused:
        compiled(watched(pps(100_000, 1500), 1500))
    assert "carries 33,333 packets/s" in str(refused.value)
    assert Constraint.PACKETS in {cause.kind for cause in refused.value.blocking}


def test_what_the_topology_says_of_a_switch_counts_instead() -> None:
    topology = resolve_topology("leaf-spine")
    for name in topology.switches:
        topology = change(topology, f"{name}.packets_per_second=1000000")
        topology = change(topology, f"{name}.target=softswitch")
    graph = watched(pps(40_000, 1500), 1500)
    plan = compile_graph(CompileRequest(graph, topology)).plan
    assert plan.device_of


def test_latency_says_what_was_measured() -> None:
    plan = compiled(watched(pps(1_000))).plan
    # 50 us until the worker wakes, 12 us of work, which a packet waits 1.5 times as long for others.
    (line,) = [note for note in plan.notes if note.startswith("latency of ")]
    assert "in switches (measured)" in line
    assert "62 in servers (measured), 18 in their queues (M/D/1, were cores 75% busy" in line
    assert any("costs of NFs on runtime python: measured on a CPU" in n for n in plan.notes)
    assert any("softswitch: at most 33,333 packets/s, measured on" in n for n in plan.notes)


def test_an_slo_counts_what_was_measured() -> None:
    with pytest.raises(InfeasibleError, match="latency at most 200 us"):
        compiled(watched(pps(1_000), latency=200))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "name: Field required"),
        (json.dumps(json.loads(dumped(PYTHON)) | {"frame_ns": {}}), "no size was measured"),
        (json.dumps(json.loads(dumped(PYTHON)) | {"alone_us": -1}), "alone_us: "),
        (json.dumps(json.loads(dumped(PYTHON)) | {"more": 1}), "more: Extra inputs"),
        (
            json.dumps(json.loads(dumped(PYTHON)) | {"nfs": {"ids": {"points": []}}}),
            "nfs.ids: no point",
        ),
    ],
)
def test_a_profile_that_is_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "python.json").write_text(text)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(InputError) as refused:
        runtime_profile("python")
    assert said in str(refused.value)


def test_shipped_profiles_have_every_nf_of_their_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER)
    assert set(WORKLOADS) == set(known_types())
    python, dpdk = runtime_profile("python"), runtime_profile("dpdk")
    assert python is not None
    assert set(python.nfs) == set(runtime("python").nf_types)
    assert dpdk is not None
    assert switch_profile("softswitch") is not None
    assert (SHIPPED / "python.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("example", ["campus_edge", "service_edge", "branch_office", "web_service"])
def test_the_shipped_examples_fit_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    monkeypatch.delenv(FOLDER)
    graph = load_graph(EXAMPLES / example / "graph.json").graph
    assert compiled(graph).plan.device_of


def test_a_sweep_says_where_capacity_ends_and_what_ends_it() -> None:
    topology = resolve_topology("leaf-spine")
    switches = {n: replace(s, packets_per_second=30_000) for n, s in topology.switches.items()}
    case = Case((watched(pps(1_000)),), None, replace(topology, switches=switches))
    steps = [Scenario(f"{RATE}{n}", total_rate=pps(n)) for n in (1_000, 10_000, 100_000)]
    outcomes = [run_scenario(case, step, Settings()) for step in steps]
    assert [o.slo_met for o in outcomes] == [True, True, False]
    end = capacity_end(outcomes)
    assert end.startswith("capacity ends between rate=10000 and rate=100000: ")
    assert "leaf1 carries 30,000 packets/s" in end
    assert "there is no way" not in end
    assert capacity_end(outcomes[:2]) == ""
    assert any(
        "costs of NFs on runtime python: measured on a CPU" in s for s in outcomes[0].sources
    )


def test_ways_that_exclude_each_other_load_a_core_once() -> None:
    nfs = {
        "f": ("stateful_firewall", {"default": "permit"}),
        "d": ("dnat", {"address": "203.0.113.5"}),
    }
    graph = make_graph(nfs, one_way("inside", "f", "d", "outside"), name="two")
    traffic = tuple(replace(t, rate=pps(10_000), packet_bytes=64) for t in graph.traffic)
    load = compiled(replace(graph, traffic=traffic)).plan.core_load
    # 8 us for a frame; what was not measured costs 700 and 519 cycles, which are ns here.
    assert list(load.values()) == [pytest.approx(0.0922, abs=0.0005)]

"""Scenarios: what changes, what is missed, and that finished results survive Ctrl-C and dead workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ortools.sat.python import cp_model
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError, ReportedError
from orchestrator.graph import load_graph, load_topology
from orchestrator.placement import interruptible
from orchestrator.placement.topologies import fat_tree, resolve_topology
from orchestrator.units import RATES, parse_quantity
from orchestrator.whatif import run as whatif_module
from orchestrator.whatif.cases import Settings
from orchestrator.whatif.parallel import in_processes
from orchestrator.whatif.run import ScenarioOutcome, run_dask, run_local, run_scenario, unchanged
from orchestrator.whatif.scenarios import Case, Scenario, change, fail_each, parse_rate, sweep

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
GRAPH = ROOT / "examples" / "campus_edge" / "graph.json"


def campus() -> Case:
    return Case((load_graph(GRAPH).graph,), None, load_topology("leaf-spine"))


def outcome(**changes: object):
    return run_scenario(campus(), Scenario("x", **changes), Settings())  # type: ignore[arg-type]


def test_a_failed_server_moves_its_work() -> None:
    base = outcome()
    assert base.slo_met
    server = next(d for d in base.device_of.values() if d.startswith("server"))
    other = {"server1": "server2", "server2": "server1"}[server]
    failed = outcome(fail=(f"node:{server}",))
    assert failed.slo_met
    assert other in failed.device_of.values()
    assert server not in failed.device_of.values()


def test_too_much_traffic_says_how_much_is_missed() -> None:
    result = outcome(scale=("traffic=1000x",))
    assert not result.slo_met
    assert all(0 < share <= 1 for share in result.missed.values())
    assert "cores at" in result.why


def test_without_offload_runs_all_on_servers() -> None:
    result = outcome(without_offload=True)
    assert all(
        device.startswith("server")
        for task, device in result.device_of.items()
        if not task.startswith("deliver")
    )


def test_cut_off_traffic_is_missed_not_an_error() -> None:
    result = outcome(fail=("link:leaf1-h1", "link:leaf1-h2"))
    assert result.status == "INFEASIBLE"
    assert "cut off" in result.why


@pytest.mark.parametrize("fail", ["link:leaf1-h2", "node:h2"])
def test_the_traffic_of_a_host_that_is_cut_off_is_lost(fail: str) -> None:
    """Of two hosts at the end of a traffic, one is: half of it."""
    base, result = outcome(), outcome(fail=(fail,))
    lost = {name: share for name, share in result.missed.items() if share}
    assert lost
    assert set(lost.values()) == {0.5}
    for name in lost:
        assert result.rate_of[name] == base.rate_of[name] // 2
    assert not result.slo_met


def test_a_pin_to_what_has_failed_is_a_pin_that_cannot_hold() -> None:
    case = campus()
    (graph,) = case.graphs
    nf = next(iter(graph.nfs))
    pinned = replace(graph, placement=replace(graph.placement, pinned={nf: "server1"}))
    case = replace(case, graphs=(pinned,))
    assert run_scenario(case, Scenario("now"), Settings()).slo_met
    result = run_scenario(case, Scenario("x", fail=("node:server1",)), Settings())
    assert result.status == "INFEASIBLE"
    assert result.why == f"{nf} is pinned to server1, which has failed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fail": ("node:leaf9",)}, "unknown node 'leaf9'"),
        ({"fail": ("link:leaf1-leaf2",)}, "unknown link 'leaf1-leaf2'"),
        ({"fail": ("leaf1",)}, "say link:a-b or node:name"),
        ({"set": ("server1.cors=8",)}, "did you mean 'cores'"),
        ({"set": ("server1.cores=-8",)}, "is negative"),
        ({"set": ("leaf1-server1.capacity=-1",)}, "is negative"),
        ({"set": ("server7.cores=8",)}, "unknown node or link 'server7'"),
        ({"set": ("leaf1.target=asic",)}, "unknown target 'asic'"),
        ({"set": ("leaf1.table_sizes.acl.ip4=8",)}, "did you mean 'acl.ipv4'"),
        ({"scale": ("webb=2x",)}, "did you mean 'web'"),
        ({"scale": ("traffic=-2x",)}, "a factor above 0"),
    ],
)
def test_wrong_names_are_one_clear_error(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        Scenario("x", **changes).apply(campus())  # type: ignore[arg-type]
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_fails_unused_is_not_placed_anew() -> None:
    """And placing it anew comes to the same."""
    case, settings = campus(), Settings()
    base = run_scenario(case, Scenario("now"), settings)
    (used,) = {d for d in base.device_of.values() if d.startswith("server")}
    (idle,) = set(case.topology.servers) - {used}
    scenario = Scenario("idle", fail=(f"node:{idle}",))
    result = unchanged(case, scenario, settings, base)
    anew = run_scenario(case, scenario, settings, base.device_of)
    assert result is not None
    assert (result.cores, result.latency_us, result.missed) == (
        anew.cores,
        anew.latency_us,
        anew.missed,
    )
    for fail in (f"node:{used}", "node:spine1", "link:leaf1-spine1"):
        assert unchanged(case, Scenario("x", fail=(fail,)), settings, base) is None
    both = replace(scenario, scale=("traffic=2x",))
    assert unchanged(case, both, settings, base) is None
    assert unchanged(case, scenario, settings, replace(base, status="FEASIBLE")) is None
    outcomes = run_local(case, fail_each(case.topology, "node"), settings, processes=1)
    assert [o.scenario for o in outcomes[1:]] == [s.name for s in fail_each(case.topology, "node")]
    assert [o.scenario for o in outcomes if not o.seconds] == [f"fail {idle}"]


def test_sweep_and_n_minus_1() -> None:
    assert [s.total_rate for s in sweep("rate=1G..10G:4")] == [10**9, 4 * 10**9, 7 * 10**9, 10**10]
    with pytest.raises(InputError):
        sweep("rate=10G..1G:4")
    names = [s.name for s in fail_each(campus().topology, "link")]
    assert {"fail leaf1-spine1", "fail leaf1-h1"} <= set(names)


def test_generated_fat_tree() -> None:
    topology = resolve_topology("fattree:8")
    assert (len(topology.switches), len(topology.servers), len(topology.hosts)) == (80, 32, 96)
    assert len(topology.links) == 3 * 128
    assert fat_tree(4) == fat_tree(4)
    with pytest.raises(InputError, match="even number"):
        resolve_topology("fattree:5")


def test_topohub_names() -> None:
    pytest.importorskip("topohub")
    topology = resolve_topology("topohub:sndlib/germany50")
    assert (len(topology.switches), len(topology.servers), len(topology.hosts)) == (50, 13, 50)
    with pytest.raises(InputError, match="no such topology"):
        resolve_topology("topohub:sndlib/nowhere")


def test_command_prints_json_and_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "out.svg"
    result = CliRunner().invoke(
        app,
        ["whatif", str(GRAPH), "--fail", "node:spine1", "--json", "--plot", str(plot)],
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [s["scenario"] for s in told["scenarios"]] == ["now", "fail spine1"]
    assert all(s["slo_met"] for s in told["scenarios"])
    assert all(Path(name).stat().st_size > 1000 for name in told["plots"])


class Stub:
    """Scenarios that do nothing: the first is done at once, the others wait for what never comes."""

    def __init__(self) -> None:
        self.begun: Any = multiprocessing.Value("i", 0)
        self.waiting: Any = multiprocessing.Semaphore(0)
        self.never: Any = multiprocessing.Event()

    def __call__(self, case: Case, scenario: Scenario, *_: object, **__: object) -> ScenarioOutcome:
        if scenario.name not in ("now", "0"):
            with self.begun:
                self.begun.value += 1
            self.waiting.release()
            self.never.wait()
        return ScenarioOutcome(scenario.name, "FEASIBLE")


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="a stub is not inherited")
def test_ctrl_c_keeps_finished_results_and_ends_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub()
    monkeypatch.setattr(whatif_module, "run_scenario", stub)

    def progress(outcome: ScenarioOutcome) -> None:
        if outcome.scenario == "0":
            stub.waiting.acquire()  # another one runs
            raise KeyboardInterrupt

    scenarios = [Scenario(str(number)) for number in range(50)]
    case = Case((), None, load_topology("single"))
    before = multiprocessing.active_children()
    done = run_local(case, scenarios, Settings(), processes=2, progress=progress)
    assert [outcome.scenario for outcome in done] == ["now", "0"]
    assert multiprocessing.active_children() == before
    assert stub.begun.value <= 2  # one of each process, and nothing of the queue


@pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="a stub is not inherited")
def test_a_process_that_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 3:
            raise InputError("three")
        return -number

    assert sorted(in_processes(work, [0, 1, 4, 5], 3)) == [-5, -4, -1, 0]
    with pytest.raises(ReportedError, match=r"ended by signal 9 \(SIGKILL\)"):
        list(in_processes(work, [2], 1))
    with pytest.raises(InputError, match="three"):
        list(in_processes(work, [3, 1], 2))


def test_an_interrupted_command_shows_what_is_done_and_returns_130(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stub(case: Case, scenario: Scenario, *_: object, **__: object) -> ScenarioOutcome:
        if scenario.total_rate == 3 * 10**9:
            raise KeyboardInterrupt
        return ScenarioOutcome(scenario.name, "FEASIBLE")

    monkeypatch.setattr(whatif_module, "run_scenario", stub)
    words = ["whatif", str(GRAPH), "--sweep", "rate=1G..4G:4", "--processes", "1"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 130
    told = json.loads(result.stdout)
    assert told["interrupted"]
    assert len(told["scenarios"]) == 3
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 130
    assert "interrupted: 3 of 5 scenarios are finished" in result.output


def test_ctrl_c_stops_a_search() -> None:
    class Solver:
        """Finds nothing until it is told to stop; Ctrl-C comes while it searches."""

        def __init__(self) -> None:
            self.stopped = threading.Event()

        def solve(self, _: object) -> cp_model.CpSolverStatus:
            os.kill(os.getpid(), signal.SIGINT)
            self.stopped.wait()
            return cp_model.UNKNOWN

        def stop_search(self) -> None:
            self.stopped.set()

    solver: Any = Solver()
    with pytest.raises(KeyboardInterrupt):
        interruptible.solve(solver, cp_model.CpModel())
    assert solver.stopped.is_set()


@pytest.mark.slow
def test_dask_survives_a_killed_worker() -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    ) as cluster:
        victim = next(iter(cluster.workers.values())).pid
        killed: list[int] = []

        def progress(_: object) -> None:
            if not killed:
                killed.append(victim)
                os.kill(victim, signal.SIGKILL)

        scenarios = sweep("rate=100M..2G:5")
        done = run_dask(
            campus(), scenarios, Settings(), cluster.scheduler_address, progress=progress
        )
        assert killed
        assert [o.scenario for o in done] == ["now", *(s.name for s in scenarios)]
    local = run_local(campus(), scenarios[:2], Settings(), processes=1)
    assert [o.cores for o in local] == [o.cores for o in done[:3]]


def test_units_are_those_of_files() -> None:
    """As topology files have them, and short, in both."""
    topology = load_topology("leaf-spine")
    assert change(topology, "server1.memory_bytes=2GiB").servers["server1"].memory_bytes == 2 << 30
    assert change(topology, "leaf1-spine1.latency_us=2ms").links[6].latency_us == 2000
    for text in ("40G", "40 Gbit/s", "40000M", "40000000000"):
        assert parse_rate(text) == 40 * 10**9
        assert parse_quantity(text, RATES, "1G") == 40 * 10**9

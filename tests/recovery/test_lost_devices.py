"""Devices that end, restart or run something else while a change is under way: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from finsy.proto import p4r
from networks import ids, make_graph, one_way, permits, topology
from recovery_controller import Job, do, run, state_home
from recovery_devices import devices, read_state

from orchestrator.clients.p4info import clone_session_update, flood_update
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.journal import Journal
from orchestrator.errors import DeploymentError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact, FloodGroup, Lpm, TableEntry
from orchestrator.network.inventory import Inventory

ROUTER = Path(__file__).resolve().parents[1] / "p4" / "softswitch" / "router"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", state_home(tmp_path))


def bundle() -> Bundle:
    graph = make_graph(
        {"a": permits(), "ids": ids()}, one_way("inside", "a", "ids", "outside"), name="g"
    )
    return compile_graph(CompileRequest(graph, topology("single"))).bundle


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def switch_state(network: Inventory) -> set[str]:
    return {text for device, text in read_state(network, workers=False)}


def pipeline(network: Inventory) -> bytes:
    (switch,) = network.pipelines.values()
    with SwitchClient("s", switch.address, switch.device_id, primary=False) as client:
        config = client.pipeline_config()
        assert config is not None
        return config.p4_device_config


def fill(network: Inventory) -> None:
    """Entries of another controller's program, and what they refer to."""
    (switch,) = network.pipelines.values()
    with SwitchClient("s", switch.address, switch.device_id) as client:
        client.pipeline_cookie()
        assert client.schema is not None
        entries = [
            TableEntry("ig.ipv4_lpm", (("dst", Lpm(10 << 24, 8)),), "ig.route",
                       (("port", 3), ("dst", 7)), 0, "mine"),
            TableEntry("ig.l2", (("dst", Exact(5)), ("vid", Exact(1))), "ig.flood",
                       (("group", 9),), 0, "mine"),
        ]  # fmt: skip
        insert = p4r.Update.INSERT
        client.write([flood_update(FloodGroup(9, (1, 2), "mine"), insert)])
        client.write([clone_session_update(33, 2, (1, 2), insert)])
        client.write(client.schema.updates(entries, "other", insert))


def nothing_left(network: Inventory) -> bool:
    journal = Journal(network.name)
    return journal.intent() is None and not journal.deployed()


def test_a_server_that_is_down_undoes_a_deployment(tmp_path: Path) -> None:
    with devices(tmp_path, "single") as started:
        network = started.inventory
        end(started.workers)
        with pytest.raises(DeploymentError, match=r"no answer from unix:.* network is as it was"):
            do(Job.change(network, "g", bundle()))
        assert nothing_left(network)
        assert not switch_state(network)


def test_a_server_that_ends_does_not_keep_recovery_up(tmp_path: Path) -> None:
    with devices(tmp_path, "single") as started:
        network = started.inventory
        job = Job.change(network, "g", bundle())
        steps = run(job)
        do(Job.change(network, "g", None))
        assert steps is not None
        assert run(job, kill_at=steps * 2 // 3) is None
        end(started.workers)
        recovered = do(Job(network))
        assert recovered is not None
        assert recovered.outcome == "undone"
        assert any("no answer from unix:" in told for told in recovered.amiss)
        assert nothing_left(network)
        assert not switch_state(network)


def test_a_switch_that_restarts_empty_does_not_keep_recovery_up(tmp_path: Path) -> None:
    with devices(tmp_path, "single") as started:
        network = started.inventory
        job = Job.change(network, "g", bundle())
        steps = run(job)
        do(Job.change(network, "g", None))
        assert steps is not None
        assert run(job, kill_at=steps * 2 // 3) is None
        (switch,) = network.pipelines.values()
        end(*started.pids.values())
        with pytest.raises(DeploymentError, match=r"cannot be undone yet: .* no answer from 127"):
            do(Job(network))
        argv = [sys.executable, "-m", "orchestrator.softswitch", "--grpc-addr", switch.address]
        options = ["--device-id", str(switch.device_id)]
        with subprocess.Popen([*argv, *options], stdout=subprocess.PIPE) as again:
            assert again.stdout is not None
            again.stdout.readline()
            recovered = do(Job(network))
            again.terminate()
        assert recovered is not None
        assert any("runs no pipeline: it has restarted" in told for told in recovered.amiss)
        assert nothing_left(network)


@pytest.mark.parametrize("killed", [False, True])
def test_a_replaced_pipeline_comes_back_with_what_was_on_it(tmp_path: Path, killed: bool) -> None:
    with devices(tmp_path, "single", first=str(ROUTER)) as started:
        network = started.inventory
        fill(network)
        before, program = switch_state(network), pipeline(network)
        assert len(before) >= 4
        job = Job.change(network, "g", bundle())
        if killed:
            # Intent, stage, saved pipeline, pipeline: each a step before and one after.
            assert run(job, kill_at=9) is None
            assert pipeline(network) != program
            assert not switch_state(network)
            do(Job(network))
        else:
            end(started.workers)
            with pytest.raises(DeploymentError, match="the network is as it was before"):
                do(job)
        assert pipeline(network) == program
        assert switch_state(network) == before
        assert nothing_left(network)

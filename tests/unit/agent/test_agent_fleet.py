"""The workers of a server: started once, again when they end, remembered, and ended.

The workers are real processes that sleep (tests/agents.py).
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from agents import agent, configuration, ended, spec
from support import eventually

from servernf.agent.errors import DoesNotStart, NoSuchWorker, WorkerExists
from servernf.agent.keeper import RunState
from servernf.agent.memory import WorkerMemory
from servernf.agent.specs import WorkerSpec
from servernf.wire.addresses import device_mac
from servernf.wire.errors import InputError

pytestmark = pytest.mark.slow


def test_started_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started:
        first = started.fleet.start(spec())
        assert first.state is RunState.RUNNING
        assert started.fleet.start(spec()) == first
        assert started.fleet.workers() == [(spec(), first)]
        assert (tmp_path / "core1.sock").is_socket()
        started.fleet.stop(spec().name)
        assert ended(first.pid)
        assert started.fleet.workers() == []
        started.fleet.stop(spec().name)


def test_one_that_does_not_heed_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when the agent itself ends: nothing stays behind that would keep the worker's place."""
    (tmp_path / "deaf").touch()
    with agent(monkeypatch, configuration(tmp_path)) as started:
        first = started.fleet.start(spec())
        os.kill(first.pid, signal.SIGTERM)
        again = started.fleet.restart(spec().name)[1]
        assert ended(first.pid)
        assert again.pid not in (0, first.pid)
        started.fleet.stop(spec().name)
        assert ended(again.pid)
        last = started.fleet.start(spec())
    assert ended(last.pid)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (
            spec(memory_bytes=1 << 30),
            "name: worker server1.1 is there with memory_bytes 0, not",
        ),
        (spec(name="x"), "core: 0 is that of server1.1"),
        (spec(1, mac=spec().mac), "mac: server1.1 has 02:00:00:01:00:01"),
        (spec(1, interface="vf0"), "interface: server1.1 has interface vf0"),
        (spec(1, interface="", macvlan_on="vf0"), "macvlan_on: server1.1 has interface vf0"),
    ],
)
def test_what_another_worker_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: WorkerSpec, told: str
) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started:
        running = started.fleet.start(spec())
        with pytest.raises(WorkerExists, match=told):
            started.fleet.start(other)
        assert started.fleet.workers() == [(spec(), running)]


def test_one_that_does_not_start_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started:
        started.refuse.touch()
        with pytest.raises(DoesNotStart, match=r"server1\.1: ended: exit code 1: its cable is not"):
            started.fleet.start(spec())
        with pytest.raises(DoesNotStart, match="runtime 'dpdk' is not installed here"):
            started.fleet.start(spec(runtime="dpdk"))
        assert started.fleet.workers() == []
        assert started.memory.read() == []
        started.refuse.unlink()
        assert started.fleet.start(spec()).state is RunState.RUNNING


def test_killed_and_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started:
        pid = started.fleet.start(spec()).pid
        started.refuse.touch()
        os.kill(pid, signal.SIGKILL)
        down = eventually(
            lambda: (
                next(c for _, c in started.fleet.workers() if "cable" in c.reason)
                if "cable" in started.fleet.workers()[0][1].reason
                else None
            )
        )
        assert down.state is RunState.RESTARTING
        with pytest.raises(DoesNotStart, match="its cable"):
            started.fleet.start(spec())
        assert started.fleet.workers(), "it was there before, so it is not forgotten"
        started.refuse.unlink()
        again = eventually(
            lambda: [c for _, c in started.fleet.workers() if c.state is RunState.RUNNING]
        )
        assert again[0].pid != pid
        assert again[0].restarts > 0
        assert again[0].reason == ""


def test_not_started_again_where_that_is_not_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with agent(monkeypatch, configuration(tmp_path), restarts=False) as started:
        os.kill(started.fleet.start(spec()).pid, signal.SIGKILL)
        failed = eventually(
            lambda: [c for _, c in started.fleet.workers() if c.state is RunState.FAILED]
        )
        assert (failed[0].reason, failed[0].pid) == ("ended: SIGKILL", 0)
        assert started.fleet.restart(spec().name)[1].state is RunState.RUNNING


def test_restarted_on_demand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started:
        first = started.fleet.start(spec())
        os.kill(first.pid, signal.SIGSTOP)  # it hears of SIGTERM when it goes on
        told, again = started.fleet.restart(spec().name)
        assert (told, again.state, again.restarts) == (spec(), RunState.RUNNING, 0)
        assert again.pid != first.pid
        assert ended(first.pid)
        with pytest.raises(NoSuchWorker, match=r"unknown worker 'server1.9'"):
            started.fleet.restart("server1.9")


def test_what_ran_runs_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = configuration(tmp_path)
    with agent(monkeypatch, config) as started:
        pids = {started.fleet.start(spec(core)).pid for core in (0, 1, 2)}
        started.fleet.stop(spec(1).name)
    assert all(map(ended, pids))
    with agent(monkeypatch, config) as started:
        running = eventually(
            lambda: (
                all(c.state is RunState.RUNNING for _, c in started.fleet.workers())
                and started.fleet.workers()
            )
        )
        assert [asked for asked, _ in running] == [spec(0), spec(2)]
        assert not pids & {condition.pid for _, condition in running}


def test_what_cannot_run_yet_after_a_boot_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = configuration(tmp_path)
    with agent(monkeypatch, config) as started:
        started.fleet.start(spec())
        started.refuse.touch()
    with agent(monkeypatch, config) as started:
        eventually(lambda: "cable" in started.fleet.workers()[0][1].reason)
        started.refuse.unlink()
        eventually(lambda: started.fleet.workers()[0][1].state is RunState.RUNNING)


def test_a_second_worker_does_not_listen_beside_a_stranger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started:
        (tmp_path / "core2.sock").symlink_to(tmp_path / "core1.sock")
        started.fleet.start(spec())
        with pytest.raises(DoesNotStart, match=r"core2\.sock: something else listens there"):
            started.fleet.start(spec(1))


def test_what_is_remembered_is_read_strictly(tmp_path: Path) -> None:
    memory = WorkerMemory(tmp_path)
    asked = [spec(), replace(spec(1), cpu=0, memory_bytes=1 << 30, mac=device_mac(9, core=2))]
    memory.write(asked)
    assert memory.read() == asked
    file = tmp_path / "workers.json"
    assert file.stat().st_mode & 0o777 == 0o600
    for damaged in ("", "[]", '{"format": 2}', file.read_text().replace('"core"', '"cor"')):
        file.write_text(damaged)
        with pytest.raises(InputError, match="moved away, the agent starts without workers"):
            memory.read()
    with pytest.raises(InputError, match=r"another agent runs with"):
        WorkerMemory(tmp_path)
    memory.close()
    WorkerMemory(tmp_path).close()

"""Which process is ours: pid and start as the kernel tells them, never what a process says of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import eventually

from orchestrator.emulation import pins
from orchestrator.emulation.processes import kill_all, members, namespace_of
from servernf.host.processes import Process, process_of

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces: needs root")


def sleeper(*words: str, **variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*words, "sleep", "1000"], env={**os.environ, **variables})


def test_a_process_is_its_pid_and_its_start() -> None:
    with sleeper() as process:
        started = process_of(process.pid)
        assert started.is_alive
        assert not Process(process.pid, "").is_alive
        assert not replace(started, started=started.started + "0").is_alive
        assert not replace(
            started, started="another-boot/" + started.started.split("/")[1]
        ).is_alive
        process.kill()
        eventually(lambda: not started.is_alive, what="a zombie is no process")
    assert process_of(process.pid) == Process(process.pid, "")
    assert process_of(0) == Process(0, "")


def test_a_name_cannot_forge_a_start(tmp_path: Path) -> None:
    """The command's name stands in the line that the start is read from."""
    name = tmp_path / ") S 1 2 3"
    name.symlink_to(sys.executable)
    started = process_of(os.getpid()).started
    with subprocess.Popen([name, "-c", "input()"], stdin=subprocess.PIPE) as process:
        eventually(lambda: ") S 1" in Path(f"/proc/{process.pid}/comm").read_text())
        boot, ticks = process_of(process.pid).started.split("/")
        assert boot == started.split("/")[0]
        assert int(ticks) >= int(started.split("/")[1])
        process.kill()


def test_only_what_was_recorded_is_killed() -> None:
    with sleeper() as ours, sleeper() as reused, sleeper(ORCHESTRATOR_NETWORK="3fa2") as marked:
        recorded = [process_of(ours.pid), replace(process_of(reused.pid), started="boot/1")]
        kill_all(recorded, set())
        assert ours.wait(10) == -signal.SIGKILL
        assert (reused.poll(), marked.poll()) == (None, None)
        for process in (reused, marked):
            process.kill()


@NEEDS_ROOT
def test_a_pinned_namespace_stays_ours(tmp_path: Path) -> None:
    """What was started in it goes, also when nothing that we recorded lives; a stranger's stays."""
    stranger = sleeper("unshare", "--net")
    keeper = sleeper("unshare", "--net")
    mine = namespace_of(os.getpid())
    eventually(lambda: namespace_of(keeper.pid) != mine != namespace_of(stranger.pid))
    pins.pin(keeper.pid, tmp_path, "h1")
    inside = namespace_of(keeper.pid)
    guest = sleeper("nsenter", "--net", "--target", str(keeper.pid))
    eventually(lambda: namespace_of(guest.pid) == inside)
    keeper.kill()
    keeper.wait()
    assert pins.pinned(tmp_path) == {inside}
    assert members({inside}) == {guest.pid}
    assert members({mine, 0, namespace_of(1)}) == set()
    kill_all([], pins.pinned(tmp_path))
    assert guest.wait(10) == -signal.SIGKILL
    pins.unpin(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "forged.netns").touch()
    assert pins.pinned(tmp_path) == set()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()

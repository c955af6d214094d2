"""Bounds of workers: control groups of both versions as files, and one that the kernel enforces.

Oracle of the last tests: the kernel itself, by what it does to a process that wants more than it may.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from servernf.agent.bounds import Bound, Bounds, GroupsV1, GroupsV2, PlainBounds, find_bounds
from servernf.agent.starter import CHILD
from servernf.wire.errors import EnvironmentMissing

MEMORY = 128 << 20
HUNGRY = f"x = bytearray({MEMORY}); print(sum(x[::4096]))"


def v2(folder: Path, *, alone: bool = True) -> Path:
    """A delegated group of version 2 below a root of all groups."""
    own = folder / "unit"
    own.mkdir()
    (own / "cgroup.controllers").write_text("cpuset cpu memory")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n" + ("" if alone else "1\n"))
    (own / "cgroup.type").write_text("domain")
    (own / "cgroup.subtree_control").touch()
    (folder / "self").write_text("0::/unit\n")
    return own


def test_version_2(tmp_path: Path) -> None:
    own = v2(tmp_path)
    bounds = GroupsV2.found(tmp_path, tmp_path / "self")
    assert bounds is not None
    assert sorted(path.name for path in own.iterdir() if path.is_dir()) == [], "only looked at"
    bounds.prepare()
    assert (own / "agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpuset"
    group = own / "worker-w"
    group.mkdir()
    for name in ("memory.max", "memory.swap.max", "cpuset.cpus"):
        (group / name).touch()
    assert bounds.make("w", MEMORY, (3, 2)) == Bound((str(group / "cgroup.procs"),))
    assert (group / "memory.max").read_text() == str(MEMORY)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "cpuset.cpus").read_text() == "2,3"
    assert not bounds.killed("w")
    (group / "memory.events").write_text("max 7\noom_kill 1\n")
    assert bounds.killed("w")


def test_version_2_that_is_shared_is_left_alone(tmp_path: Path) -> None:
    v2(tmp_path, alone=False)
    assert GroupsV2.found(tmp_path, tmp_path / "self") is None


def test_version_2_that_turns_out_to_be_shared(tmp_path: Path) -> None:
    own = v2(tmp_path)
    bounds = GroupsV2.found(tmp_path, tmp_path / "self")
    assert bounds is not None
    (own / "agent").touch()
    with pytest.raises(EnvironmentMissing, match="unit: cannot be divided"):
        bounds.prepare()


def test_version_1(tmp_path: Path) -> None:
    for controller in ("memory", "cpuset"):
        (tmp_path / controller / "lxc").mkdir(parents=True)
        (tmp_path / controller / "lxc" / "cgroup.procs").touch()
    (tmp_path / "cpuset" / "lxc" / "cpuset.mems").write_text("0-1\n")
    (tmp_path / "self").write_text("3:cpuset:/lxc\n2:cpu,memory:/lxc\n0::/\n")
    bounds = GroupsV1.found(tmp_path, tmp_path / "self")
    assert bounds is not None
    memory, cpuset = (tmp_path / c / "lxc" / "servernf-w" for c in ("memory", "cpuset"))
    memory.mkdir()
    cpuset.mkdir()
    for file in (memory / "memory.limit_in_bytes", cpuset / "cpuset.cpus", cpuset / "cpuset.mems"):
        file.touch()
    made = bounds.make("w", 0, (1,))
    assert made.groups == (str(memory / "cgroup.procs"), str(cpuset / "cgroup.procs"))
    assert (memory / "memory.limit_in_bytes").read_text() == "-1"
    assert (cpuset / "cpuset.cpus").read_text() == "1"
    assert (cpuset / "cpuset.mems").read_text() == "0-1"


def test_without_control_groups(tmp_path: Path) -> None:
    (tmp_path / "self").write_text("0::/\n")
    assert GroupsV2.found(tmp_path, tmp_path / "self") is None
    assert GroupsV1.found(tmp_path, tmp_path / "self") is None


def bounded(bounds: Bounds, code: str, memory: int) -> subprocess.CompletedProcess[str]:
    """Run Python within bounds, as the agent starts a worker."""
    cpu = min(os.sched_getaffinity(0))
    made = bounds.make("test", memory, (cpu,))
    told = {
        "parent": os.getpid(),
        "cpus": [cpu],
        "groups": made.groups,
        "data_bytes": made.data_bytes,
    }
    command = [sys.executable, "-I", "-S", str(CHILD), json.dumps(told)]
    try:
        return subprocess.run(
            [*command, sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True
        )
    finally:
        if not bounds.killed("test"):
            bounds.remove("test")


@pytest.mark.parametrize("bounds", [PlainBounds(), find_bounds()], ids=["plain", "found"])
def test_the_kernel_keeps_a_worker_within_them(bounds: Bounds) -> None:
    if bounds.version == 2:
        pytest.skip("the tests' own group would have to be divided")
    done = bounded(bounds, "import os; print(sorted(os.sched_getaffinity(0)))", 0)
    assert done.stdout == f"[{min(os.sched_getaffinity(0))}]\n"
    assert bounded(bounds, HUNGRY, 4 * MEMORY).stdout == "0\n"
    refused = bounded(bounds, HUNGRY, MEMORY // 2)
    assert refused.stdout == ""
    assert refused.returncode != 0
    if bounds.version:
        assert bounds.killed("test")
        bounds.remove("test")
    else:
        assert "MemoryError" in refused.stderr


def test_a_worker_whose_agent_is_gone_does_not_start() -> None:
    told = {"parent": 1, "cpus": [0], "groups": [], "data_bytes": 0}
    command = [sys.executable, "-I", "-S", str(CHILD), json.dumps(told), "/bin/echo", "started"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")

"""What bounds a worker's memory and CPUs: control groups, or what every process has without them.

cgroup v2 needs a group that is the agent's alone, as systemd gives with `Delegate=yes`: processes and
controllers for groups below exclude each other (Documentation/admin-guide/cgroup-v2.rst, "No Internal
Process Constraint"). v1 needs writable hierarchies `memory` and `cpuset`.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from servernf.agent.errors import DoesNotStart
from servernf.wire.errors import EnvironmentMissing

_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("memory", "cpuset")


@dataclass(frozen=True, slots=True)
class Bound:
    """What a worker's process is to do before it is a worker (child.py)."""

    groups: tuple[str, ...] = ()
    """`cgroup.procs` files to enter."""
    data_bytes: int = 0
    """RLIMIT_DATA; 0: none."""


class Bounds(Protocol):
    """A way to bound workers; `version` is that of control groups, 0 for none."""

    version: int

    def prepare(self) -> None:
        """What is to be done once, before workers; EnvironmentMissing when it cannot be."""
        ...

    def make(self, worker: str, memory_bytes: int, cpus: Collection[int]) -> Bound:
        """Bounds for a worker, `memory_bytes` 0 for none; DoesNotStart when they cannot be set."""
        ...

    def remove(self, worker: str) -> None:
        """Nothing is left of the bounds of a worker that has ended."""
        ...

    def killed(self, worker: str) -> bool:
        """Whether the kernel has ended the worker for want of memory within its bound."""
        ...


class PlainBounds:
    """Without control groups: affinity, and private writable memory (RLIMIT_DATA)."""

    version = 0

    def prepare(self) -> None:
        pass

    def make(self, worker: str, memory_bytes: int, cpus: Collection[int]) -> Bound:
        return Bound(data_bytes=memory_bytes)

    def remove(self, worker: str) -> None:
        pass

    def killed(self, worker: str) -> bool:
        return False


class GroupsV2:
    """One group a worker below the agent's own."""

    version = 2

    def __init__(self, own: Path) -> None:
        self._own = own

    @classmethod
    def found(
        cls, root: Path = _ROOT, self_file: Path = Path("/proc/self/cgroup")
    ) -> GroupsV2 | None:
        """They, where the agent's own group may be divided."""
        path = _own_group(self_file, "")
        if path is None:
            return None
        own = root / path.lstrip("/")
        alone = path == "/" or _words(own / "cgroup.procs") == {str(os.getpid())}
        there = _words(own / "cgroup.controllers") >= set(_CONTROLLERS)
        if not alone or not there or not os.access(own / "cgroup.subtree_control", os.W_OK):
            return None
        return cls(own)

    def prepare(self) -> None:
        enable = " ".join(f"+{name}" for name in _CONTROLLERS)
        try:
            if (self._own / "cgroup.type").exists():  # which the root of all groups has not
                (self._own / "agent").mkdir(exist_ok=True)
                (self._own / "agent" / "cgroup.procs").write_text(str(os.getpid()))
            (self._own / "cgroup.subtree_control").write_text(enable)
        except OSError as error:
            raise EnvironmentMissing(f"{self._own}: cannot be divided: {error.strerror}") from None

    def make(self, worker: str, memory_bytes: int, cpus: Collection[int]) -> Bound:
        self.remove(worker)  # so that what is counted is the new worker's
        group = self._group(worker)
        memory = str(memory_bytes) if memory_bytes else "max"
        _fill(group, {"memory.max": memory, "memory.swap.max": "0" if memory_bytes else "max"})
        _fill(group, {"cpuset.cpus": _list(cpus)})
        return Bound(groups=(str(group / "cgroup.procs"),))

    def remove(self, worker: str) -> None:
        _remove(self._group(worker))

    def killed(self, worker: str) -> bool:
        return _value(self._group(worker) / "memory.events", "oom_kill") > 0

    def _group(self, worker: str) -> Path:
        return self._own / f"worker-{worker}"


class GroupsV1:
    """One group a worker in each hierarchy, below the agent's own there."""

    version = 1

    def __init__(self, memory: Path, cpuset: Path) -> None:
        self._memory, self._cpuset = memory, cpuset

    @classmethod
    def found(
        cls, root: Path = _ROOT, self_file: Path = Path("/proc/self/cgroup")
    ) -> GroupsV1 | None:
        """They, where the agent may make groups in both hierarchies."""
        own: list[Path] = []
        for controller in _CONTROLLERS:
            path = _own_group(self_file, controller)
            if path is None:
                return None
            # In a container the path is the host's, and what is mounted is the container's own.
            below = root / controller / path.lstrip("/")
            group = below if below.is_dir() else root / controller
            if not (group / "cgroup.procs").exists() or not os.access(group, os.W_OK):
                return None
            own.append(group)
        return cls(*own)

    def prepare(self) -> None:
        pass

    def make(self, worker: str, memory_bytes: int, cpus: Collection[int]) -> Bound:
        self.remove(worker)
        memory, cpuset = self._groups(worker)
        _fill(memory, {"memory.limit_in_bytes": str(memory_bytes or -1)})
        nodes = (self._cpuset / "cpuset.mems").read_text().strip()
        _fill(cpuset, {"cpuset.mems": nodes, "cpuset.cpus": _list(cpus)})
        return Bound(groups=tuple(str(each / "cgroup.procs") for each in (memory, cpuset)))

    def remove(self, worker: str) -> None:
        for group in self._groups(worker):
            _remove(group)

    def killed(self, worker: str) -> bool:
        return _value(self._groups(worker)[0] / "memory.oom_control", "oom_kill") > 0

    def _groups(self, worker: str) -> tuple[Path, Path]:
        name = f"servernf-{worker}"
        return self._memory / name, self._cpuset / name


def find_bounds() -> Bounds:
    """The best way that this machine lets the agent have."""
    return GroupsV2.found() or GroupsV1.found() or PlainBounds()


def _own_group(self_file: Path, controller: str) -> str | None:
    """This process's group in the hierarchy of a controller, of v2 with "" (cgroups(7))."""
    for line in self_file.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def _fill(group: Path, values: dict[str, str]) -> None:
    for name, value in values.items():
        file = group / name
        try:
            group.mkdir(exist_ok=True)
            if file.exists():  # memory.swap.max: not in a kernel without swap
                file.write_text(value)
        except OSError as error:
            raise DoesNotStart(f"{file}: {value} cannot be set: {error.strerror}") from None


def _remove(group: Path) -> None:
    with suppress(OSError):  # it goes with the worker's last thread; if not, the next one has it
        group.rmdir()


def _words(file: Path) -> set[str]:
    try:
        return set(file.read_text().split())
    except OSError:
        return set()


def _value(file: Path, key: str) -> int:
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def _list(cpus: Collection[int]) -> str:
    return ",".join(map(str, sorted(cpus)))

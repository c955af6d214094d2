"""Run commands inside a host's (or server's) namespace."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from orchestrator.emulation.commands import in_namespace
from orchestrator.emulation.environment import require_root
from orchestrator.emulation.state import NetworkState
from orchestrator.errors import NetworkError, unknown


def host_argv(state: NetworkState, host: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` inside a host; NetworkError when the host is gone."""
    require_root()
    places = {**state.hosts, **state.servers}
    if host not in places:
        raise NetworkError(f"network '{state.name}': {unknown('host', host, sorted(places))}")
    pid = places[host].pid
    if not state.process(pid).is_alive:
        raise NetworkError(f"host '{host}' of network '{state.name}' is not up any more")
    return in_namespace(pid, list(argv))


def run_in_host(
    state: NetworkState,
    host: str,
    argv: Sequence[str],
    *,
    timeout: float | None = None,
    check: bool = False,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; output is captured as text."""
    return subprocess.run(
        host_argv(state, host, argv),
        timeout=timeout,
        check=check,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        env=env,
    )


def start_in_host(
    state: NetworkState,
    host: str,
    argv: Sequence[str],
    *,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.STDOUT,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start a command (a traffic server, a capture); it ends with the network at the latest."""
    return subprocess.Popen(
        host_argv(state, host, argv),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=env,
    )

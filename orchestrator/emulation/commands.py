"""The command lines of switches and workers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.model.topology import Tls, Topology
from orchestrator.targets import AUTO, Target, automatic, known_targets, lookup
from orchestrator.targets.target import Engine

BMV2 = "simple_switch_grpc"
SOFTSWITCH = "softswitch"
"""Engines of targets, as `net up` starts them."""

_FIRST_USER, _USERS = 60_706, 478
"""Numbers that neither users nor services have: systemd's ranges (UIDS-GIDS) leave them free."""


def resolve_targets(topology: Topology, switch: str) -> dict[str, str]:
    """The target that each switch runs as: `switch`, or with `auto` what the topology names.

    Where both say `auto` it is the first of those that take part in it and are installed here.
    """
    chosen: dict[str, str] = {}
    problems: list[str] = []
    for node in topology.switches.values():
        wanted = node.target if switch == AUTO else switch
        target = _installed() if wanted == AUTO else lookup(wanted)
        chosen[node.name] = target.name
        if target.engine is None:
            ways = " or ".join(f"--switch {name}" for name in emulated())
            problems.append(
                f"switch '{node.name}': target '{wanted}' cannot be emulated; "
                f"{ways} runs it all the same"
            )
    if problems:
        raise InputError(problems)
    for target in map(lookup, sorted(set(chosen.values()))):
        if not _is_installed(target):
            engine = engine_of(target.name)
            raise EnvironmentMissing(
                f"{engine.executable} is not on PATH; install {engine.title} ({engine.homepage}), "
                f"or use --switch {_installed().name}"
            )
    return chosen


def emulated() -> tuple[str, ...]:
    """Names of the targets that can be emulated, whether installed or not."""
    return tuple(name for name in known_targets() if lookup(name).engine is not None)


def engine_of(target: str) -> Engine:
    """What runs an emulated target."""
    engine = lookup(target).engine
    assert engine is not None, f"{target} is not emulated"
    return engine


def _installed() -> Target:
    return next(target for target in automatic() if _is_installed(target))


def _is_installed(target: Target) -> bool:
    executable = engine_of(target.name).executable
    return not executable or shutil.which(executable) is not None


def bmv2_argv(
    device_id: int,
    interfaces: Mapping[int, str],
    address: str,
    *,
    cpu_port: int,
    folder: Path,
    spare_port: int,
    tls: Tls | None = None,
) -> list[str]:
    """BMv2 without a program; its builds with Thrift or nanomsg would share fixed addresses."""
    options = bmv2_options()
    argv = [BMV2, "--no-p4", "--device-id", str(device_id)]
    if "--notifications-addr" in options:
        argv += ["--notifications-addr", f"ipc://{folder}/{device_id}.notifications"]
    if "--thrift-port" in options:
        argv += ["--thrift-port", str(spare_port)]
    for port, interface in sorted(interfaces.items()):
        argv += ["-i", f"{port}@{interface}"]
    argv += ["--", "--grpc-server-addr", address, "--cpu-port", str(cpu_port)]
    if tls is not None and speaks_tls(tls):
        argv += ["--grpc-server-ssl", "--grpc-server-cert", tls.device_certificate]
        argv += ["--grpc-server-key", tls.device_key]
        if tls.mutual:
            argv += ["--grpc-server-cacert", tls.ca, "--grpc-server-with-client-auth"]
    return argv


@cache
def bmv2_options() -> str:
    """BMv2's help text: which options exist depends on how it was built."""
    shown = subprocess.run([BMV2, "--help"], capture_output=True, text=True, check=False)
    return shown.stdout + shown.stderr


def speaks_tls(tls: Tls | None) -> bool:
    """Whether `net up` starts a device with TLS."""
    return tls is not None and bool(tls.device_certificate)


def tls_argv(tls: Tls | None) -> list[str]:
    """A softswitch's or worker's options for TLS; client certificates are asked for with `mutual`."""
    if tls is None or not speaks_tls(tls):
        return []
    argv = ["--tls-cert", tls.device_certificate, "--tls-key", tls.device_key]
    if not tls.mutual:
        return argv
    writers = [word for name in tls.writers for word in ("--writer", name)]
    return [*argv, "--tls-ca", tls.ca, *writers]


def softswitch_argv(
    name: str,
    device_id: int,
    interfaces: Mapping[int, str],
    address: str,
    *,
    cpu_port: int,
    tls: Tls | None = None,
) -> list[str]:
    """The softswitch, listening at `address`."""
    argv = [sys.executable, "-m", "orchestrator.softswitch", "--device-id", str(device_id)]
    argv += ["--name", name, "--grpc-addr", address, "--cpu-port", str(cpu_port)]
    for port, interface in sorted(interfaces.items()):
        argv += ["-i", f"{port}@{interface}"]
    listeners = tls.listeners if tls is not None and speaks_tls(tls) and tls.mutual else ()
    argv += [word for listener in listeners for word in ("--listener", listener)]
    return [*argv, *tls_argv(tls)]


def worker_argv(
    name: str, interface: str, api: str, tls: Tls | None = None, *, runtime: str
) -> list[str]:
    """A server worker; to be run inside the server's namespace. Its samples are read by its API."""
    argv = [sys.executable, "-m", f"servernf.{runtime}", "--name", name, "--interface", interface]
    return [*argv, "--api", api, *tls_argv(tls)]


def in_namespace(pid: int, argv: list[str]) -> list[str]:
    """A command in the network namespace (and view of /sys) that process `pid` keeps."""
    return ["mnexec", "-a", str(pid), *argv]


def user_argv(network_id: str) -> list[str]:
    """The option by which a network's softswitches and workers stop being root once they listen."""
    return ["--user", str(_FIRST_USER + int(network_id, 16) % _USERS)]


def with_raw_sockets_only(argv: list[str]) -> list[str]:
    """A command that keeps CAP_NET_RAW of root's capabilities: BMv2 gives up nothing itself."""
    if not shutil.which("setpriv"):
        return argv
    bounds = ["--bounding-set", "-all,+net_raw", "--inh-caps", "-all", "--ambient-caps", "-all"]
    return ["setpriv", "--no-new-privs", *bounds, *argv]

"""Which targets switches run as, and what processes may do."""

from __future__ import annotations

import shutil

from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.model.topology import Tls, Topology
from orchestrator.targets import AUTO, Target, automatic, known_targets, lookup
from orchestrator.targets.engine import TargetEngine

_FIRST_USER, _USERS = 60_706, 478
"""Numbers that neither users nor services have: systemd's ranges (UIDS-GIDS) leave them free."""


def resolve_targets(topology: Topology, switch: str) -> dict[str, str]:
    """The target that each switch runs as: `switch`, or with `auto` what the topology names.

    A SmartNIC whose target the topology names keeps it. Where both say `auto` it is the first of those
    that take part in it and are installed here.
    """
    chosen: dict[str, str] = {}
    problems: list[str] = []
    for node in topology.switches.values():
        named = switch == AUTO or (node.server and node.target != AUTO)
        wanted = node.target if named else switch
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
        if missing := engine_of(target.name).missing():
            raise EnvironmentMissing(f"{missing}, or use --switch {_installed().name}")
    return chosen


def emulated() -> tuple[str, ...]:
    """Names of the targets that can be emulated, whether installed or not."""
    return tuple(name for name in known_targets() if lookup(name).engine is not None)


def engine_of(target: str) -> TargetEngine:
    """What runs an emulated target."""
    engine = lookup(target).engine
    assert engine is not None, f"{target} is not emulated"
    return engine


def _installed() -> Target:
    return next(target for target in automatic() if _is_installed(target))


def _is_installed(target: Target) -> bool:
    return not engine_of(target.name).missing()


def speaks_tls(tls: Tls | None) -> bool:
    """Whether `net up` starts a device with TLS."""
    return tls is not None and bool(tls.device_certificate)


def in_namespace(pid: int, argv: list[str]) -> list[str]:
    """A command in the network namespace (and view of /sys) that process `pid` keeps."""
    return ["mnexec", "-a", str(pid), *argv]


def user_of(network_id: str) -> str:
    """The number of the user that a network's softswitches and workers become once they listen."""
    return str(_FIRST_USER + int(network_id, 16) % _USERS)


def with_raw_sockets_only(argv: list[str]) -> list[str]:
    """A command that keeps CAP_NET_RAW of root's, where an engine gives up nothing itself."""
    if not shutil.which("setpriv"):
        return argv
    bounds = ["--bounding-set", "-all,+net_raw", "--inh-caps", "-all", "--ambient-caps", "-all"]
    return ["setpriv", "--no-new-privs", *bounds, *argv]

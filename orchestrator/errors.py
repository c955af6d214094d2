"""The exception tree. Each class owns the exit code that the command line returns for it.

Its base, and what server workers raise, too, is of `servernf.wire.errors`; here the tree is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from servernf.wire.errors import (
    MOST_QUOTED,
    EnvironmentMissing,
    InputError,
    ReportedError,
    ServerError,
    quoted,
    readable,
    shortened,
    unknown,
    visible,
)

__all__ = (
    "MOST_QUOTED",
    "Blocking",
    "CompileError",
    "Constraint",
    "DeploymentError",
    "DoesNotFit",
    "EnvironmentMissing",
    "InfeasibleError",
    "InputError",
    "LeadershipLost",
    "MalformedProgram",
    "MastershipLost",
    "NetworkError",
    "OwnerError",
    "ReportedError",
    "ServerError",
    "ServerGone",
    "StoreError",
    "SwitchError",
    "TooManyClasses",
    "UnsupportedFeature",
    "WriteRefused",
    "quoted",
    "readable",
    "shortened",
    "unknown",
    "visible",
)


class Constraint(StrEnum):
    """What a placement must hold, in the order in which conflicts are told. In brackets: whose."""

    NEED = "need"
    """A pool gets the cores that its load asks for (pool)."""
    WORKERS = "workers"
    """And no more than it may have (pool)."""
    MEMORY = "memory"
    """Workers fit their server's memory (server)."""
    PIN = "pin"
    """A task is where it is pinned (task)."""
    APART = "apart"
    """Two tasks share no device (both)."""
    TOGETHER = "together"
    """Two tasks share a device (both)."""
    LATENCY = "latency"
    """A chain's packets come in time (chain)."""
    REACH = "reach"
    """There is a way from one task to the next (both)."""
    DEVICES = "devices"
    """Some device can run a task (task)."""
    CORES = "cores"
    """A server's cores (server)."""
    LINK = "link"
    """A link's capacity in a direction (from, to)."""
    PACKETS = "packets"
    """Packets/s that a SmartNIC can carry (NIC)."""
    RULES = "rules"
    """Rules of SmartNICs."""
    TABLES = "tables"
    """Entries of switches' tables (`acl.ipv4`)."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """A constraint of those that do not go together, and what it is about."""

    kind: Constraint
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.kind, *self.names))


class InfeasibleError(ReportedError):
    """No placement satisfies the constraints; `blocking` are those that do not go together.

    Exit code 3.
    """

    exit_code = 3

    def __init__(self, message: str, blocking: Sequence[Blocking] = ()) -> None:
        self.blocking = tuple(blocking)
        super().__init__(message)


class CompileError(ReportedError):
    """A graph that no device on its path can serve. Exit code 3."""

    exit_code = 3


class TooManyClasses(CompileError):
    """Two NFs whose rules make more traffic classes than the limit; `nfs` are their names."""

    def __init__(self, message: str, nfs: tuple[str, str], classes: int) -> None:
        self.nfs = nfs
        self.classes = classes
        super().__init__(message)


class DoesNotFit(CompileError):
    """An element that no block of its switch holds beside what is there; a server can run its NF.

    `graph` says whose NF it is, where several are placed together; `switch` whose chip it is, where
    another switch might hold it.
    """

    def __init__(self, message: str, nf: str, graph: str = "", switch: str = "") -> None:
        self.nf = nf
        self.graph = graph
        self.switch = switch
        super().__init__(message)


class NetworkError(ReportedError):
    """A network that cannot be started, found or stopped. Exit code 5."""

    exit_code = 5


class SwitchError(ReportedError):
    """A switch that refuses or cannot do what it was asked. Exit code 6."""

    exit_code = 6


class WriteRefused(SwitchError):
    """Updates that a switch refused: the text says which, of which rule, and why."""


class MastershipLost(SwitchError):
    """Another controller is a switch's primary now: this one writes nothing any more."""


class UnsupportedFeature(SwitchError):
    """A P4 program that uses what the softswitch does not implement, by name."""


class MalformedProgram(SwitchError):
    """A P4 program's JSON with a wrong or missing value: where, and what would be valid."""


class ServerGone(ServerError):
    """Nothing listens where a worker was: it has ended, and its state with it."""


class DeploymentError(ReportedError):
    """A deployment that could not be finished; says what was rolled back. Exit code 8."""

    exit_code = 8


class OwnerError(ReportedError):
    """A change of what belongs to another tenant. Exit code 9."""

    exit_code = 9


class StoreError(ReportedError):
    """The store of journal and leadership does not answer, or another controller leads. Exit code 10."""

    exit_code = 10


class LeadershipLost(StoreError):
    """Another controller may have taken over: nothing more may be changed."""

"""What runs a target on this machine: the program that `net up` starts, and what it can do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from orchestrator.model.topology import Tls


@dataclass(frozen=True, slots=True)
class Launch:
    """A device that is to be run: `interfaces` by port, `address` as gRPC names it.

    `tls` is None for plain text, `user` the number of the user that it becomes. `folder` and
    `spare_port`, a TCP port that is free, are for what it cannot be kept from opening.
    """

    name: str
    device_id: int
    interfaces: Mapping[int, str]
    address: str
    cpu_port: int
    folder: Path
    spare_port: int
    tls: Tls | None = None
    user: str = ""


class TargetEngine:
    """A program that executes packets behind P4Runtime. Defaults are those of one of ours."""

    title: ClassVar[str]
    executable: ClassVar[str] = ""
    """Must be on PATH; "": it comes with the orchestrator."""
    homepage: ClassVar[str] = ""
    """Where it is to be had."""
    knows_writers: ClassVar[bool] = True
    """It tells certificates apart, and not only whether they are signed."""
    announces: ClassVar[bool] = True
    """Once it listens it says so, and where, by a JSON line; so it may choose its port."""
    leaves_root: ClassVar[bool] = True
    """Once it has its sockets it becomes `Launch.user` without capabilities."""
    queue: ClassVar[int] = 256
    """So many frames at once it forwards to one port without losing any."""

    def missing(self) -> str:
        """What it needs and this machine lacks, and how to get that; "": nothing."""
        if not self.executable or shutil.which(self.executable):
            return ""
        return f"{self.executable} is not on PATH; install {self.title} ({self.homepage})"

    def prepare(self) -> None:
        """What takes long the first time and serves every device of this machine, before they start."""

    def argv(self, launch: Launch) -> list[str]:
        """The command that runs a device, without a program loaded."""
        raise NotImplementedError(self.title)

    def speaks_tls(self) -> bool:
        """Whether the one that is installed does."""
        return True

    def exposes(self) -> str:
        """What the one that is installed opens to everybody whatever its TLS says, in words."""
        return ""

"""BMv2's `simple_switch_grpc`."""

from __future__ import annotations

import subprocess
from functools import cache
from typing import ClassVar

from orchestrator.targets.costs import FilterCosts, LookupCosts
from orchestrator.targets.engine import Launch, TargetEngine
from orchestrator.targets.target import target
from orchestrator.targets.v1model import V1Model

COSTS = LookupCosts(ternary_entry=0.008, tree=2.5, level=1.2)
"""CPU time a packet of simple_switch_grpc (2026-11, optimised build, 2 cores) on the shipped edge
pipeline: no rules 22.3 us; acl1_10k ternary 88 to 103 us (6.7 to 8.2 ns an entry), acl1_1k 32 us (10 ns
an entry); as trees of four levels 29.5 and 28.5 us (tests/bench/filters.py). Of the ternary table the
lower figures are taken, so that a tree is chosen only where it surely pays: from some 1,200 rules on."""


class SimpleSwitch(TargetEngine):
    """Which options it has depends on how it was built."""

    title = "BMv2"
    executable = "simple_switch_grpc"
    homepage = "https://github.com/p4lang/behavioral-model"
    knows_writers = False
    announces = False
    leaves_root = False
    queue = 32

    def argv(self, launch: Launch) -> list[str]:
        understood = options()
        argv = [self.executable, "--no-p4", "--device-id", str(launch.device_id)]
        # Builds with nanomsg or Thrift would share fixed addresses.
        if "--notifications-addr" in understood:
            notifications = launch.folder / f"{launch.device_id}.notifications"
            argv += ["--notifications-addr", f"ipc://{notifications}"]
        if "--thrift-port" in understood:
            argv += ["--thrift-port", str(launch.spare_port)]
        for port, interface in sorted(launch.interfaces.items()):
            argv += ["-i", f"{port}@{interface}"]
        argv += ["--", "--grpc-server-addr", launch.address, "--cpu-port", str(launch.cpu_port)]
        if launch.tls is not None:
            argv += ["--grpc-server-ssl", "--grpc-server-cert", launch.tls.device_certificate]
            argv += ["--grpc-server-key", launch.tls.device_key]
            if launch.tls.mutual:
                argv += ["--grpc-server-cacert", launch.tls.ca, "--grpc-server-with-client-auth"]
        return argv

    def speaks_tls(self) -> bool:
        return "--grpc-server-ssl" in options()

    def exposes(self) -> str:
        if "--thrift-port" not in options():
            return ""
        return (
            "this BMv2 is built with Thrift, whose port asks nobody who he is and listens on all "
            "addresses (softswitch, or a build without, has none)"
        )


@cache
def options() -> str:
    """The help text of the one that is installed."""
    command = [SimpleSwitch.executable, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    return shown.stdout + shown.stderr


@target("bmv2")
class Bmv2(V1Model):
    """`auto` takes it wherever it is installed."""

    costs: ClassVar[FilterCosts] = COSTS
    engine: ClassVar[TargetEngine | None] = SimpleSwitch()
    choice: ClassVar[int | None] = 1

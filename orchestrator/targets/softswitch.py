"""The softswitch that comes with the orchestrator (orchestrator/softswitch)."""

from __future__ import annotations

import sys
from typing import ClassVar

from orchestrator.targets.costs import FilterCosts, LookupCosts
from orchestrator.targets.engine import Launch, TargetEngine
from orchestrator.targets.target import target
from orchestrator.targets.v1model import V1Model

SOFTSWITCH = "softswitch"
"""Its name; networks in memory have no other switches."""

COSTS = LookupCosts(ternary_entry=0.0, tree=2.5, level=1.2)
"""Its ternary lookup is a tuple-space search behind a memo and does not grow with the rules: acl1_10k
costs 0.6 us a packet of a known flow (a tree: 4.8 us), 10 us one of a new flow (7 us)."""


class OurEngine(TargetEngine):
    """`python -m orchestrator.softswitch`."""

    title = "the softswitch"

    def argv(self, launch: Launch) -> list[str]:
        argv = [sys.executable, "-m", "orchestrator.softswitch", "--name", launch.name]
        argv += ["--device-id", str(launch.device_id), "--cpu-port", str(launch.cpu_port)]
        argv += ["--grpc-addr", launch.address]
        for port, interface in sorted(launch.interfaces.items()):
            argv += ["-i", f"{port}@{interface}"]
        if launch.user:
            argv += ["--user", launch.user]
        if launch.tls is None:
            return argv
        argv += ["--tls-cert", launch.tls.device_certificate, "--tls-key", launch.tls.device_key]
        if launch.tls.mutual:
            argv += ["--tls-ca", launch.tls.ca]
            argv += [word for name in launch.tls.writers for word in ("--writer", name)]
            argv += [word for name in launch.tls.listeners for word in ("--listener", name)]
        return argv


@target(SOFTSWITCH)
class Softswitch(V1Model):
    """`auto` takes it where nothing else is installed."""

    costs: ClassVar[FilterCosts] = COSTS
    engine: ClassVar[TargetEngine | None] = OurEngine()
    choice: ClassVar[int | None] = 9

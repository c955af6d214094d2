"""C generated from BMv2 JSON, on DPDK, behind P4Runtime (orchestrator/softswitch/fast)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import ClassVar

from orchestrator.errors import EnvironmentMissing
from orchestrator.targets.costs import FilterCosts, LookupCosts
from orchestrator.targets.engine import Launch, TargetEngine
from orchestrator.targets.softswitch import OurEngine
from orchestrator.targets.target import target
from orchestrator.targets.v1model import V1Model

COSTS = LookupCosts(ternary_entry=0.0, tree=0.06, level=0.03, least_gain=0.05)
"""As the softswitch's, its ternary lookup is a tuple space behind a memo."""

_NEEDS = (("cc", "gcc libc6-dev"), ("pkg-config", "pkg-config"))


class DpdkEngine(OurEngine):
    """The softswitch's process with another engine, and a second process that moves packets."""

    title = "DPDK"
    homepage = "apt-get install libdpdk-dev"

    def missing(self) -> str:
        lacking = [(tool, package) for tool, package in _NEEDS if not shutil.which(tool)]
        if lacking:
            tool, package = lacking[0]
            return f"{tool} is not on PATH (Debian: apt-get install {package})"
        asked = subprocess.run(["pkg-config", "--exists", "libdpdk"], check=False)
        return f"DPDK is not installed (Debian: {self.homepage})" if asked.returncode else ""

    def prepare(self) -> None:
        """Compile the shipped pipelines, once a version: switches that are no longer root load them."""
        words = [sys.executable, "-m", "orchestrator.softswitch.fast"]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if run.returncode:
            raise EnvironmentMissing(f"{self.title}: {run.stderr.strip()}")

    def argv(self, launch: Launch) -> list[str]:
        return [*super().argv(launch), "--engine", "dpdk"]


@target("dpdk")
class Dpdk(V1Model):
    """To be asked for by name: `auto` takes no switch that compiles what it loads."""

    costs: ClassVar[FilterCosts] = COSTS
    engine: ClassVar[TargetEngine | None] = DpdkEngine()

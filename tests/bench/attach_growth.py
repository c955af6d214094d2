"""What a network of 1,000 devices costs each device more than one of 100: time and memory.

The devices are tests/many_devices.py: the real P4Runtime server over engines that only keep entries, so
that what grows is the controller's. What is measured are the commands as a user gives them, each a
process of its own, its start included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import Result, figure
from finsy.proto import p4r

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from many_devices import many_devices  # noqa: E402
from pods import filtering, pods, topology_file, wires  # noqa: E402

from orchestrator.deployment.live import LiveNetwork  # noqa: E402
from orchestrator.network.inventory import load_inventory  # noqa: E402

FEW, SIZES = 20, (100, 1000)
RULES = 600
"""Of each leaf: with the fabric's entries, some 500 a device in the mean."""
DRIFT = 0.01


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


Steps = dict[str, Cost]
"""By what was done."""


@figure("attach_growth", unit="ratio", goal=1.5)
def attach_growth() -> Result:
    """Seconds a device of 1,000 for all that is done to it, against those of a device of 100.

    Every command has a part that no device adds to, Python's start and the imports, which flatters that.
    So `more_devices`: what each device above 100 adds, against what each adds from 20 to 100.
    """
    fewest, few, many = (measured(count) for count in (FEW, *SIZES))

    def ratio(of: Callable[[Steps], float]) -> float:
        return round(of(many) / SIZES[1] / (of(few) / SIZES[0]), 2)

    def more(of: Callable[[Steps], float]) -> float:
        above, below = SIZES[1] - SIZES[0], SIZES[0] - FEW
        return round((of(many) - of(few)) / above / ((of(few) - of(fewest)) / below), 2)

    def seconds(steps: Steps) -> float:
        return sum(cost.seconds for cost in steps.values())

    def cpu(steps: Steps) -> float:
        return sum(cost.cpu_seconds for cost in steps.values())

    return {
        "value": ratio(seconds),
        "cpu_ratio": ratio(cpu),
        "memory_ratio": ratio(_peak),
        "more_devices": {"seconds": more(seconds), "cpu_seconds": more(cpu)},
        "by_step": {name: ratio(lambda steps, of=name: steps[of].seconds) for name in few},
        "compared_with": {f"{SIZES[0]} devices": _told(few), f"{FEW} devices": _told(fewest)},
        f"{SIZES[1]} devices": _told(many),
    }


def _peak(steps: Steps) -> float:
    return max(cost.peak_mib for cost in steps.values())


def _told(steps: Steps) -> dict[str, Any]:
    costs = {name: asdict(cost) for name, cost in steps.items()}
    sums = {
        what: round(sum(getattr(cost, what) for cost in steps.values()), 1)
        for what in ("seconds", "cpu_seconds")
    }
    return {**costs, "total": {**sums, "peak_mib": _peak(steps)}}


def measured(count: int) -> Steps:
    """Attach, deploy, update one rule, repair drift, and look at all of it."""
    topology, steps = pods(count), Steps()
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        folder = Path(name)

        def step(what: str, *words: str | Path) -> None:
            steps[what] = _command(*map(str, words), state=name)
            _tell(f"{count} devices: {what}: {_words(steps[what])}")

        with many_devices(range(1, count + 1), wires(topology)) as addresses:
            step("attach", "net", "attach", topology_file(topology, addresses, folder))
            step("deploy", "deploy", filtering(topology, RULES, folder))
            step("update", "deploy", filtering(topology, RULES, folder, last=8443))
            _tell(f"{count} devices: {drift(topology.name, folder)} entries are deleted on them")
            step("reconcile", "reconcile")
            step("compare", "reconcile", "--dry-run")  # exit code 1 if anything is not repaired
            step("status", "status")
            step("top", "top", "--count", "1")
            step("metrics", "metrics")
    return steps


def drift(network: str, folder: Path) -> int:
    """Delete one in a hundred entries on the devices, as somebody else; how many."""
    os.environ["XDG_STATE_HOME"] = str(folder)
    live = LiveNetwork(load_inventory(network))
    count = 0
    for entry in live.journal.deployed().values():
        for name, program in entry.bundle.programs.items():
            gone = list(program.entries)[:: round(1 / DRIFT)]
            with live.device(name) as other:
                other.pipeline_cookie()
                assert other.schema is not None
                other.write(other.schema.updates(gone, entry.bundle.graph, p4r.Update.DELETE))
            count += len(gone)
    return count


def _command(*words: str, state: str = "") -> Cost:
    """Run the command line; RuntimeError with what it says when it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": state},
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            told = output.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"orchestrator {' '.join(words)}: {told}")
    cpu = used.ru_utime + used.ru_stime
    return Cost(round(seconds, 2), round(cpu, 2), round(used.ru_maxrss / 1024))


def _words(cost: Cost) -> str:
    return f"{cost.seconds} s, CPU {cost.cpu_seconds} s, {cost.peak_mib:.0f} MiB"


def _tell(line: str) -> None:
    print(f"attach_growth: {line}", file=sys.stderr, flush=True)

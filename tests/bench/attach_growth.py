"""What a network of 1,000 devices costs each device more than one of 100: time and memory.

The devices are tests/many_devices.py: the real P4Runtime server over engines that only keep entries, so
that what grows is the controller's. Each size is measured in a process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures import Result, figure
from finsy.proto import p4r

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from many_devices import many_devices  # noqa: E402
from pods import filtering, inventory_of, pods  # noqa: E402

from orchestrator.deployment.live import LiveNetwork  # noqa: E402
from orchestrator.deployment.operations import deploy_graph  # noqa: E402
from orchestrator.deployment.presence import look  # noqa: E402
from orchestrator.deployment.reconciling import inspect, reconcile  # noqa: E402
from orchestrator.graph import load_graph  # noqa: E402
from orchestrator.model.bundle import Bundle  # noqa: E402
from orchestrator.network.inventory import load_inventory, save_inventory  # noqa: E402
from orchestrator.observation.health import read_network  # noqa: E402

SIZES = (100, 1000)
ENTRIES = 500
"""Entries of a device in the mean, about."""
RULES = 600
DRIFT = 0.01


@figure("attach_growth", unit="ratio", goal=1.5)
def attach_growth() -> Result:
    """Seconds a device of 1,000 for all that is done to it, against those of a device of 100."""
    few, many = map(_alone, SIZES)

    def ratio(of: Callable[[dict[str, Any]], float]) -> float:
        return round(of(many) / many["devices"] / (of(few) / few["devices"]), 2)

    return {
        "value": ratio(lambda found: found["seconds"]["total"]),
        "compared_with": {"100 devices": few},
        "cpu_ratio": ratio(lambda found: found["cpu_seconds"]),
        "memory_ratio": ratio(lambda found: found["peak_mib"]),
        "1000 devices": many,
    }


def _alone(count: int) -> dict[str, Any]:
    """What `measured` finds in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, str(count), folder],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "XDG_STATE_HOME": folder},
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)


class _Clock:
    """Seconds by what was done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        self.seconds[what] = round(time.perf_counter() - started, 2)


def measured(count: int, folder: Path) -> dict[str, Any]:
    """Attach, deploy, update one rule, repair drift, and look at all of it."""
    clock, topology = _Clock(), pods(count)
    with many_devices(range(1, count + 1)) as addresses:
        with clock("attach"):
            save_inventory(inventory_of(topology, addresses, folder))
            live = LiveNetwork(load_inventory(topology.name))
            if look(live).silent:
                raise RuntimeError("devices do not answer")
        with clock("deploy"):
            graph = load_graph(filtering(topology, RULES, folder)).graph
            deploy_graph(graph, live)
        with clock("update"):
            graph = load_graph(filtering(topology, RULES, folder, last=8443)).graph
            done = deploy_graph(graph, live)
        changed, bundle = done.summary.counts.total(), done.bundle
        del graph, done  # a command that repairs has only what the journal has
        drifted = drift(live, bundle)
        del bundle
        with clock("reconcile"):
            found = reconcile(live)
        repaired = sum(len(d.difference) for d in found.devices)
        if repaired != drifted or inspect(live):
            raise RuntimeError(f"{drifted} entries drifted, {repaired} were repaired")
        with clock("top"):
            reading = read_network(live)
    entries = sum(use.entries for d in reading.devices for use in d.tables.values())
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "devices": count,
        "entries_each": round(entries / count),
        "changed": changed,
        "drifted": drifted,
        "seconds": {**clock.seconds, "total": round(sum(clock.seconds.values()), 2)},
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
    }


def drift(live: LiveNetwork, bundle: Bundle) -> int:
    """Delete one in a hundred entries on the devices, as somebody else; how many."""
    count = 0
    for name, program in bundle.programs.items():
        gone = list(program.entries)[:: round(1 / DRIFT)]
        with live.device(name) as other:
            other.pipeline_cookie()
            assert other.schema is not None
            other.write(other.schema.updates(gone, bundle.graph, p4r.Update.DELETE))
        count += len(gone)
    return count


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), Path(sys.argv[2]))))

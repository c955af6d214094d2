"""What a deployment remembers: one changed rule of 10,000, beside 500,000 routes, in a cold process.

The whole command counts (`orchestrator deploy`, from its start to its end), but not the devices: those
are tests/many_devices.py, which only keep entries. Each pair of deployments changes one rule with what
earlier ones left behind, and another one with that thrown away; which comes first alternates.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from compile import RIB, RULES
from figures import Missing, Result, figure

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from many_devices import many_devices  # noqa: E402
from pods import inventory_of  # noqa: E402

from orchestrator.graph.importers import import_rib  # noqa: E402
from orchestrator.model.topology import Topology  # noqa: E402
from orchestrator.network.inventory import save_inventory  # noqa: E402
from orchestrator.nfs.values import parse_address  # noqa: E402
from orchestrator.placement.topologies import resolve_topology  # noqa: E402

PAIRS = 3


@figure("redeploy_one_rule_ratio", unit="ratio", goal=0.25)
def redeploy_ratio() -> Result:
    """Seconds with what earlier deployments left behind, against those without it."""
    for path in (RULES, RIB):
        if not path.exists():
            raise Missing(f"../shared/data/{path.parent.name}/{path.name} is not here")
    with tempfile.TemporaryDirectory() as folder:
        return measured(Path(folder))


def measured(folder: Path, *, routes: int | None = None, pairs: int = PAIRS) -> dict[str, Any]:
    """Deploy the first version, then changed ones in pairs; `routes` are the first so many."""
    topology = _bmv2(resolve_topology("leaf-spine"))
    graph = filtered_routes(folder, routes)
    with many_devices(range(1, len(topology.switches) + 1)) as addresses, _state_in(folder):
        save_inventory(inventory_of(topology, addresses, folder))
        first = _deploy(graph, topology.name)
        rng, deployments = random.Random(1), dict[str, list[dict[str, Any]]](with_it=[], without=[])
        for number in range(pairs):
            for kind in ("with_it", "without")[:: 1 if number % 2 else -1]:
                change_a_rule(folder, rng)
                if kind == "without":
                    shutil.rmtree(folder / "orchestrator" / "memo", ignore_errors=True)
                deployments[kind].append(_deploy(graph, topology.name))
    medians = {k: statistics.median(one["seconds"] for one in v) for k, v in deployments.items()}
    return {
        "value": round(medians["with_it"] / medians["without"], 3),
        "compared_with": {"the same without a memo, s": round(medians["without"], 2)},
        "seconds": {kind: [one["seconds"] for one in some] for kind, some in deployments.items()},
        "first_deployment_s": first["seconds"],
        "entries": first["entries"],
        "entries_touched": [one["touched"] for some in deployments.values() for one in some],
    }


def _bmv2(topology: Topology) -> Topology:
    """The same with switches for which long access lists become trees."""
    switches = {name: replace(s, target="bmv2") for name, s in topology.switches.items()}
    return replace(topology, switches=switches)


def filtered_routes(folder: Path, count: int | None) -> Path:
    """acl1_10k before a router with the 512,621 routes of a full table, one way, as a graph file."""
    hops = [parse_address(f"198.51.100.{last}") for last in (13, 14)]
    lines = import_rib(RIB, hops)[0]
    (folder / "routes.txt").write_text("\n".join([*lines[:count], ""]))
    (folder / "acl.rules").write_bytes(RULES.read_bytes())
    graph = {
        "name": "big",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
        "nfs": {
            "acl": {"type": "acl", "config": {"rules_file": "acl.rules"}},
            "router": {"type": "router", "config": {"routes_file": "routes.txt"}},
        },
        "edges": [
            {"from": "inside", "to": "acl.inside"},
            {"from": "acl.outside", "to": "router.inside"},
            {"from": "router.outside", "to": "outside"},
        ],
        "traffic": [{"name": "up", "from": "inside", "to": "outside", "rate": "100Mbit/s"}],
    }
    path = folder / "graph.json"
    path.write_text(json.dumps(graph))
    return path


def change_a_rule(folder: Path, rng: random.Random) -> None:
    """Give a rule of the list another source address."""
    file = folder / "acl.rules"
    rules = file.read_text().splitlines()
    at = rng.randrange(len(rules))
    fields = rules[at].split("\t")
    fields[0] = f"@203.0.113.{rng.randrange(256)}/32"
    rules[at] = "\t".join(fields)
    file.write_text("\n".join(rules) + "\n")


@contextlib.contextmanager
def _state_in(folder: Path) -> Any:
    """The user's state there, for this process and the commands that it runs."""
    was = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(folder)
    try:
        yield
    finally:
        if was is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = was


def _deploy(graph: Path, network: str) -> dict[str, Any]:
    """The command, in a process of its own."""
    words = [sys.executable, "-m", "orchestrator", "deploy", str(graph), "-n", network, "--json"]
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = json.loads(done.stdout)
    return {
        "seconds": round(seconds, 2),
        "touched": sum(told["changes"].values()),
        "entries": sum(sum(tables.values()) for tables in told["entries"].values()),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        count, pairs = map(int, sys.argv[1:])
        print(json.dumps(measured(Path(place), routes=count, pairs=pairs)))

"""Figures of the compiler: a large rule set, a full routing table, Metron's chain; after imports.

Each runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from figures import Missing, Result, figure

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
RULES, RIB = DATA / "classbench" / "acl1_10k.rules", DATA / "rib" / "ipv4_20140513.dat.gz"
METRON = DATA / "metron" / "metron-srv-flowdisp-add-dualport-firewall-router-napt.json"


def _needs(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise Missing(f"../shared/data/{path.relative_to(DATA)} is not here")


def _alone(job: str) -> dict[str, Any]:
    """What a job of this module prints, run in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, job, folder], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)


@figure("compile_acl10k_napt_rib_seconds", unit="s", goal=20)
def big_seconds() -> Result:
    _needs(RULES, RIB)
    return _alone("big")


@figure("compile_acl10k_napt_rib_peak_mib", unit="MiB", goal=2048)
def big_memory() -> Result:
    _needs(RULES, RIB)
    cost = _alone("big")
    return {**cost, "value": cost["peak_mib"]}


@figure("compile_metron_seconds", unit="s", goal=1)
def metron_seconds() -> Result:
    _needs(METRON)
    return _alone("metron")


@figure("recompile_one_rule_ms", unit="ms", goal=200)
def recompile_milliseconds() -> Result:
    """From a changed rule file to the finished update, in a process that has compiled before."""
    _needs(RULES, RIB)
    return _alone("recompile")


def big_graph(folder: Path) -> Path:
    """acl1_10k, a NAPT and a router with the 512,621 routes, both ways, as a graph file."""
    from orchestrator.graph.importers import import_rib
    from orchestrator.nfs.values import parse_address

    hops = [parse_address(f"198.51.100.{last}") for last in (13, 14)]
    lines = import_rib(RIB, hops)[0]
    (folder / "routes.txt").write_text("\n".join([*lines, "10.0.1.0/24 - inside"]) + "\n")
    (folder / "acl.rules").write_bytes(RULES.read_bytes())
    chain = ["inside", "acl", "napt", "router", "outside"]
    ends = {"inside", "outside"}

    def port(node: str, side: str) -> str:
        return node if node in ends else f"{node}.{side}"

    pairs = list(pairwise(chain))
    there = [{"from": port(a, "outside"), "to": port(b, "inside")} for a, b in pairs]
    back = [{"from": port(b, "inside"), "to": port(a, "outside")} for a, b in pairs]
    graph = {
        "name": "big",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
        "nfs": {
            "acl": {"type": "acl", "config": {"rules_file": "acl.rules"}},
            "napt": {"type": "napt", "config": {"addresses": ["203.0.113.1"]}},
            "router": {"type": "router", "config": {"routes_file": "routes.txt"}},
        },
        "edges": there + back,
        "traffic": [
            {"name": a, "from": b, "to": c, "rate": "100Mbit/s"}
            for a, b, c in (("up", "inside", "outside"), ("down", "outside", "inside"))
        ],
    }
    path = folder / "graph.json"
    path.write_text(json.dumps(graph))
    return path


def _compiled(path: Path) -> dict[str, Any]:
    """Seconds from parsing to the finished bundle, and what came out."""
    from orchestrator.bundle.codec import dump
    from orchestrator.compile import CompileRequest, compile_graph
    from orchestrator.graph import load_graph
    from orchestrator.placement.topologies import resolve_topology

    topology = resolve_topology("leaf-spine")
    marks = [time.perf_counter()]
    loaded = load_graph(path)
    marks.append(time.perf_counter())
    bundle = compile_graph(CompileRequest(loaded.graph, topology)).bundle
    marks.append(time.perf_counter())
    data = dump(bundle)
    marks.append(time.perf_counter())
    return {
        "value": round(marks[3] - marks[0], 2),
        "stages_s": {
            name: round(b - a, 2)
            for name, a, b in zip(("load", "compile", "dump"), marks, marks[1:], strict=False)
        },
        "entries": sum(len(p.entries) + len(p.activation) for p in bundle.programs.values()),
        "bundle_bytes": len(data),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def _big(folder: Path) -> dict[str, Any]:
    return _compiled(big_graph(folder))


EDITS = 15
MOST_TOUCHED = 1000
"""One rule of acl1_10k may touch so many entries of some 600,000: its branches, and nodes beside."""


def _recompile(folder: Path) -> dict[str, Any]:
    """One rule after the other gets another address; the median of the times, and what was touched."""
    from orchestrator.deployment.recompile import Recompiler
    from orchestrator.placement.topologies import resolve_topology

    compiler = Recompiler(big_graph(folder), resolve_topology("leaf-spine"))
    first = compiler.version()
    file, rng = folder / "acl.rules", random.Random(1)
    rules = file.read_text().splitlines()
    times: list[float] = []
    touched: list[int] = []
    for edit in range(EDITS + 1):
        at = rng.randrange(len(rules))
        fields = rules[at].split("\t")
        fields[edit % 2] = ("@" if edit % 2 == 0 else "") + f"203.0.113.{edit}/32"
        rules[at] = "\t".join(fields)
        file.write_text("\n".join(rules) + "\n")
        recompiled = compiler.version()
        if (
            not recompiled.summary.counts.total()
            or recompiled.summary.counts.total() > MOST_TOUCHED
        ):
            raise RuntimeError(f"{rules[at]}: {recompiled.summary.words()}")
        if edit:  # the first one also finds out what the later ones share
            times.append(1000 * recompiled.seconds)
            touched.append(recompiled.summary.counts.total())
    return {
        "value": round(statistics.median(times), 1),
        "worst_ms": round(max(times), 1),
        "entries_touched": {"median": statistics.median(touched), "most": max(touched)},
        "entries": sum(len(p.entries) for p in first.bundle.programs.values()),
        "compared_with": {"the first compilation, ms": round(1000 * first.seconds)},
    }


def _metron(folder: Path) -> dict[str, Any]:
    from orchestrator.graph.importers import import_metron
    from orchestrator.nfs.values import parse_address

    path = folder / "graph.json"
    path.write_text(json.dumps(import_metron(METRON, parse_address("198.51.100.13"), None).graph))
    return _compiled(path)


if __name__ == "__main__":
    job, folder = sys.argv[1:]
    sys.path.insert(0, str(ROOT))
    jobs = {"big": _big, "metron": _metron, "recompile": _recompile}
    print(json.dumps(jobs[job](Path(folder))))

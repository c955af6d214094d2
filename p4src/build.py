"""Compile every pipeline with p4c into `build/`: BMv2 JSON, P4Info text, and what they came from.

Run by `make p4`. First the NF blocks of `pipelines/edge.p4` are written anew from their descriptors
(orchestrator/targets/block.py, edge.py). `build/build.json` holds p4c's version and the digest of all
sources; a test fails when they have changed since or, where p4c is on PATH, a fresh build differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.targets.block import filled
from orchestrator.targets.edge import edge_text

HERE = Path(__file__).resolve().parent
EDGE = HERE / "pipelines" / "edge.p4"
COMPILER = "p4c-bm2-ss"
_OTHERS = re.compile(r"(^|_)tna(_|$)")
"""Names of files of architectures that no build is shipped for."""


def source_digest() -> str:
    """SHA-256 over the names and contents of the P4 sources of what is shipped."""
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*.p4")):
        if _OTHERS.search(path.stem):
            continue
        digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def compiler_version() -> str:
    """p4c's version without its build type."""
    run = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True)
    printed = re.search(r"Version (\S+)", run.stdout + run.stderr)
    return printed.group(1) if printed else "unknown"


def without_source_info(node: Any) -> Any:
    """The JSON without line numbers and paths: two thirds of its size, and no use to a switch."""
    if isinstance(node, dict):
        return {k: without_source_info(v) for k, v in node.items() if k != "source_info"}
    if isinstance(node, list):
        return [without_source_info(item) for item in node]
    return node


def build(target: Path) -> None:
    """Compile all pipelines into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    pipelines = sorted(path.stem for path in (HERE / "pipelines").glob("*_v1model.p4"))
    for name in pipelines:
        with tempfile.TemporaryDirectory() as scratch:
            raw = Path(scratch) / "raw.json"
            info = target / f"{name}.p4info.txtpb"
            command = [COMPILER, "--Wdisable", "--p4runtime-files", str(info), "-o", str(raw)]
            subprocess.run([*command, f"pipelines/{name}.p4"], cwd=HERE, check=True)
            program = without_source_info(json.loads(raw.read_text()))
        program["program"] = f"{name}.p4"
        (target / f"{name}.json").write_text(json.dumps(program, separators=(",", ":")) + "\n")
    manifest = {
        "p4c": compiler_version(),
        "sources_sha256": source_digest(),
        "pipelines": pipelines,
    }
    (target / "build.json").write_text(json.dumps(manifest, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE / "build", help="where to write")
    arguments = parser.parse_args()
    if shutil.which(COMPILER) is None:
        print(f"{COMPILER} is not on PATH: install p4c (p4lang)", file=sys.stderr)
        return 4
    EDGE.write_text(filled(EDGE.read_text(), edge_text()))
    build(arguments.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

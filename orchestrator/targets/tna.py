"""p4c's Tofino backend (p4lang/p4c, backends/tofino): it compiles TNA and T2NA, and says what they take.

`p4c-barefoot` makes assembly, `bfas` of it what a chip loads. Whether a program fits is for `bfas` to
say: the compiler takes programs of more stages than a chip has.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import CompileError, EnvironmentMissing
from orchestrator.resources import shipped

COMPILER, ASSEMBLER = "p4c-barefoot", "bfas"
CHECKOUT = "P4C"
"""Environment variable: a checkout of p4lang/p4c, whose architectures serve where none are installed."""
GENERATIONS = {"tofino": ("tna", 1), "tofino2": ("t2na", 2)}
_TIMEOUT_S = 1800
_PARTS = ("arch", "shared", "blocks", "pipelines")


@dataclass(frozen=True, slots=True)
class ChipProgram:
    """What the compiler made of a program: what a driver loads, and its reports as documents."""

    p4info: bytes
    bfrt: bytes
    context: bytes
    binary: bytes
    resources: dict[str, Any]
    compiler: str
    """Its version."""


def missing() -> str:
    """What is not there of the compiler, in words; "": nothing."""
    absent = [name for name in (COMPILER, ASSEMBLER) if shutil.which(name) is None]
    return f"{' and '.join(absent)} not on PATH (p4lang/p4c, backends/tofino)" if absent else ""


def compile_for_chip(files: Mapping[str, str], chip: str) -> ChipProgram:
    """Compile p4src with these files changed or added, the last of them the main one, for target `chip`.

    EnvironmentMissing without the compiler; CompileError with what it said, first of all where the chip
    is too small.
    """
    if absent := missing():
        raise EnvironmentMissing(absent)
    architecture, generation = GENERATIONS[chip]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in _PARTS:
            shutil.copytree(shipped("p4src") / name, folder / name)
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "out").mkdir()
        info, bfrt = folder / "p4info.txtpb", folder / "bfrt.json"
        command = [
            COMPILER,
            "--target",
            chip,
            "--arch",
            architecture,
            "-g",
            "--Wdisable",
            *_includes(),
        ]
        command += [f"-D__TARGET_TOFINO__={generation}", "--p4runtime-files", str(info)]
        _run([*command, "--bf-rt-schema", str(bfrt), "-o", "out", list(files)[-1]], folder)
        pipe = folder / "out" / "pipe"
        (assembly,) = pipe.glob("*.bfa")
        resources = json.loads((pipe / "logs" / "resources.json").read_text())
        _run([ASSEMBLER, "-o", str(pipe), str(assembly)], folder)
        context = (pipe / "context.json").read_bytes()
        return ChipProgram(
            info.read_bytes(),
            bfrt.read_bytes(),
            context,
            (pipe / f"{chip}.bin").read_bytes(),
            resources["resources"],
            json.loads(context)["compiler_version"],
        )


def _includes() -> list[str]:
    checkout = os.environ.get(CHECKOUT, "")
    if not checkout:
        return []
    folders = (Path(checkout, "p4include"), Path(checkout, "backends/tofino/bf-p4c/p4include"))
    return [word for folder in folders for word in ("-I", str(folder))]


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        run = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise CompileError(f"{command[0]} did not end within {_TIMEOUT_S} s") from None
    if run.returncode:
        said = (
            re.findall(r"^(?:.*\berror: ).*", run.stderr, re.MULTILINE)
            or run.stderr.splitlines()[-5:]
        )
        raise CompileError(f"{command[0]} refused the program: " + "\n".join(said[:5]))

"""What targets of the architecture v1model have in common: BMv2 JSON, made by p4c."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from orchestrator.errors import CompileError, EnvironmentMissing
from orchestrator.resources import shipped
from orchestrator.targets.target import Artefact, Cloning, ReservedPorts, Target

COMPILER = "p4c-bm2-ss"
_TIMEOUT_S = 120


class V1Model(Target):
    """A target that loads BMv2 JSON."""

    architecture: ClassVar[str] = "v1model"
    suffix: ClassVar[str] = ".json"
    # p4src/arch/v1model.p4
    ports: ClassVar[ReservedPorts] = ReservedPorts(cpu=510)
    cloning: ClassVar[Cloning] = Cloning(session=100, copies=(1, 2, 3, 4))

    def compiler(self) -> str:
        return COMPILER

    def compile(self, files: Mapping[str, str]) -> Artefact:
        compiler = shutil.which(COMPILER)
        if compiler is None:
            raise EnvironmentMissing(
                f"{COMPILER} is not on PATH, so no pipeline can be specialised "
                "(https://github.com/p4lang/p4c); without --specialise the shipped pipeline serves"
            )
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "pipelines").mkdir()
            for name in ("arch", "shared", "blocks"):
                shutil.copytree(shipped("p4src") / name, Path(scratch) / name)
            for name, text in files.items():
                (Path(scratch) / name).write_text(text)
            info, config = Path(scratch) / "p4info.txtpb", Path(scratch) / "raw.json"
            command = [compiler, "--Wdisable", "--p4runtime-files", str(info), "-o", str(config)]
            try:
                run = subprocess.run(
                    [*command, list(files)[-1]],
                    cwd=scratch,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=_TIMEOUT_S,
                )
            except subprocess.TimeoutExpired:
                raise CompileError(f"{COMPILER} did not end within {_TIMEOUT_S} s") from None
            if run.returncode:
                said = "\n".join(run.stderr.splitlines()[:10])
                raise CompileError(f"{COMPILER} refused the specialised pipeline: {said}")
            return Artefact(info.read_bytes(), config.read_bytes())

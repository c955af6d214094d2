"""From a program to an executable: C by `ccode`, the system's compiler, and a cache by content."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from orchestrator.errors import SwitchError
from orchestrator.softswitch.fast.ccode import generate
from orchestrator.softswitch.ir.program import Program

RUNTIME = Path(__file__).parent / "c"
SOURCES = ("tables.c", "hashes.c", "device.c", "boundary.c", "memory.c")
FLAGS = ("-std=gnu11", "-O2", "-march=native", "-fno-strict-aliasing", "-w")
"""No warnings: a program may well compare a field with itself. A test has them for the runtime."""
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Instead of speed: every access and every sum of the generated code is checked."""
COMPILE_S = 300


def compiler() -> str | None:
    """The C compiler, as `cc` on PATH."""
    return shutil.which("cc")


def build(program: Program, *, drop_port: int = 511, sanitized: bool = False) -> Path:
    """An executable that runs a program; the same program is compiled once.

    UnsupportedFeature for what the generator refuses, SwitchError where there is no compiler.
    """
    source = generate(program, drop_port=drop_port)
    found = compiler()
    if found is None:
        raise SwitchError(
            "no C compiler: `cc` is not on PATH (Debian: apt-get install gcc libc6-dev)"
        )
    flags = (*FLAGS, *(SANITIZERS if sanitized else ()))
    folder = cache_folder()
    executable = folder / _digest(source, found, flags)
    if executable.exists():
        return executable
    with tempfile.TemporaryDirectory(dir=folder) as work:
        (Path(work) / "program.c").write_text(source, encoding="ascii")
        made = Path(work) / "device"
        words = [found, *flags, "-I", str(RUNTIME), "-o", str(made), str(Path(work) / "program.c")]
        words += [str(RUNTIME / name) for name in SOURCES]
        try:
            run = subprocess.run(
                words, capture_output=True, text=True, timeout=COMPILE_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise SwitchError(f"{found} takes more than {COMPILE_S} s for this program") from None
        if run.returncode:
            raise SwitchError(f"{found} refuses the generated program: {run.stderr.strip()[:2000]}")
        made.replace(executable)  # at once: another process may build the same
    return executable


def cache_folder() -> Path:
    """Where executables are kept: a folder that nobody else can write to."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "orchestrator" / "fast"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return _own_folder()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SwitchError(f"{folder}: others can write there, and what is in it would be run")
    return folder


@cache
def _own_folder() -> Path:
    """For a user without a home: for the life of this process."""
    return Path(tempfile.mkdtemp(prefix="orchestrator-fast-"))


def _digest(source: str, found: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    version = subprocess.run([found, "--version"], capture_output=True, check=False).stdout
    for part in (source.encode(), version, " ".join(flags).encode(), *_runtime()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _runtime() -> list[bytes]:
    return [path.read_bytes() for path in sorted(RUNTIME.iterdir()) if path.suffix in (".c", ".h")]

"""C of this installation becomes executables and shared objects: by the system's compiler, once.

`C` is the folder of what every process needs that moves frames: messages with a parent, ports, rights
given up. Who has more C of its own names it in `SourceFiles`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from servernf.host.cache import kept
from servernf.wire.errors import EnvironmentMissing

C = Path(__file__).parent / "c"
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Instead of speed: every access and every sum is checked."""
COMPILE_S = 300
COMPILER = "no C compiler: `cc` is not on PATH (Debian: apt-get install gcc libc6-dev)"
HYPERSCAN = "not installed (Debian: apt-get install libhyperscan-dev, or libvectorscan-dev)"
DPDK = "DPDK is not installed (Debian: apt-get install libdpdk-dev pkg-config)"


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What is compiled: `compiled` of `files` (name -> bytes), in this order."""

    files: Mapping[str, bytes]
    compiled: Sequence[str]
    flags: Sequence[str] = ()
    libraries: Sequence[str] = field(default=())


def compiler() -> str | None:
    """The C compiler, as `cc` on PATH."""
    return shutil.which("cc")


def compiled(sources: SourceFiles, what: str) -> Path:
    """What the compiler makes of sources; the same is made once. `what` it is, for errors.

    EnvironmentMissing where there is no compiler, or it refuses them.
    """
    program = compiler()
    if program is None:
        raise EnvironmentMissing(COMPILER)
    words = (*sources.compiled, *sources.flags, *sources.libraries)
    parts = (_version(program), " ".join(words).encode(), *_named(sources.files))

    def make(path: Path) -> None:
        work = path.parent
        for name, text in sources.files.items():
            (work / name).write_bytes(text)
        names = [f"{work}/{name}" for name in sources.compiled]
        argv = [program, *sources.flags, "-o", str(path), *names, *sources.libraries]
        try:
            run = subprocess.run(
                argv, capture_output=True, text=True, timeout=COMPILE_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentMissing(
                f"{program} takes more than {COMPILE_S} s for {what}"
            ) from None
        if run.returncode:
            raise EnvironmentMissing(f"{program} refuses {what}: {run.stderr.strip()[:2000]}")
        path.chmod(0o755)

    return kept(_digest(parts), make)


def dpdk_missing() -> str:
    """What a process with DPDK's ports lacks on this machine; "": nothing."""
    if compiler() is None:
        return COMPILER
    try:
        dpdk_flags()
    except EnvironmentMissing as error:
        return str(error)
    return ""


def dpdk_flags() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what the compiler, what the linker must know of DPDK); EnvironmentMissing without it."""
    pkg_config = shutil.which("pkg-config")
    if pkg_config is None:
        raise EnvironmentMissing(DPDK)
    answers: list[tuple[str, ...]] = []
    for question in ("--cflags", "--libs"):
        words = [pkg_config, question, "libdpdk"]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if run.returncode:
            raise EnvironmentMissing(DPDK)
        answers.append(tuple(run.stdout.split()))
    return answers[0], answers[1]


def hyperscan_flags() -> tuple[str, ...]:
    """What the linker must know of Hyperscan, or of Vectorscan, which has its name; nothing without."""
    pkg_config = shutil.which("pkg-config")
    words = [pkg_config or "", "--libs", "libhs"]
    run = subprocess.run(words, capture_output=True, text=True, check=False) if pkg_config else None
    return tuple(run.stdout.split()) if run is not None and not run.returncode else ()


def c_files(folder: Path = C) -> dict[str, bytes]:
    """The C files of a folder by name. Who gives up rights, and may not read them later, asks before."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in (".c", ".h")}


def _named(files: Mapping[str, bytes]) -> list[bytes]:
    return [part for name in sorted(files) for part in (name.encode(), files[name])]


def _digest(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@cache
def _version(path: str) -> bytes:
    return subprocess.run([path, "--version"], capture_output=True, check=False).stdout

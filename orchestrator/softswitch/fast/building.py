"""Programs become shared objects, the runtime an executable: by the system's compiler, once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from orchestrator.errors import SwitchError
from orchestrator.softswitch.fast.cache import kept
from orchestrator.softswitch.fast.ccode import generate
from orchestrator.softswitch.ir.program import Program

RUNTIME = Path(__file__).parent / "c"
ENGINE = ("tables.c", "hashes.c", "device.c", "boundary.c", "messages.c", "profiles.c")
"""Of a program, beside itself."""
PROCESS = ("process.c", "channel.c", "messages.c", "privileges.c")
"""Of the process, beside its ports."""
FLAGS = ("-std=gnu11", "-O2", "-march=native", "-fno-strict-aliasing", "-fvisibility=hidden", "-w")
"""No warnings: a program may well compare a field with itself. A test has them for the runtime."""
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
"""Instead of speed: every access and every sum of the generated code is checked."""
COMPILE_S = 300
DPDK = "DPDK is not installed (Debian: apt-get install libdpdk-dev pkg-config)"


_sources: WeakKeyDictionary[Program, dict[tuple[int, int], str]] = WeakKeyDictionary()
"""What was generated for programs that are in use."""


def compiler() -> str | None:
    """The C compiler, as `cc` on PATH."""
    return shutil.which("cc")


def build(
    program: Program, *, drop_port: int = 511, queues: int = 1, sanitized: bool = False
) -> Path:
    """A shared object that the process loads; the same program is compiled once.

    UnsupportedFeature for what the generator refuses, SwitchError where there is no compiler.
    """
    made = _sources.setdefault(program, {})
    if (drop_port, queues) not in made:
        made[drop_port, queues] = generate(program, drop_port=drop_port, queues=queues)
    source = made[drop_port, queues]
    return _made(ENGINE, source, ("-shared", "-fPIC", "-fno-semantic-interposition"), (), sanitized)


def build_process(*, dpdk: bool = False, sanitized: bool = False) -> Path:
    """The executable that runs programs, with DPDK's ports or without any."""
    ports = "ports_dpdk.c" if dpdk else "ports_none.c"
    flags, libraries = dpdk_flags() if dpdk else ((), ())
    return _made((*PROCESS, ports), "", flags, (*libraries, "-ldl", "-rdynamic"), sanitized)


def dpdk_flags() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what the compiler, what the linker must know of DPDK); SwitchError where it is not installed."""
    found = shutil.which("pkg-config")
    if found is None:
        raise SwitchError(DPDK)
    answers: list[tuple[str, ...]] = []
    for question in ("--cflags", "--libs"):
        words = [found, question, "libdpdk"]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if run.returncode:
            raise SwitchError(DPDK)
        answers.append(tuple(run.stdout.split()))
    return answers[0], answers[1]


def _made(
    sources: Sequence[str],
    generated: str,
    flags: Sequence[str],
    libraries: Sequence[str],
    sanitized: bool,
) -> Path:
    """What the compiler makes of parts of the runtime and of generated code; the same is made once."""
    found = compiler()
    if found is None:
        raise SwitchError(
            "no C compiler: `cc` is not on PATH (Debian: apt-get install gcc libc6-dev)"
        )
    flags = (*FLAGS, *flags, *(SANITIZERS if sanitized else ()))
    name = _digest(generated, found, (*sources, *flags, *libraries))

    def make(path: Path) -> None:
        work = path.parent
        for name_of, text in runtime().items():
            (work / name_of).write_bytes(text)
        files = sources
        if generated:
            (work / "program.c").write_text(generated, encoding="ascii")
            files = ("program.c", *sources)
        words = [found, *flags, "-o", str(path), *(f"{work}/{of}" for of in files), *libraries]
        try:
            run = subprocess.run(
                words, capture_output=True, text=True, timeout=COMPILE_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise SwitchError(f"{found} takes more than {COMPILE_S} s for this program") from None
        if run.returncode:
            raise SwitchError(f"{found} refuses the generated program: {run.stderr.strip()[:2000]}")
        path.chmod(0o755)

    return kept(name, make)


def _digest(source: str, found: str, words: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for part in (source.encode(), _version(found), " ".join(words).encode(), *runtime().values()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@cache
def _version(found: str) -> bytes:
    return subprocess.run([found, "--version"], capture_output=True, check=False).stdout


@cache
def runtime() -> dict[str, bytes]:
    """The runtime's files by name. Who gives up rights, and may not read them later, asks before."""
    return {p.name: p.read_bytes() for p in sorted(RUNTIME.iterdir()) if p.suffix in (".c", ".h")}

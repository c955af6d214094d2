"""Programs become shared objects, the runtime an executable (`servernf.host.compiling`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from orchestrator.errors import EnvironmentMissing, SwitchError
from orchestrator.softswitch.fast.ccode import generate
from orchestrator.softswitch.ir.program import P4Program
from servernf.host import compiling
from servernf.host.compiling import SANITIZERS, SourceFiles, c_files, compiler
from servernf.wire import native

__all__ = ("build", "build_process", "build_reader", "compiler", "dpdk_flags", "runtime")

WIRE = Path(native.__file__).parent
RUNTIME = Path(__file__).parent / "c"
ENGINE = ("prf.c", "tables.c", "hashes.c", "device.c", "boundary.c", "messages.c", "profiles.c")
"""Of a program, beside itself."""
PROCESS = ("process.c", "channel.c", "messages.c", "privileges.c", "ticking.c")
"""Of the process, beside its ports."""
FLAGS = (
    "-std=gnu11",
    "-O2",
    "-march=native",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-fno-tree-slp-vectorize",
    "-w",
)
"""No warnings: a program may well compare a field with itself. A test has them for the runtime.
Vectors of a packet's locals, which are in registers or far apart, cost an eighth of its time."""
SHARED = ("-shared", "-fPIC", "-fno-semantic-interposition")

_sources: WeakKeyDictionary[P4Program, dict[tuple[int, int], str]] = WeakKeyDictionary()
"""What was generated for programs that are in use."""


def build(
    program: P4Program, *, drop_port: int = 511, queues: int = 1, sanitized: bool = False
) -> Path:
    """A shared object that the process loads; the same program is compiled once.

    UnsupportedFeature for what the generator refuses, SwitchError where there is no compiler.
    """
    made = _sources.setdefault(program, {})
    if (drop_port, queues) not in made:
        made[drop_port, queues] = generate(program, drop_port=drop_port, queues=queues)
    source = made[drop_port, queues]
    return _made(ENGINE, source, SHARED, (), sanitized)


def build_process(*, dpdk: bool = False, sanitized: bool = False) -> Path:
    """The executable that runs programs, with DPDK's ports or without any."""
    ports = "ports_dpdk.c" if dpdk else "ports_none.c"
    flags, libraries = dpdk_flags() if dpdk else ((), ())
    return _made((*PROCESS, ports), "", flags, (*libraries, "-ldl", "-rdynamic"), sanitized)


def build_reader(*, sanitized: bool = False) -> Path:
    """The shared object with which Python reads entries (`plain`)."""
    return _made(("plain.c",), "", SHARED, (), sanitized)


def dpdk_flags() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what the compiler, what the linker must know of DPDK); SwitchError where it is not installed."""
    try:
        return compiling.dpdk_flags()
    except EnvironmentMissing as error:
        raise SwitchError(str(error)) from None


def _made(
    sources: Sequence[str],
    generated: str,
    flags: Sequence[str],
    libraries: Sequence[str],
    sanitized: bool,
) -> Path:
    """What the compiler makes of parts of the runtime and of generated code; the same is made once."""
    files = dict(runtime())
    if generated:
        files["program.c"] = generated.encode("ascii")
        sources = ("program.c", *sources)
    flags = (*FLAGS, *flags, *(SANITIZERS if sanitized else ()))
    try:
        return compiling.compiled(
            SourceFiles(files, sources, flags, libraries), "the generated program"
        )
    except EnvironmentMissing as error:
        raise SwitchError(str(error)) from None


@cache
def runtime() -> dict[str, bytes]:
    """The runtime's files by name. Who gives up rights, and may not read them later, asks before."""
    return c_files() | c_files(RUNTIME) | c_files(WIRE)

"""The process of a core is compiled when it is first needed, and kept (`servernf.host.compiling`)."""

from __future__ import annotations

from pathlib import Path

from servernf.host.compiling import (
    SANITIZERS,
    SourceFiles,
    c_files,
    compiled,
    dpdk_flags,
    hyperscan_flags,
)

HERE = Path(__file__).parent
FOLDERS = (HERE / "c", HERE / "nfs")
WIRE = HERE.parent / "wire"
HOST = ("channel.c", "messages.c", "privileges.c", "ticking.c")
"""Of `servernf.host.c`."""
FLAGS = (
    "-std=gnu11",
    "-O3",
    # Else each new NF uses up some of what may be inlined, and forwarding has lost a third of its rate.
    "--param=inline-unit-growth=200",
    "--param=large-unit-insns=100000",
    "-flto",
    "-march=native",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Werror",
)


def own_files() -> dict[str, bytes]:
    """The C files of the engine and its NFs by name, and the PRF, of which there is one source."""
    own = {name: (WIRE / name).read_bytes() for name in ("prf.c", "prf.h")}
    for folder in FOLDERS:
        own |= c_files(folder)
    return own


def build(*, dpdk: bool, sanitized: bool = False) -> Path:
    """The executable, with DPDK's ports or none; EnvironmentMissing says what lacks."""
    own = own_files()
    compile_flags, libraries = dpdk_flags() if dpdk else ((), ())
    names = [*sorted(name for name in own if name.endswith(".c")), *HOST]
    libraries = (*libraries, *hyperscan_flags())
    names.append("ports_dpdk.c" if dpdk else "ports_none.c")
    flags = (*FLAGS, *compile_flags, *(SANITIZERS if sanitized else ()))
    sources = SourceFiles(c_files() | own, names, flags, (*libraries, "-rdynamic", "-lm"))
    return compiled(sources, "the DPDK runtime")

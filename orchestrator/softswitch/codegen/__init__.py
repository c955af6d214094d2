"""Compile a `Program` to the source of one Python function.

All of a packet's way - parser, checksum verification, ingress, replication,
egress, checksum update, deparser - is one function, so that header fields and
metadata are its local variables, by far the fastest storage that CPython has.
Widths are tracked through expressions as value bounds, and a mask is emitted
only where a value can leave its field. Fields that no part of the program
reads or writes are not decoded at all: a header that nothing changed leaves
as the bytes that came in.

    run(port, data, mode, aux, out, again)

`mode` says where a packet comes from (see the constants); `out` collects
(port, frame); `again` collects (port, data, mode, aux) that must pass ingress
once more. With trace=True the same generator adds calls of `T(event, ...)`;
without it not a byte of the code differs for them.

Behaviour follows BMv2's simple_switch (parser.cpp, simple_switch.cpp), also
where it is odd: metadata of a recirculated packet or a clone is zero except
its field list, ingress clones are parsed again from the bytes received.

Modules, each a layer over the one before: `emitter`, `expressions`,
`calculations`, `actions`, `parsing`, `pipelines`, `function`.
"""

from __future__ import annotations

from orchestrator.softswitch.codegen.emitter import (
    EGRESS_CLONE,
    INGRESS_CLONE,
    NORMAL,
    RECIRCULATE,
    REPLICATION,
    RESUBMIT,
    Generated,
    literal,
)
from orchestrator.softswitch.codegen.function import Compiler
from orchestrator.softswitch.ir.program import Program

__all__ = (
    "EGRESS_CLONE",
    "INGRESS_CLONE",
    "NORMAL",
    "RECIRCULATE",
    "REPLICATION",
    "RESUBMIT",
    "Compiler",
    "Generated",
    "generate",
    "literal",
)


def generate(
    program: Program, *, trace: bool = False, drop_port: int = 511, queues: int = 1
) -> Generated:
    """Source of `run` for this program; raises `UnsupportedFeature` by name and place.

    `queues` is the number of priority queues a port: a packet of a higher
    `standard_metadata.priority` is dropped, as by simple_switch.
    """
    return Compiler(program, trace, drop_port, queues).generate()

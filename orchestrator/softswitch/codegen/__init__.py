"""Compile a `P4Program` to the source of one Python function.

All of a packet's way - parser, checksum verification, ingress, replication,
egress, checksum update, deparser - is one function, so that header fields and
metadata are its local variables, by far the fastest storage that CPython has.
Widths are tracked through expressions as value bounds, and a mask is emitted
only where a value can leave its field. Fields that no part of the program
reads or writes are not decoded at all: a header that nothing changed leaves
as the bytes that came in.

    run(port, data, mode, aux, out, again)

`mode` says where a packet comes from (the architecture's instance type); `out` collects
(port, frame); `again` collects (port, data, mode, aux) that must pass ingress
once more. With trace=True the same generator adds calls of `T(event, ...)`;
without it not a byte of the code differs for them.

Behaviour follows BMv2's simple_switch (parser.cpp, simple_switch.cpp), also
where it is odd: metadata of a recirculated packet or a clone is zero except
its field list, ingress clones are parsed again from the bytes received.

Each part of a program is a module of functions over a `Context`, which has the program, the lines
so far and the names of locals: `layout` and `context` (what is decoded, how it is called),
`expressions`, `calculations`, `primitives`, `actions`, `parsing`, `controls`, `deparsing`, then
`traffic` (what the architecture looks at between and behind these) and `function`, the whole.
Before all of them `keyed_hash` looks for one that the program writes as arithmetic, where controls are
`straight`, by the `values` of fields.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from orchestrator.softswitch.codegen.context import Context, Generated, literal
from orchestrator.softswitch.codegen.function import emit_function
from orchestrator.softswitch.codegen.keyed_hash import with_keyed_hash
from orchestrator.softswitch.codegen.primitives import primitives_implemented
from orchestrator.softswitch.ir.program import P4Program

__all__ = ("Context", "Generated", "generate", "literal", "primitives_implemented")


def generate(
    program: P4Program, *, trace: bool = False, drop_port: int = 511, queues: int = 1
) -> Generated:
    """Source of `run` for this program; raises `UnsupportedFeature` by name and place.

    `queues` is the number of priority queues a port: a packet of a higher
    `standard_metadata.priority` is dropped, as by simple_switch. It is kept as long as the program is.
    """
    made = _made.setdefault(program, {})
    key = trace, drop_port, queues
    if key not in made:
        # All steps told are those of P4.
        emitted = program if trace else with_keyed_hash(program)
        context = Context(emitted, trace=trace, drop_port=drop_port, queues=queues)
        made[key] = emit_function(context)
    return made[key]


_made: WeakKeyDictionary[P4Program, dict[tuple[bool, int, int], Generated]] = WeakKeyDictionary()

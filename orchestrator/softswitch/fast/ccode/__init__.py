"""Compile a `P4Program` to C: a function that a packet passes, and what runtime (`fast/c`) must know.

The generator reads the same program as `softswitch.codegen` and says the same in another language:
header fields and metadata are locals of one function, parse states and nodes of controls are labels of
it, so nothing is there twice. Numbers are exact or their low bits are (`kinds`). What does not fit
without distortion is refused by name and place: the Python engine runs it.
"""

from __future__ import annotations

from orchestrator.softswitch.codegen.keyed_hash import with_keyed_hash
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.function import emit_program, words_of
from orchestrator.softswitch.ir.program import P4Program

__all__ = ("generate", "words_of")


def generate(program: P4Program, *, drop_port: int = 511, queues: int = 1) -> str:
    """The C source of a program; raises `UnsupportedFeature` by name and place.

    `queues` is the number of priority queues a port: a packet of a higher
    `standard_metadata.priority` is dropped, as by simple_switch.
    """
    return emit_program(CContext(with_keyed_hash(program), drop_port=drop_port, queues=queues))

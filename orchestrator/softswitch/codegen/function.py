"""The whole function: what a packet begins with, parser, ingress, and egress for each copy."""

from __future__ import annotations

from orchestrator.softswitch.architectures import PacketOrigin, TrafficStep
from orchestrator.softswitch.codegen.calculations import verify_checksums
from orchestrator.softswitch.codegen.context import Context, Generated
from orchestrator.softswitch.codegen.parsing import emit_parser
from orchestrator.softswitch.codegen.traffic import (
    emit_arrived_clone,
    emit_egress,
    emit_ingress,
    emit_untouched,
    restore_field_list,
)


def emit_function(c: Context) -> Generated:
    """The source of `run`; raises UnsupportedFeature for what is not implemented."""
    # What a packet begins with are defaults of parameters that nobody gives: the interpreter copies
    # them at once, while assignments would cost a tenth of a packet's time.
    params = ", ".join(("port, data, mode, aux, out, again", *_initial_values(c)))
    with c.block(f"def run({params}):"):
        c.emit("L = len(data)")
        c.emit("o = perr = 0")
        _prologue(c)
        emit_parser(c)
        if c.has_meta("parser_error"):
            c.emit(f"{c.sm('parser_error')} = perr")
        verify_checksums(c)
        c.emit("todo = None")
        if c.asked(TrafficStep.CLONE):
            with c.block(f"if mode == {c.origin_number(PacketOrigin.INGRESS_CLONE)}:"):
                emit_arrived_clone(c)
            with c.block("else:"):
                emit_ingress(c)
        else:
            emit_ingress(c)
        with c.block("while True:"):
            emit_egress(c)
    return Generated("\n".join(c.lines) + "\n", dict(c.outside))


def _initial_values(c: Context) -> list[str]:
    """`name=value` of metadata and headers: no header is there, everything is 0."""
    names = list(c.meta_locals())
    values: list[str] = []
    for h in c.packet_headers():
        lay, origin = c.layouts[h.type.name], c.origin(h.name)
        for n in c.header_locals(h):
            if lay.varbit and n == c.var(h.name, lay.varbit):
                values.append(f"{n}=b''")
            elif n != origin:
                names.append(n)
        values.append(f"{origin}=-1")
    names += c.stack_counts()
    return [f"{name}=0" for name in names] + values


def _prologue(c: Context) -> None:
    if c.asked(TrafficStep.CLONE):
        c.emit("clone = -1")
        c.emit("clone_fl = 0")
    if c.asked(TrafficStep.DIGEST):
        c.emit("digest = 0")
    if c.asked(TrafficStep.RESUBMIT):
        c.emit("resub = 0")
    emit_untouched(c)
    if c.track_length:
        c.emit(f"plen_reg = {c.sm('packet_length')} = L")
    if c.asked(TrafficStep.RESUBMIT) or c.asked(TrafficStep.RECIRCULATE):
        # Metadata of a packet on its way round is its field list, nothing else.
        with c.block("if aux is None:"):
            _arrival(c)
        with c.block(f"elif mode == {c.origin_number(PacketOrigin.INGRESS_CLONE)}:"):
            c.emit(f"{c.sm('ingress_port')} = port")
        with c.block("else:"):
            c.emit("fl, values = aux")
            restore_field_list(c, "fl", "values")
            c.emit(f"{c.sm('instance_type')} = mode")
    else:
        _arrival(c)


def _arrival(c: Context) -> None:
    c.emit(f"{c.sm('ingress_port')} = port")
    if c.has_meta("ingress_global_timestamp"):
        c.emit(f"{c.sm('ingress_global_timestamp')} = now()")

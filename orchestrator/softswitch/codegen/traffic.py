"""Ingress and egress, and what the architecture looks at behind them and behind the deparser.

Steps come in the architecture's order; one that the program cannot ask for has no code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext

from orchestrator.softswitch.architectures import PacketOrigin, TrafficStep
from orchestrator.softswitch.codegen.context import Context, literal, quoted
from orchestrator.softswitch.codegen.controls import emit_control
from orchestrator.softswitch.codegen.deparsing import emit_deparser
from orchestrator.softswitch.codegen.expressions import expr


def emit_ingress(c: Context) -> None:
    """Ingress, once a packet; behind it `todo` holds the copies, if there are several."""
    control = c.p.architecture.ingress
    c.event("pipeline", quoted(control.name), c.sm("ingress_port"), "mode", "0")
    emit_control(c, c.p.pipelines[control.name])
    _emit_steps(c, control.after, _BEHIND_INGRESS)


def emit_egress(c: Context) -> None:
    """Egress and all behind it for one copy, then on to the next in `todo`."""
    spec = c.sm("egress_spec")
    c.event(
        "pipeline",
        quoted(c.p.architecture.egress.name),
        c.sm("egress_port"),
        c.sm("instance_type"),
        c.sm("egress_rid") if c.has_meta("egress_rid") else "0",
    )
    if c.has_meta("egress_global_timestamp"):
        c.emit(f"{c.sm('egress_global_timestamp')} = now()")
    width = c.sm_width("egress_spec")
    c.emit(f"{spec} = {literal((c.drop_port + 1) & ((1 << width) - 1))}")
    if c.track_length:
        c.emit(f"{c.sm('packet_length')} = plen_reg")
    if c.has_meta("enq_timestamp"):
        # No packet waits here: it leaves its queue as it enters.
        c.emit(f"{c.sm('enq_timestamp')} = now() & 0xffffffff")
    if c.has_meta("priority"):
        with c.block(f"if {c.sm('priority')} >= {literal(c.queues)}:"):
            c.event("drop", "'queue'")
        with c.block("else:"):
            _egress_body(c)
    else:
        _egress_body(c)
    with c.block("if not todo:"):
        c.emit("return")
    state = ", ".join([*c.header_state(), *c.meta_locals()])
    c.emit("p_, r_, state = todo.pop(0)")
    c.emit(f"{state}, = state")
    c.emit(f"{c.sm('egress_port')} = p_")
    if c.has_meta("egress_rid"):
        c.emit(f"{c.sm('egress_rid')} = r_")
    emit_untouched(c)


def _egress_body(c: Context) -> None:
    control = c.p.architecture.egress
    emit_control(c, c.p.pipelines[control.name])
    _emit_steps(c, control.after, _BEHIND_EGRESS)


def emit_arrived_clone(c: Context) -> None:
    """A clone made in ingress was parsed again; now its metadata and its copies."""
    c.emit("copies, fl, values = aux")
    c.assign_zero(c.meta_locals())
    restore_field_list(c, "fl", "values")
    c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.INGRESS_CLONE)}")
    replicate(c, "copies")


def emit_untouched(c: Context) -> None:
    """A copy begins without what actions have asked for the packet that it is one of."""
    if c.asked(TrafficStep.RECIRCULATE):
        c.emit("recirc = 0")
    if "truncate" in c.ops:
        c.emit("trunc = 1 << 30")


def _save_field_list(c: Context, var: str, result: str) -> None:
    """Emit `result` = values of the field list whose id is in `var`."""
    c.emit(f"{result} = ()")
    for i, elements in c.p.field_lists.items():
        if elements:
            with c.block(f"if {var} == {literal(i)}:"):
                values = ", ".join(c.var(h, f) for h, f in elements)
                c.emit(f"{result} = ({values},)")


def restore_field_list(c: Context, var: str, values: str) -> None:
    for i, elements in c.p.field_lists.items():
        if elements:
            with c.block(f"if {var} == {literal(i)}:"):
                c.emit(", ".join(c.var(h, f) for h, f in elements) + f", = {values}")


def replicate(c: Context, copies: str) -> None:
    """Set up `todo` for the (port, rid) in `copies`; the egress loop takes them in turn."""
    state = ", ".join([*c.header_state(), *c.meta_locals()])
    c.emit(f"state = ({state},)")
    c.emit(f"todo = [(p_, r_, state) for p_, r_ in {copies}]")
    with c.block("if not todo:"):
        c.emit("return")
    c.emit(f"{c.sm('egress_port')}, {replica(c)}, state = todo.pop(0)")


def replica(c: Context) -> str:
    """Where the number of a copy goes; P4_14 programs need not have a field for it."""
    return c.sm("egress_rid") if c.has_meta("egress_rid") else "r_"


# ------------------------------------------------------------------- behind ingress


def _clone_of_arrival(c: Context) -> None:
    """A clone of the packet as it came in: it is parsed again, with its field list's metadata."""
    if not c.asked(TrafficStep.CLONE):
        return
    number = c.origin_number(PacketOrigin.INGRESS_CLONE)
    with c.block("if clone >= 0:"):
        c.emit("copies = clone_sessions.get(clone)")
        c.event("clone", quoted(c.p.architecture.ingress.name), "clone", "copies")
        with c.block("if copies is not None:"):
            _save_field_list(c, "clone_fl", "values")
            c.emit(f"run(port, data, {number}, (copies, clone_fl, values), out, again)")
        c.emit("clone = -1")
        c.emit("clone_fl = 0")


def _digest(c: Context) -> None:
    """What an ingress digest carries; the last one asked for is the one that counts."""
    if not c.asked(TrafficStep.DIGEST):
        return
    with c.block("if digest:"):
        for i, learn in c.p.learn_lists.items():
            values: list[str] = []
            for item in learn.elements:
                code = expr(c, item).code
                if item["type"] == "field":
                    f = c.p.field(*item["value"])
                    if f.signed:
                        code = f"{code} & {literal((1 << f.width) - 1)}"
                values.append(code)
            with c.block(f"if digest == {literal(i)}:"):
                c.emit(f"values = ({''.join(v + ', ' for v in values)})")
                c.emit(f"learn({literal(i)}, values)")
                c.event("digest", quoted(learn.name), "values")


def _resubmit(c: Context) -> None:
    if not c.asked(TrafficStep.RESUBMIT):
        return
    with c.block("if resub:"):
        _save_field_list(c, "resub", "values")
        c.event("resubmit", "resub", "values")
        number = c.origin_number(PacketOrigin.RESUBMISSION)
        c.emit(f"again.append((port, data, {number}, (resub, values)))")
        c.emit("return")


def _multicast(c: Context) -> None:
    if not c.has_meta("mcast_grp"):
        return
    group = c.sm("mcast_grp")
    with c.block(f"if {group}:"):
        c.emit(f"copies = groups.get({group}, ())")
        c.event("multicast", group, "copies")
        c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.MULTICAST)}")
        emit_untouched(c)
        replicate(c, "copies")


def _to_egress(c: Context) -> None:
    spec, ingress = c.sm("egress_spec"), c.p.architecture.ingress
    multicast = TrafficStep.MULTICAST in ingress.after and c.has_meta("mcast_grp")
    with c.block(f"{'elif' if multicast else 'if'} {spec} == {literal(c.drop_port)}:"):
        c.event("drop", quoted(ingress.name))
        c.emit("return")
    with c.block("else:"):
        c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.PORT)}")
        c.emit(f"{c.sm('egress_port')} = {spec}")


# -------------------------------------------------------------------- behind egress


def _clone_of_departure(c: Context) -> None:
    """A clone of the packet as it leaves egress: headers stay, metadata is its field list's."""
    if not c.asked(TrafficStep.CLONE):
        return
    with c.block("if clone >= 0:"):
        c.emit("copies = clone_sessions.get(clone)")
        c.event("clone", quoted(c.p.architecture.egress.name), "clone", "copies")
        with c.block("if copies is not None:"):
            _save_field_list(c, "clone_fl", "values")
            meta = c.meta_locals()
            c.emit(f"kept = ({', '.join(meta)},)")
            c.assign_zero(meta)
            restore_field_list(c, "clone_fl", "values")
            c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.EGRESS_CLONE)}")
            with c.block("if todo is None:"):
                c.emit("todo = []")
            state = ", ".join([*c.header_state(), *meta])
            c.emit(f"state = ({state},)")
            c.emit("todo += [(p_, r_, state) for p_, r_ in copies]")
            c.emit(f"{', '.join(meta)}, = kept")
        c.emit("clone = -1")
        c.emit("clone_fl = 0")


def _to_deparser(c: Context) -> None:
    architecture = c.p.architecture
    with c.block(f"if {c.sm('egress_spec')} == {literal(c.drop_port)}:"):
        c.event("drop", quoted(architecture.egress.name))
    with c.block("else:"):
        emit_deparser(c)
        _emit_steps(c, architecture.behind_deparser, _BEHIND_DEPARSER)


# ------------------------------------------------------------------ behind the deparser


def _recirculate(c: Context) -> None:
    if not c.asked(TrafficStep.RECIRCULATE):
        return
    with c.block("if recirc:"):
        _save_field_list(c, "recirc", "values")
        number = c.origin_number(PacketOrigin.RECIRCULATION)
        c.emit(f"again.append((port, frame, {number}, (recirc, values)))")
        c.event("recirculate", "recirc", "values", "frame")


def _send(c: Context) -> None:
    frame = "frame[:trunc]" if "truncate" in c.ops else "frame"
    with c.block("else:") if c.asked(TrafficStep.RECIRCULATE) else nullcontext():
        c.emit(f"out.append(({c.sm('egress_port')}, {frame}))")
        c.event("send", c.sm("egress_port"), frame)


Emitters = Mapping[TrafficStep, Callable[[Context], None]]

_BEHIND_INGRESS: Emitters = {
    TrafficStep.CLONE: _clone_of_arrival,
    TrafficStep.DIGEST: _digest,
    TrafficStep.RESUBMIT: _resubmit,
    TrafficStep.MULTICAST: _multicast,
    TrafficStep.FORWARD: _to_egress,
}
_BEHIND_EGRESS: Emitters = {
    TrafficStep.CLONE: _clone_of_departure,
    TrafficStep.FORWARD: _to_deparser,
}
_BEHIND_DEPARSER: Emitters = {TrafficStep.RECIRCULATE: _recirculate, TrafficStep.SEND: _send}


def _emit_steps(c: Context, steps: tuple[TrafficStep, ...], emitters: Emitters) -> None:
    for step in steps:
        if step not in emitters:
            raise c.refuse(f"'{step.value}' at this place of {c.p.architecture.name}")
        emitters[step](c)

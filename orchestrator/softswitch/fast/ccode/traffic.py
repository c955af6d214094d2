"""What the architecture looks at between and behind the controls, for v1model's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.softswitch.architectures import PacketOrigin, TrafficStep
from orchestrator.softswitch.fast.ccode.context import CContext
from orchestrator.softswitch.fast.ccode.controls import emit_control
from orchestrator.softswitch.fast.ccode.deparsing import emit_frame, emit_frame_size
from orchestrator.softswitch.fast.ccode.expressions import expr
from orchestrator.softswitch.fast.ccode.kinds import U128, kind_of_bits, masked_code, to

SENT = "sent"
"""The label behind all that happens to one copy."""


def kept_fields(c: CContext) -> list[tuple[str, str]]:
    """(type, name) of the fields of any field list."""
    fields = dict.fromkeys(f for elements in c.p.field_lists.values() for f in elements)
    return [(c.kind_of_field(h, f).name, c.var(h, f)) for h, f in fields]


def emit_ingress(c: CContext) -> None:
    """Ingress, once a packet; where copies go on instead of it, `waiting` has them."""
    control = c.p.architecture.ingress
    emit_control(c, c.p.pipelines[control.name])
    _steps(c, control.after, _BEHIND_INGRESS)


def emit_egress(c: CContext) -> None:
    """Egress and all behind it for one copy."""
    control, spec = c.p.architecture.egress, c.sm("egress_spec")
    if c.has_meta("egress_global_timestamp"):
        c.emit(f"{c.sm('egress_global_timestamp')} = d->now_us;")
    c.emit(f"{spec} = {(c.drop_port + 1) & ((1 << c.sm_width('egress_spec')) - 1)};")
    if c.track_length:
        c.emit(f"{c.sm('packet_length')} = plen_reg;")
    if c.has_meta("enq_timestamp"):
        # No packet waits here: it leaves its queue as it enters.
        c.emit(f"{c.sm('enq_timestamp')} = d->now_us & 0xffffffff;")
    if c.has_meta("priority"):
        c.emit(f"if ({c.sm('priority')} >= {c.queues}) goto {SENT};")
    emit_control(c, c.p.pipelines[control.name])
    _steps(c, control.after, _BEHIND_EGRESS)
    c.label(SENT)


def emit_arrived_clone(c: CContext) -> None:
    """A clone made in ingress was parsed again; now its metadata and its copies."""
    c.assign_zero(c.meta_locals())
    restore_field_list(c, "arrival->list", "arrival->kept")
    c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.INGRESS_CLONE)};")
    _wait(c, "arrival->copies")
    c.goto("next_copy")


def emit_untouched(c: CContext) -> None:
    """A copy begins without what actions have asked for the packet that it is one of."""
    if c.asked(TrafficStep.RECIRCULATE):
        c.emit("recirculated = 0;")
    if "truncate" in c.ops:
        c.emit("truncated = MAX_FRAME;")


def save_field_list(c: CContext, number: str, to_: str) -> None:
    """Emit what keeps the values of the field list with a number."""
    for i, elements in c.p.field_lists.items():
        if elements:
            with c.block(f"if ({number} == {i}u)"):
                for h, f in elements:
                    c.emit(f"{to_}.{c.var(h, f)} = {c.var(h, f)};")


def restore_field_list(c: CContext, number: str, source: str) -> None:
    for i, elements in c.p.field_lists.items():
        if elements:
            with c.block(f"if ({number} == {i}u)"):
                for h, f in elements:
                    c.emit(f"{c.var(h, f)} = {source}.{c.var(h, f)};")


def _wait(c: CContext, copies: str) -> None:
    """Let copies of the packet as it is now wait for egress."""
    with c.block(f"if ({copies} && {copies}->count)"):
        c.emit(f"struct saved *state = wait_for_egress(&waiting, {copies});")
        c.emit("if (!state) goto fault;")
        c.emit("SAVE(*state);")


# ------------------------------------------------------------------- behind ingress


def _clone_of_arrival(c: CContext) -> None:
    """A clone of the packet as it came in: it is parsed again, with its field list's metadata."""
    if not c.asked(TrafficStep.CLONE):
        return
    with c.block("if (unlikely(clone >= 0))"):
        with c.block("if (d->sessions[clone])"):
            c.emit("struct arrival cloned = {.list = clone_list, .copies = d->sessions[clone]};")
            save_field_list(c, "clone_list", "cloned.kept")
            number = c.origin_number(PacketOrigin.INGRESS_CLONE)
            c.emit(f"if (!pass(d, port, data, size, {number}, &cloned)) goto fault;")
        c.emit("clone = -1;")
        c.emit("clone_list = 0;")


def _digest(c: CContext) -> None:
    """What an ingress digest carries; the last one asked for is the one that counts."""
    if not c.asked(TrafficStep.DIGEST):
        return
    for i, learn in c.p.learn_lists.items():
        with c.block(f"if (unlikely(digest == {i}))"):
            words: list[str] = []
            for item in learn.elements:
                value = expr(c, item)
                width = 64
                if item["type"] == "field":
                    width = c.width(*item["value"])
                kind = kind_of_bits(width)
                if kind.bits > 128:
                    raise c.refuse("a digest of fields of more than 128 bits")
                code = masked_code(to(value, kind), kind, (1 << width) - 1)
                words.append(f"(u64){code}")
                if kind is U128:
                    words.append(f"(u64)({code} >> 64)")
            c.emit(f"const u64 words[] = {{{', '.join(words) or '0'}}};")
            c.emit(f"digest_out(d, {c.digest_number[i]}, words, {len(words)});")


def _resubmit(c: CContext) -> None:
    if not c.asked(TrafficStep.RESUBMIT):
        return
    with c.block("if (unlikely(resubmitted))"):
        c.emit("struct arrival back = {.list = resubmitted};")
        save_field_list(c, "resubmitted", "back.kept")
        c.emit(
            f"pass_again(port, {c.origin_number(PacketOrigin.RESUBMISSION)}, data, size, &back);"
        )
        c.goto("done")


def _multicast(c: CContext) -> None:
    if not c.has_meta("mcast_grp"):
        return
    group = c.sm("mcast_grp")
    with c.block(f"if (unlikely({group}))"):
        c.emit(f"const struct copies *copies = {group} < GROUPS ? d->groups[{group}] : NULL;")
        c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.MULTICAST)};")
        emit_untouched(c)
        _wait(c, "copies")
        c.goto("next_copy")


def _to_egress(c: CContext) -> None:
    c.emit(f"if ({c.sm('egress_spec')} == {c.drop_port}) goto done;")
    c.emit(f"{c.sm('instance_type')} = {c.origin_number(PacketOrigin.PORT)};")
    c.emit(f"{c.sm('egress_port')} = {c.sm('egress_spec')};")


# -------------------------------------------------------------------- behind egress


def _clone_of_departure(c: CContext) -> None:
    """A clone of the packet as it leaves egress: headers stay, metadata is its field list's."""
    if not c.asked(TrafficStep.CLONE):
        return
    with c.block("if (unlikely(clone >= 0))"):
        with c.block("if (d->sessions[clone] && d->sessions[clone]->count)"):
            c.emit("struct saved *state = wait_for_egress(&waiting, d->sessions[clone]);")
            c.emit("if (!state) goto fault;")
            c.emit("SAVE(*state);")
            c.emit("FORGET(*state);")
            save_field_list(c, "clone_list", "(*state)")
            number = c.origin_number(PacketOrigin.EGRESS_CLONE)
            c.emit(f"(*state).{c.sm('instance_type')} = {number};")
        c.emit("clone = -1;")
        c.emit("clone_list = 0;")


def _to_deparser(c: CContext) -> None:
    c.emit(f"if ({c.sm('egress_spec')} == {c.drop_port}) goto {SENT};")
    emit_frame_size(c)
    _steps(c, c.p.architecture.behind_deparser, _BEHIND_DEPARSER)


def _recirculate(c: CContext) -> None:
    if not c.asked(TrafficStep.RECIRCULATE):
        return
    with c.block("if (unlikely(recirculated))"):
        c.emit("struct arrival back = {.list = recirculated};")
        save_field_list(c, "recirculated", "back.kept")
        c.emit("u8 *frame = malloc(n + SLACK), *at = frame;")
        c.emit("if (!frame) goto fault;")
        emit_frame(c)
        number = c.origin_number(PacketOrigin.RECIRCULATION)
        c.emit(f"pass_again(port, {number}, frame, n, &back);")
        c.emit("free(frame);")
        c.goto(SENT)


def _send(c: CContext) -> None:
    port = c.sm("egress_port")
    if "truncate" in c.ops:
        with c.block("if (unlikely(truncated < n))"):
            c.emit("u8 *frame = malloc(n), *at = frame;")
            c.emit("if (!frame) goto fault;")
            emit_frame(c)
            c.emit(f"u8 *to = frame_out(d, (u32){port}, truncated);")
            c.emit("if (to) memcpy(to, frame, truncated);")
            c.emit("free(frame);")
            c.goto(SENT)
    c.emit(f"u8 *at = frame_out(d, (u32){port}, n);")
    with c.block("if (at)"):
        emit_frame(c)


Emitters = Mapping[TrafficStep, Callable[[CContext], None]]

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


def _steps(c: CContext, steps: tuple[TrafficStep, ...], emitters: Emitters) -> None:
    for step in steps:
        if step not in emitters:
            raise c.refuse(f"'{step.value}' at this place of {c.p.architecture.name}")
        emitters[step](c)

"""The whole program: what it says of itself, and the function that a packet passes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orchestrator.softswitch.architectures import PacketOrigin, TrafficStep
from orchestrator.softswitch.fast.ccode.calculations import verify_checksums
from orchestrator.softswitch.fast.ccode.context import CContext, zero_of
from orchestrator.softswitch.fast.ccode.kinds import MAX_WIDE, words_of_bits
from orchestrator.softswitch.fast.ccode.parsing import emit_parser, value_set_widths
from orchestrator.softswitch.fast.ccode.traffic import (
    emit_arrived_clone,
    emit_egress,
    emit_ingress,
    emit_untouched,
    kept_fields,
    restore_field_list,
)
from orchestrator.softswitch.ir.program import Lookup, Param, lookup_of

_MAX_STEPS = 100_000
"""Backward jumps of one packet: more are an endless loop."""
_NAME = re.compile(r"\w+")


def emit_program(c: CContext) -> str:
    """The source; raises UnsupportedFeature for what is not implemented."""
    with c.block(
        "static bool pass(struct device *d, u32 port, const u8 *data, u32 size, u32 mode, "
        "const struct arrival *arrival)"
    ):
        _locals(c)
        _prologue(c)
        emit_parser(c)
        if c.has_meta("parser_error"):
            c.emit(f"{c.sm('parser_error')} = parser_error;")
        verify_checksums(c)
        if c.asked(TrafficStep.CLONE):
            with c.block(f"if (unlikely(mode == {c.origin_number(PacketOrigin.INGRESS_CLONE)}))"):
                emit_arrived_clone(c)
        emit_ingress(c)
        c.label("egress")
        begin = len(c.lines)
        emit_egress(c)
        state = _saved_locals(c, begin)
        c.label("next_copy")
        with c.block("if (unlikely(waiting.next < waiting.count))"):
            _next_copy(c)
            c.goto("egress")
        c.emit("goto done;")
        c.label("fault")
        c.emit("whole = false;")
        c.label("done")
        with c.block("if (unlikely(waiting.count))"):
            c.emit("free(waiting.of);")
            c.emit("free(waiting.states);")
        c.emit("return whole;")
    body = "\n".join(c.lines)
    metadata = set(c.meta_locals())
    head = [
        f"#define LIMBS {MAX_WIDE // 64 if 'wide' in body else 3}",
        '#include "program.h"',
        f"#define FROM_PORT {c.origin_number(PacketOrigin.PORT)}",
        f"#define MAX_STEPS {_MAX_STEPS}",
        _struct("kept", kept_fields(c)),
        _struct("saved", state),
        '#include "passes.h"',
        _macro("SAVE", (f"(s).{name} = {name}" for _, name in state)),
        _macro("RESTORE", (f"{name} = (s).{name}" for _, name in state)),
        _macro(
            "FORGET", (f"(s).{name} = {zero_of(kind)}" for kind, name in state if name in metadata)
        ),
        body,
        *_forms(c),
    ]
    return "\n".join(head) + "\n"


def _struct(name: str, fields: Iterable[tuple[str, str]]) -> str:
    return (
        f"struct {name} {{ {' '.join(f'{kind} {field};' for kind, field in fields)} char end; }};"
    )


def _macro(name: str, statements: Iterable[str]) -> str:
    return f"#define {name}(s) do {{ {' '.join(f'{s};' for s in statements)} }} while (0)"


def _saved_locals(c: CContext, begin: int) -> list[tuple[str, str]]:
    """(type, name) of all that a copy begins egress with, whose code begins with that line."""
    named = set(_NAME.findall("\n".join(c.lines[begin:])))
    state = [(kind, name) for kind, name in c.declarations() if name in named]
    state.append(("u32", "o"))
    return [*state, ("u64", "plen_reg")] if c.track_length else state


def _locals(c: CContext) -> None:
    for kind, name in c.declarations():
        zero = "{{0}}" if kind == "wide" else "{0}" if kind.startswith("struct") else "0"
        c.emit(f"{kind} {name} = {-1 if name.startswith('at__') else zero};")
    c.emit("u32 o = 0, steps = 0;")
    c.emit("u64 parser_error = 0;")
    c.emit("i64 clone = -1;")
    c.emit("u32 clone_list = 0, digest = 0, resubmitted = 0, recirculated = 0;")
    c.emit("u32 truncated = MAX_FRAME;")
    c.emit("bool exited = false, whole = true;")
    c.emit("struct waiting waiting = {0};")
    unused = "clone clone_list digest resubmitted recirculated truncated exited steps parser_error"
    for name in unused.split():
        c.emit(f"(void){name};")


def _prologue(c: CContext) -> None:
    if c.track_length:
        c.emit(f"u64 plen_reg = {c.sm('packet_length')} = size;")
    if c.asked(TrafficStep.RESUBMIT) or c.asked(TrafficStep.RECIRCULATE):
        # Metadata of a packet on its way round is its field list, nothing else.
        with c.block("if (likely(!arrival))"):
            _arrived(c)
        with c.block(f"else if (mode == {c.origin_number(PacketOrigin.INGRESS_CLONE)})"):
            c.emit(f"{c.sm('ingress_port')} = port;")
        with c.block("else"):
            restore_field_list(c, "arrival->list", "arrival->kept")
            c.emit(f"{c.sm('instance_type')} = mode;")
    else:
        _arrived(c)


def _arrived(c: CContext) -> None:
    c.emit(f"{c.sm('ingress_port')} = port;")
    if c.has_meta("ingress_global_timestamp"):
        c.emit(f"{c.sm('ingress_global_timestamp')} = d->now_us;")


def _next_copy(c: CContext) -> None:
    c.emit("u32 next = waiting.next++;")
    c.emit("RESTORE(waiting.states[waiting.of[next].state]);")
    c.emit(f"{c.sm('egress_port')} = waiting.of[next].copy.port;")
    if c.has_meta("egress_rid"):
        c.emit(f"{c.sm('egress_rid')} = waiting.of[next].copy.rid;")
    emit_untouched(c)


# ------------------------------------------------------- what the program says of itself


def words_of(params: Sequence[Param]) -> int:
    """Words of an action's arguments."""
    return sum(words_of_bits(p.width) for p in params)


def _forms(c: CContext) -> list[str]:
    p = c.p
    rows: list[str] = []
    arrays: list[str] = []
    for number, table in enumerate(p.tables()):
        words = [words_of(a.params) for a in table.actions] if table.profile is None else [1]
        arrays.append(_array(f"arg_words_{number}", "u32", words))
        width = sum(k.width for k in table.keys)
        shift, lpm = 0, 0
        for k in reversed(table.keys):
            if k.kind == "lpm":
                lpm = k.width
                break
            shift += k.width
        meter = "NO_METER"
        if table.meter is not None:
            meter = "METER_PACKETS" if p.meters[table.meter].packets else "METER_BYTES"
        rows.append(
            f"{{{lookup_of(table.keys).value}, {width}, {shift if lpm else 0}, {lpm}, {len(words)}, "
            f"arg_words_{number}, {meter}}}"
        )
    for widths in value_set_widths(p).values():
        rows.append(
            f"{{{Lookup.TERNARY.value}, {sum(widths) or 1}, 0, 0, 1, no_arguments, NO_METER}}"
        )
    profiles: list[str] = []
    for name, number in c.profile_number.items():
        params = {a.name: a.params for t in p.tables() if t.profile == name for a in t.actions}
        words = [words_of(params[a]) for a in p.profile_actions(name)]
        arrays.append(_array(f"profile_words_{number}", "u32", words))
        profiles.append(f"{{{len(words)}, profile_words_{number}}}")
    meters = [p.meters[name] for name in c.meter_number]
    registers = p.registers.values()
    digests = [
        sum(words_of_bits(c.width(*e["value"])) if e["type"] == "field" else 1 for e in d.elements)
        for d in p.learn_lists.values()
    ]
    return [
        _array("no_arguments", "u32", [0]),
        *arrays,
        f"static const struct profile_form profiles[] = {{{', '.join(profiles) or '{0}'}}};",
        f"static const struct table_form tables[] = {{{', '.join(rows) or '{0}'}}};",
        _array("counter_sizes", "u32", [n.size for n in p.counters.values()]),
        _array("register_sizes", "u32", [n.size for n in registers]),
        _array("register_words", "u32", [words_of_bits(n.width) for n in registers]),
        _array("meter_sizes", "u32", [n.size for n in meters]),
        _array("meter_packets", "bool", [int(n.packets) for n in meters]),
        _array("digest_words", "u32", digests),
        "const struct program program = {"
        f"{len(rows)}, {len(p.counters)}, {len(registers)}, {len(meters)}, {len(digests)}, "
        f"{len(profiles)}, "
        "tables, counter_sizes, register_sizes, register_words, meter_sizes, meter_packets, "
        "digest_words, profiles};",
    ]


def _array(name: str, kind: str, numbers: Sequence[int]) -> str:
    return f"static const {kind} {name}[] = {{{', '.join(map(str, numbers)) or '0'}}};"

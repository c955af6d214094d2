"""Action bodies: primitives, and jumps turned back into if/else or a loop."""

from __future__ import annotations

from orchestrator.softswitch.codegen.context import Context, literal, quoted
from orchestrator.softswitch.codegen.expressions import expr
from orchestrator.softswitch.codegen.primitives import emit_primitive
from orchestrator.softswitch.ir.program import Action, Json

_MAX_JUMPS = 100_000


class _IrregularJump(Exception):
    """An action's jumps form no if/else (a loop)."""


def emit_primitives(c: Context, prims: tuple[Json, ...], action: Action) -> None:
    """Emit an action's body: structured where its jumps allow it."""
    mark, depth = len(c.lines), c.depth
    try:
        emit_block(c, prims, 0, len(prims), action)
    except _IrregularJump:
        del c.lines[mark:]
        c.depth = depth
        emit_jumps(c, prims, action)


def emit_jumps(c: Context, prims: tuple[Json, ...], action: Action) -> None:
    """Primitives with loops: basic blocks picked by `pc`, a bounded number of them."""
    starts = {0}
    for i, prim in enumerate(prims):
        if prim["op"] in ("_jump", "_jump_if_zero"):
            starts |= {i + 1, prim["parameters"][-1]["value"]}
    order = sorted(n for n in starts if n < len(prims))
    c.emit("pc = steps = 0")
    with c.block(f"while pc < {literal(len(prims))}:"):
        c.emit("steps += 1")
        with c.block(f"if steps > {_MAX_JUMPS}:"):
            c.emit(f"raise RuntimeError({quoted(f'endless loop in action {action.name}')})")
        for n, start in enumerate(order):
            end = order[n + 1] if n + 1 < len(order) else len(prims)
            with c.block(f"{'if' if n == 0 else 'elif'} pc == {literal(start)}:"):
                for prim in prims[start : end - 1]:
                    emit_primitive(c, prim, action)
                last = prims[end - 1]
                target = literal(end)
                if last["op"] == "_jump":
                    target = literal(last["parameters"][0]["value"])
                elif last["op"] == "_jump_if_zero":
                    cond = expr(c, last["parameters"][0], action).code
                    zero = literal(last["parameters"][1]["value"])
                    target = f"{literal(end)} if {cond} else {zero}"
                else:
                    emit_primitive(c, last, action)
                c.emit(f"pc = {target}")


def emit_block(c: Context, prims: tuple[Json, ...], start: int, end: int, action: Action) -> None:
    """Primitives [start, end) with forward jumps turned back into if/else."""
    i = start
    while i < end:
        prim = prims[i]
        if prim["op"] == "_jump":
            target = prim["parameters"][0]["value"]
            if target != end:
                raise _IrregularJump
            return
        if prim["op"] != "_jump_if_zero":
            emit_primitive(c, prim, action)
            i += 1
            continue
        cond = expr(c, prim["parameters"][0], action).code
        target = prim["parameters"][1]["value"]
        if not i < target <= end:
            raise _IrregularJump
        last = prims[target - 1]
        stop = target
        if last["op"] == "_jump" and target - 1 > i:
            stop = last["parameters"][0]["value"]
            if not target <= stop <= end:
                raise _IrregularJump
        with c.block(f"if {cond}:"):
            emit_block(c, prims, i + 1, target - 1 if stop != target else target, action)
        if stop != target:
            with c.block("else:"):
                emit_block(c, prims, target, stop, action)
        i = stop

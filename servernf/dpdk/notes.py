"""What the C side tells of watched packets (c/noting.h), as the Python runtime's notes of them."""

from __future__ import annotations

import struct
from collections.abc import Callable

from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import WORKER_REASONS
from servernf.python.network_function import Emitted
from servernf.python.runtime.noting import Aside, BatchTimes, LostFrame, NoteBatch
from servernf.python.runtime.shim import Shim
from servernf.wire import sampling

CALL, LOST = 1, 2
"""`enum told` (c/boundary.h)."""
_CALL, _LOST = struct.Struct("=4Q8I16s16s"), struct.Struct("=2Q6I16s")
_EMITTED = struct.Struct("=II")
_NOT_LEFT = 254
"""From there on a port is none: the NF keeps or drops the packet."""
_HELD = 254


def keys(shim: Shim) -> list[tuple[int, int, int, int]]:
    """By which packets are watched, as `NfEngine.watch` takes it."""
    sampled = [(m.key0, m.key1, sampling.LABEL, m.threshold) for m in shim.manifests.values()]
    for witness in shim.witnesses.values():
        for epoch in witness.epochs:
            sampled.append((epoch.key0, epoch.key1, sampling.PACKET, epoch.threshold))
            sampled.append((epoch.key0, epoch.key1, sampling.FLOW, epoch.flows))
    return sorted({key for key in sampled if key[3]})


def note(
    engine: NfEngine, wall_us: Callable[[int], int], kind: int, number: int, said: bytes
) -> NoteBatch | None:
    """A batch of the one call, or frame, that is told of; None: its tables are not known any more.

    `wall_us`: the wall clock's time of one of the process (ns)."""
    if kind == LOST:
        return _lost(engine, wall_us, number, said)
    (
        now_us,
        entered,
        left,
        cpu_ns,
        step,
        port,
        reason,
        branch,
        given,
        after,
        emitted,
        calls,
        words,
        words_after,
    ) = _CALL.unpack_from(said)
    steps = engine.steps(number)
    if step >= len(steps):
        return None
    call = steps[step]
    nf = call.instance.nf
    at = _CALL.size + given
    frame = said[at : at + after]
    at += after
    batch = NoteBatch({}, BatchTimes(now_us, wall_us(entered), entered))
    batch.spent = min(cpu_ns, 0xFFFF_FFFF), calls
    context = int.from_bytes(words[8:12], "big")
    batch.asides[0] = Aside(call, branch, said[_CALL.size : _CALL.size + given], context)
    sent: list[Emitted] = []
    for _ in range(emitted):
        by, size = _EMITTED.unpack_from(said, at)
        at += _EMITTED.size
        sent.append(Emitted(nf.ports[by], said[at : at + size]))
        at += size
    if sent:
        batch.emitted[0] = tuple(sent)
    out = nf.ports[port] if port < _NOT_LEFT else None
    why = "" if port <= _HELD else engine.reason(call.instance.type_name, reason)
    batch.notes += (words, None, left, out, (frame, int.from_bytes(words_after[8:12], "big"), why))
    return batch


def _lost(engine: NfEngine, wall_us: Callable[[int], int], number: int, said: bytes) -> NoteBatch:
    now_us, at_ns, step, why, branch, path, size, _, words = _LOST.unpack_from(said)
    steps = engine.steps(number)
    call = steps[step] if step < len(steps) else None
    batch = NoteBatch({}, BatchTimes(now_us, wall_us(at_ns), at_ns))
    frame = said[_LOST.size : _LOST.size + size]
    batch.lost.append(LostFrame(words, call, path, branch, WORKER_REASONS[why], frame))
    return batch

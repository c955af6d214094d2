"""What NFs in C on TCP streams are told of them (c/streams.h): tables, marks, ports."""

from __future__ import annotations

import struct
from itertools import count

from servernf.dpdk.forms import Making
from servernf.python.connections import Mark
from servernf.python.streams import MAX_CONNECTIONS, StreamFunction

_SEEN = ("has_syn", "inside", "outside", "evicted")
_BEGUN = ("has_begun", "at_us", "evicted")
_numbers = count(1)


def streams(making: Making, nf: StreamFunction) -> bytes:
    """The streams of a configuration; its indicators are the C side's from now on."""
    connections = making.table("connections", "inspected", MAX_CONNECTIONS)
    own = nf.metrics

    def metrics() -> dict[str, int]:
        counts = connections.counts
        return own() | {"connections": counts.count, "held_bytes": counts.waiting}

    making.metrics = metrics
    seen_bytes = connections.notes
    since = nf.watched_since
    for mark in (nf.mark, *since):
        seen_bytes.setdefault(mark, next(_numbers))
    # Those that are not told apart any more have the ports of what they have become.
    of = {
        n: since[m.now()] for m, n in seen_bytes.items() if isinstance(m, Mark) and m.now() in since
    }
    for mark in [mark for mark in seen_bytes if seen_bytes[mark] not in of and mark is not nf.mark]:
        del seen_bytes[mark]
    marks = list(of.items())[-_MOST_MARKS:]
    seen, begun = nf.seen_and_begun
    head = struct.pack(
        "=6I",
        connections.number,
        seen_bytes[nf.mark],
        nf.strict,
        making.place(seen, _SEEN),
        making.place(begun, _BEGUN),
        making.counted("given_up"),
    )
    told = (struct.pack("=I", number) + port_bits(ports) for number, ports in marks)
    bits = port_bits(nf.watched) + port_bits(begun.watched_before)
    return head + bits + struct.pack("=I", len(marks)) + b"".join(told)


_MOST_MARKS = 64


def port_bits(ports: bytes) -> bytes:
    """A bit a port, the lowest first, of a byte a port."""
    bits = int(ports.translate(_AS_DIGITS)[::-1], 2)
    return bits.to_bytes(len(ports) // 8, "little")


_AS_DIGITS = bytes((48, 49)) + bytes(range(2, 256))

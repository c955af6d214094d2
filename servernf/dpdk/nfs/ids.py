"""ids: how many bytes are looked at again; signatures with their ranges of ports; a database each for
TCP and UDP; UDP's ports; streams."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import cast

from servernf.dpdk.forms import Making, form
from servernf.dpdk.streams import port_bits, streams
from servernf.python.nfs.ids import Ids, Signature
from servernf.python.packet import TCP, UDP
from servernf.python.telling import Alert
from servernf.wire.fields import Fields

_SIGNATURE = struct.Struct("=5I3Bx")
_TO = ("any", "server", "client")


class Alerts:
    """Counts of alerts by their names, of which those that are 0 are not told."""

    __slots__ = ("_of",)

    def __init__(self, of: dict[str, int]) -> None:
        object.__setattr__(self, "_of", of)

    def __getattr__(self, name: str) -> int:
        return self._of.get(name, 0)

    def __setattr__(self, name: str, value: int) -> None:
        if value:
            self._of[name] = value


@form("ids")
def ids(config: Fields, making: Making) -> bytes:
    nf = cast("Ids", making.nf)
    counts = nf.state.counts
    alerts = Alerts(counts)
    making.rules = [signature.rule for signature in nf.signatures]
    making.alert = lambda number: _alert(nf.signatures[number])
    signatures: list[bytes] = []
    ranges: list[bytes] = []
    for signature in nf.signatures:
        counter = making.place(alerts, (f"alert.{signature.number}",), key=counts)
        content, ports = signature.content, signature.ports
        numbers = counter, signature.label, len(content), len(ranges), len(ports)
        flags = _TO.index(signature.to), signature.nocase, signature.drops
        signatures.append(_SIGNATURE.pack(*numbers, *flags))
        ranges += [struct.pack("=HH", *limits) for limits in ports]
    databases = [
        _database(making, [(n, s) for n, s in enumerate(nf.signatures) if s.protocol == protocol])
        for protocol in (TCP, UDP)
    ]
    head = struct.pack("=3I", nf.tail_bytes, len(signatures), len(ranges))
    sized = [struct.pack("=I", len(database)) + database for database in databases]
    parts = (head, *signatures, *ranges, *sized, port_bits(nf.watched_udp))
    return b"".join(parts) + streams(making, nf)


def _alert(met: Signature) -> Alert:
    return Alert(met.number, met.msg, met.rule, met.drops)


def _database(making: Making, signatures: Sequence[tuple[int, Signature]]) -> bytes:
    """Hyperscan's, made by a process beside; nothing of nothing."""
    if not signatures:
        return b""
    said = [struct.pack("=I", len(signatures))]
    for number, signature in signatures:
        content = signature.content
        said.append(struct.pack("=3I", number, signature.nocase, len(content)) + content)
    return making.compile(b"".join(said))

"""Probe frames: what a switch is told to send out of a port, and how it is known again elsewhere.

A probe is a tagged frame of a graph that no bundle has (id 0), to a device that no topology has (id 0).
A switch that gets it reports it, because it is told to sample all of that graph (p4src/blocks/
trajectory.p4). It drops it then, since no way leads to the device; if a prefix of ways covers device 0,
too, the TTL ends it at the next one. So nothing but two kinds of entries is needed.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.model import ids
from orchestrator.model.topology import Link, Topology
from servernf.wire.nsh import TAG_BYTES, Tag, decode, encode

PROBE_GRAPH = 0
HOST_MTU = 1500
"""What hosts may send: their frames get a tag in front."""
TAGGED_MTU = HOST_MTU + TAG_BYTES
"""The MTU that an interface between switches and servers needs for that (outer Ethernet header not
counted: it is as long as the inner one, which is)."""
SMALL, WHOLE = 128, TAGGED_MTU + 14
"""Bytes of a probe: one that every link carries, and the largest that ours must."""

_NOBODY = 0x02 << 40
"""The structured MAC of device 0."""
_INNER = struct.Struct("!6s6sH16sI")
_LOCAL_EXPERIMENT = 0x88B5
"""IEEE 802, local experimental EtherType 1."""
_TTL = 2
"""One that a switch takes, and no second one after it."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a switch."""

    switch: str
    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame of `size` bytes out of a port, and the port where the topology says it arrives."""

    number: int
    sender: Port
    expected: Port
    size: int


class Probes:
    """All probes of a topology's links between switches: both ways, small and whole.

    A nonce, new each time, tells them from frames of anybody else.
    """

    def __init__(self, topology: Topology) -> None:
        self._nonce = secrets.token_bytes(16)
        self._all = tuple(
            Probe(number, sender, expected, size)
            for number, (sender, expected, size) in enumerate(_wanted(topology))
        )

    def __iter__(self) -> Iterator[Probe]:
        return iter(self._all)

    def frame(self, probe: Probe) -> bytes:
        """The frame of a probe."""
        inner = _INNER.pack(bytes(6), bytes(6), _LOCAL_EXPERIMENT, self._nonce, probe.number)
        return _tagged(_NOBODY, inner, probe.size)

    def recognise(self, frame: bytes) -> Probe | None:
        """The probe that a frame is, with whatever tag it came; None: another frame."""
        tagged = decode(frame)
        if tagged is None or len(tagged[1]) < _INNER.size:
            return None
        _, _, ether_type, nonce, number = _INNER.unpack_from(tagged[1])
        if ether_type != _LOCAL_EXPERIMENT or nonce != self._nonce or number >= len(self._all):
            return None
        return self._all[number]


def frame_to(mac: int, size: int) -> bytes:
    """A frame of `size` bytes to a worker, on a service path that it has not."""
    return _tagged(mac, _INNER.pack(bytes(6), bytes(6), _LOCAL_EXPERIMENT, bytes(16), 0), size)


def _tagged(mac: int, inner: bytes, size: int) -> bytes:
    tag = Tag(mac, _NOBODY, spi=ids.PATH.numbers(PROBE_GRAPH)[0], si=1, ttl=_TTL)
    return encode(tag, inner).ljust(size, b"\0")


def links_between_switches(topology: Topology) -> tuple[Link, ...]:
    """The links that probes can pass."""
    return tuple(x for x in topology.links if {x.a, x.b} <= topology.switches.keys())


def _wanted(topology: Topology) -> Iterator[tuple[Port, Port, int]]:
    for link in links_between_switches(topology):
        a, b = Port(link.a, link.a_port), Port(link.b, link.b_port)
        for sender, expected in ((a, b), (b, a)):
            for size in (SMALL, WHOLE):
                yield sender, expected, size

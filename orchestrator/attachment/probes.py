"""Probe frames: what a switch is told to send out of a port, and how it is known again elsewhere.

A probe is a tagged frame of a graph that no bundle has (id 0), to a device that no topology has (id 0).
A switch that gets it reports it, because it is told to sample all of that graph (p4src/blocks/
trajectory.p4). It drops it then, since no way leads to the device; if a prefix of ways covers device 0,
too, the TTL ends it at the next one. So nothing but two kinds of entries is needed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.model.topology import Link, Topology
from orchestrator.observation.probe_frames import INNER, LOCAL_EXPERIMENT, NOBODY, SMALL, tagged
from servernf.wire.nsh import TAG_BYTES, decode

HOST_MTU = 1500
"""What hosts may send: their frames get a tag in front."""
TAGGED_MTU = HOST_MTU + TAG_BYTES
"""The MTU that an interface between switches and servers needs for that (outer Ethernet header not
counted: it is as long as the inner one, which is)."""
WHOLE = TAGGED_MTU + 14
"""Bytes of the largest probe: every link must carry it."""


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """A port of a switch."""

    switch: str
    number: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A frame of `size` bytes out of a port, and the port where the topology says it arrives."""

    number: int
    sender: SwitchPort
    expected: SwitchPort
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
        inner = INNER.pack(bytes(6), bytes(6), LOCAL_EXPERIMENT, self._nonce, probe.number)
        return tagged(NOBODY, inner, probe.size)

    def recognise(self, frame: bytes) -> Probe | None:
        """The probe that a frame is, with whatever tag it came; None: another frame."""
        frame_seen = decode(frame)
        if frame_seen is None or len(frame_seen[1]) < INNER.size:
            return None
        _, _, ether_type, nonce, number = INNER.unpack_from(frame_seen[1])
        if ether_type != LOCAL_EXPERIMENT or nonce != self._nonce or number >= len(self._all):
            return None
        return self._all[number]


def links_between_switches(topology: Topology) -> tuple[Link, ...]:
    """The links that probes can pass."""
    return tuple(x for x in topology.links if {x.a, x.b} <= topology.switches.keys())


def _wanted(topology: Topology) -> Iterator[tuple[SwitchPort, SwitchPort, int]]:
    for link in links_between_switches(topology):
        a, b = SwitchPort(link.a, link.a_port), SwitchPort(link.b, link.b_port)
        for sender, expected in ((a, b), (b, a)):
            for size in (SMALL, WHOLE):
                yield sender, expected, size

"""The reference of fragments that follow their first (docs/architecture.md, "Fragments")."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from orchestrator.model.packet import Packet
from orchestrator.nfs.fair_table_reference import FairTable, Source, source_of

REMEMBERED_US = 30_000_000
WAITS_US = 5_000_000
MAX_REMEMBERED, MAX_WAITING = 4096, 64
MAX_WAITING_FRAGMENTS = 48
"""Of one datagram."""


@dataclass(slots=True)
class _Waiting:
    since_us: int
    packets: list[Packet] = field(default_factory=list[Packet])


class FollowingFragments:
    """What became of first fragments, and later ones whose first has not come.

    An NF takes `datagram_of` a packet before it rewrites it.
    """

    def __init__(self) -> None:
        self._addresses = FairTable[Hashable, list[int]](MAX_REMEMBERED)
        """The address that later fragments get, and when their first came."""
        self._waiting = FairTable[Hashable, _Waiting](MAX_WAITING)

    def first(
        self, datagram: Hashable, address: int, owner: Source, now_us: int
    ) -> Sequence[Packet]:
        """Remember where a first fragment went; later ones that came before it, as they came."""
        followed = self._addresses.get(datagram)
        if followed is None:
            self._addresses.add(datagram, [address, now_us], owner)
        else:
            followed[:] = address, now_us
            self._addresses.refresh(datagram)
        waiting = self._waiting.get(datagram)
        if waiting is None:
            return ()
        self._waiting.remove(datagram)
        return waiting.packets if now_us - waiting.since_us < WAITS_US else ()

    def later(self, packet: Packet, port: str, now_us: int) -> int | None:
        """The address that a later fragment gets; None: it waits for the first, or is dropped."""
        datagram = datagram_of(packet, port)
        followed = self._addresses.get(datagram)
        if followed is not None and now_us - followed[1] < REMEMBERED_US:
            return followed[0]
        waiting = self._waiting.get(datagram)
        if waiting is not None and now_us - waiting.since_us >= WAITS_US:
            self._waiting.remove(datagram)
            waiting = None
        if waiting is None:
            waiting = _Waiting(now_us)
            self._waiting.add(datagram, waiting, source_of(packet.version, packet.src))
        if len(waiting.packets) < MAX_WAITING_FRAGMENTS:
            waiting.packets.append(packet.copy())
        return None


def datagram_of(packet: Packet, port: str) -> Hashable:
    """What all fragments of a datagram that enter a port have in common."""
    return port, packet.version, packet.src, packet.dst, packet.identification, packet.protocol

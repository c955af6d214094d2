"""Later fragments follow their first, and wait for it if they have overtaken it (RFC 4787, REQ-14).

For NFs that rewrite an address of a packet by its ports, which later fragments have not. What became
of a first fragment is remembered, also that nothing did. What waits is bounded, has shares by the
sender, and goes on behind the first, or is dropped when that has not come.
"""

from __future__ import annotations

from collections.abc import Callable

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import (
    FRAGMENT_KEY_BYTES,
    ends,
    flow_of_fragment,
    fragment_key,
    host_of,
)
from servernf.python.network_function import INSIDE, OTHER, Emitted, NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.state import EntryKind
from servernf.python.tables import RecordFlow
from servernf.wire.state import RecordField

REMEMBERED_US = 30_000_000
WAITS_US = 5_000_000
MAX_REMEMBERED, MAX_WAITING = 4096, 64
MAX_WAITING_FRAGMENTS = 48
"""Of a datagram: more than 64 KiB have on Ethernet."""
MAX_TIDIED_AT_ONCE = 8


class First(FairEntry):
    """What later fragments get: an address in place of the one that the NF rewrites."""

    __slots__ = ("address", "expires_us")

    def __init__(self) -> None:
        self.address = self.expires_us = 0

    @property
    def written_address(self) -> bytes:
        """In 16 bytes, whatever its version."""
        return self.address.to_bytes(16, "big")

    @written_address.setter
    def written_address(self, raw: bytes) -> None:
        self.address = int.from_bytes(raw, "big")


class Waiting(FairEntry):
    """Later fragments whose first has not come, as they arrived."""

    __slots__ = ("expires_us", "frames")

    def __init__(self) -> None:
        self.expires_us = 0
        self.frames: list[bytes] = []


def firsts(
    flow_of: Callable[[bytes, First], RecordFlow] = lambda key, _first: flow_of_fragment(key),
) -> EntryKind[First]:
    """The table of what became of first fragments."""
    return EntryKind(
        "fragments",
        First,
        (RecordField("expires_us", "age"), RecordField("address", "bytes", 16)),
        version=2,
        key_sizes=FRAGMENT_KEY_BYTES,
        flow_of=flow_of,
        looks_at=("inside", "outside", "protocol"),
        paths={"address": "written_address"},
    )


FIRSTS = firsts()
WAITING = EntryKind(
    "waiting_fragments",
    Waiting,
    (RecordField("expires_us", "age"), RecordField("frames", "list", MAX_WAITING_FRAGMENTS)),
    key_sizes=FRAGMENT_KEY_BYTES,
    flow_of=lambda key, _waiting: flow_of_fragment(key),
    looks_at=("inside", "outside", "protocol"),
)


class Datagrams:
    """The fragments of an NF that rewrites, by the port entered, the address that `sources` says: the
    source (True) or the destination."""

    def __init__(
        self,
        nf: NetworkFunction,
        firsts: FairTable[First],
        waiting: FairTable[Waiting],
        sources: Callable[[str], bool],
    ) -> None:
        self._nf = nf
        self._firsts, self._waiting = firsts, waiting
        self._sources = sources
        self._view = PacketView()

    def lead(self, key: bytes, port: str, address: int, source: bytes, now_us: int) -> None:
        """A first fragment goes on with an address: so will the others, and those that wait go now.

        `key`: of the packet as it came; `source`: whom it is counted for.
        """
        first = self._firsts.get(key)
        if first is None:
            first = First()
            self._firsts.add(key, first, source)
        else:
            self._firsts.refresh(first)
        first.address, first.expires_us = address, now_us + REMEMBERED_US
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        self._waiting.remove(waiting)
        if waiting.expires_us <= now_us:
            self._lost(waiting)
            return
        view = self._view
        for frame in waiting.frames:
            if view.load(frame) and view.later_fragment and fragment_key(view, port) == key:
                self._rewrite(view, port, address)
                self._nf.emitted.append(Emitted(OTHER[port], bytes(view.data)))

    def follow(self, packet: PacketView, port: str, now_us: int) -> str | None:
        """The port that a later fragment leaves, rewritten as its first; DROP: it waits, or goes."""
        key = fragment_key(packet, port)
        first = self._firsts.get(key)
        if first is not None and now_us < first.expires_us:
            self._rewrite(packet, port, first.address)
            return OTHER[port]
        waiting = self._waiting.get(key)
        if waiting is not None and waiting.expires_us <= now_us:
            self._waiting.remove(waiting)
            self._lost(waiting)
            waiting = None
        if waiting is None:
            waiting = Waiting()
            waiting.expires_us = now_us + WAITS_US
            for gone in self._waiting.add(key, waiting, host_of(ends(packet)[0])):
                if gone is not waiting:
                    self._lost(gone)
            if self._waiting.get(key) is not waiting:
                return self._nf.drop("fragment")
        if len(waiting.frames) >= MAX_WAITING_FRAGMENTS:
            return self._nf.drop("fragment")
        waiting.frames.append(bytes(packet.data))
        self._nf.last_drop = ""  # held, not dropped
        return None

    def metrics(self) -> dict[str, int]:
        """How many datagrams are remembered, and fragments wait. Called from another thread."""
        waiting = sum(len(entry.frames) for _, entry in self._waiting.items())
        return {"fragments": len(self._firsts), "fragments_waiting": waiting}

    def tidy(self, now_us: int) -> None:
        """Drop some of what has waited in vain."""
        over = [w for _, w in self._waiting.items() if w.expires_us <= now_us]
        for waiting in over[:MAX_TIDIED_AT_ONCE]:
            self._waiting.remove(waiting)
            self._lost(waiting)

    def _rewrite(self, packet: PacketView, port: str, address: int) -> None:
        if self._sources(port):
            packet.set_source(address)
        else:
            packet.set_destination(address)

    def _lost(self, waiting: Waiting) -> None:
        for _ in waiting.frames:
            self._nf.drop("fragment")


def inside_source(port: str) -> bool:
    """A NAT or load balancer rewrites the source from inside, the destination from outside."""
    return port == INSIDE

"""dedup: of copies of one packet that come within a window only the first passes.

Elimination as of redundant paths (RFC 8655, 3.2.2.2; IEEE 802.1CB), but by the packet's own bytes:
there is no sequence tag. It is no redundancy elimination like EndRE's, which shortens payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated

from pydantic import Field

from orchestrator.model.elements import (
    FLOW_FIELDS,
    CostProfile,
    ElementGraph,
    FilterProgram,
    StateKey,
)
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.inspecting import OPPOSITE, PASS, inspected, ip_rules


class DedupConfig(NfConfig):
    """For how long a packet is remembered, and how many of them per direction."""

    window_ms: Annotated[int, Field(ge=1, le=60_000, strict=True)] = 50
    max_packets: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 65_536


@network_function("dedup")
class Dedup(NetworkFunction[DedupConfig]):
    """Elements of each port: `select` (stateless: is it IP?) and `eliminate`."""

    Config = DedupConfig
    state_key = StateKey(frozenset(FLOW_FIELDS))
    keeps_state_when_changed = frozenset({"window_ms", "max_packets"})
    cost = CostProfile(
        1000,
        2.0,
        "our estimate: a lookup (Lemur's NAT, 519, twice) and a BLAKE2b hash of the packet; "
        "Lemur's DEDUP (33186) searches payloads for redundancy, which this does not",
        state_entry_bytes=732,  # measured (CPython 3.11, tracemalloc), each its own source
    )

    @property
    def state_entries(self) -> int:
        return 2 * self.config.max_packets  # for each direction

    def elements(self, port: str) -> ElementGraph:
        select = FilterProgram(ip_rules("eliminate"), PASS)
        eliminate = "eliminate", "remembers the packets of a time window"
        left = (OPPOSITE[port],)
        return inspected(("select", select), eliminate, left, keeps_headers=True)

    def reference(self) -> Reference:
        return DedupReference(self.config)


class DedupReference(Reference):
    """`seen`: by the port entered, digest -> when the first copy passed; a share for each sender."""

    def __init__(self, config: DedupConfig) -> None:
        self.config = config
        self.seen = {port: FairTable[bytes, int](config.max_packets) for port in OPPOSITE}

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        passes = ((OPPOSITE[port], packet),)
        if not packet.version or (packet.is_tcp and not packet.payload):
            return passes
        digest, seen = blake2b(_invariant(packet), digest_size=16).digest(), self.seen[port]
        for seen_digest, first in seen.items():
            if env.now_us - first >= self.config.window_ms * 1000:
                seen.remove(seen_digest)
        if seen.get(digest) is not None:
            return ()
        seen.add(digest, env.now_us, source_of(packet.version, packet.src))
        return passes


def _invariant(packet: Packet) -> bytes:
    """The IP packet with what routers and markers change set to zero."""
    at = packet.layout
    data = bytearray(packet.data[at.l3 : at.end])
    if packet.version == 4:
        data[1] = data[8] = data[10] = data[11] = 0
    else:
        data[0], data[1], data[7] = 0x60, data[1] & 0x0F, 0
    return bytes(data)

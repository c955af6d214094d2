"""Notes the slice of state of every packet of a graph whose witness wants it.

All packets of an instance go through a twin of it (`slices.Twin`), so nothing tells which of them are
watched; of those that are, the record has the slice. While the instance's state moves or is followed,
who does that watches the tables, and records have none.
"""

from __future__ import annotations

from typing import Protocol

from servernf.python.network_function import NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.runtime.noting import NoteBatch
from servernf.python.slices import Twin


class Noting(Protocol):
    """Who has the notes (`shim`)."""

    current: NoteBatch | None


class Sliced:
    """Stands for an instance."""

    def __init__(self, nf: NetworkFunction, noting: Noting) -> None:
        self._twin = Twin(nf)
        self._noting = noting

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        """As the NF's; what the packet touched lies with the note that is made of this call."""
        outcome = self._twin.process(packet, port, now_us)
        batch = self._noting.current
        if batch is not None:
            batch.slices[len(batch.notes)] = outcome.slice
        return outcome.port

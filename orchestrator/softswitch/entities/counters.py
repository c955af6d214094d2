"""Indirect counters."""

from __future__ import annotations

from collections.abc import Mapping

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.arrays import Array, Arrays
from orchestrator.softswitch.entities.base import DELETE, INSERT, ById, Operation, in_program

Count = tuple[int, int]
"""(packets, bytes)"""


def decode_count(data: p4r.CounterData) -> Count:
    return data.packet_count, data.byte_count


def encode_count(unit: int, packets: int, octets: int, data: p4r.CounterData) -> None:
    """What a counter of this unit (p4i.CounterSpec.Unit) counts."""
    data.SetInParent()
    if unit != p4i.CounterSpec.BYTES:
        data.packet_count = packets
    if unit != p4i.CounterSpec.PACKETS:
        data.byte_count = octets


class CounterArray(Array):
    word = "counter"

    def __init__(self, info: p4i.Counter, packets: list[int], octets: list[int]) -> None:
        super().__init__(info.preamble, len(packets))
        self.unit = info.spec.unit
        self.packets = packets
        self.octets = octets

    def set(self, i: int, count: Count) -> None:
        self.packets[i], self.octets[i] = count


class CounterEntities(Arrays[p4r.CounterEntry, CounterArray]):
    def __init__(
        self,
        p4info: p4i.P4Info,
        live: Mapping[str, tuple[list[int], list[int]]],
        problems: list[str],
    ) -> None:
        counters = in_program("counter", p4info.counters, live, problems)
        self.by_id = ById("counter", (CounterArray(info, *cells) for info, cells in counters))

    def decode(self, kind: int, e: p4r.CounterEntry) -> Operation:
        counter = self.by_id[e.counter_id]
        if kind == INSERT:
            raise counter.invalid("INSERT is not for counters (valid: MODIFY)")
        if not e.HasField("index"):
            raise counter.error(rpc_code.UNIMPLEMENTED, "a write needs an index")
        (i,) = counter.cells_of(e)
        return counter.set, (i, (0, 0) if kind == DELETE else decode_count(e.data))

    def chosen(self, e: p4r.CounterEntry) -> list[CounterArray]:
        return self.by_id.chosen(e.counter_id)

    def encode(self, of: CounterArray, item: int, e: p4r.CounterEntry) -> p4r.Entity:
        entity = p4r.Entity()
        out = entity.counter_entry
        out.counter_id, out.index.index = of.id, item
        encode_count(of.unit, of.packets[item], of.octets[item], out.data)
        return entity

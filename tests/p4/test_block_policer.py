"""policer: the direct meter of a segment (RFC 2698) and what becomes of each colour."""

from __future__ import annotations

import pytest
from edge_switch import EdgeSwitch, ether, segment, summed
from finsy.proto import p4r
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from orchestrator.model.entries import Exact, Meter, TableEntry

PASS, DROP, SET_DSCP = 0, 1, 2
AT = segment(1 | 1 << 13)


def policing(yellow: int, red: int, meter: Meter | None) -> EdgeSwitch:
    switch = EdgeSwitch()
    switch.classify(AT)
    switch.deliver_all(AT)
    params = (("yellow", yellow), ("yellow_dscp", 10), ("red", red), ("red_dscp", 12))
    keys = (("segment", Exact(AT)),)
    entry = TableEntry("policer.segments", keys, "policer.police", params, 0, "test", meter)
    message = switch.schema.encode(entry, "test")
    assert switch.schema.decode(message) == ("test", entry)
    entity = p4r.Entity(table_entry=message)
    switch.write(p4r.Update(type=p4r.Update.INSERT, entity=entity))
    return switch


def dscps(switch: EdgeSwitch, count: int, packet: IP | IPv6) -> list[int | None]:
    found: list[int | None] = []
    for _ in range(count):
        left = switch.send(ether(packet / UDP() / bytes(100)))
        frame = left[0][1] if left else None
        if frame is not None and isinstance(packet, IP):
            assert frame == summed(frame)
        found.append(None if frame is None else int.from_bytes(frame[14:16], "big") >> 6 & 0x3F)
        if found[-1] is not None and isinstance(packet, IP):
            assert frame is not None
            found[-1] = frame[15] >> 2
    return found


@pytest.mark.parametrize("packet", [IP(tos=3), IPv6(tc=3)])
@pytest.mark.parametrize(
    ("yellow", "red", "wanted"),
    [
        (PASS, DROP, [0, 0, 0, None]),
        (DROP, PASS, [0, None, None, 0]),
        (SET_DSCP, SET_DSCP, [0, 10, 10, 12]),
    ],
)
def test_colours(yellow: int, red: int, wanted: list[int | None], packet: IP | IPv6) -> None:
    size = len(bytes(ether(packet / UDP() / bytes(100))))
    switch = policing(yellow, red, Meter(1000, size, 2000, 3 * size))
    assert dscps(switch, 4, packet) == wanted
    switch.now_ns += 10**9
    assert dscps(switch, 1, packet) == [0]


def test_without_a_meter_all_is_green() -> None:
    assert dscps(policing(DROP, DROP, None), 3, IP()) == [0, 0, 0]


def test_the_meter_is_read_back() -> None:
    meter = Meter(1000, 2000, 3000, 4000)
    switch = policing(PASS, DROP, meter)
    table = switch.schema.table("policer.segments")
    assert table.metered
    wanted = p4r.Entity()
    wanted.table_entry.table_id = table.id
    wanted.table_entry.meter_config.SetInParent()
    (found,) = switch.soft.read(wanted)
    assert switch.schema.decode(found.table_entry)[1].meter == meter

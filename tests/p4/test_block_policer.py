"""policer: the direct meter of a segment (RFC 2698) and what becomes of each colour."""

from __future__ import annotations

import pytest
from edge_switch import EdgeSwitch, ether, segment, summed
from finsy.proto import p4r
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from orchestrator.model.entries import Exact, Meter, TableEntry

Verdict = tuple[str, dict[str, int]]
YELLOW, RED = 1, 2
PASS: Verdict = ("permit", {})
DROP: Verdict = ("deny", {})
AT = segment(1 | 1 << 13)


def dscp(value: int) -> Verdict:
    return "set_dscp", {"dscp": value}


def policing(yellow: Verdict, red: Verdict, meter: Meter | None) -> EdgeSwitch:
    switch = EdgeSwitch()
    switch.classify(AT)
    switch.deliver_all(AT)
    keys = (("segment", Exact(AT)),)
    entry = TableEntry("policer.segments", keys, "policer.police", (), 0, "test", meter)
    message = switch.schema.encode(entry, "test")
    assert switch.schema.decode(message) == ("test", entry)
    entity = p4r.Entity(table_entry=message)
    switch.write(p4r.Update(type=p4r.Update.INSERT, entity=entity))
    for colour, (action, params) in {YELLOW: yellow, RED: red}.items():
        switch.add("policer.colours", {"segment": AT, "colour": colour}, action, params)
    return switch


def dscps(switch: EdgeSwitch, count: int, packet: Packet) -> list[int | None]:
    values: list[int | None] = []
    for _ in range(count):
        left = switch.send(ether(packet / UDP() / bytes(100)))
        frame = left[0][1] if left else None
        if frame is not None and isinstance(packet, IP):
            assert frame == summed(frame)
        values.append(None if frame is None else int.from_bytes(frame[14:16], "big") >> 6 & 0x3F)
        if values[-1] is not None and isinstance(packet, IP):
            assert frame is not None
            values[-1] = frame[15] >> 2
    return values


@pytest.mark.parametrize("packet", [IP(tos=3), IPv6(tc=3)])
@pytest.mark.parametrize(
    ("yellow", "red", "wanted"),
    [
        (PASS, DROP, [0, 0, 0, None]),
        (DROP, PASS, [0, None, None, 0]),
        (dscp(10), dscp(12), [0, 10, 10, 12]),
    ],
)
def test_colours(
    yellow: Verdict, red: Verdict, wanted: list[int | None], packet: IP | IPv6
) -> None:
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
    (only,) = switch.soft.read(wanted)
    assert switch.schema.decode(only.table_entry)[1].meter == meter


def test_each_colour_is_counted() -> None:
    packet = IP()
    size = len(bytes(ether(packet / UDP() / bytes(100))))
    switch = policing(PASS, DROP, Meter(1000, size, 2000, 3 * size))
    assert dscps(switch, 6, packet) == [0, 0, 0, None, None, None]
    wanted = p4r.Entity()
    wanted.table_entry.table_id = switch.schema.table("policer.colours").id
    wanted.table_entry.counter_data.SetInParent()
    counted = {
        int.from_bytes(entry.table_entry.match[1].exact.value): (
            entry.table_entry.counter_data.packet_count
        )
        for entry in switch.soft.read(wanted)
    }
    assert counted == {YELLOW: 2, RED: 3}

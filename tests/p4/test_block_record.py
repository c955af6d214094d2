"""witness and record: which packets a switch tells the CLE of, and what.

Oracle: which are watched says wire.prf, what a report is wire.reports, whose MAC is wire.prf's
HalfSipHash, and that has the authors' vectors. The frame that came and the one that left are the test's.
Both engines.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from edge_switch import (
    FABRIC_PORT,
    GRAPH,
    HOST_PORT,
    OTHER_FABRIC_PORT,
    START_US,
    SWITCH_ID,
    EdgeSwitch,
    ether,
    forwarding,
    segment,
    tagged,
)
from scapy.layers.inet import IP, UDP

from orchestrator.model import ids
from orchestrator.model.entries import Lpm
from servernf.wire import nsh, reports
from servernf.wire.addresses import COLLECTOR_CORE, device_mac
from servernf.wire.records import RecordKind
from servernf.wire.reports import REASONS, Report
from servernf.wire.witness import Epoch

KEY, BOOT = (0x0BADC0DE, 0xFEEDF00D), 1_700_000_000
COLLECTOR = device_mac(3, core=COLLECTOR_CORE)
ALL = Epoch(1, 11, 12, 1 << 32)
PACKET = ether(IP(src="10.0.1.11", dst="198.51.100.13", id=7) / UDP(sport=5, dport=53))


def watch(switch: EdgeSwitch, *epochs: Epoch, graph: int = GRAPH, modify: bool = False) -> None:
    params: dict[str, int] = {}
    for epoch, lead in zip(epochs, ("", "next_"), strict=False):
        params |= {
            f"{lead}number": epoch.number,
            f"{lead}key0": epoch.key0,
            f"{lead}key1": epoch.key1,
            f"{lead}packets": epoch.threshold,
            f"{lead}flows": epoch.flows,
        }
    action = "watch" if len(epochs) == 1 else "watch_both"
    switch.add("witness.epochs", {"graph": graph}, action, params, modify=modify)


def telling(switch: EdgeSwitch, graph: int = GRAPH) -> EdgeSwitch:
    """The CLE's collector is behind another fabric port."""
    params = {"collector": COLLECTOR, "boot": BOOT, "key0": KEY[0], "key1": KEY[1]}
    switch.add("record.collectors", {"graph": graph}, "tell", params)
    way = {"device": Lpm(COLLECTOR & ~0xFFFF, 32)}
    switch.add("fabric.devices", way, "forward", {"port": OTHER_FABRIC_PORT})
    return switch


def split(out: list[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], list[Report]]:
    """What left for others, and what the switch reports, each with a MAC that is its own."""
    told = [frame for port, frame in out if reports.is_report(frame)]
    assert all(port == OTHER_FABRIC_PORT for port, frame in out if reports.is_report(frame))
    assert all(reports.is_authentic(frame, KEY) for frame in told)
    decoded = [reports.decode(frame) for frame in told]
    for frame, report in zip(told, decoded, strict=True):
        made = bytearray(report.encode(COLLECTOR, KEY))
        made[14:16] = frame[14:16]  # its TTL has fallen as it entered the fabric
        assert bytes(made) == frame
    return [(port, frame) for port, frame in out if not reports.is_report(frame)], decoded


def transit(label: int, *, flow: int = 0, ingress_us: int = 0, si: int = 250) -> bytes:
    """A tagged frame for this switch."""
    spi = ids.PATH.pack(GRAPH, 4)
    mac = device_mac(SWITCH_ID)
    tag = nsh.Tag(mac, device_mac(3), spi, si, label=label, flow=flow, ingress_us=ingress_us)
    return nsh.encode(tag, bytes(PACKET))


def last_switch() -> tuple[EdgeSwitch, int]:
    """Takes tagged frames and delivers them."""
    switch, at = forwarding()
    path = {"spi": ids.PATH.pack(GRAPH, 4), "si": 250}
    switch.add("flowtag_arrival.paths", path, "enter", {"segment": at})
    return telling(switch), at


def test_what_enters_and_how_it_goes_on() -> None:
    switch, at = forwarding()
    tagged(switch, at)
    watch(telling(switch), ALL)
    left, told = split(switch.send(PACKET))
    tag, frame = nsh.decode(left[0][1]) or pytest.fail("no tag")
    entry = Report(
        RecordKind.ENTRY, SWITCH_ID, GRAPH, BOOT, 0, tag.label, tag.ingress_us, 0, 1, tag.flow, 0,
        HOST_PORT, START_US, frame=bytes(PACKET),
    )  # fmt: skip
    onward = replace(
        entry, kind=RecordKind.OUT, number=1, next_mac=tag.dst_mac, next_path=tag.spi << 8 | tag.si,
        frame=frame,
    )  # fmt: skip
    assert told == [entry, onward]


def test_what_comes_with_a_tag_and_leaves_the_chain() -> None:
    switch, _ = last_switch()
    watch(switch, ALL)
    left, told = split(switch.send(transit(9, flow=77, ingress_us=123), FABRIC_PORT))
    assert [r.kind for r in told] == [RecordKind.HOP, RecordKind.EXIT]
    assert {(r.label, r.flow, r.ingress_us, r.path, r.port) for r in told} == {
        (9, 77, 123, ids.PATH.pack(GRAPH, 4) << 8 | 250, FABRIC_PORT)
    }
    assert told[0].frame == bytes(PACKET)
    assert told[1].frame == left[0][1]


def test_numbers_go_on_and_a_graph_has_its_own() -> None:
    switch, _ = last_switch()
    watch(switch, ALL)
    told = [r for i in range(5) for r in split(switch.send(transit(i), FABRIC_PORT))[1]]
    assert [r.number for r in told] == list(range(10))


def test_in_transit_nothing_is_told() -> None:
    switch, _ = last_switch()
    watch(switch, ALL)
    other = device_mac(3, core=1).to_bytes(6, "big")
    out = switch.send(other + transit(9)[6:], FABRIC_PORT)
    assert len(out) == 1
    assert not split(out)[1]


def test_a_report_is_not_told_of() -> None:
    switch, _ = last_switch()
    watch(switch, ALL)
    foreign = Report(RecordKind.HOP, 9, GRAPH, BOOT, 3, frame=bytes(PACKET)).encode(
        COLLECTOR, (1, 2)
    )
    assert [port for port, _ in switch.send(foreign, FABRIC_PORT)] == [OTHER_FABRIC_PORT]


@pytest.mark.parametrize(
    ("si", "reason"), [(250, "host"), (249, "path")], ids=("no such host", "no such path")
)
def test_a_drop_has_its_reason(si: int, reason: str) -> None:
    switch = EdgeSwitch()
    path = {"spi": ids.PATH.pack(GRAPH, 4), "si": 250}
    switch.add("flowtag_arrival.paths", path, "enter", {"segment": segment(1)})
    watch(telling(switch), ALL)
    left, told = split(switch.send(transit(9, si=si), FABRIC_PORT))
    assert not left
    assert [(r.kind, REASONS[r.reason]) for r in told] == [
        (RecordKind.HOP, ""),
        (RecordKind.DROP, reason),
    ]


def test_what_is_dropped_where_it_enters() -> None:
    switch = EdgeSwitch()
    switch.enter("ipv4", segment(1), guarded=True)
    watch(telling(switch), ALL)
    left, told = split(switch.send(PACKET))
    assert not left
    assert [(r.kind, r.path, REASONS[r.reason]) for r in told] == [
        (RecordKind.ENTRY, 0, ""),
        (RecordKind.DROP, 0, "refused"),
    ]


@pytest.mark.parametrize("rate", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("flows", [0.0, 0.05])
@pytest.mark.parametrize("both", [False, True])
def test_the_decision_is_the_prfs(rate: float, flows: float, both: bool) -> None:
    below, flows_below = int(rate * 2**32), int(flows * 2**32)
    epochs = [Epoch(1, 0x01234567, 0x89ABCDEF, below, flows_below)]
    if both:
        epochs.append(Epoch(2, 0xCAFEBABE, 0x0F1E2D3C, below, flows_below))
    switch, _ = last_switch()
    watch(switch, *epochs)
    chance = random.Random(5)
    for _ in range(150):
        label, us, flow = (chance.getrandbits(bits) for bits in (32, 32, 16))
        _, told = split(switch.send(transit(label, flow=flow, ingress_us=us), FABRIC_PORT))
        by = next((e.number for e in epochs if e.watches(label, us, flow)), 0)
        assert [r.epoch for r in told] == ([by, by] if by else [])


def test_another_graph_is_not_watched() -> None:
    switch, _ = last_switch()
    watch(switch, ALL, graph=GRAPH + 1)
    assert not split(switch.send(transit(9), FABRIC_PORT))[1]


def test_without_a_collector_packets_go_on() -> None:
    switch, at = forwarding()
    tagged(switch, at)
    watch(switch, ALL)
    assert len(switch.send(PACKET)) == 1

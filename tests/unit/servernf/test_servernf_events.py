"""Events of NFs: what is told of which packet, how much of it, and that a packet's text stays text."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from nf_specs import spec
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw
from servernf_support import ether, tagged, tcp, udp

from servernf.proto import vnf_pb2 as vnf
from servernf.python.local import LocalWorker
from servernf.python.runtime.chain import ChainScope, ExitHop, Hop, NfHop
from servernf.python.runtime.events import BATCH, Events, printable
from servernf.python.runtime.worker import Worker
from servernf.python.telling import RATES, ToldDrop
from servernf.wire.witness import Epoch, Witness

MAC, NEXT = 0x0200_0001_0001, 0x0200_0002_0000
CLIENT, SERVER = "10.0.0.7", "198.51.100.9"
BURST = RATES["drop"][1]


class Clock:
    def __init__(self) -> None:
        self.us = 1_000_000

    def __call__(self) -> int:
        return self.us


class Bench:
    """A worker with NFs in a row that packets enter inside."""

    def __init__(self, **nfs: tuple[str, dict[str, Any]]) -> None:
        self.clock = Clock()
        self.worker = Worker("w1", MAC, self.clock, wall_clock=lambda: 10**15 + self.clock.us)
        specs = [spec(f"g/{name}", *config) for name, config in nfs.items()]
        self.worker.configure("g", specs)
        hops: list[Hop] = [NfHop(f"g/{name}", "inside") for name in [*nfs][1:]]
        scope = ChainScope(5, 254, "inside")
        self.worker.service_chain(f"g/{next(iter(nfs))}", scope, (*hops, ExitHop(NEXT, 6, 253)))

    def send(self, *frames: bytes) -> int:
        """How many pass."""
        return len(self.worker.process([tagged(MAC, frame) for frame in frames]))

    def told(self, cursor: int = 0) -> list[vnf.Event]:
        return self.worker.events.read(cursor)[0]


DENY_23 = {"rules": [{"protocol": "tcp", "dst_port": 23, "action": "deny"}], "default": "permit"}


def test_a_drop_says_packet_reason_and_rule() -> None:
    bench = Bench(acl=("acl", DENY_23), shut=("acl", {"default": "deny"}))
    assert bench.send(tcp(CLIENT, 4000, SERVER, 23), udp(CLIENT, 4001, SERVER, 53)) == 0
    first, second = bench.told()
    assert (first.nf, first.type, first.drop.reason, first.drop.rule) == (
        "g/acl", "acl", "denied", "rules[0]",
    )  # fmt: skip
    packet = first.packet
    assert (packet.source, packet.source_port, packet.protocol) == (CLIENT, 4000, 6)
    assert (packet.destination, packet.destination_port, packet.ttl) == (SERVER, 23, 64)
    assert packet.length == len(tcp(CLIENT, 4000, SERVER, 23))
    assert first.timestamp_us == 10**15 + bench.clock.us
    assert (second.nf, second.drop.rule) == ("g/shut", "default")


def test_what_passes_or_is_only_held_is_not_told() -> None:
    shaper = {"rate": 1000, "burst": 1514, "queue": 151_400}
    bench = Bench(acl=("acl", DENY_23), slow=("traffic_shaper", shaper))
    assert bench.send(*[udp(CLIENT, 4001, SERVER, 53, b"x" * 900)] * 5) == 1
    assert bench.told() == []


def test_a_witnessed_graph_tells_the_same() -> None:
    bench = Bench(acl=("acl", {"default": "permit"}), shut=("acl", {"default": "deny"}))
    bench.worker.witness("g", Witness((Epoch(1, 2, 3, 1 << 32),), 0))
    bench.send(udp(CLIENT, 4001, SERVER, 53))
    assert [(e.nf, e.drop.reason) for e in bench.told()] == [("g/shut", "denied")]


def test_a_firewall_tells_whose_rule() -> None:
    rules = [{"protocol": "udp", "action": "permit"}, {"protocol": "tcp", "action": "deny"}]
    bench = Bench(fw=("stateful_firewall", {"rules": rules}))
    bench.send(tcp(CLIENT, 1, SERVER, 2, "S"), tcp(CLIENT, 1, SERVER, 2, "A"))
    assert [(e.drop.reason, e.drop.rule) for e in bench.told()] == [
        ("denied", "rules[1]"),
        ("no_connection", ""),
    ]


@pytest.mark.parametrize(("action", "blocked"), [("alert", False), ("drop", True)])
def test_a_signature_is_an_alert(action: str, blocked: bool) -> None:
    signature = {
        "id": 7,
        "content": "evil",
        "protocol": "udp",
        "msg": "it is evil",
        "action": action,
    }
    bench = Bench(ids=("ids", {"signatures": [signature]}))
    assert bench.send(udp(CLIENT, 4001, SERVER, 53, b"an evil thing")) == (not blocked)
    alert, *drop = bench.told()
    assert (alert.alert.signature_id, alert.alert.signature) == (7, "it is evil")
    assert (alert.alert.blocked, alert.alert.rule) == (blocked, "signatures[0]")
    assert [(e.drop.reason, e.drop.rule) for e in drop] == [
        ("signature", "signatures[0]")
    ] * blocked


def http(request: bytes) -> list[bytes]:
    """A connection's first segments, with a request."""
    segment = {"sport": 4000, "dport": 80}
    ip = IP(src=CLIENT, dst=SERVER)
    return [
        ether(ip / TCP(**segment, flags="S", seq=9)),
        ether(ip / TCP(**segment, flags="PA", seq=10, ack=1) / Raw(request)),
    ]


def test_a_hostile_request_stays_one_line_of_bounded_text() -> None:
    rules = [{"path": "/x*", "action": "deny"}]
    bench = Bench(url=("url_filter", {"rules": rules, "ports": [80]}))
    path = b'/x"<script>\xe4\\' + b"y" * 5000
    bench.send(*http(b"GET " + path + b" HTTP/1.1\r\nHost: www.example\r\n\r\n"))
    alert, *drop = bench.told()
    told = alert.alert
    assert told.hostname == "www.example"
    assert told.url.startswith(r'/x"<script>\xe4\x5cyyy')
    assert told.url.isprintable()
    assert len(told.url) < 300
    assert [e.drop.rule for e in drop] == ["rules[0]"]


def test_a_blocked_domain_is_an_alert() -> None:
    bench = Bench(dns=("dns_guard", {"block": ["ok.example", "ads.example"], "ports": [53]}))
    query = DNS(id=1, rd=1, qd=DNSQR(qname="a.ADS.example"))
    bench.send(ether(IP(src=CLIENT, dst=SERVER) / UDP(sport=5, dport=53) / query))
    alert, drop = bench.told()
    assert (alert.alert.rrname, alert.alert.rule) == ("a.ads.example", "block[1]")
    assert (drop.drop.reason, drop.drop.rule) == ("blocked", "block[1]")


def test_every_mapping_is_told_when_it_comes_and_goes() -> None:
    napt = {"addresses": ["203.0.113.1"], "ports": [1024, 2047], "timeouts_s": {"udp": 1}}
    bench = Bench(nat=("napt", napt))
    bench.send(udp(CLIENT, 4001, SERVER, 53))
    bench.clock.us += 10_000_000
    bench.send(udp("10.0.0.8", 4001, SERVER, 53))
    come, gone, other = bench.told()
    assert [e.nat.event for e in (come, gone, other)] == [10, 11, 10]
    ends = come.nat.inside_ip, come.nat.inside_port, come.nat.outside_ip, come.nat.outside_port
    mine = gone.nat
    assert ends == (mine.inside_ip, mine.inside_port, mine.outside_ip, mine.outside_port)
    assert ends[:3] == (CLIENT, 4001, "203.0.113.1")
    assert not come.HasField("packet")


def test_exhausted_ports_and_quotas_are_told() -> None:
    narrow = {"addresses": ["203.0.113.1"], "ports": [1024, 1025], "max_mappings_per_address": 1}
    bench = Bench(nat=("napt", narrow))
    hosts = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    bench.send(*(udp(host, 4000 + i, SERVER, 53) for i, host in enumerate(hosts)))
    assert [e.nat.event for e in bench.told() if e.HasField("nat")] == [10, 13, 10, 12]


def test_a_flood_is_told_by_its_number() -> None:
    bench = Bench(acl=("acl", {"default": "deny"}), other=("acl", {"default": "permit"}))
    frame = udp(CLIENT, 4001, SERVER, 53)
    bench.send(*[frame] * (BURST + 500))
    read: list[vnf.Event] = []
    cursor = 0
    while batch := bench.worker.events.read(cursor):
        events, cursor, lost = batch
        assert not lost
        if not events:
            break
        read += events
    assert sum(e.HasField("drop") for e in read) == BURST
    bench.worker.events.settle()
    (said,) = bench.told(cursor)
    assert (said.nf, said.suppressed.kind, said.suppressed.count) == ("g/acl", "drop", 500)
    assert bench.worker.metrics()["events.suppressed"] == 500
    bench.clock.us += 10_000_000
    bench.send(frame)
    assert bench.told(cursor)[-1].HasField("drop"), "there are tokens again"


def test_who_explains_is_told_everything() -> None:
    local = LocalWorker("w1", MAC, lambda: 1)
    local.tell_everything()
    nf = vnf.NfConfig(name="g/acl", type="acl", config_json='{"default": "deny"}')
    local.configure(vnf.ConfigureRequest(graph="g", nfs=[nf]))
    hop = vnf.Hop(exit=vnf.ExitHop(dst_mac=NEXT, spi=6, si=200))
    scope = vnf.Scope(spi=5, si=254, in_port="inside")
    local.serviceChain(vnf.ServiceChainRequest(nf="g/acl", scope=scope, next=[hop]))
    cursor, frame = 0, tagged(MAC, udp(CLIENT, 4001, SERVER, 53))
    for _ in range(3 * BURST):
        local.process([frame])
        batch = local.events(vnf.WatchEventsRequest(cursor=cursor))
        assert [event.drop.reason for event in batch.events] == ["denied"]
        cursor = batch.cursor


def test_a_slow_reader_is_told_how_many_it_has_missed() -> None:
    events = Events(Clock(), lambda: 77, size=100)
    source = events.source("g/acl", "acl")
    for number in range(250):
        source.tell("drop", None, ToldDrop(str(number), ""))
    batch, cursor, lost = events.read(0)
    assert (lost, len(batch), batch[0].drop.reason) == (150, 100, "150")
    assert events.read(cursor) == ([], cursor, 0)


def test_reading_goes_on_where_it_ended_and_knows_graphs() -> None:
    events = Events(Clock(), lambda: 77)
    for graph in ("a", "b") * BATCH:
        events.source(f"{graph}/acl", "acl").tell("drop", None, ToldDrop("denied", ""))
    cursors, seen = [0], 0
    while page := events.read(cursors[-1], {"a"}):
        cursors.append(page[1])
        seen += len(page[0])
        assert {event.nf for event in page[0]} <= {"a/acl"}
        if not page[0]:
            break
    assert seen == BATCH
    assert all(a <= b for a, b in pairwise(cursors))


def test_a_reader_of_an_earlier_life_begins_with_this_one() -> None:
    before, after = Events(Clock(), lambda: 10**15), Events(Clock(), lambda: 10**15 + 10)
    source = after.source("g/acl", "acl")
    _, cursor, _ = before.read(0)
    source.tell("drop", None, ToldDrop("denied", ""))
    fresh, _, lost = after.read(cursor)
    assert (len(fresh), lost) == (1, 0)


@pytest.mark.parametrize("text", [b"\n\r\t\0", "ä\u202e".encode(), b"\\n", b'"}{'])
def test_texts_are_printable(text: bytes) -> None:
    told = printable(text)
    assert told.isascii()
    assert told.isprintable()
    assert json.loads(json.dumps(told)) == told

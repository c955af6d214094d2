"""The IDS against docs/functions: what carries a signature does not pass, however it is cut."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from servernf_support import SECOND, call, ether, make, udp

from orchestrator.errors import InputError
from servernf.python.network_function import NetworkFunction
from servernf.python.nfs.ids import parse_content
from servernf.python.tcp_stream import OVERHEAD, Direction, NoRoom, OtherCopy

CLIENT, SERVER = "10.0.0.7", "198.51.100.9"
EVIL = b"EVIL\r\nBYTES"
RULES: list[dict[str, object]] = [
    {"id": 1, "content": "EVIL|0d 0a|BYTES", "protocol": "tcp", "ports": ["80", "8000-8100"]},
    {"id": 2, "content": "abc", "protocol": "tcp"},
    {"id": 3, "content": "probe", "protocol": "udp", "ports": [53]},
]


def ids(rules: list[dict[str, object]] = RULES, **config: object) -> NetworkFunction:
    return make("ids", signatures=rules, **config)


class Connection:
    """A TCP connection through an IDS; `send` answers whether the segment passed.

    Each side acknowledges what has passed of the other without holes, unless told otherwise.
    """

    def __init__(
        self, nf: NetworkFunction, isn: int = 0xFFFF_FFF0, port: int = 80, sport: int = 4000
    ) -> None:
        self.nf, self.isn, self.port, self.sport = nf, isn, port, sport
        self.got = {"inside": 0, "outside": 0}

    def send(self, data: bytes = b"", at: int = 0, flags: str = "A", **more: Any) -> bool:
        return self._pass("inside", data, at, flags, **more)

    def answer(self, data: bytes = b"", at: int = 0, flags: str = "A", **more: Any) -> bool:
        return self._pass("outside", data, at, flags, **more)

    def _pass(
        self,
        side: str,
        data: bytes,
        at: int,
        flags: str,
        now_us: int = 0,
        ip: Any = None,
        **tcp: Any,
    ) -> bool:
        other = "outside" if side == "inside" else "inside"
        ends = (CLIENT, self.sport, SERVER, self.port)
        source, sport, target, dport = ends if side == "inside" else ends[2:] + ends[:2]
        tcp = {"ack": self.isn + 1 + self.got[other] & 0xFFFF_FFFF, "window": 65535, **tcp}
        seq = self.isn + 1 + at & 0xFFFF_FFFF
        segment = TCP(sport=sport, dport=dport, flags=flags, seq=seq, **tcp)
        frame = ether(IP(src=source, dst=target, **(ip or {})) / segment / Raw(data))
        passed = call(self.nf, frame, side, now_us)[0] == other
        if passed and at <= self.got[side]:
            self.got[side] = max(self.got[side], at + len(data))
        return passed

    def open(self, now_us: int = 0) -> Connection:
        self.got = {"inside": 0, "outside": 0}
        assert self.send(at=-1, flags="S", now_us=now_us)
        assert self.answer(at=-1, flags="SA", now_us=now_us)
        assert self.send(now_us=now_us)
        return self


@pytest.mark.parametrize("cut", range(1, len(EVIL)))
@pytest.mark.parametrize("before", [0, 1, 50])
def test_signature_split_anywhere(cut: int, before: int):
    flow = Connection(ids()).open()
    stream = b"-" * before + EVIL
    assert flow.send(stream[: before + cut])
    assert not flow.send(stream[before + cut :], at=before + cut)
    assert flow.nf.drops == {"signature": 1}
    # Everything later of that connection is dropped, either way.
    assert not flow.send(b"more", at=len(stream))
    assert not flow.answer(b"reply")
    assert not flow.answer(flags="R")
    # A SYN passes; only its answer begins anew.
    flow.isn += 70_000
    assert flow.send(at=-1, flags="S")
    assert not flow.send(b"fine")
    assert flow.open().send(b"fine")


def test_one_byte_segments():
    flow = Connection(ids()).open()
    assert [flow.send(EVIL[i : i + 1], at=i) for i in range(len(EVIL))] == [True] * 10 + [False]


def test_answer_direction_is_inspected_too():
    flow = Connection(ids()).open()
    assert flow.answer(EVIL[:4])
    assert not flow.answer(EVIL[4:], at=4)


def test_directions_are_separate_streams():
    flow = Connection(ids()).open()
    assert flow.send(EVIL[:4])
    assert flow.answer(EVIL[4:])


def test_out_of_order_passes_and_waits():
    flow = Connection(ids()).open()
    assert flow.send(EVIL[6:], at=6)
    assert flow.send(EVIL[3:6], at=3)
    assert not flow.send(EVIL[:3])


def test_another_copy_of_a_byte_does_not_pass():
    flow = Connection(ids()).open()
    assert flow.send(b"EVIL")
    assert flow.send(b"EVIL")
    assert not flow.send(b"xxxx")
    assert not flow.send(b"xVIL" + EVIL[4:])
    assert not flow.send(EVIL[4:], at=4)
    flow = Connection(ids()).open()
    assert flow.send(b"good", at=4)  # waits
    assert not flow.send(b"EVIL" + EVIL[4:8])
    assert not flow.send(b"....goo", at=0, ack=0xFFFF_FFF2)
    assert flow.send(b"EVILgood")
    assert flow.nf.drops == {"other_copy": 1, "unacceptable": 1}


def test_what_is_acknowledged_is_not_compared():
    """The byte that a keepalive may carry (RFC 1122, 4.2.3.6) is none of the stream."""
    flow = Connection(ids()).open()
    assert flow.send(b"EVIL")
    assert flow.answer()
    assert flow.nf.metrics()["held_bytes"] == 0
    assert flow.send(b"?", at=3)
    assert not flow.send(EVIL[4:], at=4)


def test_retransmission_of_the_matching_segment_is_dropped():
    flow = Connection(ids()).open()
    assert not flow.send(EVIL)
    assert not flow.send(EVIL)
    assert flow.nf.drops == {"signature": 1, "blocked": 1}


def test_stream_without_syn_starts_at_the_first_payload():
    flow = Connection(ids())
    assert flow.send()  # a bare ACK makes no state
    assert flow.nf.metrics()["connections"] == 0
    assert flow.send(EVIL[:5], at=100)
    assert not flow.send(EVIL[5:], at=105)


def test_ports_and_protocol_choose_signatures():
    flow = Connection(ids(), port=81).open()
    assert flow.send(EVIL)  # signature 1 is not for port 81
    assert not flow.send(b"abc", at=len(EVIL))  # signature 2 is for all
    for port, passes in ((8000, False), (8100, False), (8101, True), (7999, True)):
        assert Connection(ids(), port=port).open().send(EVIL) is passes
    nf = ids()
    assert call(nf, udp(CLIENT, 9, SERVER, 53, b"a probe b"), "inside")[0] is None
    assert call(nf, udp(SERVER, 53, CLIENT, 9, b"a probe b"), "outside")[0] is None
    assert call(nf, udp(CLIENT, 9, SERVER, 54, b"a probe b"), "inside")[0] == "outside"
    assert call(nf, udp(CLIENT, 9, SERVER, 53, b"abc"), "inside")[0] == "outside"


def test_udp_payload_ends_where_its_length_says():
    frame = ether(IP(src=CLIENT, dst=SERVER) / UDP(sport=9, dport=53, len=12) / Raw(b"a probe"))
    assert call(ids(), frame, "inside")[0] == "outside"


def test_uninspected_ports_make_no_state():
    nf = ids([RULES[0]])
    Connection(nf, port=443).open().send(EVIL)
    assert nf.metrics()["connections"] == 0


@pytest.mark.parametrize("flags", ["R", "RA"])
def test_a_reset_is_believed_where_it_may_be_but_not_relied_on(flags: str):
    flow = Connection(ids()).open()
    assert flow.send(EVIL[:4])
    assert flow.send(at=4, flags=flags)
    assert not flow.send(EVIL[4:], at=4), "it may not have arrived"
    flow = Connection(ids()).open()
    flow.send(EVIL[:4])
    flow.send(at=4, flags=flags)
    assert flow.send(at=6, flags="S")
    assert not flow.send(EVIL[4:], at=4), "nor does a SYN"


def test_two_fins_and_a_new_connection():
    flow = Connection(ids()).open()
    assert flow.send(b"bye", flags="FA")
    assert not flow.send(b"abc", at=4), "behind the FIN"
    assert flow.answer(b"bye", flags="FA")
    assert flow.nf.metrics()["connections"] == 1
    flow.isn += 100_000
    assert flow.open().send(EVIL[:4])
    assert not flow.send(EVIL[4:], at=4)


def test_a_repeated_syn_ack_does_not_reset_the_stream():
    flow = Connection(ids()).open()
    assert flow.answer(EVIL[:4])
    assert flow.answer(at=-1, flags="SA")
    assert not flow.answer(EVIL[4:], at=4)


def test_a_fin_that_overtakes_data_waits_for_it():
    flow = Connection(ids()).open()
    assert flow.send(flags="FA", at=len(EVIL))
    assert flow.answer(flags="FA")
    assert not flow.send(EVIL)


class TestForgetting:
    """What is forgotten does not pass where the configuration drops; with alert it is looked at."""

    def test_idle(self):
        for idle_s, action, passed, drops in (
            (7439, "drop", False, {"signature": 1}),
            (7440, "drop", False, {"unknown": 1}),
            (7440, "alert", True, {}),
        ):
            flow = Connection(ids(action=action)).open()
            assert flow.send(EVIL[:4])
            assert flow.send(EVIL[4:], at=4, now_us=idle_s * SECOND) is passed
            assert flow.nf.drops == drops

    def test_picked_up_in_the_first_minutes_only(self):
        nf = ids()
        early = Connection(nf)
        assert early.send(b"data", at=1000)
        late = Connection(nf, sport=4001)
        assert late.send(b"data", at=1000, now_us=299 * SECOND)
        late = Connection(nf, sport=4002)
        assert not late.send(b"data", at=1000, now_us=300 * SECOND)
        assert late.send(at=1000, now_us=300 * SECOND), "what carries nothing passes"
        assert not late.answer(b"data", at=1000, now_us=300 * SECOND)
        assert late.open(now_us=301 * SECOND).send(b"data", now_us=301 * SECOND)
        assert nf.drops == {"unknown": 2}
        assert early.send(EVIL[:4], at=1004, now_us=400 * SECOND)
        assert not early.send(EVIL[4:], at=1008, now_us=400 * SECOND)

    def test_a_reset_that_did_not_arrive_and_patience(self):
        flow = Connection(ids()).open()
        assert flow.send(EVIL[:4])
        assert flow.send(at=4, flags="R")
        assert not flow.send(EVIL[4:], at=4, now_us=300 * SECOND)
        assert flow.nf.drops == {"unknown": 1}

    def test_a_flood_of_syns_takes_no_connection_of_others_or_that_was_answered(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("servernf.python.streams.MAX_CONNECTIONS", 5)
        nf = ids()
        flow = Connection(nf).open()
        assert flow.send(EVIL[:4])
        blocked = Connection(nf, sport=4001).open()
        assert not blocked.send(EVIL)
        for sport in range(5000, 5100):
            assert Connection(nf, sport=sport).send(at=-1, flags="S")
        assert nf.metrics()["evicted"] == 97
        assert not blocked.send(b"more", at=len(EVIL))
        assert not flow.send(EVIL[4:], at=4)
        assert nf.drops == {"signature": 2, "blocked": 1}

    def test_nothing_is_picked_up_once_something_was_evicted(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("servernf.python.streams.MAX_CONNECTIONS", 2)
        nf = ids()
        for sport in (4000, 4001, 4002):
            assert Connection(nf, sport=sport).send(at=-1, flags="S")
        flow = Connection(nf, sport=4000)
        assert not flow.send(b"data", at=50)
        assert nf.drops == {"unknown": 1}


def test_what_waits_is_bounded():
    flow = Connection(ids()).open()
    assert all(flow.send(b"x", at=2 + 2 * i) for i in range(64))
    assert flow.nf.metrics()["held_bytes"] == 64 * (1 + OVERHEAD), "a byte costs more than a byte"
    assert not flow.send(b"x", at=2 + 2 * 64)
    assert flow.send(b"x", at=2)  # a copy needs no room
    assert flow.nf.drops == {"no_room": 1}
    assert flow.send(b"..")  # what is next always has room
    flow = Connection(ids()).open()
    sent = [flow.send(b"y" * 4000, at=1 + i * 4000, ack=0xFFFF_FFF1) for i in range(16)]
    assert all(sent)
    assert flow.send(b"z")
    flow.got["inside"] = 64_001
    assert flow.answer()
    assert flow.nf.metrics()["held_bytes"] == 0


def test_a_stream_that_nobody_acknowledges_is_bounded():
    """Where the other side is never seen (an edge for one direction only), the last bytes are held."""
    for answered in (False, True):
        flow = Connection(ids(), isn=0)
        flow.send(at=-1, flags="S", options=[("WScale", 14)])
        if answered:
            flow.answer(at=-1, flags="SA", options=[("WScale", 14)], window=65535)
            flow.answer(window=65535)
        sent = [flow.send(bytes(9000), at=9000 * i) for i in range(80)]
        assert flow.nf.metrics()["held_bytes"] <= (640 << 10) + 9000 + OVERHEAD
        assert all(sent) is not answered
        assert not flow.send(b"x", at=0), "what cannot be compared does not pass"
        assert sent[:50] == [True] * 50


def test_all_streams_together_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("servernf.python.streams.MAX_HELD_BYTES", 20_000)
    nf = ids()
    flows = [Connection(nf, sport=sport).open() for sport in (4000, 4001)]
    assert flows[0].send(b"y" * 9000, at=1)
    assert flows[0].send(b"y" * 9000, at=9001)
    assert not flows[1].send(b"y" * 9000, at=1)
    assert flows[1].send(b"y" * 9000), "what is in order passes"
    assert nf.metrics()["held_bytes"] <= 20_000
    assert not flows[1].send(b"z" * 9000), "but a copy cannot be compared"


def test_where_nothing_is_dropped_looking_ends_instead():
    flow = Connection(ids(action="alert")).open()
    assert all(flow.send(b"x", at=2 + 2 * i) for i in range(100))
    assert flow.nf.metrics()["given_up"] == 1
    assert flow.nf.metrics()["held_bytes"] == 0
    assert flow.send(b"what comes later", at=100_000)
    flow.isn += 500_000
    flow.open().send(EVIL)
    assert flow.nf.metrics()["alerts"] == 1


def test_alert_counts_and_passes():
    nf = ids(action="alert")
    flow = Connection(nf).open()
    assert flow.send(EVIL + b"abc")
    assert flow.send(EVIL, at=len(EVIL) + 3)
    metrics = nf.metrics()
    assert (metrics["alerts"], metrics["alert.1"], metrics["alert.2"]) == (3, 2, 1)


def test_later_fragments_pass():
    frame = ether(IP(src=CLIENT, dst=SERVER, proto=17, frag=3) / Raw(b"probe probe"))
    assert call(ids(), frame, "inside")[0] == "outside"


def test_ipv6():
    nf = ids()
    segment = TCP(sport=4000, dport=80, flags="A", seq=1)
    six = IPv6(src="2001:db8::1", dst="2001:db8::2")
    assert call(nf, ether(six / segment / Raw(EVIL[:5])), "inside")[0] == "outside"
    segment = TCP(sport=4000, dport=80, flags="A", seq=6)
    assert call(nf, ether(six / segment / Raw(EVIL[5:])), "inside")[0] is None


@pytest.mark.parametrize("seed", range(30))
def test_any_cutting_and_order_delivers_the_stream_once(seed: int):
    """Oracle: the bytes themselves. Segments overlap, repeat and come in any order."""
    rng = random.Random(seed)
    stream = rng.randbytes(400)
    isn = 0xFFFF_FF80
    direction = Direction()
    direction.start(isn)
    cuts = sorted({0, 400, *rng.sample(range(1, 400), 20)})
    pieces = list(pairwise(cuts)) * 2
    pieces += [(a, min(400, b + rng.randrange(60))) for a, b in pieces[:20]]
    rng.shuffle(pieces)
    got, acked = b"", 0
    for a, b in pieces:
        got += direction.add((isn + a) & 0xFFFFFFFF, stream[a:b], 1 << 20)
        acked = rng.randint(acked, len(got))
        direction.acknowledge((isn + acked) & 0xFFFFFFFF)
        other = bytearray(stream[a:b])
        other[rng.randrange(len(other))] ^= 1
        if acked <= a and b <= len(got):
            with pytest.raises(OtherCopy):
                direction.add((isn + a) & 0xFFFFFFFF, bytes(other), 1 << 20)
    assert got == stream
    direction.acknowledge((isn + 401) & 0xFFFFFFFF)
    assert direction.cost == 0


def test_refused_segment_changes_nothing():
    direction = Direction()
    direction.start(0)
    direction.add(10, b"ten", 1000)
    for payload, room in ((b"x" * 5, 5 + OVERHEAD - 1), (b"x" * 200_000, 1 << 20)):
        with pytest.raises(NoRoom):
            direction.add(20, payload, room)
    with pytest.raises(OtherCopy):
        direction.add(8, b"....", 1000)
    assert direction.add(0, b"0123456789", 1000) == b"0123456789ten"


def test_content_syntax():
    assert parse_content("a|0d 0A|b") == b"a\r\nb"
    assert parse_content("|00|") == b"\0"
    for bad in ("", "a|0d", "|xx|", "||"):
        with pytest.raises(ValueError, match=r"holds no byte|not closed|not hexadecimal"):
            parse_content(bad)


def test_configuration_errors_come_together():
    with pytest.raises(InputError) as caught:
        ids(
            [
                {"id": 1, "content": "a|zz|", "protocol": "tcp"},
                {"id": 1, "content": "a", "protocol": "sctp", "ports": ["90-80"]},
                {"content": 5, "protocol": "udp", "port": 1},
            ],
            action="log",
        )
    text = "\n".join(caught.value.problems)
    for line in (
        "signatures[0].content: 'a|zz|': '|zz|' is not hexadecimal",
        "signatures[1].protocol: unknown choice 'sctp'",
        "signatures[1].ports[0]: must be a port (0 to 65535) or \"low-high\", not '90-80'",
        "signatures[2].id: must be an integer",
        "signatures[2].content: must be a non-empty string, not 5",
        "signatures[2].port: unknown key 'port'; did you mean 'ports'?",
        "g/ids.signatures: an id is given twice",
        "g/ids.action: unknown choice 'log'",
    ):
        assert line in text

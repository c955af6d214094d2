"""The IDS against docs/architecture.md: what carries a signature does not pass, however it is cut."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from servernf_support import SECOND, call, ether, make, tcp, udp

from orchestrator.errors import InputError
from servernf.network_function import NetworkFunction
from servernf.nfs.ids import parse_content
from servernf.tcp_stream import Direction, TooMuchWaiting

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
    """A TCP connection through an IDS; `send` answers whether the segment passed."""

    def __init__(self, nf: NetworkFunction, isn: int = 0xFFFF_FFF0, port: int = 80) -> None:
        self.nf, self.isn, self.port = nf, isn, port

    def send(self, data: bytes = b"", at: int = 0, flags: str = "A", now_us: int = 0) -> bool:
        frame = tcp(CLIENT, 4000, SERVER, self.port, flags, data, self.isn + 1 + at)
        return call(self.nf, frame, "inside", now_us)[0] == "outside"

    def answer(self, data: bytes = b"", at: int = 0, flags: str = "A", now_us: int = 0) -> bool:
        frame = tcp(SERVER, self.port, CLIENT, 4000, flags, data, self.isn + 1 + at)
        return call(self.nf, frame, "outside", now_us)[0] == "inside"

    def open(self) -> Connection:
        assert self.send(at=-1, flags="S")
        assert self.answer(at=-1, flags="SA")
        assert self.send()
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
    # Until a new SYN.
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


def test_first_copy_of_a_byte_wins():
    flow = Connection(ids()).open()
    assert flow.send(b"EVIL")
    assert flow.send(b"xxxx", at=0)  # a retransmission with other bytes changes nothing
    assert not flow.send(EVIL[4:], at=4)
    flow = Connection(ids()).open()
    assert flow.send(EVIL[4:], at=4)  # waits
    assert not flow.send(b"EVIL" + b"x" * 20)  # overlaps what waits: the waiting copy counts
    flow = Connection(ids()).open()
    assert flow.send(b"xxxx", at=4)
    assert flow.send(b"EVIL" + EVIL[4:8])
    assert flow.send(EVIL[8:], at=8)


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


def test_rst_ends_a_connection():
    flow = Connection(ids()).open()
    assert flow.send(EVIL[:4])
    assert flow.answer(flags="R")
    assert flow.nf.metrics()["connections"] == 0
    assert flow.send(EVIL[4:], at=4)


def test_two_fins_end_a_connection():
    flow = Connection(ids()).open()
    assert flow.send(b"bye", flags="FA")
    assert flow.send(b"abc", at=4)  # behind the FIN: that direction has ended
    assert flow.nf.metrics()["connections"] == 1
    assert flow.answer(b"bye", flags="FA")
    assert flow.nf.metrics()["connections"] == 0


def test_a_repeated_syn_ack_does_not_reset_the_stream():
    flow = Connection(ids()).open()
    assert flow.answer(EVIL[:4])
    assert flow.answer(at=-1, flags="SA")
    assert not flow.answer(EVIL[4:], at=4)


def test_the_first_fin_counts():
    flow = Connection(ids()).open()
    assert flow.send(b"bye", flags="FA")
    assert flow.send(flags="FA", at=100)
    assert flow.answer(flags="FA")
    assert flow.nf.metrics()["connections"] == 0


def test_a_fin_that_overtakes_data_waits_for_it():
    flow = Connection(ids()).open()
    assert flow.send(flags="FA", at=len(EVIL))
    assert flow.answer(flags="FA")
    assert not flow.send(EVIL)


def test_idle_connection_is_forgotten():
    flow = Connection(ids()).open()
    assert flow.send(EVIL[:4], now_us=0)
    assert flow.send(EVIL[4:], at=4, now_us=300 * SECOND)
    flow = Connection(ids()).open()
    assert flow.send(EVIL[:4], now_us=0)
    assert not flow.send(EVIL[4:], at=4, now_us=299 * SECOND)


def test_too_much_out_of_order_is_dropped():
    flow = Connection(ids()).open()
    assert all(flow.send(b"x", at=2 + 2 * i) for i in range(64))
    assert not flow.send(b"x", at=2 + 2 * 64)
    assert flow.send(b"x", at=2)  # a copy needs no room
    assert flow.nf.drops == {"out_of_order": 1}
    assert flow.send(b"..")  # what is next always has room
    flow = Connection(ids()).open()
    sent = [flow.send(b"y" * 4000, at=1 + i * 4000) for i in range(33)]
    assert sent == [True] * 32 + [False]
    assert flow.send(b"z")
    assert flow.nf.metrics()["waiting_bytes"] == 0


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


def test_least_recently_used_connection_goes_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("servernf.streams.MAX_CONNECTIONS", 2)
    nf = ids()
    flows = [Connection(nf, port=port) for port in (8000, 8001, 8002)]
    assert flows[0].send(EVIL[:4])
    assert flows[1].send(EVIL[:4])
    assert flows[0].send(EVIL[4:6], at=4)
    assert flows[2].send(EVIL[:4])  # 8001 goes
    assert flows[1].send(EVIL[4:], at=4)
    assert not flows[2].send(EVIL[4:], at=4)


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
    got = b"".join(direction.add((isn + a) & 0xFFFFFFFF, stream[a:b]) for a, b in pieces)
    assert got == stream
    assert direction.waiting_bytes == 0


def test_refused_segment_changes_nothing():
    direction = Direction()
    direction.start(0)
    direction.add(10, b"ten")
    with pytest.raises(TooMuchWaiting):
        direction.add(20, b"x" * 5, room=4)
    assert direction.add(0, b"0123456789") == b"0123456789ten"


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

"""Labels that an ids gives and branches that a label_filter has; reference and runtime side by side."""

from __future__ import annotations

from typing import Any

import pytest
from nf_bench import Both, ether
from scapy.layers.inet import IP, TCP, UDP
from scapy.packet import Raw

from orchestrator.errors import InputError
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import lookup
from servernf.python.network_function import create
from servernf.python.packet import PacketView
from servernf.python.scope import EVERYTHING
from servernf.wire.state import decode

CLIENT, SERVER = "10.0.0.7", "198.51.100.9"
SIGNATURES = [
    {"id": 1, "content": "odd", "protocol": "tcp", "action": "alert", "label": 9},
    {"id": 2, "content": "worse", "protocol": "tcp", "action": "alert", "label": 5},
    {"id": 3, "content": "odd", "protocol": "udp", "action": "alert", "label": 7},
    {"id": 4, "content": "bad", "protocol": "tcp", "action": "drop", "label": 3},
    {"id": 5, "content": "plain", "protocol": "tcp", "action": "alert"},
]


class Labelled(Both):
    """What label a packet has behind both."""

    def __init__(self, nf_type: str, **config: Any) -> None:
        super().__init__(nf_type, **config)
        self.seq = {"inside": 1, "outside": 1}

    def label(self, frame: bytes, port: str = "inside", before: int = 0) -> int | None:
        """None: it is dropped."""
        packet, view = Packet.parse(frame), PacketView()
        assert view.load(frame)
        packet.context = view.context = before
        out = self.bench.reference.process(packet, port, self.bench.env)
        left = self.runtime.process(view, port, self.bench.env.now_us)
        assert [port for port, _ in out] == ([left] if left else [])
        assert not left or view.context == out[0][1].context
        return view.context if left else None

    def say(
        self, data: bytes, port: str = "inside", flags: str = "A", before: int = 0
    ) -> int | None:
        """The label of the next segment of one connection."""
        here, there = (CLIENT, 4000), (SERVER, 80)
        other = "outside" if port == "inside" else "inside"
        if port == "outside":
            here, there = there, here
        tcp = TCP(
            sport=here[1], dport=there[1], flags=flags, seq=self.seq[port], ack=self.seq[other]
        )
        self.seq[port] += len(data) + ("S" in flags)
        return self.label(
            bytes(ether(IP(src=here[0], dst=there[0]) / tcp / Raw(data))), port, before
        )


def opened() -> Labelled:
    both = Labelled("ids", signatures=SIGNATURES)
    assert both.say(b"", flags="S") == 0
    assert both.say(b"", "outside", "SA") == 0
    assert both.say(b"") == 0
    return both


def test_a_direction_has_its_label_from_the_packet_that_completes_the_signature() -> None:
    both = opened()
    assert [both.say(piece) for piece in (b"so o", b"dd", b" then", b"")] == [0, 9, 9, 9]
    assert both.say(b"fine", "outside") == 0
    assert both.say(b"wor") == 9
    assert both.say(b"se") == 5, "a later one replaces it"
    assert both.say(b"plain") == 5, "one without a label leaves it"
    assert both.say(b"bad") is None
    assert both.say(b"") is None


def test_of_several_at_once_the_least() -> None:
    assert opened().say(b"worse and odd") == 5
    assert opened().say(b"odd and worse") == 5


def test_a_label_from_before_stays_where_nothing_is_found() -> None:
    both = opened()
    assert both.say(b"fine", before=33) == 33
    assert both.say(b"odd", before=33) == 9


def test_a_datagram_is_labelled_by_itself() -> None:
    both = Labelled("ids", signatures=SIGNATURES)
    ip = IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=2)
    assert [both.label(bytes(ether(ip / Raw(data)))) for data in (b"odd", b"good")] == [7, 0]


def test_a_label_goes_along_with_the_state() -> None:
    both = opened()
    assert both.say(b"odd") == 9
    moved = create("ids", "g/nf", both.bench.function.runtime_config())
    batches = both.runtime.state.export(EVERYTHING, 0)
    moved.state.enter([decode(data, lambda _: moved.state.layouts) for data in batches], 0)
    both.runtime = moved
    assert both.say(b"more") == 9


RULES = [
    {"label": 7, "port": "scrub"}, {"label": 9, "port": "honeypot"},
    {"label": 5, "action": "deny"}, {"label": 0, "action": "permit"}, {"label": 8, "port": "scrub"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "inside", "outside", "scrub"),
    [
        (7, "scrub", "scrub", "inside"),
        (9, "honeypot", "honeypot", "inside"),
        (8, "scrub", "scrub", "inside"),
        (5, None, None, None),
        (0, "outside", "inside", "inside"),
        (6, None, None, None),
    ],
)
def test_branches(label: int, inside: str | None, outside: str | None, scrub: str | None) -> None:
    both = Both("label_filter", rules=RULES, default="deny")
    assert both.bench.function.ports == both.runtime.ports == (
        "inside", "outside", "scrub", "honeypot",
    )  # fmt: skip
    frame = bytes(ether(IP() / UDP()))
    for port, wanted in (("inside", inside), ("outside", outside), ("scrub", scrub)):
        packet, view = Packet.parse(frame), PacketView()
        packet.context = view.context = label
        assert view.load(frame)
        out = both.bench.reference.process(packet, port, both.bench.env)
        assert [left for left, _ in out] == ([wanted] if wanted else [])
        assert both.runtime.process(view, port, 0) == wanted


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"label": 1}, "give an action"),
        ({"label": 1, "action": "deny", "port": "x"}, "give an action"),
        ({"label": 1, "port": "inside"}, "is no branch"),
        ({"label": 1, "port": "deny"}, "is no branch"),
        ({"label": 1, "port": "A B"}, "pattern"),
    ],
)
def test_bad_rules(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        lookup("label_filter").Config.model_validate({"rules": [rule]})
    if told != "pattern":  # names of ports are the compiler's to check
        with pytest.raises(InputError):
            create("label_filter", "g/nf", {"rules": [rule]})

"""What a middlebox believes of TCP: by the letter of RFC 9293, RFC 5961 and docs/functions.

Oracle: by hand; tests/unit/nfs compares with the reference. Blind spot: timestamps (RFC 7323, 5).
"""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw
from servernf_support import ether

from servernf.python.packet import PacketView
from servernf.python.tcp_acceptance import (
    ACCEPTED,
    BEGINS,
    NEVER,
    PASSES,
    REFUSED,
    RESET,
    Side,
    accept,
    is_intact,
    is_open,
    is_over,
    window_scale,
)

FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}
ISN, PEER = 0xFFFF_FFF0, 5000
MSS, SCALE_7 = b"\x02\x04\x05\xb4", b"\x01\x03\x03\x07"


class Ends:
    """Two ends; numbers count from behind the SYN of each."""

    def __init__(self, isn: int = ISN, peer: int = PEER) -> None:
        self.client, self.server = Side(), Side()
        self.isn, self.peer = isn, peer

    def c(self, flags: str, at: int = 0, ack: int = 0, size: int = 0, **more: object) -> int:
        return self._send(self.client, self.server, self.isn, self.peer, flags, at, ack, size, more)

    def s(self, flags: str, at: int = 0, ack: int = 0, size: int = 0, **more: object) -> int:
        return self._send(self.server, self.client, self.peer, self.isn, flags, at, ack, size, more)

    def _send(
        self,
        sender: Side,
        receiver: Side,
        isn: int,
        peer: int,
        flags: str,
        at: int,
        ack: int,
        size: int,
        more: dict[str, object],
    ) -> int:
        window, options = more.get("window", 1000), more.get("options", b"")
        assert isinstance(window, int)
        assert isinstance(options, bytes)
        bits = sum(FLAGS[flag] for flag in flags)
        seq, acked = (isn + 1 + at) % 2**32, (peer + 1 + ack) % 2**32
        return accept(
            sender, receiver, seq, acked if "A" in flags else 0, bits, window, options, size
        )

    def open(self, options: bytes = b"") -> Ends:
        assert self.c("S", -1, options=options) == BEGINS
        assert not is_open(self.client, self.server)
        assert self.s("SA", -1, 0, options=options) == ACCEPTED
        assert is_open(self.client, self.server)
        assert self.c("A") == ACCEPTED
        return self


def test_an_ordinary_connection() -> None:
    ends = Ends().open()
    assert ends.c("PA", 0, 0, 100) == ACCEPTED
    assert ends.s("A", 0, 100) == ACCEPTED
    assert ends.s("PA", 0, 100, 1000) == ACCEPTED
    assert ends.c("FA", 100, 1000) == ACCEPTED
    assert ends.s("FA", 1000, 101) == ACCEPTED
    assert is_over(ends.client, ends.server)
    assert ends.c("A", 101, 1001) == ACCEPTED
    assert ends.s("FA", 1000, 101) == ACCEPTED, "again"


@pytest.mark.parametrize(
    ("flags", "at", "ack", "size"),
    [
        ("A", 1001, 0, 1),  # beyond the window
        ("A", 500, 0, 502),  # reaches beyond it by more than a probe
        ("A", -70_000, 0, 10),  # far behind it
        ("FA", -600, 0, 0),  # takes back what was sent
        ("A", 100, 1, 5),  # acknowledges what was never sent
        ("A", 100, -2000, 5),  # acknowledges what is too old (RFC 5961, 5.2)
        ("P", 100, 0, 5),  # no ACK
        ("", 100, 0, 5),
        ("F", 100, 0, 0),
        ("SF", 100, 0, 0),
        ("SR", 100, 0, 0),
        ("SFA", 100, 0, 0),
        ("R", 101, 0, 0),  # in the window, but not where the receiver can be
        ("R", 900_000_000, 0, 0),
        ("R", -1, 0, 0),
        ("RA", 99 + 2, 0, 0),
        ("SA", 5000, 0, 0),  # acknowledges no SYN
        ("S", 50, 0, 3),  # payload that nobody would know what to think of
    ],
)
def test_what_the_receiver_ignores_changes_nothing(
    flags: str, at: int, ack: int, size: int
) -> None:
    ends = Ends().open()
    ends.c("PA", 0, 0, 100)
    assert ends.s("A", 0, 0) == ACCEPTED
    before = [
        [getattr(side, name) for name in Side.__slots__] for side in (ends.client, ends.server)
    ]
    assert ends.c(flags, at, ack, size) == REFUSED
    after = [
        [getattr(side, name) for name in Side.__slots__] for side in (ends.client, ends.server)
    ]
    assert before == after


def test_the_window_is_as_the_other_side_has_told() -> None:
    ends = Ends().open()
    assert ends.c("A", 0, 0, 1000) == ACCEPTED
    assert ends.c("A", 1000, 0, 1) == ACCEPTED, "a probe of a full window"
    assert ends.c("A", 1001, 0, 1) == REFUSED
    assert ends.s("A", 0, 1000, window=500) == ACCEPTED
    assert ends.c("A", 1001, 0, 499) == ACCEPTED
    assert ends.s("A", 0, 1000, window=0) == ACCEPTED
    assert ends.c("A", 1000, 0, 500) == ACCEPTED, "a window that shrinks was open once"


def test_windows_are_scaled_if_both_syns_say_so() -> None:
    ends = Ends().open(MSS + SCALE_7)
    assert ends.c("A", 0, 0, 1001) == ACCEPTED
    assert ends.c("A", 1001, 0, 1) == REFUSED, "that of a SYN-ACK is not"
    ends.s("A", 0, 0, window=100)
    assert ends.c("A", 0, 0, 12_801) == ACCEPTED
    assert ends.c("A", 0, 0, 12_802) == REFUSED
    ends = Ends()
    ends.c("S", -1, options=SCALE_7)
    ends.s("SA", -1, 0, options=MSS)
    ends.s("A", 0, 0, window=900)
    assert ends.c("A", 0, 0, 1002) == REFUSED
    assert [
        window_scale(o) for o in (b"", b"\x03\x03\x0f", b"\x08\x00", b"\x03", b"\0\x03\x03\1")
    ] == [
        NEVER,
        14,
        NEVER,
        NEVER,
        NEVER,
    ]


def test_keepalives_and_retransmissions_pass() -> None:
    ends = Ends().open()
    ends.c("A", 0, 0, 100)
    ends.s("A", 0, 100, 50)
    assert ends.c("A", 99, 50) == ACCEPTED
    assert ends.c("A", 0, 0, 100) == ACCEPTED
    assert (ends.server.acked - PEER - 1) == 0, "a segment that is old acknowledges nothing"


def test_a_reset_counts_where_the_receiver_can_be() -> None:
    for at in (0, 50, 100):
        ends = Ends().open()
        ends.c("A", 0, 0, 100)
        assert ends.c("R", at) == RESET
        assert is_over(ends.client, ends.server)
        assert ends.c("A", 100, 0, 1) == ACCEPTED, "it may not have arrived"
        assert ends.c("S", 50) == PASSES
        assert ends.client.isn == ISN, "and a SYN alone begins nothing"
    ends = Ends()
    ends.c("S", -1)
    assert ends.s("R", 0) == REFUSED
    assert ends.s("RA", 0, 1) == REFUSED
    assert ends.s("RA", 0, 0) == RESET, "a closed port"


def test_a_syn_amid_a_connection_counts_once_it_is_answered() -> None:
    ends = Ends().open()
    ends.c("A", 0, 0, 100)
    assert ends.c("S", 60) == PASSES
    assert ends.s("A", 0, 100) == ACCEPTED, "the challenge (RFC 5961, 4)"
    assert ends.s("SA", 3000, 60) == REFUSED, "acknowledges no SYN"
    assert ends.s("SA", -1, 61) == PASSES, "the first SYN-ACK again begins nothing"
    assert ends.s("SA", -1, 0) == PASSES
    assert ends.s("SA", 3000, 61) == BEGINS
    assert ends.c("A", 61, 3001, 5) == ACCEPTED
    assert ends.c("A", 100, 0, 5) == REFUSED
    again = Ends().open()
    assert again.c("S", -1) == PASSES, "a late copy of the first SYN"
    assert again.client.syn == NEVER


def test_half_open() -> None:
    ends = Ends()
    assert ends.c("S", -1) == BEGINS
    assert ends.c("S", -1) == ACCEPTED, "again"
    assert ends.s("A", 77) == PASSES, "a challenge: the server knows an earlier connection"
    assert ends.c("R", 12_345) == PASSES
    assert ends.s("A", 77, 0, 1) == REFUSED
    assert ends.c("S", 400) == BEGINS, "another attempt"
    assert ends.s("SA", -1, 0) == REFUSED
    assert ends.s("SA", -1, 401) == ACCEPTED


def test_payload_of_a_syn() -> None:
    ends = Ends()
    assert ends.c("S", -1, 0, 10) == BEGINS
    assert ends.s("SA", -1, 10) == ACCEPTED
    assert ends.c("A", 10, 0, 5) == ACCEPTED
    ends = Ends()
    ends.c("S", -1, 0, 10)
    assert ends.s("SA", -1, 11) == REFUSED
    assert ends.s("SA", -1, 0) == ACCEPTED, "not taken"


def test_simultaneous_open() -> None:
    ends = Ends()
    assert ends.c("S", -1) == BEGINS
    assert ends.s("S", -1) == ACCEPTED
    assert ends.c("SA", -1, 0) == PASSES
    assert ends.s("SA", -1, 0) == PASSES
    assert ends.c("A", 0, 0, 10) == ACCEPTED
    assert ends.s("A", 0, 10, 10) == ACCEPTED


def test_nothing_comes_behind_a_fin() -> None:
    ends = Ends().open()
    assert ends.c("FA", 0, 0, 10) == ACCEPTED
    assert ends.c("A", 10, 0, 1) == REFUSED
    assert ends.c("FA", 20, 0) == REFUSED, "it has told where it ends"
    assert ends.c("FA", 0, 0, 10) == ACCEPTED
    assert ends.c("A", 11, 0) == ACCEPTED


def test_picked_up_in_mid_stream() -> None:
    ends = Ends()
    assert ends.c("A", 1000, 500, 10) == ACCEPTED
    assert is_open(ends.client, ends.server)
    assert ends.s("A", 500, 2000) == REFUSED
    assert ends.s("A", 500_000_000 * 4, 1010, 5) == REFUSED
    assert ends.s("A", 600, 1010, 5) == ACCEPTED
    assert ends.c("A", 1010, 605, 200_000) == ACCEPTED, "the scale of windows is unknown"
    assert ends.c("A", 0, 606, 1) == REFUSED
    assert ends.c("S", 2000) == PASSES
    assert ends.s("SA", 7000, 2001) == BEGINS
    one_way = Ends()
    assert one_way.s("SA", -1, 0) == BEGINS
    assert one_way.s("SA", -1, 0) == PASSES
    assert one_way.s("A", 0, 0, 100_000) == ACCEPTED


SEGMENT = TCP(sport=1, dport=80, seq=7, flags="A")


@pytest.mark.parametrize("data", [b"", b"x", b"odd and even"[:11], bytes(1448), b"\xff" * 1400])
def test_checksums(data: bytes) -> None:
    for ip in (
        IP(src="10.0.0.1", dst="198.51.100.9"),
        IP(src="10.0.0.1", dst="198.51.100.9", options=[IPOption_NOP()]),
        IPv6(src="2001:db8::1", dst="2001:db8::2"),
        IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrFragment(m=0, offset=0, nh=6),
    ):
        frame = ether(ip / SEGMENT / Raw(data))
        view = PacketView()
        assert view.load(frame)
        assert is_intact(view)
        assert view.load(frame + b"padding")
        assert is_intact(view)
        wrong = [view.l4 + 5, view.l4 + 16] + (
            [view.l3 + 8, view.l3 + 1] if view.version == 4 else []
        )
        for at in wrong:
            bent = bytearray(frame)
            bent[at] ^= 0x40
            assert view.load(bytes(bent))
            assert not is_intact(view), at
        if data:
            assert view.load(frame[:-1])
            assert not is_intact(view), "it ends before IP's length says so"


@pytest.mark.parametrize("words", [4, 15])
def test_a_data_offset_out_of_the_segment(words: int) -> None:
    view = PacketView()
    assert view.load(ether(IP(src="10.0.0.1", dst="10.0.0.2") / TCP(dataofs=words)))
    assert not is_intact(view)

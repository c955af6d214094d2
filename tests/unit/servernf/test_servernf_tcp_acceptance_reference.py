"""TCP acceptance: the workers' and the reference, which are written apart, judge alike."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from servernf_support import ether

from orchestrator.model.packet import Packet
from orchestrator.nfs.tcp_acceptance_reference import TcpConnection, Verdict
from servernf.python import tcp_acceptance
from servernf.python.packet import PacketView

pytestmark = pytest.mark.slow

ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("2001:db8::1", "2001:db8::2")}
NAMES = {
    tcp_acceptance.REFUSED: Verdict.REFUSED,
    tcp_acceptance.PASSES: Verdict.PASSES,
    tcp_acceptance.ACCEPTED: Verdict.ACCEPTED,
    tcp_acceptance.BEGINS: Verdict.BEGINS,
    tcp_acceptance.RESET: Verdict.RESET,
}
OPTIONS: tuple[list[Any], ...] = (
    [],
    [("MSS", 1460)],
    [("MSS", 1460), ("NOP", None), ("WScale", 7)],
    [("WScale", 14)],
    [("WScale", 200)],
)


class Lives:
    """Two ends that often do what TCP does; what they say is near what is known."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.next = {side: rng.choice((rng.getrandbits(32), 2**32 - 3)) for side in (0, 1)}

    def frame(self, version: int, side: int) -> bytes:
        rng, flags = self.rng, self.rng.choice(("A",) * 6 + ("S", "SA", "SA", "FA", "R", "RA", "F"))
        near = (0, 0, 0, 0, 0, 1, -1, 5, -5, 70_000, -70_000, 1 << 20, 1 << 31)
        seq = self.next[side] + rng.choice(near)
        ack = self.next[1 - side] + rng.choice(near)
        data = rng.randbytes(rng.choice((0, 0, 1, 8, 100)))
        header = (IPv6 if version == 6 else IP)(
            src=ENDS[version][side], dst=ENDS[version][1 - side]
        )
        segment = TCP(
            sport=1 + side,
            dport=2 - side,
            flags=flags if rng.random() < 0.97 else rng.randrange(256),
            seq=seq & 0xFFFF_FFFF,
            ack=ack & 0xFFFF_FFFF,
            window=rng.choice((65_535, 0, 100, 1000)),
            options=rng.choice(OPTIONS),
        )
        if rng.random() < 0.8:
            self.next[side] = seq + len(data) + ("S" in flags) + ("F" in flags)
        frame = bytearray(ether(header / segment / Raw(data)))
        if rng.random() < 0.05:
            frame[rng.randrange(14, len(frame))] ^= 1 << rng.randrange(8)
        return bytes(frame)


@pytest.mark.parametrize("version", [4, 6])
def test_both_judge_alike(version: int) -> None:
    rng = random.Random(version)
    seen: Counter[Verdict] = Counter()
    for _ in range(120):
        connection, sides = TcpConnection(0, 1), (tcp_acceptance.Side(), tcp_acceptance.Side())
        lives, view, states = Lives(rng), PacketView(), set[bool]()
        for step in range(40):
            side = rng.randrange(2)
            frame = lives.frame(version, side)
            packet = Packet.parse(frame)
            if packet.malformed is not None or not packet.is_tcp:
                continue
            assert view.load(frame)
            wanted = connection.judge(packet, side)
            got = tcp_acceptance.REFUSED
            if not view.first_fragment and tcp_acceptance.is_intact(view):
                got = tcp_acceptance.accept_packet(sides[side], sides[1 - side], view)
            assert NAMES[got] == wanted, (step, frame.hex())
            established = tcp_acceptance.is_established(*sides)
            assert established == connection.is_established
            assert tcp_acceptance.is_over(*sides) == connection.is_over
            assert tcp_acceptance.is_open(*sides) != connection.is_half_open
            states.add(established)
            seen[wanted] += 1
    assert min(seen[verdict] for verdict in Verdict) > 20, seen

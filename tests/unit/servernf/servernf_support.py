"""Packets and callers for the tests of `servernf`. Scapy builds frames and checks checksums."""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from servernf.python.network_function import NetworkFunction, create
from servernf.python.packet import PacketView
from servernf.wire import nsh

SRC_MAC, DST_MAC = "06:00:00:00:00:10", "06:00:00:00:00:01"
SECOND = 1_000_000


def ether(payload: Any) -> bytes:
    """An Ethernet frame around a scapy payload."""
    return bytes(Ether(src=SRC_MAC, dst=DST_MAC) / payload)


def udp(src: str, sport: int, dst: str, dport: int, data: bytes = b"x" * 8, **ip: Any) -> bytes:
    return ether(IP(src=src, dst=dst, **ip) / UDP(sport=sport, dport=dport) / Raw(data))


def tcp(
    src: str,
    sport: int,
    dst: str,
    dport: int,
    flags: str = "A",
    data: bytes = b"",
    seq: int = 0,
    ack: int = 0,
) -> bytes:
    segment = TCP(sport=sport, dport=dport, flags=flags, seq=seq & 0xFFFFFFFF, ack=ack)
    return ether(IP(src=src, dst=dst) / segment / Raw(data))


def echo(src: str, dst: str, number: int, *, reply: bool = False, data: bytes = b"ping") -> bytes:
    kind = 0 if reply else 8
    return ether(IP(src=src, dst=dst) / ICMP(type=kind, id=number, seq=1) / Raw(data))


def call(
    nf: NetworkFunction, frame: bytes, port: str, now_us: int = 0
) -> tuple[str | None, Packet]:
    """Hand one frame to an NF: the port it left by, and the frame then."""
    view = PacketView()
    assert view.load(frame), "the test's frame is malformed"
    left = nf.process(view, port, now_us)
    return left, Ether(bytes(view.data))


def make(type_name: str, **config: object) -> NetworkFunction:
    return create(type_name, f"g/{type_name}", config)


def assert_checksums(packet: Packet) -> None:
    """Every checksum is what scapy would compute."""
    again = Ether(bytes(packet))
    for layer in (IP, UDP, TCP, ICMP):
        if again.haslayer(layer):
            del again[layer].chksum
    fresh = Ether(bytes(again))
    for layer in (IP, UDP, TCP, ICMP):
        if fresh.haslayer(layer):
            assert packet[layer].chksum == fresh[layer].chksum, layer.__name__


def tagged(
    mac: int, frame: bytes, spi: int = 5, si: int = 254, *, ttl: int = 63, label: int = 0
) -> bytes:
    return nsh.encode(nsh.Tag(mac, 0x0200_0009_0000, spi, si, ttl=ttl, label=label), frame)

"""Workers of the dpdk runtime within a test: their process has sanitizers, and no port."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from orchestrator.runtimes import runtime
from servernf.dpdk.building import build
from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import WorkerProcess
from servernf.dpdk.worker import DpdkWorker
from servernf.host.compiling import compiler, dpdk_missing, hyperscan_flags
from servernf.host.devices import CoreDevice
from servernf.python.runtime.clocks import monotonic_us
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, mac_text

MAC, NEXT = 0x0200_0001_0001, 0x0200_0002_0000
HAS = tuple(nf for nf in runtime("dpdk").nf_types if nf != "ids" or hyperscan_flags())
"""NFs that a process of this machine has."""
NEEDS_COMPILER = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed")


def executable() -> Path:
    """With DPDK's libraries where they are, else the process does without."""
    return build(dpdk=not dpdk_missing(), sanitized=True)


@contextmanager
def running(
    clock: Callable[[], int] = monotonic_us,
    *,
    restarts: bool = True,
    device: CoreDevice | None = None,
) -> Iterator[DpdkWorker]:
    """A worker, called in this process."""
    made = executable()
    engine = NfEngine(MAC, lambda memory: WorkerProcess(made, MAC, memory, device=device))
    worker = DpdkWorker("w", MAC, engine, clock, restarts=restarts)
    try:
        yield worker
    finally:
        worker.close()


def tagged(frame: bytes, spi: int, **tag: int) -> bytes:
    """A frame of a path (SI 255) for the worker."""
    return nsh.encode(nsh.Tag(MAC, NEXT, spi, 255, **tag), frame)


def frames(seed: int, count: int) -> list[bytes]:
    """Frames of few hosts and ports; one in four has bytes that are anything, or is cut off."""
    rng = random.Random(seed)
    samples = _known_frames()
    made: list[bytes] = []
    for _ in range(count):
        frame = bytearray(rng.choice(samples))
        for _ in range(rng.choice((0, 0, 0, 1, 4))):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        end = len(frame) if rng.random() < 0.95 else rng.randrange(len(frame))
        made.append(bytes(frame[:end]))
    return made


@cache
def _known_frames() -> tuple[bytes, ...]:
    return tuple(_known())


def _known() -> Iterator[bytes]:
    pairs = (("10.0.0.1", "198.51.100.9"), ("198.51.100.9", "10.0.0.1"), ("10.0.0.200", "10.0.0.2"))
    for source, destination in pairs:
        for ttl, tos in ((1, 0), (2, 184), (64, 3)):
            head = IP(src=source, dst=destination, ttl=ttl, tos=tos)
            yield from _around(head)
            yield _ether(head / TCP(sport=7, dport=80, flags="SA"))
            yield _ether(IP(bytes(IP(src=source, dst=destination, frag=3) / Raw(b"12345678"))))
            error = head / ICMP(type=3, code=1) / IP(src=destination, dst=source) / UDP(sport=8)
            yield _ether(error / Raw(b"quotation"))
            lacking = IP(src=destination, dst=source) / UDP(sport=8, chksum=0) / Raw(b"none")
            yield _ether(head / ICMP(type=11) / lacking)
    for ends in (("2001:db8::1", "2001:db8:1::2"), ("2001:db8:1::2", "2001:db8::1")):
        head = IPv6(src=ends[0], dst=ends[1], hlim=9)
        yield from _around(head)
        yield _ether(head / IPv6ExtHdrFragment(offset=4, nh=17) / Raw(b"12345678"))
        yield _ether(head / ICMPv6EchoRequest(data=b"ping"))
        for quoted in (UDP(sport=8) / Raw(b"quotation"), ICMPv6EchoRequest(data=b"ping"), TCP()):
            yield _ether(head / ICMPv6DestUnreach() / IPv6(src=ends[1], dst=ends[0]) / quoted)
    yield _ether(ARP())
    yield from _vxlan()


def _vxlan() -> Iterator[bytes]:
    """To 10.0.0.2 of VNI 0x0a0b0c, and what lacks something of that."""
    udp = UDP(sport=9, dport=4789, chksum=0)
    vni, inner = bytes.fromhex("080000000a0b0c00"), _ether(IP() / TCP())
    payloads = (
        vni + inner,
        b"\0" + vni[1:] + inner,
        vni[:4] + b"\1" + vni[5:] + inner,
        vni + inner[:12] + b"\x89\x4f" + inner[14:],
        vni + inner[:20],
        vni[:7],
    )
    for payload in payloads:
        yield _ether(IP(src="10.0.0.200", dst="10.0.0.2") / udp / Raw(payload))
    whole = IP(src="10.0.0.200", dst="10.0.0.2", flags="MF") / udp / Raw(payloads[0])
    yield _ether(whole)


def _around(head: Packet) -> Sequence[bytes]:
    udp = head / UDP(sport=7, dport=53) / Raw(b"datagram")
    tags = (Dot1Q(vlan=5), Dot1Q(vlan=6) / Dot1Q(vlan=5), Dot1Q(vlan=5) / Dot1Q() / Dot1Q())
    plain = bytes(udp)
    without = bytearray(plain)
    if head.version == 4:
        without[26:28] = b"\0\0"  # no checksum of UDP
    return [_ether(udp), _ether(Raw(bytes(without)), head), *(_ether(tag / udp) for tag in tags)]


def _ether(payload: Packet, kind: Packet | None = None) -> bytes:
    made = Ether(src="0a:00:00:00:00:01", dst=mac_text(GATEWAY_MAC))
    if kind is not None:
        made.type = 0x0800 if kind.version == 4 else 0x86DD
    return bytes(made / payload)

"""Captures: every link type as what it is, or refused by name; damage in one sentence. Oracle: scapy."""

from __future__ import annotations

import gzip
import json
import os
import struct
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.graph import load_topology
from orchestrator.observation.captures import Capture
from orchestrator.observation.frames import header_of

pytestmark = pytest.mark.slow

V4 = bytes(IP(src="10.0.1.11", dst="198.51.100.13") / TCP(sport=40000, dport=80))
V6 = bytes(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2) / b"x")
ETHERNET = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(V4))
COOKED = struct.pack("!HHH8s", 0, 1, 6, bytes(8))
COOKED2 = struct.pack("!HHIHBB8s", 0x86DD, 0, 1, 1, 0, 6, bytes(8))


def headed(ether_type: int, packet: bytes) -> bytes:
    return b"header" + ether_type.to_bytes(2, "big")


def pcap(
    link: int, *frames: bytes, order: str = "<", magic: int = 0xA1B2C3D4, more: int = 0
) -> bytes:
    """`more`: by how many bytes the frames were longer on the wire."""
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for frame in frames:
        data += struct.pack(order + "IIII", 0, 0, len(frame), len(frame) + more) + frame
    return data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link: int, order: str = "<", snap: int = 0, options: bytes = b"") -> bytes:
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def enhanced(number: int, frame: bytes, order: str = "<") -> bytes:
    head = struct.pack(order + "IIIII", number, 0, 0, len(frame), len(frame))
    return block(6, head + frame, order)


def read(tmp_path: Path, data: bytes) -> list[bytes]:
    (tmp_path / "a.pcap").write_bytes(data)
    return list(Capture(tmp_path / "a.pcap", headed).frames())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("link", "frame", "expected"),
    [
        (1, ETHERNET, ETHERNET),
        (1, b"short", b"short"),
        (12, V4, b"header\x08\x00" + V4),
        (14, V6, b"header\x86\xdd" + V6),
        (101, V6, b"header\x86\xdd" + V6),
        (228, V4, b"header\x08\x00" + V4),
        (229, V6, b"header\x86\xdd" + V6),
        (0, b"\x02\0\0\0" + V4, b"header\x08\x00" + V4),
        (0, b"\0\0\0\x1e" + V6, b"header\x86\xdd" + V6),
        (108, b"\0\0\0\x02" + V4, b"header\x08\x00" + V4),
        (113, COOKED + b"\x08\x00" + V4, b"header\x08\x00" + V4),
        (113, COOKED + b"\x08\x06" + b"arp", b"header\x08\x06arp"),
        (276, COOKED2 + V6, b"header\x86\xdd" + V6),
        (1 | 0x24000000, ETHERNET + b"FCS!", ETHERNET),
    ],
)
def test_link_types(tmp_path: Path, link: int, frame: bytes, expected: bytes, order: str) -> None:
    for magic in (0xA1B2C3D4, 0xA1B23C4D):
        assert read(tmp_path, pcap(link, frame, frame, order=order, magic=magic)) == [expected] * 2
    if link < 1 << 16:
        assert read(
            tmp_path,
            section(order)
            + interface(link, order)
            + block(5, b"statistics..", order)
            + enhanced(0, frame, order),
        ) == [expected]


@pytest.mark.parametrize(
    ("link", "frame", "problem"),
    [
        (
            105,
            b"x",
            "packet 2: link type 105 (IEEE 802.11) has no Ethernet frames; Ethernet, raw IP",
        ),
        (147, b"x", "packet 2: link type 147 (private or unknown)"),
        (101, b"x", "packet 2: link type 101 (raw IP), but it is neither"),
        (101, b"", "link type 101 (raw IP), but it is neither"),
        (0, b"\x07\0\0\0x", "link type 0 (loopback), but it is neither"),
        (108, b"\0\0", "its 2 bytes are too few for link type 108"),
        (113, COOKED + b"\0\x04llc", "link type 113 (Linux cooked) with protocol 0x0004"),
    ],
)
def test_what_holds_no_ethernet_is_refused_by_name(
    tmp_path: Path, link: int, frame: bytes, problem: str
) -> None:
    good = {101: V4, 0: b"\x02\0\0\0" + V4, 108: b"\0\0\0\x02" + V4}.get(link, ETHERNET)
    data = section() + interface(link if link in (0, 101, 108) else 1) + interface(link)
    with pytest.raises(InputError) as error:
        read(tmp_path, data + enhanced(0, good) + enhanced(1, frame))
    assert problem in str(error.value)
    assert len(error.value.problems) == 1


def test_sections_interfaces_and_old_blocks(tmp_path: Path) -> None:
    check = struct.pack("<HHB3x", 13, 1, 4) + struct.pack("<HH", 0, 0)
    data = section() + interface(1, options=check) + interface(101) + enhanced(1, V4)
    data += enhanced(0, ETHERNET + b"FCS!")
    data += (
        section(">") + interface(1, ">", snap=60) + block(3, struct.pack(">I", 60) + bytes(60), ">")
    )
    data += block(2, struct.pack(">HHIIII", 0, 0, 0, 0, len(V4), len(V4)) + V4, ">")
    assert read(tmp_path, data) == [b"header\x08\x00" + V4, ETHERNET, bytes(60), V4]


@pytest.mark.parametrize("write", [wrpcap, wrpcapng])
def test_what_scapy_writes(tmp_path: Path, write: object) -> None:
    path = tmp_path / "scapy"
    (wrpcap if write is wrpcap else wrpcapng)(str(path), [Ether(ETHERNET)] * 3)
    capture = Capture(path, headed)
    assert capture.first(2) == [ETHERNET] * 2
    assert list(capture.frames()) == [ETHERNET] * 3


def test_packets_cut_by_the_snap_length_are_filled_up_and_told(tmp_path: Path) -> None:
    (tmp_path / "a.pcap").write_bytes(pcap(1, ETHERNET, more=10) + pcap(1, ETHERNET)[24:])
    capture = Capture(tmp_path / "a.pcap", headed)
    assert list(capture.frames()) == [ETHERNET + bytes(10), ETHERNET]
    assert "1 packets were cut when they were captured (snap length)" in capture.warning()
    simple = section() + interface(1, snap=20) + block(3, struct.pack("<I", 54) + ETHERNET[:20])
    assert read(tmp_path, simple) == [ETHERNET[:20] + bytes(34)]


WHOLE = pcap(1, ETHERNET, ETHERNET)
NEXT = section() + interface(1) + enhanced(0, ETHERNET)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"no capture", "is no capture (pcap or pcapng)"),
        (b"\xd4", "is no capture (pcap or pcapng)"),
        (gzip.compress(WHOLE, mtime=0), "is compressed: gunzip it first"),
        (WHOLE[:20], "is cut off in its header"),
        (WHOLE[:24], "there is no packet in it"),
        (WHOLE[:-10], "packet 2: the file is cut off: it has 44 of 54 bytes"),
        (WHOLE[: 24 + 16 + 54 + 5], "packet 2: the file ends in its header"),
        (WHOLE.replace(b"\x02\0\x04\0", b"\x03\0\x04\0", 1), "is pcap of version 3"),
        (pcap(1) + struct.pack("<IIII", 0, 0, 1 << 30, 60), "packet 1: is damaged: it claims"),
        (NEXT[:28], "there is no packet in it"),
        (NEXT[:-5], "packet 1: the file is cut off: a block has"),
        (NEXT + b"\6\0", "packet 2: the file ends in the header of a block"),
        (NEXT[:-4] + bytes(4), "packet 1: a block is damaged: its two lengths differ"),
        (
            section() + enhanced(0, ETHERNET),
            "packet 1: a block is damaged: it is too short, or of no",
        ),
        (section() + interface(1) + block(6, b"abc"), "packet 1: a block is damaged"),
        (NEXT + struct.pack("<II", 6, 8), "packet 2: a block is damaged: it claims 8 bytes"),
        (section().replace(b"M<+\x1a", b"1234"), "is no pcapng: its byte order is unknown"),
    ],
)
def test_damage_is_told_in_one_sentence(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, data)
    assert str(error.value).startswith(f"--pcap {tmp_path / 'a.pcap'}: {problem}")
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pcap")
    for name, problem in (
        (".", "is a directory"),
        ("pipe.pcap", "is a named pipe"),
        ("pip.pcap", "no such file; did you mean 'pipe.pcap'"),
    ):
        with pytest.raises(InputError, match=problem):
            Capture(tmp_path / name, headed).first(1)


def test_headers_are_those_of_the_network() -> None:
    topology = load_topology("single")
    h1, h2 = topology.hosts["h1"], topology.hosts["h2"]
    near = bytes(IP(src=str(h1.addresses[0].ip), dst=str(h2.addresses[0].ip)))
    far = bytes(IP(src="192.0.2.1", dst="192.0.2.2"))
    macs = [
        tuple(int.from_bytes(header[at : at + 6], "big") for at in (0, 6))
        for header in (
            header_of(topology)(0x0800, near),
            header_of(topology, h2)(0x0800, far),
            header_of(topology)(0x0800, b"short"),
        )
    ]
    assert macs[0][1] == h1.mac
    assert macs[1][1] == h2.mac
    assert header_of(topology)(0x86DD, far)[12:] == b"\x86\xdd"


def test_both_commands_honour_the_link_type(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    rules = [{"protocol": "tcp", "dst_port": 23, "action": "deny"}]
    ends = ({"from": "inside", "to": "a.inside"}, {"from": "a.outside", "to": "outside"})
    graph = {
        "name": "fw",
        "endpoints": {"inside": {"hosts": ["h1"]}, "outside": {"hosts": ["h3"]}},
        "nfs": {"a": {"type": "acl", "config": {"rules": rules, "default": "permit"}}},
        "edges": ends,
        "traffic": [{"name": "up", "from": "inside", "to": "outside", "rate": "1Mbit/s"}],
    }
    file, capture, bundle = (tmp_path / n for n in ("g.json", "a.pcap", "g.bundle"))
    file.write_text(json.dumps(graph))
    denied = bytes(IP(src="10.0.1.11", dst="198.51.100.13") / TCP(sport=40000, dport=23))
    capture.write_bytes(pcap(101, V4, denied))
    memory = ("deploy", str(file), "--network", "memory", "--pcap", str(capture), "--json")
    told = json.loads(CliRunner().invoke(app, memory).stdout)["traffic"][str(capture)]
    assert (told["sent"], told["delivered"]) == (2, 1)
    assert CliRunner().invoke(app, ("net", "down", "memory")).exit_code == 0
    CliRunner().invoke(app, ("compile", str(file), "-o", str(bundle)), catch_exceptions=False)
    explain = ("explain", "--bundle", str(bundle), "--json", "--pcap", str(capture))
    both = CliRunner().invoke(app, (*explain, "--count", "2"), catch_exceptions=False)
    assert "198.51.100.13:80" in both.stdout
    assert "198.51.100.13:23" in both.stdout
    sent = CliRunner().invoke(app, (*explain, "--from", "h2"), catch_exceptions=False)
    assert sent.exit_code == 0
    for more, problem in (
        (("--from", "h9"), "unknown host 'h9'"),
        (("--packet", "tcp 10.0.1.11 > 10.0.1.12"), "--packet and --pcap each say the packet"),
    ):
        assert problem in str(CliRunner().invoke(app, (*explain, *more)).exception)
    lone = CliRunner().invoke(app, ("explain", "--bundle", str(bundle), "--from", "h1")).exception
    assert "--from h1: say which packet: --to HOST, --packet TEXT or --pcap FILE" in str(lone)

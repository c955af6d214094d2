"""Frames made from words. Oracle: scapy's own checksums and lengths."""

from __future__ import annotations

import pytest
from inspection_support import topology
from scapy.layers.l2 import Ether

from orchestrator.errors import InputError
from orchestrator.observation.frames import (
    answer_to,
    between_hosts,
    changes,
    frame_text,
    parse_packet,
)
from servernf.wire.nsh import Tag, encode


@pytest.mark.parametrize(
    "text",
    [
        "tcp 10.0.1.11:40000 > 198.51.100.13:80 flags=SA ttl=3 id=77 payload=hello you",
        "udp 10.0.1.11:1 > 10.0.2.9:53 vlan=7 payload=odd",
        "udp [2001:db8::1]:1 > [2001:db8::2]:53 payload=x",
        "icmp 10.0.0.1 > 10.0.0.2 payload=abc",
        "icmp 2001:db8::1 > 2001:db8::2",
    ],
)
def test_lengths_and_checksums_are_scapys(text: str) -> None:
    frame = parse_packet(text)
    packet = Ether(frame)
    for layer in packet.layers():
        for name in ("chksum", "cksum", "len", "plen"):
            packet[layer].fields.pop(name, None)
    assert bytes(packet) == frame
    answer = answer_to(frame)
    assert answer is not None
    assert (Ether(answer).src, Ether(answer).dst) == (Ether(frame).dst, Ether(frame).src)


def test_hex_is_taken_as_it_is() -> None:
    frame = parse_packet("tcp 10.0.1.11:1 > 10.0.1.12:2")
    assert parse_packet(frame.hex()) == frame
    assert parse_packet("0x" + frame.hex()) == frame


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tpc 10.0.0.1 > 10.0.0.2", "did you mean 'tcp'"),
        ("tcp 10.0.0.1 10.0.0.2", "a frame in hex"),
        ("tcp 10.0.0.1:80 > 2001:db8::1", "different IP versions"),
        ("tcp 10.0.0.1:99999 > 10.0.0.2", "0..65535"),
        ("tcp 10.0.0.1 > 10.0.0.2 tll=3", "did you mean 'ttl'"),
        ("tcp 10.0.0.1 > 10.0.0.2 flags=Q", "letters of"),
        ("tcp 10.0.0.1 > 10.0.0.2 smac=1", "six octets"),
    ],
)
def test_problems_say_what_would_be_valid(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_packet(text)


@pytest.mark.parametrize(
    ("target", "summary"),
    [
        ("h3:8080", "tcp 10.0.1.11:40000 > 198.51.100.13:8080"),
        ("h3", "tcp 10.0.1.11:40000 > 198.51.100.13:80"),
        ("h3:53/udp", "udp 10.0.1.11:40000 > 198.51.100.13:53"),
        ("h3/icmp", "icmp 10.0.1.11 > 198.51.100.13"),
        ("h3:443/6", "tcp [2001:db8:1::11]:40000 > [2001:db8:2::13]:443"),
        ("192.0.2.7:99/udp", "udp 10.0.1.11:40000 > 192.0.2.7:99"),
        ("[2001:db8:2::13]:99", "tcp [2001:db8:1::11]:40000 > [2001:db8:2::13]:99"),
    ],
)
def test_what_a_host_would_send(target: str, summary: str) -> None:
    assert frame_text(between_hosts(topology(), "h1", target)).summary.startswith(summary)


def test_unknown_hosts_are_told_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'h1'"):
        between_hosts(topology(), "h11", "h3")
    with pytest.raises(InputError, match="h3"):
        between_hosts(topology(), "h1", "h33")


def test_changes_tell_the_tag_and_the_fields() -> None:
    before = parse_packet("tcp 10.0.1.11:40000 > 198.51.100.13:80")
    after = parse_packet("tcp 203.0.113.1:1024 > 198.51.100.13:80 ttl=63")
    tagged = encode(Tag(dst_mac=0x020000050002, src_mac=0x020000010000, spi=16384, si=254), after)
    told = changes(before, tagged)
    assert told[0].startswith("the tag NSH SPI 16384 (graph 1) SI 254")
    assert set(told[1:]) == {
        "ip.src 10.0.1.11 -> 203.0.113.1",
        "ip.ttl 64 -> 63",
        "l4.src 40000 -> 1024",
    }
    assert changes(before, before) == ()

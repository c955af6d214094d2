"""Vectors of NFs that look at one packet at a time."""

from __future__ import annotations

import struct

from servernf.conformance.frames import arp, checksum, echo, ether, ip, udp
from servernf.conformance.vectors import INSIDE, OUTSIDE, Exchange, Vector, dropped, passes
from servernf.wire.addresses import GATEWAY_MAC, mac_text

A, B, C = "10.0.0.1", "198.51.100.9", "203.0.113.5"
DNS_QUERY = udp(A, 4000, B, 53)
WEB = udp(A, 4000, B, 80)


VLAN = ether(ip(A, B, 17, struct.pack("!HHHH", 1, 2, 8, 0)))
TAGGED = ether(VLAN[14:], tags=(3 << 13 | 100,))
TWICE = ether(VLAN[14:], tags=(100, 200))
GATEWAY_MACS = GATEWAY_MAC.to_bytes(6, "big")
NEXT_HOP_MAC = bytes.fromhex("0a0000000077")
ROUTES = [
    {"prefix": "198.51.100.0/24"},
    {"prefix": "203.0.113.0/24", "port": "dmz", "next_hop": "192.0.2.1"},
]
_ROUTED_INNER = udp(A, 1, C, 2, ttl=8)[14:]
VXLAN_HEAD = struct.pack("!II", 0x0800_0000, 77 << 8)


def _vxlan(src: str, dst: str, inner: bytes, vni: int = 77, sport: int = 50_000) -> bytes:
    """An outer frame around an inner one (RFC 7348), without UDP checksum."""
    data = struct.pack("!II", 0x0800_0000, vni << 8) + inner
    return ether(ip(src, dst, 17, struct.pack("!HHHH", sport, 4789, 8 + len(data), 0) + data))


def _encapsulated(frame: bytes) -> str:
    """What is wrong with `WEB` behind VXLAN: the source port is the flow's, all else is said."""
    outer = ip(B, C, 17, frame[34:])
    # Its header is `ip`'s but for DF, which the header's checksum counts, too.
    if len(frame) < 50 or frame[12:20] != b"\x08\x00" + outer[:6] or frame[20:22] != b"\x40\0":
        return "not the outer IPv4 header"
    if frame[22:24] != outer[8:10] or frame[26:34] != outer[12:20] or checksum(frame[14:34]):
        return "not the outer IPv4 header"
    sport, dport, length, written = struct.unpack("!HHHH", frame[34:42])
    if dport != 4789 or written != 0 or sport < 0xC000:
        return f"UDP {sport} -> {dport}, checksum {written}"
    if length != len(frame) - 34 or frame[42:50] != VXLAN_HEAD:
        return "UDP length or VXLAN header"
    return "" if frame[50:] == WEB else "the inner frame is not the one sent"


VECTORS = (
    Vector(
        "acl",
        "the first rule that matches counts, none against its direction",
        {
            "rules": [
                {"dst_port": 53, "protocol": "udp", "action": "permit"},
                {"dst": "198.51.100.0/24", "action": "deny"},
            ],
            "default": "permit",
        },
        (
            passes(INSIDE, DNS_QUERY),
            dropped(INSIDE, WEB),
            passes(INSIDE, udp(A, 1, C, 80)),
            passes(OUTSIDE, WEB),
            passes(INSIDE, arp()),
        ),
    ),
    Vector(
        "acl",
        "mirrored rules look at answers",
        {
            "rules": [{"dst_port": 53, "protocol": "udp", "action": "permit"}],
            "default": "deny",
            "reverse": "mirror",
        },
        (
            passes(OUTSIDE, udp(B, 53, A, 4000)),
            dropped(OUTSIDE, udp(B, 54, A, 4000)),
        ),
    ),
    Vector(
        "router",
        "longest prefix, TTL, next hop's MAC",
        {
            "routes": ROUTES,
            "neighbors": {"192.0.2.1": "0a:00:00:00:00:77"},
            "gateway_mac": mac_text(GATEWAY_MAC),
        },
        (
            passes(INSIDE, udp(A, 1, B, 2), udp(A, 1, B, 2, ttl=63)),
            Exchange(
                INSIDE,
                udp(A, 1, C, 2, ttl=9),
                (("dmz", NEXT_HOP_MAC + GATEWAY_MACS + b"\x08\x00" + _ROUTED_INNER),),
            ),
            dropped(INSIDE, udp(A, 1, B, 2, ttl=1)),
            dropped(INSIDE, udp(A, 1, "192.0.2.9", 2)),
            dropped(INSIDE, arp()),
        ),
        ports=(INSIDE, OUTSIDE, "dmz"),
    ),
    Vector(
        "static_nat",
        "addresses both ways, checksums with them",
        {"pairs": [{"inside": A, "outside": C}]},
        (
            passes(INSIDE, udp(A, 7, B, 9), udp(C, 7, B, 9)),
            passes(OUTSIDE, echo(B, C, 5), echo(B, A, 5)),
            passes(INSIDE, udp("10.0.0.2", 7, B, 9)),
        ),
    ),
    Vector(
        "hash_lb",
        "to the one backend and back",
        {"virtual": [{"address": C, "backends": [{"address": A}]}]},
        (
            passes(OUTSIDE, udp(B, 7, C, 80), udp(B, 7, A, 80)),
            passes(INSIDE, udp(A, 80, B, 7), udp(C, 80, B, 7)),
            passes(OUTSIDE, udp(B, 7, "203.0.113.6", 80)),
        ),
    ),
    Vector(
        "dscp_marker",
        "six bits, ECN stays",
        {"rules": [{"dst_port": 53, "protocol": "udp", "dscp": 46}], "default": 0},
        (
            passes(INSIDE, udp(A, 4000, B, 53, tos=1), udp(A, 4000, B, 53, tos=46 << 2 | 1)),
            passes(INSIDE, udp(A, 4000, B, 80, tos=40), WEB),
            passes(OUTSIDE, udp(A, 4000, B, 53, tos=40)),
            passes(INSIDE, arp()),
        ),
    ),
    Vector(
        "ttl_guard",
        "drops below its bound, clamps above another",
        {
            "rules": [
                {"dst_port": 53, "protocol": "udp", "min": 255},
                {"dst_port": 80, "protocol": "udp", "max": 32, "action": "clamp"},
            ]
        },
        (
            dropped(INSIDE, DNS_QUERY),
            passes(INSIDE, udp(A, 4000, B, 53, ttl=255)),
            passes(INSIDE, WEB, udp(A, 4000, B, 80, ttl=32)),
            passes(OUTSIDE, DNS_QUERY),
        ),
    ),
    Vector(
        "vlan_push",
        "a tag in front, no third one",
        {"vid": 100, "pcp": 3},
        (
            passes(INSIDE, VLAN, TAGGED),
            dropped(INSIDE, TWICE),
            passes(OUTSIDE, TWICE),
        ),
    ),
    Vector(
        "vlan_pop",
        "its tag goes, others are dropped",
        {"vid": 100, "others": "drop"},
        (
            passes(INSIDE, TAGGED, VLAN),
            passes(INSIDE, TWICE, ether(VLAN[14:], tags=(200,))),
            dropped(INSIDE, VLAN),
            passes(OUTSIDE, TAGGED),
        ),
    ),
    Vector(
        "vxlan_encap",
        "the frame behind outer headers",
        {"vni": 77, "local": B, "remote": C},
        (passes(INSIDE, WEB, _encapsulated), passes(OUTSIDE, WEB)),
    ),
    Vector(
        "vxlan_decap",
        "the frame that is in it, and nothing else",
        {"vni": 77, "local": C},
        (
            passes(OUTSIDE, _vxlan(B, C, WEB), WEB),
            dropped(OUTSIDE, _vxlan(B, C, WEB, vni=78)),
            dropped(OUTSIDE, _vxlan(B, A, WEB)),
            dropped(OUTSIDE, WEB),
            passes(INSIDE, WEB),
        ),
    ),
    Vector(
        "mirror",
        "a copy behind the packet",
        {"rules": [{"dst_port": 53, "protocol": "udp"}]},
        (
            Exchange(INSIDE, DNS_QUERY, ((OUTSIDE, DNS_QUERY), ("mirror", DNS_QUERY))),
            passes(INSIDE, WEB),
            passes(OUTSIDE, DNS_QUERY),
            dropped("mirror", WEB),
        ),
        ports=(INSIDE, OUTSIDE, "mirror"),
    ),
    Vector(
        "label_filter",
        "by the packet's label, 0 without",
        {"rules": [{"label": 21, "action": "deny"}], "default": "permit"},
        (
            dropped(INSIDE, WEB, label=21),
            passes(INSIDE, WEB, label=22, label_out=22),
            passes(OUTSIDE, WEB),
        ),
    ),
)

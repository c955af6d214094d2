"""The tag: NSH (RFC 8300), MD type 1, next protocol Ethernet, behind an outer Ethernet header.

38 bytes in front of the whole original frame.
Context words: [0] FlowTag = traffic class (16) | flow (16: a hash of addresses, protocol and ports as
they were at the ingress), [1] trajectory label, [2] NF context labels, [3] ingress timestamp (us, the
ingress switch's clock).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

ETHERTYPE_NSH = 0x894F
TAG_BYTES = 38
INITIAL_TTL = 63
_TAG = struct.Struct(
    "!6s6sHHBBIIIII"
)  # Ethernet; base header: ver..length, MD type, next; path; words
_NEXT_ETHERNET = 3
EXPERIMENT = 0x88B5
"""An EtherType of no protocol (IEEE 802, 9.2.3)."""
OAM = 0x2000
"""The O bit of the base header: a packet of the managers', of which no NF hears (RFC 8300, 2.2)."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag. MACs and SPI are integers; `label` and `ingress_us` are 32-bit."""

    dst_mac: int
    src_mac: int
    spi: int
    si: int
    ttl: int = INITIAL_TTL
    traffic_class: int = 0
    flow: int = 0
    label: int = 0
    nf_labels: int = 0
    ingress_us: int = 0
    oam: int = 0


def encode(tag: Tag, frame: bytes) -> bytes:
    """The tag and, unchanged, the frame."""
    return (
        _TAG.pack(
            tag.dst_mac.to_bytes(6, "big"),
            tag.src_mac.to_bytes(6, "big"),
            ETHERTYPE_NSH,
            tag.ttl << 6 | 6 | (OAM if tag.oam else 0),
            1,
            _NEXT_ETHERNET,
            tag.spi << 8 | tag.si,
            tag.traffic_class << 16 | tag.flow,
            tag.label,
            tag.nf_labels,
            tag.ingress_us,
        )
        + frame
    )


def marker(dst_mac: int, src_mac: int, number: int, path: int) -> bytes:
    """What comes behind the last packet of a path: it says the transfer's number and the path's.

    A frame is in it as in every tag (switches parse it), of no host and of a kind for experiments.
    """
    frame = bytes(12) + EXPERIMENT.to_bytes(2, "big") + bytes(8)
    frame_out = bytearray(encode(Tag(dst_mac, src_mac, 0, 0, oam=1), frame))
    frame_out[22:30] = number.to_bytes(4, "big") + path.to_bytes(4, "big")
    return bytes(frame_out)


def decode(data: bytes) -> tuple[Tag, bytes] | None:
    """Tag and original frame; None when it is no well-formed MD type 1 Ethernet tag."""
    if len(data) < TAG_BYTES:
        return None
    dst, src, ether_type, base, md_type, protocol, path, flow_tag, label, labels, stamp = (
        _TAG.unpack_from(data)
    )
    well_formed = (
        ether_type == ETHERTYPE_NSH
        and base >> 14 == 0
        and base & 0x3F == 6
        and md_type & 0x0F == 1
        and protocol == _NEXT_ETHERNET
    )
    if not well_formed:
        return None
    tag = Tag(
        dst_mac=int.from_bytes(dst, "big"),
        src_mac=int.from_bytes(src, "big"),
        spi=path >> 8,
        si=path & 0xFF,
        ttl=base >> 6 & 0x3F,
        traffic_class=flow_tag >> 16,
        flow=flow_tag & 0xFFFF,
        label=label,
        nf_labels=labels,
        ingress_us=stamp,
        oam=base >> 13 & 1,
    )
    return tag, data[TAG_BYTES:]

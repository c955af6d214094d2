"""Frames in words, and words into frames (`--packet`, `--from h1 --to h2:80`)."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.clients.words import PROTOCOLS
from orchestrator.errors import InputError, quoted, unknown
from orchestrator.model import ids
from orchestrator.model.checksums import internet_checksum
from orchestrator.model.headers import Malformed, layout_of
from orchestrator.model.packet import Packet
from orchestrator.model.topology import Host, IpAddress, Topology
from servernf.wire.addresses import GATEWAY_MAC, mac_text, parse_ip, parse_mac
from servernf.wire.nsh import decode

SYNTAX = (
    "a frame in hex, or 'tcp 10.0.1.11:40000 > 198.51.100.13:80' and then any of ttl=, flags=, "
    "id=, vlan=, payload=, smac=, dmac="
)
_SOURCE_PORT = 40_000
_SOURCE_MAC = 0x0A0000000001
_HEX = re.compile(r"(0x)?([0-9a-fA-F]{2}[\s:]?){14,}")
_DEFAULT_PORT = {"tcp": 80, "udp": 5000}
_OPTIONS = ("ttl", "flags", "id", "vlan", "payload", "smac", "dmac")
_FLAG_BITS = "FSRPAUEC"
_CHECKSUM_AT = {1: 2, 6: 16, 17: 6, 58: 2}
"""Offset of the checksum in an L4 header."""


@dataclass(frozen=True, slots=True)
class FrameText:
    """A frame in words: `tag` empty for an untagged one; `fields` by name."""

    tag: str
    summary: str
    fields: dict[str, str]


# -- frames to words ---------------------------------------------------------------------------


def untagged(frame: bytes) -> bytes:
    """The original frame without the network's tag."""
    decoded = decode(frame)
    return frame if decoded is None else decoded[1]


def frame_text(frame: bytes) -> FrameText:
    """A frame in words, its tag apart."""
    decoded = decode(frame)
    fields: dict[str, str] = {}
    tag = ""
    inner = frame
    if decoded is not None:
        nsh, inner = decoded
        graph = ids.PATH.graph(nsh.spi)
        tag = f"NSH SPI {nsh.spi} (graph {graph}) SI {nsh.si} to {mac_text(nsh.dst_mac)}"
        fields |= {
            "outer.dst": mac_text(nsh.dst_mac),
            "nsh.spi": str(nsh.spi),
            "nsh.si": str(nsh.si),
            "nsh.ttl": str(nsh.ttl),
            "nsh.class": str(nsh.traffic_class),
            "nsh.label": f"{nsh.label:#010x}",
        }
    summary, inner_fields = _inner(inner)
    return FrameText(tag, summary, fields | inner_fields)


def changes(before: bytes, after: bytes) -> tuple[str, ...]:
    """What differs between two frames, in words: `ip.src 10.0.1.11 -> 203.0.113.1`."""
    one, other = frame_text(before), frame_text(after)
    old, new = one.fields, other.fields
    told: list[str] = []
    if bool(one.tag) != bool(other.tag):
        told.append(f"the tag {other.tag}" if other.tag else "the tag taken off")
        old, new = _inner(untagged(before))[1], _inner(untagged(after))[1]
    told += [
        f"{name} {old.get(name, '-')} -> {new.get(name, '-')}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
    inner_before, inner_after = untagged(before), untagged(after)
    if not told and inner_before != inner_after:
        told.append("bytes beyond the headers shown")
    return tuple(told)


def _inner(frame: bytes) -> tuple[str, dict[str, str]]:
    if len(frame) < 14:
        return f"malformed frame of {len(frame)} bytes", {}
    try:
        layout_of(frame)
    except Malformed as error:
        return f"malformed: {error}", {}
    packet = Packet.parse(frame)
    fields = {"eth.dst": mac_text(packet.eth_dst), "eth.src": mac_text(packet.eth_src)}
    if packet.vlans:
        fields["vlan"] = ",".join(str(v) for v in packet.vlans)
    if not packet.version:
        fields["eth.type"] = f"{packet.ether_type:#06x}"
        kind = {0x0806: "arp"}.get(packet.ether_type, f"type {packet.ether_type:#06x}")
        return f"{kind} {fields['eth.src']} > {fields['eth.dst']}, {len(frame)} bytes", fields
    cls = ipaddress.IPv4Address if packet.version == 4 else ipaddress.IPv6Address
    src, dst = str(cls(packet.src)), str(cls(packet.dst))
    number = packet.protocol or 0
    protocol = PROTOCOLS.get(number, f"protocol {number}")
    fields |= {"ip.src": src, "ip.dst": dst, "ip.protocol": protocol, "ip.ttl": str(packet.ttl)}
    more = ""
    if packet.later_fragment:
        more = ", later fragment"
    elif packet.has_ports:
        fields |= {"l4.src": str(packet.src_port), "l4.dst": str(packet.dst_port)}
        src, dst = _joined(src, packet.src_port), _joined(dst, packet.dst_port)
        if packet.tcp_flags is not None:
            fields["tcp.flags"] = flags_text(packet.tcp_flags)
            more = f" [{fields['tcp.flags'] or 'no flags'}]"
    elif packet.is_icmp:
        fields["icmp.type"] = str(packet.icmp_type)
        more = f" type {packet.icmp_type}"
        if packet.icmp_id is not None:
            fields["icmp.id"] = str(packet.icmp_id)
            more += f" id {packet.icmp_id}"
    return f"{protocol} {src} > {dst}{more}, ttl {packet.ttl}, {len(frame)} bytes", fields


def _joined(address: str, port: int | None) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def flags_text(flags: int) -> str:
    """`SA` for SYN and ACK."""
    return "".join(letter for i, letter in enumerate(_FLAG_BITS) if flags >> i & 1)


# -- words to frames ---------------------------------------------------------------------------


def parse_packet(text: str) -> bytes:
    """A frame from hex or words (`SYNTAX`)."""
    compact = text.strip()
    if _HEX.fullmatch(compact):
        return bytes.fromhex(compact.removeprefix("0x").replace(":", ""))
    words = compact.split()
    if len(words) < 4 or words[2] != ">":
        raise InputError(f"--packet '{text}': {SYNTAX}")
    protocol = words[0]
    if protocol not in ("tcp", "udp", "icmp"):
        raise InputError(f"--packet: {unknown('protocol', protocol, ('tcp', 'udp', 'icmp'))}")
    source, source_port = _end(words[1])
    target, target_port = _end(words[3])
    if source.version != target.version:
        raise InputError(f"--packet: {source} and {target} are of different IP versions")
    options: dict[str, str] = {}
    joined = " ".join(words[4:])
    for name, value in re.findall(r"(\w+)=(\S+(?:\s+(?!\w+=)\S+)*)", joined):
        if name not in _OPTIONS:
            raise InputError(f"--packet: {unknown('option', name, _OPTIONS)}")
        options[name] = value
    return make_frame(
        protocol,
        source,
        target,
        source_port=source_port,
        target_port=target_port,
        source_mac=options.get("smac", mac_text(_SOURCE_MAC)),
        target_mac=options.get("dmac", mac_text(GATEWAY_MAC)),
        ttl=_int(options.get("ttl", "64"), "ttl", 255),
        identification=_int(options.get("id", "1"), "id", 0xFFFF),
        flags=options.get("flags", "S"),
        vlan=_int(options["vlan"], "vlan", 4095) if "vlan" in options else None,
        payload=options.get("payload", "").encode(),
    )


def make_frame(
    protocol: str,
    source: IpAddress,
    target: IpAddress,
    *,
    source_port: int | None = None,
    target_port: int | None = None,
    source_mac: str,
    target_mac: str,
    ttl: int = 64,
    identification: int = 1,
    flags: str = "S",
    vlan: int | None = None,
    payload: bytes = b"",
) -> bytes:
    """A frame with right lengths and checksums."""
    try:
        macs = parse_mac(target_mac).to_bytes(6, "big") + parse_mac(source_mac).to_bytes(6, "big")
    except ValueError as error:
        raise InputError(f"--packet: {error}") from None
    sport = _SOURCE_PORT if source_port is None else source_port
    dport = _DEFAULT_PORT.get(protocol, 0) if target_port is None else target_port
    if protocol == "tcp":
        if set(flags) - set(_FLAG_BITS):
            raise InputError(f"--packet: flags={flags}: letters of {_FLAG_BITS} are expected")
        bits = sum(1 << _FLAG_BITS.index(letter) for letter in set(flags))
        head = struct.pack("!HHIIBBHHH", sport, dport, identification, 0, 0x50, bits, 8192, 0, 0)
        number, l4 = 6, head + payload
    elif protocol == "udp":
        number, l4 = 17, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    else:
        number, kind = (1, 8) if source.version == 4 else (58, 128)
        l4 = struct.pack("!BBHHH", kind, 0, 0, identification, 0) + payload
    return _framed(macs, source, target, number, l4, ttl, identification, vlan)


def _framed(
    macs: bytes,
    source: IpAddress,
    target: IpAddress,
    protocol: int,
    l4: bytes,
    ttl: int = 64,
    identification: int = 1,
    vlan: int | None = None,
) -> bytes:
    """The L4 bytes with their checksum, in IP, in Ethernet."""
    pseudo = source.packed + target.packed + struct.pack("!II", len(l4), protocol)
    at = _CHECKSUM_AT[protocol]
    checksum = internet_checksum(l4 if protocol == 1 else pseudo + l4)
    if protocol == 17 and not checksum:
        checksum = 0xFFFF
    l4 = l4[:at] + checksum.to_bytes(2, "big") + l4[at + 2 :]
    if source.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(l4), identification, 0, ttl, protocol, 0)
        whole = head + source.packed + target.packed
        ip = whole[:10] + internet_checksum(whole).to_bytes(2, "big") + whole[12:]
        ether_type = 0x0800
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(l4), protocol, ttl) + source.packed + target.packed
        ether_type = 0x86DD
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return macs + tag + ether_type.to_bytes(2, "big") + ip + l4


def between_hosts(
    topology: Topology, source: str, target: str, *, ttl: int = 64, identification: int = 1
) -> bytes:
    """The frame that host `source` sends to `target`: `h2`, `h2:80`, `h2:53/udp`, an address; `/icmp`.

    `[address]:port` for IPv6; `h2/6` names the host's IPv6 address.
    """
    sender = topology.hosts.get(source)
    if sender is None:
        raise InputError(f"--from: {unknown('host', source, tuple(topology.hosts))}")
    place, slash, protocol = target.partition("/")
    version = 0
    if slash and protocol.startswith("6"):
        version = 6
        protocol = protocol[1:].lstrip("/")
    protocol = protocol or "tcp"
    if protocol not in ("tcp", "udp", "icmp"):
        raise InputError(f"--to {target}: {unknown('protocol', protocol, ('tcp', 'udp', 'icmp'))}")
    name, colon, port_text = place.partition(":")
    port: int | None = None
    if name in topology.hosts:
        addresses = _common(sender, topology.hosts[name], version)
        if addresses is None:
            raise InputError(f"--to {target}: {source} and {name} have no common IP version")
        ours, theirs = addresses
        port = _int(port_text, "port", 65535) if colon else None
    else:
        try:
            theirs, port = _end(place)
        except InputError:
            ends = (*topology.hosts, "an address")
            raise InputError(f"--to: {unknown('host', name, ends)}") from None
        ours_found = [a.ip for a in sender.addresses if a.version == theirs.version]
        if not ours_found:
            raise InputError(f"--to {target}: {source} has no IPv{theirs.version} address")
        ours = ours_found[0]
    return make_frame(
        protocol,
        ours,
        theirs,
        target_port=port,
        source_mac=mac_text(sender.mac),
        target_mac=mac_text(next_hop_mac(topology, sender, theirs)),
        ttl=ttl,
        identification=identification,
        payload=b"" if protocol == "tcp" else b"%08d" % identification,
    )


def next_hop_mac(topology: Topology, sender: Host, target: IpAddress) -> int:
    """The MAC that a host finds for an address: its neighbour's, or the gateway's."""
    for interface in sender.addresses:
        if target in interface.network:
            for host in topology.hosts.values():
                if any(a.ip == target for a in host.addresses):
                    return host.mac
    return GATEWAY_MAC


def answer_to(frame: bytes) -> bytes | None:
    """What the host that received a frame would answer; None when nothing."""
    try:
        layout_of(frame)
    except Malformed:
        return None
    packet = Packet.parse(frame)
    if not packet.version or packet.later_fragment:
        return None
    cls = ipaddress.IPv4Address if packet.version == 4 else ipaddress.IPv6Address
    source, target = cls(packet.dst), cls(packet.src)
    macs = frame[6:12] + frame[:6]
    if packet.is_tcp and packet.has_ports:
        flags = 0x12 if (packet.tcp_flags or 0) & 2 else 0x10
        ack = (packet.tcp_seq or 0) + 1 & 0xFFFFFFFF
        ports = (packet.dst_port or 0, packet.src_port or 0)
        l4 = struct.pack("!HHIIBBHHH", *ports, 1, ack, 0x50, flags, 8192, 0, 0)
    elif packet.protocol == 17 and packet.has_ports:
        answer = b"answer!!"
        l4 = struct.pack("!HHHH", packet.dst_port, packet.src_port, 8 + len(answer), 0) + answer
    elif packet.is_icmp and packet.icmp_type in (8, 128):
        kind = 0 if packet.version == 4 else 129
        l4 = struct.pack("!BBHHH", kind, 0, 0, packet.icmp_id or 0, 0) + packet.payload
    else:
        return None
    return _framed(macs, source, target, packet.protocol or 0, l4)


def header_of(
    topology: Topology | None = None, sender: Host | None = None
) -> Callable[[int, bytes], bytes]:
    """The Ethernet header that a host sends a packet with, by its EtherType and bytes.

    Without `sender` the host of the topology that has the source address sends it.
    """
    hosts = () if topology is None else tuple(topology.hosts.values())
    by_address = {a.ip: host for host in hosts for a in host.addresses}

    def header(ether_type: int, packet: bytes) -> bytes:
        ends = _ends(ether_type, packet)
        host = sender or (by_address.get(ends[0]) if ends else None)
        source = _SOURCE_MAC if host is None else host.mac
        target = GATEWAY_MAC
        if topology is not None and host is not None and ends:
            target = next_hop_mac(topology, host, ends[1])
        macs = target.to_bytes(6, "big") + source.to_bytes(6, "big")
        return macs + ether_type.to_bytes(2, "big")

    return header


def _ends(ether_type: int, packet: bytes) -> tuple[IpAddress, IpAddress] | None:
    """Source and destination of an IP packet."""
    if ether_type == 0x0800 and len(packet) >= 20:
        return ipaddress.IPv4Address(packet[12:16]), ipaddress.IPv4Address(packet[16:20])
    if ether_type == 0x86DD and len(packet) >= 40:
        return ipaddress.IPv6Address(packet[8:24]), ipaddress.IPv6Address(packet[24:40])
    return None


def _common(one: Host, other: Host, version: int) -> tuple[IpAddress, IpAddress] | None:
    for wanted in (version,) if version else (4, 6):
        ours = [a.ip for a in one.addresses if a.version == wanted]
        theirs = [a.ip for a in other.addresses if a.version == wanted]
        if ours and theirs:
            return ours[0], theirs[0]
    return None


def _end(text: str) -> tuple[IpAddress, int | None]:
    """`10.0.0.1:80`, `10.0.0.1`, `[2001:db8::1]:80`, `2001:db8::1`."""
    try:
        if text.startswith("["):
            inside, _, rest = text[1:].partition("]")
            port = _int(rest[1:], "port", 65535) if rest.startswith(":") else None
            return parse_ip(inside), port
        if text.count(":") == 1:
            address, _, port_text = text.partition(":")
            return parse_ip(address), _int(port_text, "port", 65535)
        return parse_ip(text), None
    except ValueError:
        raise InputError(
            f"{quoted(text)}: an address is expected, as 10.0.1.11:80 or [2001:db8::1]:80"
        ) from None


def _int(text: str, name: str, most: int) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise InputError(f"{name}={quoted(text)}: a number of 0..{most} is expected")
    return value

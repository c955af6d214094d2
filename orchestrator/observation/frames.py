"""Frames in words, and words into frames (`--packet`, `--from h1 --to h2:80`)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Scapy
from scapy.packet import Raw
from scapy.utils import PcapReader

from orchestrator.errors import InputError, unknown
from orchestrator.model.packet import Malformed, Packet, layout_of
from orchestrator.model.topology import Host, IpAddress, Topology
from orchestrator.observation.words import PROTOCOLS
from orchestrator.wire.addresses import GATEWAY_MAC, mac_text, parse_mac
from orchestrator.wire.nsh import decode, graph_of

SYNTAX = (
    "a frame in hex, or 'tcp 10.0.1.11:40000 > 198.51.100.13:80' and then any of ttl=, flags=, "
    "id=, vlan=, payload=, smac=, dmac="
)
_SOURCE_PORT = 40_000
_HEX = re.compile(r"(0x)?([0-9a-fA-F]{2}[\s:]?){14,}")
_DEFAULT_PORT = {"tcp": 80, "udp": 5000}
_OPTIONS = ("ttl", "flags", "id", "vlan", "payload", "smac", "dmac")
_FLAG_BITS = "FSRPAUEC"


@dataclass(frozen=True, slots=True)
class FrameText:
    """A frame in words: `tag` empty for an untagged one; `fields` by name."""

    tag: str
    summary: str
    fields: dict[str, str]


# -- frames to words ---------------------------------------------------------------------------


def untagged(frame: bytes) -> bytes:
    """The original frame without the network's tag."""
    found = decode(frame)
    return frame if found is None else found[1]


def frame_text(frame: bytes) -> FrameText:
    """A frame in words, its tag apart."""
    found = decode(frame)
    fields: dict[str, str] = {}
    tag = ""
    inner = frame
    if found is not None:
        nsh, inner = found
        tag = (
            f"NSH SPI {nsh.spi} (graph {graph_of(nsh.spi)}) SI {nsh.si} to {mac_text(nsh.dst_mac)}"
        )
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
    old, new = frame_text(before).fields, frame_text(after).fields
    told = [
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
        source_mac=options.get("smac", mac_text(0x0A0000000001)),
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
    for mac in (source_mac, target_mac):
        try:
            parse_mac(mac)
        except ValueError as error:
            raise InputError(f"--packet: {error}") from None
    frame: Scapy = Ether(src=source_mac, dst=target_mac)
    if vlan is not None:
        frame = frame / Dot1Q(vlan=vlan)
    if source.version == 4:
        frame = frame / IP(src=str(source), dst=str(target), ttl=ttl, id=identification)
    else:
        frame = frame / IPv6(src=str(source), dst=str(target), hlim=ttl)
    sport = _SOURCE_PORT if source_port is None else source_port
    dport = _DEFAULT_PORT.get(protocol, 0) if target_port is None else target_port
    if protocol == "tcp":
        if set(flags) - set(_FLAG_BITS):
            raise InputError(f"--packet: flags={flags}: letters of {_FLAG_BITS} are expected")
        frame = frame / TCP(sport=sport, dport=dport, flags=flags, seq=identification)
    elif protocol == "udp":
        frame = frame / UDP(sport=sport, dport=dport)
    elif source.version == 4:
        frame = frame / ICMP(id=identification)
    else:
        frame = frame / ICMPv6EchoRequest(id=identification)
    return bytes(frame / Raw(payload) if payload else frame)


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
            known = (*topology.hosts, "an address")
            raise InputError(f"--to: {unknown('host', name, known)}") from None
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
        payload=b"" if protocol == "tcp" else b"explain!",
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
    packet = Ether(frame)
    head = Ether(src=packet.dst, dst=packet.src)
    ip = packet.getlayer(IP) or packet.getlayer(IPv6)
    if ip is None or packet.haslayer(ARP):
        return None
    back = type(ip)(src=ip.dst, dst=ip.src)
    if TCP in packet:
        tcp = packet[TCP]
        wanted = "SA" if tcp.flags.S else "A"
        body = TCP(sport=tcp.dport, dport=tcp.sport, flags=wanted, seq=1, ack=tcp.seq + 1)
    elif UDP in packet:
        body = UDP(sport=packet[UDP].dport, dport=packet[UDP].sport) / Raw(b"answer!!")
    elif ICMP in packet and packet[ICMP].type == 8:
        body = ICMP(type=0, id=packet[ICMP].id, seq=packet[ICMP].seq)
    elif ICMPv6EchoRequest in packet:
        body = ICMPv6EchoReply(id=packet[ICMPv6EchoRequest].id)
    else:
        return None
    return bytes(head / back / body)


def read_pcap(path: Path, limit: int) -> list[bytes]:
    """The first frames of a capture."""
    frames: list[bytes] = []
    try:
        with PcapReader(str(path)) as reader:
            for packet in reader:
                frames.append(bytes(packet))
                if len(frames) >= limit:
                    break
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--pcap {path}: {error}") from error
    except Exception as error:  # scapy's own, of no common class
        raise InputError(f"--pcap {path}: not a capture ({error})") from error
    if not frames:
        raise InputError(f"--pcap {path}: there is no packet in it")
    return frames


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
            return ipaddress.ip_address(inside), port
        if text.count(":") == 1:
            address, _, port_text = text.partition(":")
            return ipaddress.ip_address(address), _int(port_text, "port", 65535)
        return ipaddress.ip_address(text), None
    except ValueError:
        raise InputError(
            f"'{text}': an address is expected, as 10.0.1.11:80 or [2001:db8::1]:80"
        ) from None


def _int(text: str, name: str, most: int) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise InputError(f"{name}={text}: a number of 0..{most} is expected")
    return value

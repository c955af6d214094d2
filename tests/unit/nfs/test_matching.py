"""Matches against a plain reading of their meaning; ClassBench files, also the real ones."""

from __future__ import annotations

import ipaddress
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix
from orchestrator.model.packet import Packet
from orchestrator.nfs.acl import AclConfig
from orchestrator.nfs.classbench import parse_rule
from orchestrator.nfs.files import Files
from orchestrator.nfs.matching import MatchFields, matches, mirrored
from orchestrator.nfs.values import impossible, match_json, parse_prefix
from orchestrator.oracle.packets import HeaderFields
from orchestrator.oracle.world import Station
from servernf.python.match import Headers as ServerHeaders
from servernf.python.match import MatchCondition
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields as FieldReader

CLASSBENCH = Path(__file__).resolve().parents[4] / "shared" / "data" / "classbench"
SENDER = Station("h1", 0x0A_00_00_00_00_01, ())

prefixes = st.builds(
    lambda value, length: parse_prefix(f"{ipaddress.ip_address(value)}/{length}", strict=False),
    st.integers(0x0A000000, 0x0A00000F),
    st.integers(24, 32),
)
ranges = st.builds(
    lambda a, b: PortRange(min(a, b), max(a, b)), st.integers(0, 5), st.integers(0, 5)
)
match_st = st.builds(
    Match,
    ether_type=st.sampled_from([None, None, 0x0800, 0x86DD]),
    version=st.sampled_from([None, 4, 6]),
    src=st.none() | prefixes,
    dst=st.none() | prefixes,
    protocol=st.sampled_from([None, 6, 17, 1]),
    src_port=st.none() | ranges,
    dst_port=st.none() | ranges,
    tcp_flags=st.sampled_from([None, (2, 2), (0, 2), (0x10, 0x12)]),
    later_fragment=st.sampled_from([None, True, False]),
    icmp_type=st.sampled_from([None, None, 0, 8]),
    icmp_code=st.sampled_from([None, None, 0, 3]),
    vlan=st.sampled_from([None, None, 0, 5, UNTAGGED]),
)
fields = st.builds(
    HeaderFields,
    version=st.just(4),
    src=st.integers(0x0A000000, 0x0A00000F),
    dst=st.integers(0x0A000000, 0x0A00000F),
    protocol=st.sampled_from([6, 17, 1, 47]),
    src_port=st.integers(0, 5),
    dst_port=st.integers(0, 5),
    flags=st.sampled_from([2, 0x12, 0x10]),
    offset=st.sampled_from([0, 0, 8]),
    icmp=st.sampled_from([(0, 0), (8, 0), (8, 3), (13, 0)]),
    vlans=st.sampled_from([(), (5,), (0xE005, 7), (7, 5), (0x2000,)]),
)


def inside(prefix: Prefix, address: int) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(str(prefix))


@given(match_st, fields)
def test_a_match_is_the_conjunction_of_its_conditions(match: Match, packet: HeaderFields) -> None:
    has_ports = packet.protocol in (6, 17) and packet.offset == 0
    icmp = packet.icmp if packet.protocol == 1 and packet.offset == 0 else None
    conditions = [
        match.ether_type in (None, 0x0800),
        match.version in (None, 4),
        match.src is None or inside(match.src, packet.src),
        match.dst is None or inside(match.dst, packet.dst),
        match.protocol in (None, packet.protocol),
        match.src_port is None
        or (has_ports and match.src_port.low <= packet.src_port <= match.src_port.high),
        match.dst_port is None
        or (has_ports and match.dst_port.low <= packet.dst_port <= match.dst_port.high),
        match.tcp_flags is None
        or (
            packet.protocol == 6
            and packet.offset == 0
            and packet.flags & match.tcp_flags[1] == match.tcp_flags[0]
        ),
        match.later_fragment in (None, packet.offset > 0),
        match.icmp_type is None or (icmp is not None and icmp[0] == match.icmp_type),
        match.icmp_code is None or (icmp is not None and icmp[1] == match.icmp_code),
        match.vlan in (None, packet.vlans[0] & 0xFFF if packet.vlans else UNTAGGED),
    ]
    frame = packet.frame(SENDER)
    assert matches(match, Packet.parse(frame)) == all(conditions)
    if impossible(match) is None:  # what a server's NFs make of it
        view = PacketView()
        assert view.load(frame)
        condition = MatchCondition.read(FieldReader("rule", match_json(match)))
        assert condition.holds(ServerHeaders.of(view)) == all(conditions)


@given(match_st)
def test_a_match_survives_json(match: Match) -> None:
    if impossible(match) is None:
        assert MatchFields.model_validate(match_json(match)).to_match() == match
        return
    with pytest.raises(ValueError, match="can never match"):
        MatchFields.model_validate(match_json(match))


@given(match_st)
def test_mirrored_twice_is_the_same(match: Match) -> None:
    assert mirrored(mirrored(match)) == match


@pytest.mark.parametrize("vlan", [-1, 4095, "guest", True, "4095"])
def test_what_is_no_vlan_is_told(vlan: object) -> None:
    with pytest.raises(ValueError, match="is not a VLAN ID or 'none'"):
        MatchFields.model_validate({"vlan": vlan})


def test_arp_meets_no_condition_on_ip() -> None:
    arp = Packet.parse(bytes(12) + b"\x08\x06" + bytes(28))
    assert matches(Match(ether_type=0x0806), arp)
    assert matches(Match(), arp)
    for match in (Match(version=4), Match(protocol=0), Match(later_fragment=False)):
        assert not matches(match, arp)
    assert not matches(Match(src=parse_prefix("0.0.0.0/0")), arp)


# ClassBench


def test_a_rule() -> None:
    match = parse_rule("@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t80 : 90\t0x06/0xFF\t0x1000/0x1000\t")
    assert match == Match(
        version=4,
        src=parse_prefix("10.0.0.0/8"),
        protocol=6,
        dst_port=PortRange(80, 90),
        tcp_flags=(0x10, 0x10),
    )


@pytest.mark.parametrize(
    ("column", "asked"),
    [("0x0d00/0xff00", (13, None)), ("0x0301/0xffff", (3, 1)), ("0x0004/0x00ff", (None, 4))],
)
def test_a_rule_on_icmp(column: str, asked: tuple[int | None, int | None]) -> None:
    match = parse_rule(f"@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x01/0xFF\t{column}")
    assert match == Match(version=4, protocol=1, icmp_type=asked[0], icmp_code=asked[1])


@pytest.mark.parametrize(
    ("line", "column", "text"),
    [
        ("10.0.0.0/8", 1, "begins with '@'"),
        ("@10.0.0.0/40 0.0.0.0/0 0 : 1 0 : 1 0x06/0xFF", 2, "length must be 0 to 32"),
        ("@::/0 0.0.0.0/0 0 : 1 0 : 1 0x06/0xFF", 2, "are IPv4"),
        ("@0.0.0.0/0 0.0.0.0/0 0 - 1 0 : 1 0x06/0xFF", 22, "expected a source port range"),
        ("@0.0.0.0/0 0.0.0.0/0 0 : 1 9 : 1 0x06/0xFF", 28, "not a range of ports"),
        ("@0.0.0.0/0 0.0.0.0/0 0 : 1 0 : 1 6", 34, "expected a protocol/mask"),
        ("@0.0.0.0/0 0.0.0.0/0 0 : 1 0 : 1 0x06/0x0F", 34, "protocol mask"),
        ("@0.0.0.0/0 0.0.0.0/0 0 : 1 0 : 1 0x01/0xFF 0x0300/0xf000", 44, "the whole type"),
        ("@0.0.0.0/0 0.0.0.0/0 0 : 1 0 : 1 0x11/0xFF 0x0300/0xff00", 44, "flags of protocol 17"),
        ("@0.0.0.0/0 0.0.0.0/0 0 : 1 0 : 1 0x06/0xFF 0x0000/0x0000 x", 58, "unexpected 'x'"),
    ],
)
def test_bad_lines_say_where(line: str, column: int, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        parse_rule(line)
    assert getattr(caught.value, "column", None) == column


@pytest.mark.skipif(not CLASSBENCH.is_dir(), reason=f"no data in {CLASSBENCH}")
@pytest.mark.parametrize(
    ("name", "rules", "on_icmp"),
    [("acl1_1k", 942, 0), ("fw1_1k", 857, 30), ("ipc1_1k", 974, 12)],
)
def test_real_files_load(name: str, rules: int, on_icmp: int) -> None:
    config = AclConfig(rules_file=f"{name}.rules").with_files(Files(CLASSBENCH))
    assert len(config.all_rules) == rules
    assert sum(match.icmp_type is not None for match, _, _ in config.all_rules) == on_icmp


@pytest.mark.skipif(not CLASSBENCH.is_dir(), reason=f"no data in {CLASSBENCH}")
def test_ten_thousand_real_rules_load_fast() -> None:
    start = time.process_time()
    config = AclConfig(rules_file="acl1_10k.rules").with_files(Files(CLASSBENCH))
    seconds = time.process_time() - start
    assert len(config.all_rules) == 9774
    assert config.all_rules[11][2] == "acl1_10k.rules:12"
    assert seconds < 1

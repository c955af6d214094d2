"""classify: first segment and graph, by rule; what nobody asked for is dropped."""

from __future__ import annotations

from edge_switch import GRAPH, HOST_PORT, EdgeSwitch, ether, ip_number, segment
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP

from orchestrator.model.entries import Between, Lpm, Ternary

WEB, REST, SIX, ARPS = (segment(n) for n in (1, 2, 3, 4))
PORTS = {WEB: 11, REST: 12, SIX: 13, ARPS: 14}


def classifier() -> EdgeSwitch:
    switch = EdgeSwitch()
    for at, port in PORTS.items():
        switch.deliver_all(at, port)

    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 0})

    def enter(table: str, to: int, priority: int, **keys: Ternary | Between) -> None:
        switch.enter(table, to, keys, priority=priority)

    inside = Ternary(ip_number("10.0.1.0"), 0xFFFFFF00)
    tcp, ports = Ternary(6, 255), Ternary(1, 3)
    enter("ipv4", WEB, 3, src=inside, protocol=tcp, l4=ports, dst_port=Between(80, 81))
    enter("ipv4", REST, 2, src=inside)
    enter("ipv6", SIX, 2, src=Ternary(ip_number("2001:db8::"), (2**32 - 1) << 96))
    enter("other", ARPS, 2, ether_type=Ternary(0x0806, 0xFFFF))
    return switch


def left(switch: EdgeSwitch, payload: object) -> list[int]:
    return [port for port, _ in switch.send(ether(payload))]  # type: ignore[arg-type]


def test_each_frame_enters_its_first_segment() -> None:
    switch = classifier()
    assert left(switch, IP(src="10.0.1.9", dst="8.8.8.8") / TCP(dport=80)) == [11]
    assert left(switch, IP(src="10.0.1.9", dst="8.8.8.8") / TCP(dport=81)) == [11]
    assert left(switch, IP(src="10.0.1.9", dst="8.8.8.8") / TCP(dport=82)) == [12]
    assert left(switch, IP(src="10.0.1.9", dst="8.8.8.8") / UDP(dport=80)) == [12]
    assert left(switch, IPv6(src="2001:db8::5", dst="2001:db8:2::1") / UDP()) == [13]
    assert left(switch, ARP(pdst="10.0.1.77")) == [14]


def test_a_later_fragment_is_not_of_a_port() -> None:
    switch = classifier()
    later = IP(src="10.0.1.9", dst="8.8.8.8", proto=6, frag=100) / bytes(TCP(dport=80))
    assert left(switch, later) == [12]


def test_what_no_graph_asked_for_is_dropped() -> None:
    switch = classifier()
    assert left(switch, IP(src="10.0.2.9", dst="8.8.8.8") / TCP(dport=80)) == []
    assert left(switch, IPv6(src="2001:db9::5", dst="2001:db8:2::1") / UDP()) == []
    assert switch.send(bytes(ether(b"x" * 50))) == []
    assert switch.send(ether(IP(src="10.0.1.9") / TCP(dport=80)), 2) == [], "another port"


def test_the_tag_names_the_graph() -> None:
    """SPI of the sample of a frame that was just classified: graph, path 0."""
    switch = classifier()
    switch.add(
        "trajectory_sample.manifests",
        {"graph": GRAPH},
        "watch",
        {"key0": 1, "key1": 2, "below": 2**32 - 1},
    )
    switch.one(ether(IP(src="10.0.1.9", dst="8.8.8.8") / UDP(dport=80)))
    (sample,) = switch.soft.packet_ins
    values = {m.metadata_id: int.from_bytes(m.value, "big") for m in sample.metadata}
    assert GRAPH << 14 in values.values()


def test_one_entry_puts_another_version_in_force() -> None:
    switch = EdgeSwitch()
    for at, port in PORTS.items():
        switch.deliver_all(at, port)
    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 2})
    old, new = IP(dst="8.8.8.8") / TCP(dport=80), IP(dst="8.8.8.8") / TCP(dport=81)
    switch.enter("ipv4", WEB, {"dst_port": Between(80, 80)}, epoch=2)
    switch.enter("ipv4", REST, {"dst_port": Between(81, 81)}, epoch=3)
    assert [left(switch, old), left(switch, new)] == [[11], []], (
        "admitted, but by the other version"
    )
    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 3}, modify=True)
    assert [left(switch, old), left(switch, new)] == [[], [12]]


def test_a_graph_without_a_version_in_force_takes_nothing() -> None:
    switch = EdgeSwitch()
    switch.deliver_all(REST, 12)
    switch.enter("ipv4", REST)
    assert left(switch, IP(dst="8.8.8.8") / TCP()) == []
    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 0})
    assert left(switch, IP(dst="8.8.8.8") / TCP()) == [12]


def guarded(table: str, own: str, bits: int) -> EdgeSwitch:
    """The host's own address is allowed, all others have an entry that refuses them."""
    switch = EdgeSwitch()
    switch.deliver_all(REST, 12)
    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 0})
    switch.enter(table, REST, guarded=True)
    at = {"graph": GRAPH, "epoch": 0, "ingress_port": HOST_PORT}
    switch.add(f"classify.sources_{table}", {**at, "src": Lpm(ip_number(own), bits)}, "allow")
    switch.add(f"classify.sources_{table}", at, "refuse")
    return switch


def test_a_host_cannot_send_from_anothers_address() -> None:
    switch = guarded("ipv4", "10.0.1.9", 32)
    assert left(switch, IP(src="10.0.1.9", dst="8.8.8.8") / UDP()) == [12]
    for source in ("10.0.1.8", "8.8.8.8", "0.0.0.0", "127.0.0.1", "255.255.255.255"):
        assert left(switch, IP(src=source, dst="8.8.8.8") / UDP()) == [], source
    later = IP(src="10.0.1.8", dst="8.8.8.8", proto=6, frag=100) / bytes(TCP(dport=80))
    assert left(switch, later) == []
    assert switch.hits("classify.sources_ipv4") == 7, "what is refused is counted"


def test_the_same_for_ipv6() -> None:
    switch = guarded("ipv6", "2001:db8::9", 128)
    assert left(switch, IPv6(src="2001:db8::9", dst="2001:db8:2::1") / UDP()) == [12]
    for source in ("2001:db8::8", "fe80::9", "::", "::1"):
        assert left(switch, IPv6(src=source, dst="2001:db8:2::1") / UDP()) == [], source


def test_another_version_may_allow_other_sources() -> None:
    switch = guarded("ipv4", "10.0.1.9", 32)
    switch.enter("ipv4", WEB, epoch=1)
    switch.deliver_all(WEB, 11)
    spoofed = IP(src="10.0.1.8", dst="8.8.8.8") / UDP()
    assert left(switch, spoofed) == []
    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 1}, modify=True)
    assert left(switch, spoofed) == [11]


def test_without_an_entry_no_source_is_allowed() -> None:
    switch = EdgeSwitch()
    switch.deliver_all(REST, 12)
    switch.add("classify.epoch", {"graph": GRAPH}, "run", {"epoch": 0})
    switch.enter("ipv4", REST, guarded=True)
    assert left(switch, IP(src="10.0.1.9", dst="8.8.8.8") / UDP()) == []

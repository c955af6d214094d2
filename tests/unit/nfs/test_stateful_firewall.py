"""stateful_firewall: what opens a connection, what belongs to one, and for how long."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nf_bench import Bench, Both, ether
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP
from scapy.packet import Raw
from tcp_talk import Sent, TcpTalk

from orchestrator.errors import InputError
from orchestrator.model.elements import FilterProgram
from orchestrator.nfs.files import Files
from orchestrator.nfs.stateful_firewall import FirewallConfig

pytestmark = pytest.mark.slow

IN, OUT = "10.0.1.11", "198.51.100.13"
IN6, OUT6 = "2001:db8:1::11", "2001:db8:2::13"


def firewall(**config: Any) -> Bench:
    return Bench("stateful_firewall", {"rules": [{"action": "permit"}], **config})


def numbers(flags: str) -> dict[str, Any]:
    """Those of a connection that begins at 0."""
    return {"flags": flags, "seq": "S" not in flags, "ack": "A" in flags}


def there(flags: str = "A", sport: int = 1000) -> Any:
    return IP(src=IN, dst=OUT) / TCP(sport=sport, dport=80, **numbers(flags))


def back(flags: str = "A", sport: int = 1000) -> Any:
    return IP(src=OUT, dst=IN) / TCP(sport=80, dport=sport, **numbers(flags))


def talk(**isn: int) -> TcpTalk:
    return TcpTalk((IN, 1000, OUT, 80), (OUT, 80, IN, 1000), **isn)


def query(sport: int = 1000, **ip: Any) -> Any:
    return IP(src=IN, dst=OUT, **ip) / UDP(sport=sport, dport=53) / Raw(bytes(16))


def answer(sport: int = 1000, **ip: Any) -> Any:
    return IP(src=OUT, dst=IN, **ip) / UDP(sport=53, dport=sport) / Raw(bytes(16))


def connect(bench: Bench) -> None:
    for port, packet in (("inside", there("S")), ("outside", back("SA")), ("inside", there())):
        assert bench.passes(port, packet)
    assert bench.passes("outside", back())


def test_an_answer_passes_and_a_stranger_does_not() -> None:
    bench = firewall()
    assert not bench.passes("outside", answer())
    assert bench.passes("inside", query())
    left = bench.send("outside", answer())
    assert left is not None
    assert left[0] == "inside"
    assert not bench.passes("outside", answer(sport=1001))


def test_rules_judge_what_is_new() -> None:
    bench = firewall(rules=[{"action": "permit", "protocol": "tcp", "dst_port": 80}])
    assert bench.passes("inside", there("S"))
    assert not bench.passes("inside", query()), "the default denies"
    bench = firewall(
        rules=[{"action": "deny", "protocol": "udp"}],
        default="permit",
        inbound_rules=[{"action": "permit", "dst": IN + "/32", "protocol": "tcp", "dst_port": 22}],
    )
    assert bench.passes("inside", there("S"))
    assert not bench.passes("inside", query())
    shell = IP(src=OUT, dst=IN) / TCP(sport=5, dport=22, flags="S")
    assert bench.passes("outside", shell)
    reply = TCP(sport=22, dport=5, flags="SA", ack=1)
    assert bench.passes("inside", IP(src=IN, dst=OUT) / reply)
    assert not bench.passes("outside", back("S", 9)), "default 'permit' is not for the outside"


@pytest.mark.parametrize("flags", ["A", "SA", "R", "F", "SF", "SR", ""])
def test_only_a_syn_opens_tcp(flags: str) -> None:
    bench = firewall()
    assert not bench.passes("inside", there(flags))
    assert bench.passes("inside", there("S"))


def test_tcp_times() -> None:
    bench = firewall()
    bench.passes("inside", there("S"))
    bench.wait(59.9)
    assert bench.passes("outside", back("SA"))
    bench.wait(60)
    assert not bench.passes("inside", there()), "transitory until both SYNs are acknowledged"
    for port, packet in talk().handshake():
        assert bench.passes(port, packet)
    bench.wait(7439)
    connection = talk(client=1001, server=5001)
    assert bench.passes("outside", connection.outside())
    bench.wait(7440)
    assert not bench.passes("outside", connection.outside())


def test_a_closed_connection_passes_for_a_while_and_is_opened_by_the_rules_only() -> None:
    bench, tcp = firewall(), talk()
    for port, packet in tcp.handshake():
        assert bench.passes(port, packet)
    assert bench.passes("inside", tcp.inside("FA"))
    bench.wait(3000)
    assert bench.passes("outside", tcp.outside("FA")), "half closed is established"
    bench.wait(40)
    assert bench.passes("inside", tcp.inside()), "the last acknowledgement"
    assert not bench.passes("outside", talk().outside("S")), "no rule lets the outside open anew"
    bench.wait(59)
    assert bench.passes("outside", tcp.outside("R", seq=0)), "ignored, and so refreshes nothing"
    bench.wait(1)
    assert not bench.passes("inside", tcp.inside())


def test_a_connection_is_opened_anew_when_the_other_side_answers() -> None:
    bench, tcp = firewall(), talk()
    for port, packet in tcp.handshake():
        bench.passes(port, packet)
    again = talk(client=700_000, server=9)
    assert bench.passes("inside", again.inside("S")), "answered by a challenge"
    assert bench.passes("inside", tcp.inside("PA", b"data")), "so the old one goes on"
    assert bench.passes("outside", again.outside("SA"))
    assert bench.passes("inside", again.inside())
    assert bench.passes("outside", tcp.outside("PA", b"data")), (
        "an old one's: its receiver ignores it"
    )
    assert not bench.passes("outside", talk(server=7).outside("S")), "no rule lets it in"


def test_a_forged_reset_does_not_cut_a_living_connection() -> None:
    bench, tcp = firewall(), talk()
    for port, packet in tcp.handshake():
        bench.passes(port, packet)
    assert bench.passes("outside", tcp.outside("R", seq=0)), "for its receiver to ignore"
    wrong = tcp.outside("R")
    wrong[TCP].chksum = 1
    assert bench.passes("outside", wrong)
    bench.wait(7000)
    assert bench.passes("inside", tcp.inside("PA", b"still here"))
    assert bench.passes("outside", tcp.outside("RA"))
    bench.wait(59)
    assert bench.passes("inside", tcp.inside()), "transitory, but not cut"
    bench.wait(59)
    assert bench.passes("outside", tcp.outside()), "so it has not reset (RFC 6146, 3.5.2.2)"
    bench.wait(7000)
    assert bench.passes("outside", tcp.outside("RA"))
    bench.wait(60)
    assert not bench.passes("outside", tcp.outside())


def test_a_first_fragment_of_tcp_changes_nothing() -> None:
    bench, tcp = firewall(), talk()
    opening = talk().inside("S", bytes(64))
    assert not bench.passes("inside", fragment(opening, 32)[0])
    for port, packet in tcp.handshake():
        bench.passes(port, packet)
    bench.wait(7000)
    for piece in fragment(tcp.inside("PA", bytes(64)), 32):
        assert bench.passes("inside", piece)
    bench.wait(440)
    assert not bench.passes("inside", tcp.inside()), "they refresh nothing"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ends", [(IN, OUT), (IN6, OUT6)])
@pytest.mark.slow
def test_lives_of_connections(seed: int, ends: tuple[str, str]) -> None:
    """Whole connections and what strangers make up, in the reference and the workers' runtime."""
    rng = random.Random(seed)
    both = Both(
        "stateful_firewall",
        rules=[{"action": "permit"}],
        inbound_rules=[{"action": "permit", "dst_port": 1001}],
        max_connections=3,
        timeouts_s={"tcp_established": 600},
    )
    counts = {0: 0, 1: 0}
    lives: list[Iterator[Sent]] = []
    for _ in range(1500):
        if len(lives) < 5:
            port = rng.randrange(1000, 1004)
            ways = (ends[0], port, ends[1], 80), (ends[1], 80, ends[0], port)
            isn = {"client": rng.getrandbits(32), "server": 2**32 - 20}
            lives.append(TcpTalk(*ways, **isn).life(rng))
        sent = next(life := rng.choice(lives), None)
        if sent is None:
            lives.remove(life)
            continue
        counts[len(both.send(sent[0], ether(sent[1])))] += 1
        both.now_us += rng.choice((0, 0, 0, 1_000_000, 30_000_000, 90_000_000))
    assert min(counts.values()) > 150, counts


@pytest.mark.parametrize("version", [4, 6])
def test_a_flood_leaves_the_others_their_connections(version: int) -> None:
    """Sources count by address, in IPv6 by their /64."""
    server, hosts = (OUT, "10.0.2.{}") if version == 4 else (OUT6, "2001:db8:9::{:x}")
    client = IN if version == 4 else IN6
    both = Both("stateful_firewall", rules=[{"action": "permit"}], max_connections=20)
    tcp = TcpTalk((client, 1000, server, 80), (server, 80, client, 1000))
    for port, packet in tcp.handshake():
        assert both.send(port, ether(packet))
    quiet = (
        (IP if version == 4 else IPv6)(src=client, dst=server) / UDP(sport=7, dport=7) / bytes(8)
    )
    both.send("inside", ether(quiet))
    for number in range(1, 200):
        flooder = hosts.format(1 if version == 4 else number)
        flow = TcpTalk((flooder, number, server, 80), (server, 80, flooder, number))
        kinds = flow.handshake() if number % 2 else iter([("inside", flow.inside("S"))])
        for port, packet in kinds:
            both.send(port, ether(packet))
    assert both.runtime.metrics()["connections"] == 20
    both.now_us += 59_000_000
    assert both.send("inside", ether(tcp.inside("PA", b"data")))
    assert both.send("outside", ether(tcp.outside("A")))


def test_udp_and_icmp_times() -> None:
    bench = firewall(timeouts_s={"udp": 10, "icmp": 5})
    bench.passes("inside", query())
    bench.wait(9)
    assert bench.passes("outside", answer())
    bench.wait(9)
    assert bench.passes("outside", answer()), "both sides refresh"
    bench.wait(10)
    assert not bench.passes("outside", answer())
    bench.passes("inside", IP(src=IN, dst=OUT) / ICMP(type=8, id=7))
    bench.wait(5)
    assert not bench.passes("outside", IP(src=OUT, dst=IN) / ICMP(type=0, id=7))


def test_echo_belongs_to_the_side_that_asks() -> None:
    bench = firewall()
    assert not bench.passes("inside", IP(src=IN, dst=OUT) / ICMP(type=0, id=7))
    assert bench.passes("inside", IP(src=IN, dst=OUT) / ICMP(type=8, id=7))
    assert bench.passes("outside", IP(src=OUT, dst=IN) / ICMP(type=0, id=7))
    assert not bench.passes("outside", IP(src=OUT, dst=IN) / ICMP(type=0, id=8))
    assert not bench.passes("outside", IP(src=OUT, dst=IN) / ICMP(type=8, id=7))
    six = IPv6(src=IN6, dst=OUT6) / ICMPv6EchoRequest(id=7)
    assert bench.passes("inside", six)
    assert bench.passes("outside", IPv6(src=OUT6, dst=IN6) / ICMPv6EchoReply(id=7))


def test_icmp_errors_follow_what_they_quote() -> None:
    bench = firewall()
    error = IP(src="192.0.2.1", dst=IN) / ICMP(type=3, code=4) / query()
    assert not bench.passes("outside", error)
    bench.passes("inside", query())
    assert bench.passes("outside", error), "whoever on the way sends it"
    misled = IP(src="192.0.2.1", dst="10.0.1.12") / ICMP(type=3, code=4) / query()
    assert not bench.passes("outside", misled)
    assert not bench.passes("inside", IP(src=OUT, dst=IN) / ICMP(type=3) / query())
    assert bench.passes("inside", IP(src=IN, dst=OUT) / ICMP(type=3, code=3) / answer())
    ping = IP(src=IN, dst=OUT) / ICMP(type=8, id=7)
    error = IP(src="192.0.2.1", dst=IN) / ICMP(type=11) / ping
    assert not bench.passes("outside", error)
    bench.passes("inside", ping)
    assert bench.passes("outside", error)
    bench.wait(60)
    assert not bench.passes("outside", error), "errors refresh nothing"


def test_icmpv6_errors() -> None:
    bench = firewall()
    sent = IPv6(src=IN6, dst=OUT6) / UDP(sport=1, dport=2) / Raw(bytes(16))
    error = IPv6(src="2001:db8::9", dst=IN6) / ICMPv6PacketTooBig() / sent
    assert not bench.passes("outside", error)
    bench.passes("inside", sent)
    assert bench.passes("outside", error)
    short = IPv6(src="2001:db8::9", dst=IN6) / ICMPv6PacketTooBig() / Raw(bytes(sent)[:44])
    assert not bench.passes("outside", short)


def test_later_fragments_follow_their_first() -> None:
    bench = firewall(default="deny")
    later = IP(src=IN, dst=OUT, id=9, frag=3, proto=17) / Raw(bytes(8))
    assert not bench.passes("inside", later)
    assert bench.passes("inside", query(id=9, flags="MF"))
    bench.wait(29.9)
    assert bench.passes("inside", later)
    assert not bench.passes("outside", later), "only on the side where the first one came"
    bench.wait(0.1)
    assert not bench.passes("inside", later)
    bench = firewall()
    first = IPv6ExtHdrFragment(nh=17, offset=0, m=1, id=5) / UDP(sport=1, dport=2) / Raw(bytes(8))
    rest = IPv6ExtHdrFragment(nh=17, offset=2, m=0, id=5) / Raw(bytes(8))
    assert not bench.passes("inside", IPv6(src=IN6, dst=OUT6) / rest)
    assert bench.passes("inside", IPv6(src=IN6, dst=OUT6) / first)
    assert bench.passes("inside", IPv6(src=IN6, dst=OUT6) / rest)


def test_a_fragment_of_what_was_dropped_is_dropped() -> None:
    bench = firewall()
    assert not bench.passes("outside", answer(id=9, flags="MF"))
    later = IP(src=OUT, dst=IN, id=9, frag=3, proto=17) / Raw(bytes(8))
    assert not bench.passes("outside", later)


def test_the_longest_unused_connection_goes_first() -> None:
    bench = firewall(max_connections=2)
    bench.passes("inside", query(1))
    bench.passes("inside", query(2))
    bench.passes("outside", answer(1))
    bench.passes("inside", query(3))
    assert bench.passes("outside", answer(1))
    assert not bench.passes("outside", answer(2))
    assert bench.passes("outside", answer(3))


def test_other_packets() -> None:
    bench = firewall(inbound_rules=[{"action": "permit", "protocol": 47}])
    tunnel = IP(src=OUT, dst=IN, proto=47) / Raw(bytes(8))
    assert bench.passes("outside", tunnel)
    assert not bench.passes("outside", IP(src=OUT, dst=IN, proto=50) / Raw(bytes(8)))
    assert bench.passes("inside", IP(src=IN, dst=OUT, proto=50) / Raw(bytes(8)))
    assert not bench.passes("outside", IP(src=OUT, dst=IN, proto=50) / Raw(bytes(8)))
    assert not bench.passes("inside", ARP())
    assert firewall(non_ip="pass").passes("outside", ARP())


def test_elements() -> None:
    for non_ip, outputs in (("drop", ("track",)), ("pass", ("track", "pass"))):
        elements = firewall(non_ip=non_ip).function.elements("outside")
        select = elements.elements["select"]
        assert isinstance(select.program, FilterProgram)
        assert (select.outputs, select.program.default) == (outputs, non_ip)
        assert elements.elements["track"].stateful
        assert {source for source, _ in elements.edges} == {"select", "track"}


def test_config(tmp_path: Path) -> None:
    rule = {"action": "permit", "later_fragment": True}
    with pytest.raises(ValidationError, match="follow their first"):
        FirewallConfig.model_validate({"rules": [rule]})
    with pytest.raises(ValidationError, match="rules judge IP only"):
        FirewallConfig.model_validate({"rules": [{"action": "deny", "ether_type": "0x0806"}]})
    with pytest.raises(InputError, match="drops everything"):
        FirewallConfig.model_validate({}).with_files(Files(tmp_path))
    (tmp_path / "a.rules").write_text("@10.0.0.0/8 0.0.0.0/0 0 : 65535 80 : 80 0x06/0xFF\n")
    config = FirewallConfig.model_validate({"rules_file": "a.rules"}).with_files(Files(tmp_path))
    assert [origin for *_, origin in config.outbound] == ["a.rules:1"]
    (tmp_path / "b.json").write_text('[{"action": "permit", "later_fragment": true}]')
    with pytest.raises(InputError, match=r"b\.json:1: this can never match"):
        FirewallConfig.model_validate({"rules_file": "b.json"}).with_files(Files(tmp_path))

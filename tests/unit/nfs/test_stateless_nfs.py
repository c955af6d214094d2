"""acl, router and static_nat: their reference semantics and elements, clause by clause."""

from __future__ import annotations

import pytest
from nf_bench import Bench
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Raw

from orchestrator.errors import InputError
from orchestrator.model.elements import DROP, FilterProgram, RewriteProgram, RouteProgram
from orchestrator.nfs.files import Files
from orchestrator.nfs.router import RouterConfig

WEB = IP(src="10.0.1.11", dst="198.51.100.13") / TCP(sport=1000, dport=80)
BACK = IP(dst="10.0.1.11", src="198.51.100.13") / TCP(dport=1000, sport=80)
DENY_WEB = {"rules": [{"action": "deny", "protocol": "tcp", "dst_port": 80}], "default": "permit"}


def test_acl_first_match_wins() -> None:
    rules = [{"action": "permit", "src": "10.0.1.0/24"}, {"action": "deny", "src": "10.0.0.0/8"}]
    bench = Bench("acl", {"rules": rules, "default": "deny"})
    assert bench.send("inside", WEB) == ("outside", bench.send("inside", WEB)[1])  # type: ignore[index]
    assert not bench.passes("inside", IP(src="10.0.2.1") / UDP())
    assert not bench.passes("inside", IP(src="11.0.0.1") / UDP())
    assert not bench.passes("inside", ARP())


@pytest.mark.parametrize(
    ("reverse", "web", "back"),
    [("permit", True, True), ("mirror", True, False), ("same", False, True)],
)
def test_acl_reverse(reverse: str, web: bool, back: bool) -> None:
    bench = Bench("acl", {**DENY_WEB, "reverse": reverse})
    assert not bench.passes("inside", WEB)
    assert bench.passes("outside", WEB) == web
    assert bench.passes("outside", BACK) == back


def test_acl_elements() -> None:
    elements = Bench("acl", DENY_WEB).function.elements("inside")
    program = elements.elements["rules"].program
    assert isinstance(program, FilterProgram)
    assert [(rule.output, rule.rule) for rule in program.rules] == [(DROP, "rules[0]")]
    assert program.default == "outside"


def test_a_later_fragment_never_matches_a_port() -> None:
    bench = Bench("acl", DENY_WEB)
    assert bench.passes("inside", IP(frag=5, proto=6) / Raw(bytes(2) + b"\0\x50"))


ROUTES = {
    "routes": [
        {"prefix": "198.51.100.0/24"},
        {"prefix": "0.0.0.0/0", "next_hop": "198.51.100.13"},
        {"prefix": "10.9.0.0/16", "port": "lab"},
        {"prefix": "10.9.9.0/24", "next_hop": "198.51.100.99"},
        {"prefix": "2001:db8::/32"},
    ]
}


def test_router_longest_prefix_and_ttl() -> None:
    bench = Bench("router", ROUTES)
    port, frame = bench.send("inside", IP(dst="10.9.1.1", ttl=7) / UDP()) or ("", None)
    assert port == "lab"
    assert frame[IP].ttl == 6
    assert frame.dst == "06:00:00:00:00:01"
    again = frame.copy()
    del again[IP].chksum
    assert bytes(again) == bytes(frame)


def test_router_next_hop_writes_macs() -> None:
    _, frame = Bench("router", ROUTES).send("outside", IP(dst="8.8.8.8") / UDP()) or ("", None)
    assert (frame.dst, frame.src) == ("0a:00:00:00:00:03", "06:00:00:00:00:01")


def test_router_drops() -> None:
    bench = Bench("router", ROUTES)
    assert not bench.passes("inside", IP(dst="198.51.100.1", ttl=1) / UDP())
    assert not bench.passes("inside", IP(dst="198.51.100.1", ttl=0) / UDP())
    assert not bench.passes("inside", IP(dst="10.9.9.1") / UDP()), "nobody has the next hop's MAC"
    assert not bench.passes("inside", ARP())
    assert not bench.passes("inside", IPv6(dst="2001:db9::1") / UDP())
    assert bench.passes("inside", IPv6(dst="2001:db8::1", hlim=2) / UDP())
    assert not bench.passes("inside", IPv6(dst="2001:db8::1", hlim=1) / UDP())


def test_router_ports_and_elements() -> None:
    function = Bench("router", ROUTES).function
    assert function.ports == ("inside", "outside", "lab")
    element = function.elements("lab").elements["routes"]
    assert isinstance(element.program, RouteProgram)
    assert element.outputs == ("outside", "lab")


def test_router_route_files(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "routes.txt").write_text(
        "# comment\n10.0.0.0/8 -\n10.1.0.0/16 198.51.100.13 lab\n2001:db8::/32 198.51.100.13\n"
        "10.0.0.0/40 -\n10.2.0.0/16\n"
    )
    with pytest.raises(InputError) as caught:
        RouterConfig(routes_file="routes.txt").with_files(Files(folder))
    assert caught.value.problems == (
        "routes.txt:4: prefix 2001:db8::/32 and next hop 198.51.100.13 are of different IP versions",
        "routes.txt:5: '10.0.0.0/40': the prefix length must be 0 to 32",
        "routes.txt:6: a route is 'prefix next_hop [port]', the next hop '-' when connected",
    )
    (folder / "routes.txt").write_text(
        "10.0.0.0/8 -\n10.1.0.0/16 198.51.100.13 lab\n10.0.0.0/8 -\n"
    )
    with pytest.raises(InputError, match=r"routes.txt:3: 10.0.0.0/8 is also in routes.txt:1"):
        RouterConfig(routes_file="routes.txt").with_files(Files(folder))


PAIRS = {"pairs": [{"inside": "10.0.1.11", "outside": "203.0.113.11"}]}


def test_static_nat_both_ways() -> None:
    bench = Bench("static_nat", PAIRS)
    port, frame = bench.send("inside", WEB) or ("", None)
    assert (port, frame[IP].src, frame[TCP].sport) == ("outside", "203.0.113.11", 1000)
    port, frame = bench.send("outside", IP(dst="203.0.113.11") / UDP()) or ("", None)
    assert (port, frame[IP].dst) == ("inside", "10.0.1.11")


def test_static_nat_leaves_others_alone() -> None:
    bench = Bench("static_nat", PAIRS)
    for packet in (IP(src="10.0.1.99") / UDP(), ARP(), IPv6() / UDP()):
        assert bench.passes("inside", packet)


def test_static_nat_elements_and_addresses() -> None:
    function = Bench("static_nat", PAIRS).function
    program = function.elements("outside").elements["rewrite"].program
    assert program == RewriteProgram("dst", ((4, 0xCB00710B, 0x0A00010B),))
    assert function.owned_addresses() == [("outside", 4, 0xCB00710B)]

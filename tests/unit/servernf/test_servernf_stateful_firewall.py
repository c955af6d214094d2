"""The stateful firewall of server workers; a random walk beside the reference semantics."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP
from scapy.packet import Raw
from servernf_support import SECOND, call, echo, ether, make, tcp, udp

from orchestrator.errors import InputError
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import SimpleEnvironment, lookup
from servernf.python.network_function import NetworkFunction
from servernf.python.packet import PacketView

pytestmark = pytest.mark.slow

IN, OUT = "10.0.1.11", "198.51.100.13"


def firewall(**config: Any) -> NetworkFunction:
    return make("stateful_firewall", **{"rules": [{"action": "permit"}], **config})


def test_a_connection_from_inside() -> None:
    nf = firewall()
    assert call(nf, tcp(OUT, 80, IN, 1000, "SA"), "outside")[0] is None
    assert nf.last_drop == "no_connection"
    assert call(nf, tcp(OUT, 80, IN, 1000, "S"), "outside")[0] is None
    assert nf.last_drop == "denied"
    assert call(nf, tcp(IN, 1000, OUT, 80, "S"), "inside")[0] == "outside"
    frame = tcp(OUT, 80, IN, 1000, "SA", ack=1)
    left, packet = call(nf, frame, "outside")
    assert left == "inside"
    assert bytes(packet) == frame, "unchanged"
    assert nf.metrics()["connections"] == 1


def test_times_and_drop_reasons() -> None:
    nf = firewall(timeouts_s={"udp": 10})
    call(nf, udp(IN, 1, OUT, 53), "inside")
    assert call(nf, udp(OUT, 53, IN, 1), "outside", 10 * SECOND - 1)[0] == "inside"
    assert call(nf, udp(OUT, 53, IN, 1), "outside", 20 * SECOND)[0] is None
    call(nf, echo(IN, OUT, 7), "inside", 20 * SECOND)
    assert call(nf, echo(OUT, IN, 7, reply=True), "outside", 20 * SECOND)[0] == "inside"
    assert call(nf, ether(ARP()), "inside")[0] is None
    later = ether(IP(src=IN, dst=OUT, frag=1, proto=17) / Raw(bytes(8)))
    assert call(nf, later, "inside")[0] is None
    assert nf.drops == {"denied": 1, "not_ip": 1, "fragment": 1}
    assert nf.metrics()["opened"] == 2


def test_the_table_is_bounded() -> None:
    nf = firewall(max_connections=2)
    for port in (1, 2, 3):
        call(nf, udp(IN, port, OUT, 53), "inside")
    assert nf.metrics()["connections"] == 2
    assert nf.metrics()["evicted"] == 1
    assert call(nf, udp(OUT, 53, IN, 1), "outside")[0] is None


def test_problems_are_told_together() -> None:
    with pytest.raises(InputError) as error:
        make(
            "stateful_firewall",
            rules=[{"action": "allow"}],
            default="maybe",
            timeouts_s={"tcp": 3},
            max_connections=0,
        )
    assert len(error.value.problems) == 4


CONFIGS: list[dict[str, Any]] = [
    {"rules": [{"action": "permit"}], "max_connections": 4},
    {
        "rules": [{"action": "deny", "protocol": "udp", "src_port": 1}],
        "default": "permit",
        "inbound_rules": [
            {"action": "permit", "protocol": "tcp", "tcp_flags": "0x02/0x02"},
            {"action": "permit", "version": 6},
        ],
        "non_ip": "pass",
    },
]


def random_frame(rng: random.Random) -> bytes:
    """Few addresses, ports and ids, so that packets meet."""
    six = rng.random() < 0.4
    names = ["2001:db8::1", "2001:db8::2"] if six else ["10.0.0.1", "10.0.0.2"]
    src, dst = rng.sample(names, 2)

    def header(**fields: Any) -> Any:
        return IPv6(src=src, dst=dst) if six else IP(src=src, dst=dst, **fields)

    def l4() -> Any:
        kind = rng.randrange(4)
        if kind == 0:
            flags = rng.choice(["S", "S", "SA", "A", "A", "FA", "R", "SF", ""])
            return TCP(sport=rng.choice((1, 2)), dport=rng.choice((1, 2)), flags=flags)
        if kind == 1:
            return UDP(sport=rng.choice((1, 2)), dport=rng.choice((1, 2))) / Raw(bytes(8))
        number, asks = rng.choice((1, 2)), rng.random() < 0.5
        if six:
            return ICMPv6EchoRequest(id=number) if asks else ICMPv6EchoReply(id=number)
        return ICMP(type=8 if asks else rng.choice((0, 0, 13)), id=number)

    kind = rng.random()
    if kind < 0.6:
        return ether(header() / l4())
    if kind < 0.75:
        quoted_ends = {"src": dst, "dst": src} if rng.random() < 0.8 else {"src": src, "dst": dst}
        quoted = (IPv6 if six else IP)(**quoted_ends) / l4()
        raw = Raw(bytes(quoted)[: rng.choice((200, 48, 40))])
        if six:
            return ether(header() / ICMPv6DestUnreach() / raw)
        return ether(header() / ICMP(type=3) / Raw(bytes(quoted)))
    if kind < 0.95:
        ident, later = rng.choice((1, 2)), rng.random() < 0.6
        upper = UDP(sport=1, dport=rng.choice((1, 2))) / Raw(bytes(8))
        if six:
            fragment = IPv6ExtHdrFragment(nh=17, id=ident, offset=later * 2, m=1)
            return ether(header() / fragment / (Raw(bytes(8)) if later else upper))
        if later:
            return ether(header(frag=2, proto=17, id=ident) / Raw(bytes(8)))
        return ether(header(flags="MF", id=ident) / upper)
    return ether(rng.choice((ARP(), header(proto=47) / Raw(bytes(8)) if not six else ARP())))


@pytest.mark.parametrize("config", CONFIGS)
def test_it_decides_as_the_reference_does(config: dict[str, Any]) -> None:
    rng = random.Random(7)
    cls = lookup("stateful_firewall")
    function = cls("nf", cls.Config.model_validate(config))
    reference, env = function.reference(), SimpleEnvironment()
    nf = make("stateful_firewall", **function.runtime_config())
    view = PacketView()
    passed = 0
    for step in range(6000):
        env.now_us += rng.choice((0, 0, 1, SECOND, SECOND, 10 * SECOND, 30 * SECOND))
        if rng.random() < 0.002:
            env.now_us += 3600 * SECOND
        frame, port = random_frame(rng), rng.choice(("inside", "outside"))
        packet = Packet.parse(frame)
        assert view.load(frame) == (packet.malformed is None)
        if packet.malformed is not None:
            continue
        wanted = reference.process(packet, port, env)
        got = nf.process(view, port, env.now_us)
        assert got == (wanted[0][0] if wanted else None), (step, port, frame.hex(), nf.last_drop)
        assert bytes(view.data) == frame
        passed += got is not None
    assert 1000 < passed < 5000

"""NFs in C do what the reference semantics say, byte for byte, with frames that are hostile, too.

Oracle: `orchestrator.nfs`, written apart. Sanitizers watch the C part. Blind spot: NFs in chains.
"""

from __future__ import annotations

import ipaddress
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from dpdk_support import MAC, NEEDS_COMPILER, NEXT, frames, running, tagged

from orchestrator.model.packet import Packet
from orchestrator.nfs import lookup
from orchestrator.nfs.base import SimpleEnvironment
from servernf.dpdk.worker import DpdkWorker
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.changes import NfSpec
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, mac_text, parse_mac

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

RULES: list[dict[str, Any]] = [
    {"protocol": "udp", "src": "10.0.0.0/25"},
    {"protocol": "tcp", "dst_port": "80-100", "tcp_flags": "0x02/0x12"},
    {"dst": "2001:db8::/33", "src_port": 7},
    {"icmp_type": 3, "icmp_code": 1},
    {"later_fragment": True},
    {"ether_type": "0x0806"},
    {"vlan": 6},
    {"vlan": "none", "src_port": 7},
    {"version": 6},
]


def many_rules(seed: int, count: int) -> list[dict[str, Any]]:
    """So many that they are looked up at once; some packets meet none, most of them several."""
    rng = random.Random(seed)
    sides = {4: ("10.0.0.0/24", "10.0.0.1", "198.51.100.0/25", "203.0.113.0/24"), 6: PREFIXES6}
    rules: list[dict[str, Any]] = []
    for _ in range(count):
        rule = dict(rng.choice((*RULES, {}, {"protocol": "udp", "dst_port": "50-60"})))
        for side in rng.choice(((), ("src",), ("dst",), ("src", "dst"))):
            if "ether_type" not in rule:
                rule[side] = rng.choice(sides[6 if rule.get("version") == 6 else 4])
        if not rule or ("src" in rule and "dst" in rule and rule["dst"] == "2001:db8::/33"):
            rule = {"protocol": rng.randrange(256), "version": 4}
        rules.append(rule)
    return rules


def acl_of(seed: int, count: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    actions = ("permit", "deny")
    return [{**rule, "action": rng.choice(actions)} for rule in many_rules(seed, count)]


PREFIXES6 = ("2001:db8::/32", "2001:db8::1", "2001:db8:1::/48", "2001:db9::/32")
ROUTES: list[dict[str, Any]] = [
    {"prefix": "198.51.0.0/16"},
    {"prefix": "198.51.100.8/29", "next_hop": "192.0.2.1"},
    {"prefix": "198.51.100.9/32", "port": "dmz"},
    {"prefix": "10.0.0.0/8", "port": "inside"},
    {"prefix": "10.0.0.2/32", "next_hop": "192.0.2.2"},
    {"prefix": "2001:db8::/32"},
    {"prefix": "2001:db8:1::/48", "port": "inside", "next_hop": "2001:db8::7"},
]
MACS = {
    "192.0.2.1": "0a:00:00:00:00:77",
    "192.0.2.2": "00:00:00:00:00:00",
    "2001:db8::7": "0a:00:00:00:00:78",
}
NEIGHBORS = {ipaddress.ip_address(text): mac for text, mac in MACS.items()}
PAIRS = [
    {"inside": "10.0.0.1", "outside": "203.0.113.5"},
    {"inside": "10.0.0.200", "outside": "198.51.100.9"},
    {"inside": "2001:db8::1", "outside": "2001:db8:ffff::1"},
]
VXLAN = {"vni": 0x0A0B0C, "local": "10.0.0.2"}
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    *(
        ("acl", {"rules": rules, "default": default, "reverse": reverse})
        for rules, default, reverse in (
            ([{**r, "action": "deny"} for r in RULES], "permit", "mirror"),
            ([{**r, "action": "permit"} for r in RULES[::-1]], "deny", "same"),
            ([], "deny", "permit"),
        )
    ),
    *(
        ("acl", {"rules": rules, "default": "deny", "reverse": reverse})
        for reverse, rules in (
            ("mirror", acl_of(1, 200)),
            ("same", acl_of(2, 40)),
        )
    ),
    ("router", {"routes": ROUTES}),
    ("router", {"routes": [{"prefix": "0.0.0.0/0"}, {"prefix": "::/0"}]}),
    ("static_nat", {"pairs": PAIRS}),
    ("dscp_marker", {"rules": [{**r, "dscp": n} for n, r in enumerate(RULES)], "reverse": "same"}),
    ("dscp_marker", {"rules": [], "default": "EF", "reverse": "mirror"}),
    (
        "ttl_guard",
        {
            "rules": [
                {**RULES[0], "min": 2},
                {**RULES[1], "min": 65, "action": "clamp"},
                {"version": 6, "max": 8, "action": "clamp"},
            ],
            "reverse": "mirror",
        },
    ),
    ("vlan_push", {"vid": 7, "pcp": 3, "type": "0x88a8"}),
    ("vlan_pop", {"vid": 5}),
    ("vlan_pop", {"others": "drop"}),
    ("vxlan_encap", {**VXLAN, "remote": "198.51.100.9"}),
    ("vxlan_decap", VXLAN),
]
BATCH = 512


@pytest.fixture(scope="module")
def worker() -> Iterator[DpdkWorker]:
    with running() as made:
        yield made


def configured(worker: DpdkWorker, nf: str, config: dict[str, Any]) -> tuple[str, ...]:
    """One NF, entered by port n on SPI n + 1 and left by port m on SPI m + 101; its ports."""
    worker.remove_graph("g")
    worker.configure("g", [NfSpec("g/nf", nf, json.dumps(config))])
    ports = worker.tables.instances["g/nf"].nf.ports
    for number, entered in enumerate(ports):
        for other, left in enumerate(ports):
            scope = ChainScope(number + 1, 255, "" if other else entered, left)
            worker.service_chain("g/nf", scope, [ExitHop(NEXT, other + 101, 254)])
    return ports


def compare(
    worker: DpdkWorker,
    nf: str,
    config: dict[str, Any],
    seed: int,
    count: int,
    world: SimpleEnvironment | None = None,
    step_us: int = 0,
) -> int:
    """How many of so many frames leave; each as the reference has it."""
    cls = lookup(nf)
    function = cls("nf", cls.Config.model_validate(config))
    told = {"neighbors": MACS, "gateway_mac": mac_text(GATEWAY_MAC)} if nf == "router" else {}
    ports = configured(worker, nf, {**function.runtime_config(), **told})
    macs = {(a.version, int(a)): parse_mac(mac) for a, mac in NEIGHBORS.items() if parse_mac(mac)}
    reference = function.reference()
    world = world or SimpleEnvironment(neighbors=macs)
    left = 0
    for first in range(0, count, BATCH):
        some = frames(seed + first, BATCH)
        sent = [(ports[i % 2], frame) for i, frame in enumerate(some)]
        wanted: list[tuple[int, bytes]] = []
        for port, frame in sent:
            packet = Packet.parse(frame)
            if packet.malformed is None:
                answer = reference.process(packet, port, world)
                wanted += [(ports.index(by), out.to_bytes()) for by, out in answer]
        came = worker.process([tagged(frame, ports.index(port) + 1) for port, frame in sent])
        got: list[tuple[int, bytes]] = []
        for frame in came:
            decoded = nsh.decode(frame)
            assert decoded is not None
            assert (decoded[0].src_mac, decoded[0].ttl) == (MAC, nsh.INITIAL_TTL - 1)
            got.append((decoded[0].spi - 101, decoded[1]))
        assert got == wanted
        left += len(got)
        world.now_us += step_us
    return left


@pytest.mark.parametrize(("nf", "config"), CONFIGS, ids=[nf for nf, _ in CONFIGS])
def test_as_the_reference(worker: DpdkWorker, nf: str, config: dict[str, Any]) -> None:
    assert compare(worker, nf, config, seed=1, count=BATCH) > 0
    assert worker.metrics()["drop.malformed"] > 0


@pytest.mark.parametrize(
    "errors",
    [
        {"addresses": ["192.0.2.9"]},
        {"addresses": ["192.0.2.9", "2001:db8::9"], "mtu": 1280},
    ],
)
def test_senders_are_told_as_by_the_reference(errors: dict[str, Any]) -> None:
    """Of some; for the others the rate does not allow it."""
    macs = {(a.version, int(a)): parse_mac(mac) for a, mac in NEIGHBORS.items() if parse_mac(mac)}
    world = SimpleEnvironment(neighbors=macs, now_us=1 << 40)
    config = {"routes": ROUTES[1:6], "errors": errors}
    with running(lambda: world.now_us) as worker:
        left = compare(worker, "router", config, 4, 8 * BATCH, world, step_us=40_000)
        counts = worker.metrics()
    passed = counts["g/nf.packets"] - counts["g/nf.drops"]
    assert passed + 50 < left < counts["g/nf.packets"]


def test_metered_as_the_reference() -> None:
    """Rates and bursts that most frames are beyond, over time that passes."""
    colours = {"yellow": 12, "red": 8}
    rules = [
        {**RULES[0], "rate": 80_000, "burst": 300},
        {**RULES[1], "rate": 8_000, "burst": 200, "excess_burst": 400, **colours},
        {
            "version": 6,
            "rate": 16_000,
            "burst": 200,
            "peak_rate": 90_000,
            "peak_burst": 300,
            **colours,
        },
        {"version": 4, "rate": 1 << 61, "burst": 64},
    ]
    config = {"rules": rules, "reverse": "mirror"}
    world = SimpleEnvironment(now_us=1 << 40)
    with running(lambda: world.now_us) as worker:
        left = compare(worker, "policer", config, 3, 16 * BATCH, world, step_us=7_777)
        counts = worker.metrics()
    assert 0 < counts["g/nf.drop.rate"] < counts["g/nf.packets"]
    assert left == counts["g/nf.packets"] - counts["g/nf.drops"]
    told = {name.split(".")[-1] for name, n in counts.items() if n and "rule" in name}
    assert told == {"green", "yellow", "red"}


@pytest.mark.exhaustive
def test_a_million_packets_as_the_reference(worker: DpdkWorker) -> None:
    for index, (nf, config) in enumerate(CONFIGS):
        compare(worker, nf, config, seed=(index + 1) << 32, count=1_000_000 // len(CONFIGS) + 1)

"""The next configuration of an NF goes on with its state: what stays, and what each judges by.

Oracle: by hand. `before` and `after` stand beside each other as on a worker while an update drains.
Blind spot: packets of both at once from several threads; a worker has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from scapy.layers.inet import IP, TCP, UDP
from servernf_support import SECOND, call, ether, make, tcp, udp

from orchestrator.nfs.base import known_types, lookup
from servernf.python.network_function import NetworkFunction, create
from servernf.python.streams import MAX_CONFIGURATIONS

IN, OUT, POOL = "10.0.1.11", "198.51.100.13", "203.0.113.1"
KEY = "00" * 48
PERMIT = [{"action": "permit"}]
ANY_TCP = {"id": 1, "content": "EVIL", "protocol": "tcp"}
WEB = {"address": OUT, "protocol": "tcp", "port": 80}
BACKENDS = [{"address": f"10.0.1.{n}", "port": 8080} for n in (11, 12)]

Config = Mapping[str, Any]
BASE: dict[str, Config] = {
    "aes_decrypt": {"spi": 256, "key_environment": "KEY"},
    "aes_encrypt": {"spi": 256, "key_environment": "KEY"},
    "cache_observer": {"ports": ["80"]},
    "dedup": {},
    "dnat": {"address": IN},
    "dns_guard": {"ports": ["53"]},
    "flow_monitor": {},
    "ids": {"signatures": [ANY_TCP], "action": "drop"},
    "l4_load_balancer": {"virtual": [{**WEB, "backends": BACKENDS}]},
    "napt": {
        "addresses": [POOL],
        "ports": [1024, 2047],
        "buckets": 4,
        "filtering": "address_dependent",
        "max_mappings_per_address": 100,
    },
    "policer": {"rules": [{"protocol": "tcp", "rate": 8000, "burst": 1000}]},
    "stateful_firewall": {"rules": PERMIT},
    "traffic_shaper": {"rate": 1_000_000},
    "url_filter": {"rules": [{"action": "deny", "host": "a"}], "ports": ["80-90"]},
}
KEPT, PARTLY, LOST = "kept", "partly", "lost"
CHANGES: list[tuple[str, Config, str]] = [
    ("aes_decrypt", {"spi": 257}, KEPT),
    ("aes_decrypt", {"mtu": 1400}, KEPT),
    ("aes_decrypt", {"replay_window": 0}, KEPT),
    ("aes_decrypt", {"key_environment": "OTHER"}, KEPT),
    ("aes_decrypt", {"key_environment": None, "key_file": "/the/key"}, KEPT),
    ("aes_encrypt", {"spi": 257}, KEPT),
    ("aes_encrypt", {"mtu": 1400}, KEPT),
    ("aes_encrypt", {"replay_window": 128}, KEPT),
    ("aes_encrypt", {"key_environment": "OTHER"}, KEPT),
    ("aes_encrypt", {"key_environment": None, "key_file": "/the/key"}, KEPT),
    ("cache_observer", {"ports": ["80", "8080"]}, KEPT),
    ("cache_observer", {"ports": ["8080"]}, PARTLY),
    ("cache_observer", {"labels": {"hit": 1, "miss": 2}}, KEPT),
    ("cache_observer", {"max_objects": 1}, KEPT),
    ("cache_observer", {"fresh_s": 1}, KEPT),
    ("cache_observer", {"max_header_bytes": 100}, KEPT),
    ("dedup", {"window_ms": 1}, KEPT),
    ("dedup", {"max_packets": 1}, KEPT),
    ("dnat", {"address": OUT}, LOST),
    ("dnat", {"port": 80}, LOST),
    ("dnat", {"max_connections": 1}, KEPT),
    ("dnat", {"idle_timeout_s": 1}, KEPT),
    ("dns_guard", {"block": ["ads.example"]}, KEPT),
    ("dns_guard", {"ports": ["5353"]}, KEPT),
    ("dns_guard", {"answers": "any"}, KEPT),
    ("dns_guard", {"max_queries": 1}, KEPT),
    ("dns_guard", {"timeout_s": 1}, KEPT),
    ("flow_monitor", {"max_flows": 1}, KEPT),
    ("flow_monitor", {"idle_timeout_s": 1}, KEPT),
    ("flow_monitor", {"top": 0}, KEPT),
    ("ids", {"signatures": [ANY_TCP, {"id": 2, "content": "x", "protocol": "udp"}]}, KEPT),
    ("ids", {"signatures": [{**ANY_TCP, "ports": ["80"]}]}, PARTLY),
    ("ids", {"action": "alert"}, KEPT),
    ("l4_load_balancer", {"virtual": [{**WEB, "backends": BACKENDS[:1]}]}, PARTLY),
    ("l4_load_balancer", {"virtual": [{**WEB, "port": 81, "backends": BACKENDS}]}, PARTLY),
    (
        "l4_load_balancer",
        {"virtual": [{**WEB, "backends": [*BACKENDS, {**BACKENDS[0], "port": 1, "weight": 2}]}]},
        KEPT,
    ),
    ("l4_load_balancer", {"idle_timeout_s": 1}, KEPT),
    ("l4_load_balancer", {"health": {"misses": 1, "timeout_s": 2, "retry_s": 10}}, KEPT),
    ("napt", {"addresses": [POOL, OUT]}, KEPT),
    ("napt", {"ports": [1024, 4000]}, PARTLY),
    ("napt", {"buckets": 1}, KEPT),
    ("napt", {"buckets": 8}, PARTLY),
    ("napt", {"filtering": "address_and_port_dependent"}, PARTLY),
    ("napt", {"filtering": "endpoint_independent"}, KEPT),
    ("napt", {"max_mappings_per_address": 1}, KEPT),
    ("napt", {"ipv6": "drop"}, KEPT),
    ("napt", {"timeouts_s": {"udp": 1}}, KEPT),
    ("policer", {"rules": [{"protocol": "tcp", "rate": 80, "burst": 100}]}, KEPT),
    ("policer", {"reverse": "same"}, KEPT),
    ("stateful_firewall", {"rules": []}, KEPT),
    ("stateful_firewall", {"default": "permit"}, KEPT),
    ("stateful_firewall", {"inbound_rules": PERMIT}, KEPT),
    ("stateful_firewall", {"non_ip": "pass"}, KEPT),
    ("stateful_firewall", {"max_connections": 1}, KEPT),
    ("stateful_firewall", {"timeouts_s": {"udp": 1}}, KEPT),
    ("traffic_shaper", {"rate": 2000}, KEPT),
    ("traffic_shaper", {"burst": 1514}, KEPT),
    ("traffic_shaper", {"queue": 1514}, KEPT),
    ("url_filter", {"rules": [{"action": "deny", "host": "b"}]}, KEPT),
    ("url_filter", {"default": "deny"}, KEPT),
    ("url_filter", {"ports": ["80-84", "85-100"]}, KEPT),
    ("url_filter", {"ports": ["80-84", "86-100"]}, PARTLY),
    ("url_filter", {"malformed": "permit"}, KEPT),
    ("url_filter", {"max_header_bytes": 100}, KEPT),
    ("url_filter", {"reset": True}, KEPT),
]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", KEY)
    monkeypatch.setenv("OTHER", "11" * 48)
    monkeypatch.setattr("servernf.python.keys._reader", lambda _path: bytes.fromhex(KEY))


def runtime(kind: str, config: Config) -> dict[str, Any]:
    """A worker's config as the orchestrator makes it."""
    config = {key: value for key, value in config.items() if value is not None}
    dealt = {"buckets": config.pop("buckets")} if "buckets" in config else {}
    nf = lookup(kind)
    return {**nf("n", nf.Config.model_validate(config)).runtime_config(), **dealt}


def next_of(before: NetworkFunction, **config: Any) -> NetworkFunction:
    after = create(before.type_name, "g/next", config)
    after.continue_from(before)
    return after


class TestDeclarations:
    """What a plan says beforehand is what a worker does."""

    @pytest.mark.parametrize(("kind", "change", "expected"), CHANGES)
    def test_they_agree(self, kind: str, change: Config, expected: str) -> None:
        was, will = runtime(kind, BASE[kind]), runtime(kind, {**BASE[kind], **change})
        before, after = create(kind, "g/n", was), create(kind, "g/n~2", will)
        assert after.continue_from(before) == (expected != LOST)
        assert bool(lookup(kind).state_lost(was, will)) == (expected != KEPT)

    @pytest.mark.parametrize("kind", known_types())
    def test_every_key_is_tried(self, kind: str) -> None:
        if not lookup(kind).has_state():
            assert kind not in BASE
            return
        was = runtime(kind, BASE[kind])
        tried: set[str] = set()
        for other, change, _ in CHANGES:
            if other == kind:
                will = runtime(kind, {**BASE[kind], **change})
                tried |= {key for key in {*was, *will} if was.get(key) != will.get(key)}
        assert tried == set(was)
        assert lookup(kind).keeps_state_when_changed <= set(was), "of no use"

    def test_a_key_that_is_not_declared(self) -> None:
        for kind, config in BASE.items():
            was = runtime(kind, config)
            assert "surprise" in lookup(kind).state_lost(was, {**was, "surprise": 1}), kind


class TestStatefulFirewall:
    def test_connections_stay_and_rules_judge_new_ones(self) -> None:
        before = make("stateful_firewall", rules=PERMIT)
        assert call(before, tcp(IN, 1000, OUT, 22, "S"), "inside")[0] == "outside"
        deny = {"protocol": "tcp", "dst_port": 22, "action": "deny"}
        after = next_of(before, rules=[deny, *PERMIT])
        answer = tcp(OUT, 22, IN, 1000, "SA", ack=1)
        assert call(after, answer, "outside")[0] == "inside"
        assert call(after, tcp(IN, 1001, OUT, 22, "S"), "inside")[0] is None
        assert after.last_drop == "denied"
        assert after.metrics() == before.metrics(), "counters and table are one"

    def test_both_see_what_either_does(self) -> None:
        before = make("stateful_firewall", rules=PERMIT)
        after = next_of(before, default="permit")
        call(after, tcp(IN, 1000, OUT, 80, "S"), "inside")
        assert call(before, tcp(OUT, 80, IN, 1000, "SA", ack=1), "outside")[0] == "inside"
        call(before, tcp(OUT, 80, IN, 1000, "R", seq=1), "outside")
        assert call(after, tcp(OUT, 80, IN, 1000, "S"), "outside")[0] is None, "closed"

    def test_each_judges_by_its_own_timeouts(self) -> None:
        before = make("stateful_firewall", rules=PERMIT, timeouts_s={"udp": 100})
        after = next_of(before, rules=PERMIT, timeouts_s={"udp": 10})
        call(before, udp(IN, 1, OUT, 53), "inside", SECOND)
        assert call(before, udp(OUT, 53, IN, 1), "outside", 12 * SECOND)[0] == "inside"
        assert call(after, udp(OUT, 53, IN, 1), "outside", 21 * SECOND)[0] == "inside"
        assert call(before, udp(OUT, 53, IN, 1), "outside", 99 * SECOND)[0] == "inside"
        assert call(after, udp(OUT, 53, IN, 1), "outside", 109 * SECOND)[0] is None

    def test_a_smaller_table(self) -> None:
        before = make("stateful_firewall", rules=PERMIT)
        for port in range(1, 9):
            call(before, udp(IN, port, OUT, 53), "inside")
        after = next_of(before, rules=PERMIT, max_connections=3)
        call(after, udp(IN, 9, OUT, 53), "inside")
        assert after.metrics()["connections"] == 3
        assert call(after, udp(OUT, 53, IN, 8), "outside")[0] == "inside", "the latest stay"

    def test_fragments(self) -> None:
        before = make("stateful_firewall", rules=PERMIT)
        first = udp(IN, 1, OUT, 53, id=7, flags="MF")
        call(before, first, "inside")
        later = udp(IN, 1, OUT, 53, id=7, frag=2)
        assert call(next_of(before, rules=PERMIT, non_ip="pass"), later, "inside")[0] == "outside"


def mapped(
    nf: NetworkFunction, inside: str = IN, port: int = 1500, now_us: int = 0
) -> tuple[str, int]:
    """The outside address and port of an inside one."""
    left, packet = call(nf, udp(inside, port, OUT, 53), "inside", now_us)
    assert left == "outside", nf.last_drop
    return packet[IP].src, packet[UDP].sport


class TestNapt:
    CONFIG: ClassVar[Config] = {"addresses": [POOL], "ports": [1024, 2047]}

    def test_mappings_stay_with_other_timeouts(self) -> None:
        before = make("napt", **self.CONFIG)
        assert mapped(before) == (POOL, 1500)
        assert mapped(before, "10.0.1.12") == (POOL, 1501)
        after = next_of(before, **self.CONFIG, timeouts_s={"udp": 10})
        assert mapped(after, "10.0.1.12") == (POOL, 1501)
        left, packet = call(after, udp(OUT, 53, POOL, 1500), "outside", SECOND)
        assert (left, packet[IP].dst) == ("inside", IN)
        assert mapped(after, "10.0.1.13") == (POOL, 1502), "taken ports are taken"
        assert call(after, udp(OUT, 53, POOL, 1500), "outside", 12 * SECOND)[0] is None
        assert call(before, udp(OUT, 53, POOL, 1501), "outside", 12 * SECOND)[0] == "inside"

    def test_ports_come_free_by_the_new_timeouts(self) -> None:
        """Mappings stand by their last use, so one of the longer timeout hides none behind it."""
        narrow = {"addresses": [POOL], "ports": [1500, 1501]}
        before = make("napt", **narrow)
        mapped(before)
        after = next_of(before, **narrow, timeouts_s={"udp": 10})
        assert mapped(after, "10.0.1.12", now_us=SECOND) == (POOL, 1501)
        assert mapped(after, "10.0.1.13", 1500, 12 * SECOND) == (POOL, 1500)
        assert mapped(after, "10.0.1.14", 1500, 12 * SECOND) == (POOL, 1501)

    def test_a_wider_pool(self) -> None:
        before = make("napt", **self.CONFIG)
        mapped(before)
        after = next_of(before, addresses=[POOL, OUT], ports=[1024, 4000])
        assert mapped(after) == (POOL, 1500)
        assert {mapped(after, f"10.0.2.{n}")[0] for n in range(4)} == {POOL, OUT}

    def test_what_is_no_longer_owned_goes(self) -> None:
        before = make("napt", **self.CONFIG)
        mapped(before, "10.0.1.12", port=1500)
        assert mapped(before, port=1500) == (POOL, 1501)
        mapped(before, port=1900)
        after = next_of(before, **{**self.CONFIG, "ports": [1024, 1599]})
        assert mapped(after, port=1500) == (POOL, 1501)
        assert call(after, udp(OUT, 53, POOL, 1900), "outside")[0] is None
        assert 1024 <= mapped(after, port=1900)[1] <= 1599
        assert after.metrics()["mappings"] == 3

    def test_there_and_back_never_gives_a_port_twice(self) -> None:
        """Pools that come and go, as in updates that are undone; old mappings still hold ports."""
        nf = make("napt", addresses=[POOL, OUT], ports=[1500, 1519])
        held: set[tuple[str, int]] = set()
        for turn, addresses in enumerate(([POOL], [OUT], [POOL, OUT], [OUT], [POOL])):
            held |= {mapped(nf, f"10.0.{turn}.{n}") for n in range(6)}
            assert len(held) == 6 * (turn + 1), "no outside socket is given twice"
            nf = next_of(nf, addresses=addresses, ports=[1500, 1519])
        assert nf.metrics()["mappings"] == len(held)

    def test_what_is_left_of_a_pool_expires(self) -> None:
        before = make("napt", **self.CONFIG)
        for n in range(30):
            mapped(before, f"10.0.3.{n}")
        after = next_of(before, addresses=[OUT], ports=[1024, 2047])
        assert after.metrics()["mappings"] == 30
        for n in range(30):
            mapped(after, f"10.0.4.{n}", now_us=301 * SECOND)
            after.tidy(301 * SECOND)
        assert after.metrics()["mappings"] == 30

    def test_tcp_keeps_its_state(self) -> None:
        before = make("napt", **self.CONFIG)
        call(before, tcp(IN, 1500, OUT, 80, "A"), "inside")
        call(before, tcp(OUT, 80, POOL, 1500, "A"), "outside")
        after = next_of(before, **self.CONFIG, timeouts_s={"tcp_established": 1000})
        assert call(after, tcp(OUT, 80, POOL, 1500, "A"), "outside", 999 * SECOND)[0] == "inside"
        assert call(after, tcp(OUT, 80, POOL, 1500, "A"), "outside", 1999 * SECOND)[0] is None

    @pytest.mark.parametrize("was", ["endpoint_independent", "address_dependent"])
    def test_a_stricter_filter_learns_from_inside(self, was: str) -> None:
        before = make("napt", **self.CONFIG, filtering=was)
        mapped(before)
        after = next_of(before, **self.CONFIG, filtering="address_and_port_dependent")
        answer = udp(OUT, 53, POOL, 1500)
        assert call(after, answer, "outside")[0] is None
        assert after.last_drop == "filtered"
        assert mapped(after) == (POOL, 1500)
        assert call(after, answer, "outside")[0] == "inside"
        assert call(after, udp(OUT, 54, POOL, 1500), "outside")[0] is None
        assert call(before, answer, "outside")[0] == "inside", "undone, it lets in what it did"


class TestLoadBalancer:
    @staticmethod
    def chosen(nf: NetworkFunction, port: int) -> str:
        return call(nf, tcp("192.0.2.7", port, OUT, 80, "A"), "outside")[1][IP].dst

    def test_connections_stay_with_their_backends(self) -> None:
        before = make("l4_load_balancer", virtual=[{**WEB, "backends": BACKENDS[:1]}])
        ports = range(1000, 1040)
        assert {self.chosen(before, port) for port in ports} == {"10.0.1.11"}
        heavy = {**BACKENDS[1], "weight": 100}
        after = next_of(before, virtual=[{**WEB, "backends": [BACKENDS[0], heavy]}])
        assert {self.chosen(after, port) for port in ports} == {"10.0.1.11"}
        assert "10.0.1.12" in {self.chosen(after, port) for port in range(2000, 2040)}
        left, packet = call(after, tcp("10.0.1.11", 8080, "192.0.2.7", 1000), "inside")
        assert (left, packet[IP].src, packet[TCP].sport) == ("outside", OUT, 80)

    def test_those_of_a_removed_backend_move(self) -> None:
        before = make("l4_load_balancer", virtual=[{**WEB, "backends": BACKENDS}])
        ports = range(1000, 1040)
        was = {port: self.chosen(before, port) for port in ports}
        after = next_of(before, virtual=[{**WEB, "backends": BACKENDS[:1]}])
        back = tcp("10.0.1.12", 8080, "192.0.2.7", next(p for p in ports if was[p] != "10.0.1.11"))
        assert call(before, back, "inside")[1][IP].src == OUT, "in the old version as before"
        assert call(after, back, "inside")[1][IP].src == "10.0.1.12"
        assert {self.chosen(after, port) for port in ports} == {"10.0.1.11"}
        assert {port: self.chosen(before, port) for port in ports} != was, "still open there"

    def test_a_removed_service(self) -> None:
        before = make("l4_load_balancer", virtual=[{**WEB, "backends": BACKENDS[:1]}])
        self.chosen(before, 1000)
        after = next_of(before, virtual=[{**WEB, "port": 81, "backends": BACKENDS[:1]}])
        assert self.chosen(after, 1000) == OUT
        back = tcp("10.0.1.11", 8080, "192.0.2.7", 1000)
        assert call(after, back, "inside")[1][IP].src == "10.0.1.11"
        again = next_of(after, virtual=[{**WEB, "backends": BACKENDS[:1]}])
        assert call(again, back, "inside")[1][IP].src == OUT


def test_dnat() -> None:
    before = make("dnat", address=IN, idle_timeout_s=100)
    call(before, udp("10.0.9.9", 5, OUT, 53), "inside")
    answer = udp(IN, 53, "10.0.9.9", 5)
    after = next_of(before, address=IN, max_connections=1)
    assert call(after, answer, "outside")[1][IP].src == OUT
    assert call(next_of(before, address=IN, port=53), answer, "outside")[1][IP].src == IN
    call(before, udp("10.0.9.9", 6, OUT, 53), "inside")
    call(after, udp("10.0.9.9", 7, OUT, 53), "inside")
    assert after.metrics()["connections"] == 1


def segment(data: bytes, seq: int, *, back: bool = False) -> bytes:
    return (
        tcp(OUT, 80, IN, 1000, "A", data, seq) if back else tcp(IN, 1000, OUT, 80, "A", data, seq)
    )


class TestStreams:
    def test_a_signature_across_the_change(self) -> None:
        before = make("ids", signatures=[ANY_TCP])
        assert call(before, segment(b"is EV", 1), "inside")[0] == "outside"
        assert call(before, segment(b"later", 9), "inside")[0] == "outside", "waits behind a hole"
        after = next_of(before, signatures=[ANY_TCP, {**ANY_TCP, "id": 2, "content": "Vx"}])
        assert call(after, segment(b"ILx", 6), "inside")[0] is None
        assert after.metrics()["alert.1"] == before.metrics()["alert.1"] == 1

    def test_new_signatures_apply_from_then_on(self) -> None:
        before = make("ids", signatures=[ANY_TCP])
        call(before, segment(b"no BAD", 1), "inside")
        after = next_of(before, signatures=[ANY_TCP, {**ANY_TCP, "id": 2, "content": "BAD"}])
        assert call(after, segment(b"LY done", 7), "inside")[0] == "outside", "it has passed"
        assert call(after, segment(b"again BAD", 14), "inside")[0] is None
        assert call(before, segment(b"x", 23), "inside")[0] is None, "blocked for both"

    def test_what_is_blocked_stays_blocked(self) -> None:
        before = make("ids", signatures=[ANY_TCP])
        assert call(before, segment(b"EVIL", 1), "inside")[0] is None
        after = next_of(before, signatures=[{**ANY_TCP, "content": "other"}])
        assert call(after, segment(b"x", 5), "inside")[0] is None
        assert after.last_drop == "blocked"

    def test_a_port_that_was_left_out_begins_anew(self) -> None:
        """Else its streams would have a hole, and after 64 segments nothing would pass."""
        first = make("ids", signatures=[ANY_TCP])
        call(first, segment(b"EV", 1), "inside")
        call(first, tcp(IN, 1000, OUT, 443, "A", b"EV", 1), "inside")
        second = next_of(first, signatures=[{**ANY_TCP, "ports": ["443"]}])
        assert call(second, segment(b"x" * 1000, 3), "inside")[0] == "outside", "unseen"
        third = next_of(second, signatures=[ANY_TCP])
        assert call(third, tcp(IN, 1000, OUT, 443, "A", b"IL", 3), "inside")[0] is None
        assert call(third, segment(b"IL", 1003), "inside")[0] == "outside"
        assert call(third, segment(b" EVIL", 1005), "inside")[0] is None

    def test_a_port_that_is_new_is_picked_up(self) -> None:
        first = make("ids", signatures=[{**ANY_TCP, "ports": ["80"]}])
        call(first, segment(b"x", 1), "inside", 0)
        second = next_of(first, signatures=[ANY_TCP])
        late = 1000 * SECOND
        assert call(second, tcp(IN, 1000, OUT, 443, "A", b"x", 1), "inside", late)[0] == "outside"
        assert call(second, tcp(IN, 1001, OUT, 80, "A", b"x", 1), "inside", late)[0] is None
        late += 300 * SECOND
        assert call(second, tcp(IN, 1001, OUT, 443, "A", b"x", 1), "inside", late)[0] is None
        assert second.drops == {"unknown": 2}

    def test_what_was_given_up_is_unknown_to_a_configuration_that_drops(self) -> None:
        lenient = make("ids", signatures=[ANY_TCP], action="alert")
        call(lenient, segment(b"x", 1), "inside")
        call(lenient, ether(IP(src=IN, dst=OUT, flags="MF") / TCP(sport=1000, dport=80)), "inside")
        assert lenient.metrics()["given_up"] == 1
        strict = next_of(lenient, signatures=[ANY_TCP])
        assert call(strict, segment(b"x", 2), "inside")[0] is None
        assert strict.last_drop == "unknown"

    def test_a_port_of_an_update_that_was_undone(self) -> None:
        first = make("ids", signatures=[{**ANY_TCP, "ports": ["80"]}])
        call(first, segment(b"EV", 1), "inside")
        undone = next_of(first, signatures=[ANY_TCP])
        other = tcp(IN, 1000, OUT, 443, "A", b"EV", 1)
        call(undone, other, "inside")
        assert call(undone, segment(b"I", 3), "inside")[0] == "outside"
        assert call(first, segment(b"-EV", 4), "inside")[0] == "outside"
        again = next_of(first, signatures=[ANY_TCP])
        assert call(again, tcp(IN, 1000, OUT, 443, "A", b"IL", 1003), "inside")[0] == "outside"
        assert call(again, segment(b"IL", 7), "inside")[0] is None

    def test_only_so_many_configurations_are_told_apart(self) -> None:
        nf = make("ids", signatures=[ANY_TCP])
        call(nf, segment(b"EV", 1), "inside")
        call(nf, segment(b"EV", 1, back=True), "outside")
        for number in range(40):
            nf = next_of(nf, signatures=[ANY_TCP, {**ANY_TCP, "id": 2, "content": f"x{number}"}])
            assert nf.metrics()["connections"] == 1
            if number < 10:
                assert call(nf, segment(b".", 3 + number, back=True), "outside")[0] == "inside"
        assert len(nf._connections.watched_since) <= MAX_CONFIGURATIONS + 1  # type: ignore[attr-defined]
        assert call(nf, segment(b"IL", 3), "inside")[0] is None, "all of them watched it"
        assert nf.last_drop == "signature"

    def test_a_request_across_the_change(self) -> None:
        web = {"ports": ["80"], "rules": [{"host": "a", "action": "permit"}]}
        before = make("url_filter", **web)
        assert call(before, segment(b"GET / HTTP/1.1\r\nHo", 1), "inside")[0] == "outside"
        after = next_of(before, **{**web, "rules": [{"host": "a", "action": "deny"}]})
        assert call(after, segment(b"st: a\r\n\r\n", 19), "inside")[0] is None
        assert after.last_drop == "url"
        assert after.metrics() == before.metrics()

    def test_a_header_limit_holds_at_once(self) -> None:
        web = {"ports": ["80"], "rules": [{"host": "a", "action": "deny"}]}
        before = make("url_filter", **web)
        call(before, segment(b"GET / HTTP/1.1\r\nX: " + b"x" * 80, 1), "inside")
        after = next_of(before, **web, max_header_bytes=64)
        assert call(after, segment(b"x", 100), "inside")[0] is None
        assert after.last_drop == "malformed_http"

    def test_a_cache_and_its_labels(self) -> None:
        get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        before = make("cache_observer", ports=["80"])
        call(before, segment(get, 1), "inside")
        after = next_of(before, ports=["80"], labels={"hit": 1, "miss": 2}, fresh_s=10)
        assert self.label(after, segment(b"", 28), SECOND) == 2
        assert self.label(after, segment(get, 28), SECOND) == 1
        assert self.label(after, segment(get, 55), 11 * SECOND) == 2, "fresh for 10 s"
        assert after.metrics() == before.metrics()

    @staticmethod
    def label(nf: NetworkFunction, frame: bytes, now_us: int) -> int:
        from servernf.python.packet import PacketView

        view = PacketView()
        assert view.load(frame)
        view.context = 0
        nf.process(view, "inside", now_us)
        return view.context


def test_flow_monitor() -> None:
    before = make("flow_monitor")
    for port in (1, 2, 3):
        call(before, udp(IN, port, OUT, 53), "inside")
    after = next_of(before, max_flows=2)
    call(after, udp(OUT, 53, IN, 3), "outside")
    metrics = after.metrics()
    assert metrics[f"flow.17.{IN}.3-{OUT}.53.packets"] == 2
    assert (metrics["packets"], metrics["flows"]) == (4, 3)
    call(after, udp(IN, 4, OUT, 53), "inside")
    assert after.metrics()["flows"] == 2


def test_dedup() -> None:
    before = make("dedup", window_ms=50)
    frames = [udp(IN, port, OUT, 53) for port in (1, 2, 3)]
    for frame in frames:
        call(before, frame, "inside", SECOND)
    after = next_of(before, window_ms=1000, max_packets=1)
    assert call(after, frames[2], "inside", 3 * SECOND // 2)[0] is None
    call(after, udp(IN, 4, OUT, 53), "inside", 3 * SECOND // 2)
    assert after.metrics() == {"remembered": 1}


def test_dns_guard() -> None:
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0\3www\3com\0\0\1\0\1"
    answer = query[:2] + b"\x81\x80" + query[4:]
    before = make("dns_guard", ports=["53"])
    for port in (1, 2, 3):
        call(before, udp(IN, port, OUT, 53, query), "inside")
    after = next_of(before, ports=["53"], block=["www.com"], max_queries=1)
    assert call(after, udp(IN, 5, OUT, 53, query), "inside")[0] is None
    assert call(after, udp(OUT, 53, IN, 3, answer), "outside")[0] == "inside"
    assert call(after, udp(OUT, 53, IN, 3, answer), "outside")[0] is None, "it has been answered"
    call(after, udp(IN, 6, OUT, 53, query.replace(b"www", b"ftp")), "inside")
    assert after.metrics() == {"queries": 1}


class TestRates:
    def test_an_empty_bucket_stays_empty(self) -> None:
        rule = {"protocol": "udp", "rate": 8000, "burst": 64}
        before = make("policer", rules=[rule])
        frame = udp(IN, 1, OUT, 53)  # 50 bytes
        assert call(before, frame, "inside", 1)[0] == "outside"
        other = {"protocol": "tcp", "rate": 8, "burst": 64}
        after = next_of(before, rules=[other, {**rule, "rate": 16_000}])
        assert call(after, frame, "inside", 2)[0] is None
        assert call(before, frame, "inside", 3)[0] is None, "one bucket"
        assert call(after, frame, "inside", SECOND)[0] == "outside"
        assert after.metrics()["rule1.inside.red"] == 2, "counted with its rule"
        assert call(after, tcp(IN, 1, OUT, 80, "A"), "inside", SECOND)[0] == "outside", "full"

    def test_a_smaller_burst_holds_at_once(self) -> None:
        rule = {"rate": 8, "burst": 1000, "excess_burst": 1000}
        before = make("policer", rules=[rule])
        call(before, udp(IN, 1, OUT, 53), "inside", 1)
        after = next_of(before, rules=[{**rule, "burst": 64, "excess_burst": 64}])
        passed = [call(after, udp(IN, 1, OUT, 53), "inside", 2)[0] for _ in range(4)]
        assert passed.count("outside") == 2, "64 bytes of each"

    def test_another_kind_of_meter_starts_full(self) -> None:
        rule = {"rate": 8, "burst": 64}
        before = make("policer", rules=[rule])
        call(before, udp(IN, 1, OUT, 53), "inside", 1)
        after = next_of(before, rules=[{**rule, "peak_rate": 8, "peak_burst": 64}])
        assert call(after, udp(IN, 1, OUT, 53), "inside", 2)[0] == "outside"

    def test_a_queue_is_one(self) -> None:
        """What comes after leaves after what waits, though at the new rate."""
        before = make("traffic_shaper", rate=8000, burst=1514)
        big = udp(IN, 1, OUT, 53, bytes(1000))
        for _ in range(3):
            call(before, big, "inside", 1)
        (*_, last) = before.emitted
        after = next_of(before, rate=80_000, burst=1514)
        call(after, big, "inside", 2)
        (own,) = after.emitted
        assert last.at_us < own.at_us <= last.at_us + SECOND // 8
        assert after.metrics() == before.metrics()
        assert after.metrics()["waiting_bytes"] == 3 * len(big)


def test_sequence_numbers_go_on_within_an_association() -> None:
    config = {"spi": 256, "key_environment": "KEY"}
    before = make("aes_encrypt", **config)
    call(before, udp(IN, 1, OUT, 53), "inside")
    after = next_of(before, **config, mtu=1400)
    call(after, udp(IN, 1, OUT, 53), "inside")
    call(before, udp(IN, 1, OUT, 53), "inside")
    assert after.metrics()["sequence"] == 3
    assert next_of(before, **{**config, "spi": 257}).metrics()["sequence"] == 0
    assert next_of(before, **{**config, "key_environment": "OTHER"}).metrics()["sequence"] == 0

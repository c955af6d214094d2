"""l4_load_balancer: connections keep their backend, weights are kept, others pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nf_bench import Bench, Both, ether
from scapy.layers.inet import IP, TCP, UDP

CONFIG = {
    "virtual": [
        {
            "address": "203.0.113.80",
            "protocol": "tcp",
            "port": 80,
            "backends": [
                {"address": "10.0.1.11", "port": 8080, "weight": 3},
                {"address": "10.0.1.12", "port": 8081},
            ],
        }
    ]
}


def request(port: int, flags: str = "S", src: str = "198.51.100.13") -> Any:
    return IP(src=src, dst="203.0.113.80") / TCP(sport=port, dport=80, flags=flags)


def test_a_connection_keeps_its_backend_and_comes_back() -> None:
    bench = Bench("l4_load_balancer", CONFIG)
    for client in range(1000, 1020):
        port, frame = bench.send("outside", request(client)) or ("", None)
        assert port == "inside"
        backend, number = frame[IP].dst, frame[TCP].dport
        assert (backend, number) in {("10.0.1.11", 8080), ("10.0.1.12", 8081)}
        _, again = bench.send("outside", request(client, "A")) or ("", None)
        assert (again[IP].dst, again[TCP].dport) == (backend, number)
        answer = IP(src=backend, dst="198.51.100.13") / TCP(sport=number, dport=client)
        port, frame = bench.send("inside", answer) or ("", None)
        assert (port, frame[IP].src, frame[TCP].sport) == ("outside", "203.0.113.80", 80)


def test_weights() -> None:
    bench = Bench("l4_load_balancer", CONFIG)
    chosen = Counter(
        (bench.send("outside", request(port, src=f"198.51.100.{port % 250}")) or ("", None))[1][
            IP
        ].dst
        for port in range(1000, 1800)
    )
    assert 0.6 < chosen["10.0.1.11"] / 800 < 0.9


def test_others_pass() -> None:
    bench = Bench("l4_load_balancer", CONFIG)
    for packet in (IP(dst="203.0.113.80") / UDP(dport=80), IP(dst="10.0.1.1") / TCP(dport=80)):
        port, frame = bench.send("outside", packet) or ("", None)
        assert port == "inside"
        assert frame[IP].dst == packet[IP].dst
    stranger = IP(src="10.0.1.11", dst="198.51.100.13") / TCP(sport=8080, dport=77)
    _, frame = bench.send("inside", stranger) or ("", None)
    assert frame[IP].src == "10.0.1.11", "no connection: unchanged"


def test_an_idle_connection_is_forgotten() -> None:
    bench = Bench("l4_load_balancer", {**CONFIG, "idle_timeout_s": 10})
    _, frame = bench.send("outside", request(1000)) or ("", None)
    bench.wait(11)
    answer = IP(src=frame[IP].dst, dst="198.51.100.13") / TCP(sport=frame[TCP].dport, dport=1000)
    _, back = bench.send("inside", answer) or ("", None)
    assert back[IP].src == frame[IP].dst


def test_to_the_microsecond_the_runtime_forgets_when_the_reference_does() -> None:
    one = [{**CONFIG["virtual"][0], "backends": CONFIG["virtual"][0]["backends"][:1]}]
    for waited, remembered in ((9_999_999, True), (10_000_000, False)):
        both = Both("l4_load_balancer", virtual=one, idle_timeout_s=10)
        _, frame = both.one("outside", ether(request(1000)))
        both.now_us += waited
        source = {"sport": frame[TCP].dport, "dport": frame[TCP].sport}
        answer = IP(src=frame[IP].dst, dst=frame[IP].src) / TCP(**source)
        _, back = both.one("inside", ether(answer))
        assert (back[IP].src == "203.0.113.80") == remembered


def test_elements_and_addresses() -> None:
    function = Bench("l4_load_balancer", CONFIG).function
    assert function.elements("outside").entry == "virtual"
    assert set(function.elements("inside").elements) == {"backend", "return"}
    assert function.owned_addresses() == [("outside", 4, 0xCB007150)]

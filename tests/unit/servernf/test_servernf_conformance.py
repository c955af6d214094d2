"""The Python runtime does what every runtime must: the conformance suite over its API and its frames.

Two judge that were written apart from it: the suite's vectors, and the reference semantics, its oracle.
Blind spot: frames come over a Unix socket; interfaces are those of tests/emulated.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from orchestrator.model.packet import Packet
from orchestrator.nfs import known_types, lookup
from orchestrator.nfs.base import SimpleEnvironment
from servernf.conformance import calls, packets
from servernf.conformance.device import NotConforming, WorkerUnderTest, accept, listen
from servernf.conformance.frames import udp
from servernf.conformance.vectors import INSIDE, OUTSIDE, Exchange, Sent, Vector, judged

pytestmark = pytest.mark.slow

FRAME = udp("10.0.0.1", 7, "198.51.100.9", 9)
PERMIT = {"rules": [], "default": "permit"}
RULES = [{"protocol": "udp", "src": "10.0.0.0/25"}, {"protocol": "tcp", "dst_port": "80-100"}]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    folder = tmp_path_factory.mktemp("conformance")
    wire, api = folder / "wire", f"unix:{folder}/w.sock"
    command = f"-m servernf.python --name w --mac 02:00:00:01:00:01 --frames {wire} --api {api}"
    door = listen(wire)
    with subprocess.Popen([sys.executable, *command.split()], stdout=subprocess.DEVNULL) as worker:
        try:
            with WorkerUnderTest(api, accept(door)) as made:
                yield made
        finally:
            worker.kill()


@pytest.mark.parametrize("says", list(calls.CHECKS))
def test_calls(device: WorkerUnderTest, says: str) -> None:
    device.begin()
    calls.CHECKS[says](device)


@pytest.mark.parametrize("vector", packets.VECTORS, ids=lambda vector: vector.name)
def test_vectors(device: WorkerUnderTest, vector: Vector) -> None:
    packets.check(device, vector)


def test_every_nf_has_a_vector() -> None:
    assert {vector.nf for vector in packets.VECTORS} == set(known_types())


def sent(seed: int) -> list[Sent]:
    """Frames of few hosts and ports, so that rules and earlier packets fit some."""
    rng = random.Random(seed)
    made: list[Sent] = []
    for _ in range(60):
        hosts = [f"10.0.0.{rng.choice((1, 2, 200))}", f"198.51.100.{rng.choice((9, 10))}"]
        rng.shuffle(hosts)
        ip = IP(src=hosts[0], dst=hosts[1], ttl=rng.choice((1, 2, 64)), tos=rng.choice((0, 184)))
        if rng.random() < 0.1:
            ip = IPv6(src="2001:db8::1", dst="2001:db8::2")
        l4 = rng.choice((UDP, TCP))(sport=rng.choice((7, 8)), dport=rng.choice((80, 443)))
        ether = Ether(src="0a:00:00:00:00:01", dst="06:00:00:00:00:01")
        tag = Dot1Q(vlan=rng.choice((5, 6))) if rng.random() < 0.2 else None
        payload = ARP() if rng.random() < 0.05 else ip / l4 / b"some data"
        frame = ether / tag / payload if tag else ether / payload
        made.append((rng.choice((INSIDE, OUTSIDE)), bytes(frame)))
    return made


@pytest.mark.parametrize(
    ("nf", "config"),
    [
        (
            "acl",
            {
                "rules": [{**r, "action": "deny"} for r in RULES],
                "default": "permit",
                "reverse": "mirror",
            },
        ),
        ("router", {"routes": [{"prefix": "198.51.100.0/24"}, {"prefix": "2001:db8::/32"}]}),
        ("static_nat", {"pairs": [{"inside": "10.0.0.1", "outside": "198.51.100.9"}]}),
        ("stateful_firewall", {"rules": [{**r, "action": "permit"} for r in RULES]}),
        ("dnat", {"address": "10.0.0.200", "port": 8080}),
        ("dscp_marker", {"rules": [{**r, "dscp": "EF"} for r in RULES], "reverse": "same"}),
        ("ttl_guard", {"rules": [{**r, "min": 2, "max": 63, "action": "clamp"} for r in RULES]}),
        ("vlan_push", {"vid": 7}),
        ("vlan_pop", {"vid": 5}),
        (
            "hash_lb",
            {"virtual": [{"address": "198.51.100.9", "backends": [{"address": "10.0.0.1"}]}]},
        ),
    ],
)
def test_as_the_reference_semantics(
    device: WorkerUnderTest, nf: str, config: dict[str, Any]
) -> None:
    cls = lookup(nf)
    function = cls("nf", cls.Config.model_validate(config))

    def oracle(_nf: str, _config: Mapping[str, Any], frames: Sequence[Sent]) -> list[list[Sent]]:
        reference, world = function.reference(), SimpleEnvironment()
        return [
            [
                (left, p.to_bytes())
                for left, p in reference.process(Packet.parse(frame), port, world)
            ]
            for port, frame in frames
        ]

    vector = judged(nf, function.runtime_config(), sent(5), oracle)
    assert any(step.out for step in vector.steps)
    packets.check(device, vector)


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ((), "step 2: entered by inside, left by outside; should be nothing"),
        (((INSIDE, FRAME),), "step 2: entered by inside, left by outside; should be inside"),
        (((OUTSIDE, FRAME[:-1] + b"!"),), f"step 2: {FRAME.hex()} left; should be "),
        (((OUTSIDE, lambda _frame: "too nice"),), "step 2: too nice"),
    ],
)
def test_what_does_not_conform_is_told(device: WorkerUnderTest, out: Any, told: str) -> None:
    good = Exchange(INSIDE, FRAME, ((OUTSIDE, FRAME),))
    wrong = Vector("acl", "wrong", PERMIT, (good, replace(good, out=out)))
    with pytest.raises(NotConforming, match="^" + told.replace("(", ".")):
        packets.check(device, wrong)


def test_counters_that_do_not_conform_are_told(device: WorkerUnderTest) -> None:
    step = Exchange(INSIDE, FRAME, ((OUTSIDE, FRAME),))
    wrong = Vector("flow_monitor", "wrong", {}, (step,), metrics={"flows": 2})
    with pytest.raises(NotConforming, match=r"nf\.flows is 1; should be 2"):
        packets.check(device, wrong)


def test_a_call_that_should_be_refused_and_is_not(device: WorkerUnderTest) -> None:
    device.begin()
    with pytest.raises(NotConforming, match="accepted; should be refused with NOT_FOUND"):
        calls.refused(device, grpc.StatusCode.NOT_FOUND, (), lambda: calls.configure(device))


def test_the_command(tmp_path: Any) -> None:
    """It prints what passed, and 0 says that all did."""
    wire, api = tmp_path / "wire", f"unix:{tmp_path}/w.sock"
    suite = [
        *["-m", "servernf.conformance", "--only", "chains", "--frames"],
        str(wire),
        "--api",
        api,
    ]
    worker = f"-m servernf.python --name w --mac 02:00:00:01:00:01 --frames {wire} --api {api}"
    with subprocess.Popen([sys.executable, *suite], stdout=subprocess.PIPE, text=True) as testing:
        while not wire.exists() and testing.poll() is None:
            pass
        with subprocess.Popen([sys.executable, *worker.split()], stdout=subprocess.DEVNULL):
            told, _ = testing.communicate(timeout=120)
    assert testing.returncode == 0
    assert told.splitlines()[-1] == "1 passed, 0 failed, 0 of what the worker has not"

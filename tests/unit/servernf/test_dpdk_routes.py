"""Routes in C: ranges that are searched, and DPDK's tables of many prefixes.

Oracle: the Python runtime, which has a dictionary for each length. Blind spot: how fast each is
(`make bench ONLY=dpdk_routes_ns`).
"""

from __future__ import annotations

import gzip
import json
import random
import struct
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from dpdk_support import NEEDS_COMPILER, NEXT, running, tagged
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from servernf_support import ether

from servernf.dpdk.nfs import router
from servernf.dpdk.worker import DpdkWorker
from servernf.host.compiling import dpdk_missing
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.changes import NfSpec
from servernf.python.runtime.worker import Worker
from servernf.wire.errors import ServerError

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]
NEEDS_DPDK = pytest.mark.skipif(bool(dpdk_missing()), reason=dpdk_missing() or "DPDK is here")
RIB = Path(__file__).resolve().parents[4] / "shared" / "data" / "rib"
PORTS = tuple(f"port{n}" for n in range(6))
MANY = {"searched": 1 << 32, "in DPDK's tables": 1}


@pytest.fixture(scope="module")
def worker() -> Iterator[DpdkWorker]:
    with running() as made:
        yield made


@pytest.fixture(params=MANY)
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """From how many prefixes on they are DPDK's."""
    monkeypatch.setattr(router, "MANY_PREFIXES", MANY[request.param])
    return MANY[request.param]


def routed(
    worker: Worker, routes: dict[str, str], to: Sequence[int], *, version: int
) -> list[bytes]:
    """What leaves of packets to these addresses, by routes to ports."""
    config = {"routes": [{"prefix": p, "port": port} for p, port in routes.items()]}
    worker.remove_graph("g")
    worker.configure("g", [NfSpec("g/nf", "router", json.dumps(config))])
    for number, port in enumerate(sorted(set(routes.values()))):
        out = [ExitHop(NEXT, 100 + number, 7)]
        worker.service_chain("g/nf", ChainScope(40, 255, "inside", port), out)
    if not routes:
        worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [ExitHop(NEXT, 9, 7)])
    kind, source = (IP, "10.0.0.1") if version == 4 else (IPv6, "2001:db8::1")
    template = bytearray(ether(kind(src=source, dst=source) / UDP(chksum=0)))
    at, size = (30, 4) if version == 4 else (38, 16)
    frames: list[bytes] = []
    for address in to:
        template[at : at + size] = address.to_bytes(size, "big")
        frames.append(tagged(bytes(template), 40))
    return worker.process(frames)


def ends(prefixes: Iterator[str] | dict[str, str]) -> list[int]:
    """One address before each, its first and last, and one behind."""
    places: set[int] = set()
    for text in prefixes:
        net = ip_network(text)
        for end in (int(net.network_address), int(net.broadcast_address)):
            places |= {max(end - 1, 0), end, min(end + 1, (1 << net.max_prefixlen) - 1)}
    return sorted(places)


def prefixes_of(version: int, count: int, seed: int) -> dict[str, str]:
    """Of all lengths, many of them within each other."""
    rng = random.Random(seed)
    width = 32 if version == 4 else 128
    lengths = (*range(width + 1), *(24, 24, 24, 32, 48, 64)[: 4 if version == 4 else 6])
    roots = [rng.getrandbits(width) for _ in range(max(1, count // 8))]
    made: dict[str, str] = {}
    for _ in range(count):
        free = rng.randrange(width)
        prefix = ip_network(
            (rng.choice(roots) ^ rng.getrandbits(width - free), rng.choice(lengths)), False
        )
        made[str(prefix)] = rng.choice(PORTS)
    return made


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("count", [0, 1, 40, 5_000])
def test_routes_are_found_as_by_the_python_runtime(
    worker: DpdkWorker, count: int, version: int, many: int
) -> None:
    """Where the longest prefix changes, one address before and one behind."""
    routes = prefixes_of(version, count, seed=count)
    there = int(ip_address("198.51.100.9" if version == 4 else "2001:db8::9"))
    places = ends(routes)
    wanted = [*random.Random(2).sample(places, min(len(places), 600)), there]
    left = [
        routed(one, routes, wanted, version=version)
        for one in (worker, Worker("w", worker.core_mac))
    ]
    assert left[0] == left[1]
    assert (len(left[0]) > 100) == (count > 1)
    told = worker.metrics().get("g/nf.fib_prefixes", 0)
    assert (told > 0) == (count > 0 and many == 1 and not dpdk_missing())


@NEEDS_DPDK
def test_what_memory_does_not_hold_is_searched(
    worker: DpdkWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the memory of what has gone is there for the next."""
    monkeypatch.setattr(router, "MANY_PREFIXES", 1)
    config = json.dumps({"routes": [{"prefix": "198.51.100.0/24"}, {"prefix": "2001:db8::/48"}]})
    names = [f"g/{n}" for n in range(14)]
    worker.remove_graph("g")
    worker.configure("g", [NfSpec(name, "router", config) for name in names])
    counts = worker.metrics()
    told = [counts[f"{name}.fib_prefixes"] for name in names]
    assert told[0] == 2
    assert told[-1] < 2
    routes = {"198.51.0.0/16": "port0", "198.51.100.0/24": "port1"}
    to = [0xC633_6409, 0xC633_0001, 0xC634_0001]
    worker.configure("h", [NfSpec("h/nf", "router", config)])
    worker.remove_graph("h")
    left = routed(worker, routes, to, version=4)
    assert left == routed(Worker("w", worker.core_mac), routes, to, version=4)
    assert worker.metrics()["g/nf.fib_prefixes"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        struct.pack("=I", 1),
        struct.pack("=I", 0xFFFF_FFFF),
        struct.pack("=IQQII", 1, 0, 0, 33, 0),
        struct.pack("=IQQII", 1, 1 << 32, 0, 32, 0),
        struct.pack("=IQQII", 1, 0, 1, 32, 0),
        struct.pack("=IQQII", 1, 0, 0, 32, 1),
    ],
)
def test_prefixes_that_are_none_are_refused(
    worker: DpdkWorker, monkeypatch: pytest.MonkeyPatch, wrong: bytes
) -> None:
    monkeypatch.setattr(router, "_prefixes", lambda _told: wrong)
    config = json.dumps({"routes": [{"prefix": "0.0.0.0/0"}]})
    with pytest.raises(ServerError, match="refuses"):
        worker.configure("bad", [NfSpec("bad/nf", "router", config)])
    assert "bad/nf" not in worker.tables.instances


@NEEDS_DPDK
@pytest.mark.exhaustive
@pytest.mark.parametrize(("version", "name"), [(4, "ipv4_20140513"), (6, "ipv6_20151101")])
def test_real_tables_as_by_the_python_runtime(worker: DpdkWorker, version: int, name: str) -> None:
    path = RIB / f"{name}.dat.gz"
    if not path.exists():
        pytest.skip(f"../shared/data/rib/{path.name} is not here")
    routes: dict[str, str] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            words = line.split()
            if len(words) == 2 and words[0] != ";" and (":" in words[0]) == (version == 6):
                routes[words[0]] = PORTS[hash(words[1]) % 6 if words[1].isdecimal() else 0]
    some = random.Random(1).sample(sorted(routes), 20_000)
    to = ends(dict.fromkeys(some, ""))
    left = [
        routed(one, routes, to, version=version) for one in (worker, Worker("w", worker.core_mac))
    ]
    assert left[0] == left[1]
    assert len(left[0]) > 10_000
    assert worker.metrics()["g/nf.fib_prefixes"] > 10_000

"""Figures of NFs on DPDK: one core, frames with NSH made in the loop, null device to null device.

Frames are 98 bytes: 60 of IPv4 and UDP in an NSH tag, of 4,096 or a million flows; they come and go as
in service, with path lookup and counters. Time is CPU time of the thread, the least of
seven rounds that take turns with raw null to null.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import struct
import subprocess
import tempfile
import time
import unittest.mock
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

from figures import Missing, Result, figure

from orchestrator.graph import load_graph
from orchestrator.model.graph import NfInstance
from orchestrator.nfs.base import lookup
from orchestrator.resources import shipped
from servernf.dpdk.building import FLAGS, build, own_files
from servernf.dpdk.engine import NfEngine
from servernf.dpdk.memory import WORDS
from servernf.dpdk.nfs import router
from servernf.dpdk.process import ProcessRequest, WorkerProcess
from servernf.dpdk.worker import DpdkWorker
from servernf.host.compiling import SourceFiles, c_files, compiled, dpdk_flags, hyperscan_flags
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.changes import NfSpec
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh
from servernf.wire.errors import EnvironmentMissing

HERE = Path(__file__).parent
METRON = HERE.parents[2] / "shared" / "data" / "metron"
MAC = 0x0200_0001_0001
_ENDS = struct.Struct("!II")
FLOWS = 4096
PASSES: dict[str, Any] = {"rules": [], "default": "permit"}
ONE_RULE: list[dict[str, Any]] = [{"dst_port": 53, "protocol": "udp"}]
CONFIGS: dict[str, dict[str, Any]] = {
    "acl": {"rules": [{**ONE_RULE[0], "action": "permit"}], "default": "deny"},
    "dnat": {"address": "198.51.100.9"},
    "dscp_marker": {"rules": [{**ONE_RULE[0], "dscp": 46}]},
    "napt": {"addresses": ["203.0.113.1", "203.0.113.2"]},
    "policer": {"rules": [{**ONE_RULE[0], "rate": 10**12, "burst": 1 << 30}]},
    "router": {
        "routes": [
            *({"prefix": f"198.{n}.{k}.0/24"} for n in range(18, 52) for k in range(1, 256, 3)),
        ],
    },
    "stateful_firewall": {"rules": [{"action": "permit"}]},
    "static_nat": {
        "pairs": [{"inside": f"10.0.0.{n}", "outside": f"203.0.113.{n}"} for n in range(1, 255)]
    },
    "ttl_guard": {"rules": [{**ONE_RULE[0], "min": 1, "max": 255}]},
    "vlan_pop": {},
    "vlan_push": {"vid": 7},
    "flow_monitor": {},
    "vxlan_encap": {"vni": 7, "local": "192.0.2.1", "remote": "192.0.2.2"},
}


class _Recorded(WorkerProcess):
    """A process whose questions are kept."""

    said: bytearray

    def ask(self, kind: ProcessRequest, payload: bytes = b"", number: int = 0) -> bytes:
        if kind == ProcessRequest.HELLO:
            self.said = bytearray()
        else:
            self.said += struct.pack("=III", 12 + len(payload), kind, number) + payload
        return super().ask(kind, payload, number)


def _pairs(flows: int) -> Iterable[tuple[int, int]]:
    return ((0x0A00_0000 + n, 0xC633_6409) for n in range(flows))


def executable_of(name: str) -> Path:
    """A program of this folder with the engine and its NFs."""
    try:
        dpdk, libraries = dpdk_flags()
        own = own_files()
        names = [name, "messages.c", *(n for n in own if n.endswith(".c"))]
        names.remove("process.c")
        files = c_files() | own | {name: (HERE / name).read_bytes()}
        flags = [*(flag for flag in FLAGS if flag != "-Werror"), *dpdk]
        libraries = (*libraries, *hyperscan_flags(), "-lm")
        return compiled(SourceFiles(files, names, flags, libraries), "the bench")
    except EnvironmentMissing as error:
        raise Missing(str(error)) from None


def recorded(configure: Callable[[DpdkWorker], None]) -> tuple[bytes, bytes]:
    """Memory and messages of a worker that is configured."""
    process = build(dpdk=False)
    engine = NfEngine(MAC, lambda memory: _Recorded(process, MAC, memory))
    worker = DpdkWorker("w", MAC, engine)
    configure(worker)
    recording = worker.engine.process
    assert isinstance(recording, _Recorded)
    memory = struct.pack(f"={WORDS}Q", *worker.engine.memory.read(0, WORDS))
    worker.close()
    return memory, bytes(recording.said)


def measured(
    *chain: tuple[str, dict[str, Any]],
    flows: int = FLOWS,
    between: Iterable[tuple[int, int]] = (),
) -> tuple[float, float, float]:
    """Nanoseconds a packet: raw, generated, generated and through a chain of NFs; flows are `between`
    these (source, destination), else so many hosts and one server."""
    nfs = [f"g/{index}" for index in range(len(chain))]
    specs = [NfSpec(n, kind, json.dumps(c)) for n, (kind, c) in zip(nfs, chain, strict=True)]
    hops = [NfHop(name, "inside") for name in nfs[1:]]

    def configure(worker: DpdkWorker) -> None:
        worker.configure("g", specs)
        worker.service_chain(
            nfs[0], ChainScope(1, 255, "inside"), [*hops, ExitHop(0x0200_0002_0000, 1, 254)]
        )

    executable = executable_of("dpdk_nfs.c")
    ends = b"".join(_ENDS.pack(*pair) for pair in between or _pairs(flows))
    parts = (*recorded(configure), ends)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("memory", "messages", "flows")]
        for path, part in zip(paths, parts, strict=True):
            path.write_bytes(part)
        run = subprocess.run([executable, *paths], capture_output=True, text=True, check=True)
    raw, generated, engine, came, left = map(float, run.stdout.split())
    assert came == left > 0, "packets are dropped"
    return raw, generated, engine


POOL: dict[str, Any] = {"addresses": [f"203.0.113.{n}" for n in range(1, 33)]}
MANY_FLOWS = 1_000_000


def _ratio(
    chain: Sequence[tuple[str, dict[str, Any]]],
    flows: int,
    between: Iterable[tuple[int, int]] = (),
) -> Result:
    raw, generated, engine = measured(*chain, flows=flows, between=between)
    return {
        "value": round(raw / engine, 3),
        "compared_with": {"raw_ns": raw},
        "ns": engine,
        "mpps": round(1000 / engine, 2),
        "without_generation": round(raw / (raw + engine - generated), 3),
        "generated_ns": generated,
        "flows": flows,
    }


@figure("dpdk_forward_ratio", unit="ratio", goal=0.45)
def dpdk_forward_ratio() -> Result:
    """An NF that lets everything pass: packets a second over raw null to null. FastClick: 0.40."""
    return _ratio([("acl", PASSES)], FLOWS)


@figure("dpdk_napt_ratio", unit="ratio", goal=0.25)
def dpdk_napt_ratio() -> Result:
    """A NAPT at 4,096 flows: packets a second over raw null to null. FastClick: 0.18."""
    return _ratio([("napt", POOL)], FLOWS)


@figure("dpdk_napt_1m_ratio", unit="ratio", goal=0.12)
def dpdk_napt_1m_ratio() -> Result:
    """The same at 1,000,000 flows. FastClick: 0.013."""
    return _ratio([("napt", POOL)], MANY_FLOWS)


def _metron() -> tuple[list[tuple[str, dict[str, Any]]], list[int], list[int]]:
    """Metron's firewall of 643 rules, its router of 3,117 routes, and a NAPT; what both let pass."""
    texts: list[list[str]] = []
    for name in ("firewall", "router"):
        path = METRON / f"{name}.json"
        if not path.exists():
            raise Missing(f"../shared/data/metron/{path.name} is not here")
        told = json.loads(path.read_text())["entries"]
        texts.append([entry["trafficClass"].split()[-1] for entry in told])
    rules = [{"src": prefix, "action": "permit"} for prefix in texts[0]]
    chain = [
        ("acl", {"rules": rules, "default": "deny"}),
        ("router", {"routes": [{"prefix": prefix} for prefix in dict.fromkeys(texts[1])]}),
        ("napt", POOL),
    ]
    sources, destinations = (
        [int(p.network_address) for p in map(ip_network, of) if not _is_martian(p.network_address)]
        for of in texts
    )
    return chain, sources, destinations


def _is_martian(address: IPv4Address | IPv6Address) -> bool:
    """A router drops it (RFC 1812, 5.3.7)."""
    kinds = address.is_loopback, address.is_multicast, address.is_link_local, address.is_reserved
    return any(kinds) or address.packed[0] == 0


def _chain_ratio(flows: int) -> Result:
    chain, sources, destinations = _metron()
    between = (
        (sources[n % len(sources)] + n // len(sources) + 1, destinations[n % len(destinations)])
        for n in range(flows)
    )
    return _ratio(chain, flows, between)


@figure("dpdk_chain_ratio", unit="ratio", goal=0.15)
def dpdk_chain_ratio() -> Result:
    """Metron's firewall, router and NAPT at 4,096 flows: packets a second over raw null to null.

    FastClick: 0.09."""
    return _chain_ratio(FLOWS)


@figure("dpdk_chain_1m_ratio", unit="ratio", goal=0.09)
def dpdk_chain_1m_ratio() -> Result:
    """The same at 1,000,000 flows. FastClick: 0.013."""
    return _chain_ratio(MANY_FLOWS)


def _offloaded(
    chain: Sequence[tuple[str, dict[str, Any]]], left: int, between: Sequence[tuple[int, int]]
) -> dict[str, float]:
    """Nanoseconds of a chain, and of its last `left` NFs, which switches leave to the core."""
    whole = measured(*chain, between=between)[2]
    rest = measured(*chain[-left:], between=between)[2]
    return {"whole_ns": whole, "left_ns": rest, "gain": round(whole / rest, 2)}


@figure("dpdk_offload_gain", unit="times")
def dpdk_offload_gain() -> Result:
    """Packets a second of what is left on the core over those of the whole chain there: Metron's chain,
    its firewall of 999 rules before a NAPT, and the campus edge; the least."""
    chain, sources, destinations = _metron()
    pairs = [
        (sources[n % len(sources)] + 1, destinations[n % len(destinations)]) for n in range(FLOWS)
    ]
    gains = {"metron": _offloaded(chain, 1, pairs)}
    rules, inside = _pairs_of_prefixes()
    wide = [("acl", {"rules": rules, "default": "deny"}), ("napt", POOL)]
    gains["metron_999_rules"] = _offloaded(wide, 1, inside)
    edge = load_graph(shipped("examples") / "campus_edge" / "graph.json").graph.nfs
    names = ("edge_acl", "edge_router", "edge_nat", "edge_ids")
    campus = [(edge[name].type, as_sent(edge[name])) for name in names]
    hosts = [(0x0A00_0100 + n % 250, 0xC633_640D) for n in range(1, FLOWS + 1)]
    gains["campus_edge"] = _offloaded(campus, 2, hosts)
    return {"value": min(each["gain"] for each in gains.values()), "compared_with": gains}


def as_sent(nf: NfInstance) -> dict[str, Any]:
    """The configuration that a worker is given of an NF of a graph; of a router, the prefixes alone."""
    config = dict(lookup(nf.type)(nf.name, nf.config).runtime_config())
    if nf.type == "router":
        return {"routes": [{"prefix": route["prefix"]} for route in config["routes"]]}
    return config


def _pairs_of_prefixes() -> tuple[list[dict[str, str]], list[tuple[int, int]]]:
    """Metron's 999 rules of source and destination (the last one denies the rest), and their flows."""
    path = METRON / "firewall-1000rules.json"
    if not path.exists():
        raise Missing(f"../shared/data/metron/{path.name} is not here")
    words = [entry["trafficClass"].split() for entry in json.loads(path.read_text())["entries"]]
    rules = [{"src": of[3], "dst": of[-1], "action": "permit"} for of in words[:-1]]
    ends = [(ip_network(rule["src"])[1], ip_network(rule["dst"])[1]) for rule in rules]
    flows = [(int(a), int(b)) for a, b in ends if not (_is_martian(a) or _is_martian(b))]
    return rules, [flows[n % len(flows)] for n in range(FLOWS)]


@figure("dpdk_nf_ns", unit="ns")
def dpdk_nf_ns() -> Result:
    """What each NF adds to forwarding, of one packet."""
    _, _, forward = measured(("acl", PASSES))
    nf_ns = {
        kind: round(measured(("acl", PASSES), (kind, config))[2] - forward, 1)
        for kind, config in CONFIGS.items()
        if kind != "vlan_pop"
    }
    return {"value": max(nf_ns.values()), "compared_with": {"forward_ns": forward}, "ns": nf_ns}


ROUTES_FROM = 1 << 30, router.MANY_PREFIXES
"""From how many prefixes on they are in DPDK's tables: none ever, and as in service."""


@figure("dpdk_routes_ns", unit="ns")
def dpdk_routes_ns() -> Result:
    """A router of the 512,621 routes of 2014, by DPDK's tables: of one packet, to 1,000,000
    destinations; beside it to 4,096, and routes searched as ranges."""
    path = HERE.parents[2] / "shared" / "data" / "rib" / "ipv4_20140513.dat.gz"
    if not path.exists():
        raise Missing(f"../shared/data/rib/{path.name} is not here")
    lines = (line.split() for line in gzip.decompress(path.read_bytes()).decode().splitlines())
    prefixes = list(dict.fromkeys(words[0] for words in lines if len(words) == 2))
    hops = {f"192.0.2.{n}": f"0a:00:00:00:01:{n:02x}" for n in range(32)}
    ways = itertools.cycle(hops)
    routes = [
        {"prefix": prefix, "next_hop": way} for prefix, way in zip(prefixes, ways, strict=False)
    ]
    config = {"routes": routes, "neighbors": hops, "gateway_mac": "06:00:00:00:00:01"}
    places = [net for net in map(ip_network, prefixes) if not _is_martian(net.network_address)]
    rng = random.Random(1)
    ns: dict[str, float] = {}
    for flows, many in itertools.product((FLOWS, MANY_FLOWS), ROUTES_FROM):
        to = (int(net[rng.randrange(net.num_addresses)]) for net in rng.choices(places, k=flows))
        between = [(0x0A00_0000 + n, place) for n, place in enumerate(to)]
        with unittest.mock.patch.object(router, "MANY_PREFIXES", many):
            kind = "searched" if many == ROUTES_FROM[0] else "tables"
            ns[f"{kind}_{flows}"] = measured(("router", config), between=between)[2]
    return {"value": ns[f"tables_{MANY_FLOWS}"], "compared_with": ns}


PYTHON_FRAMES, PYTHON_BATCH = 8192, 64


def _python_ns(kind: str, config: dict[str, Any]) -> float:
    """What a packet of the same flows takes a Python worker, the least of three rounds."""
    worker = Worker("w", MAC)
    worker.configure("g", [NfSpec("g/0", kind, json.dumps(config))])
    worker.service_chain("g/0", ChainScope(1, 255, "inside"), [ExitHop(0x0200_0002_0000, 1, 254)])
    frames: list[bytes] = []
    for source, destination in _pairs(FLOWS):
        ends = _ENDS.pack(source, destination)
        header = bytes.fromhex("4500002e0000400040110000") + ends
        udp = struct.pack("!HHHH", 4096, 53, 26, 0) + bytes(18)
        inner = bytes.fromhex("0600000000010a00000000100800") + header + udp
        frames.append(nsh.encode(nsh.Tag(MAC, 0x0200_0002_0000, 1, 255), inner))
    least = float("inf")
    for _ in range(3):
        before = time.thread_time_ns()
        for at in range(0, PYTHON_FRAMES, PYTHON_BATCH):
            first = at % FLOWS
            worker.process(frames[first : first + PYTHON_BATCH])
        least = min(least, (time.thread_time_ns() - before) / PYTHON_FRAMES)
    return least


@figure("dpdk_vs_python", unit="times")
def dpdk_vs_python() -> Result:
    """How many times as many packets an NF in C does as in Python, of the same flows; the least."""
    times_slower: dict[str, float] = {}
    for kind, config in CONFIGS.items():
        if kind != "vlan_pop":
            times_slower[kind] = round(_python_ns(kind, config) / measured((kind, config))[2], 1)
    return {
        "value": min(times_slower.values()),
        "compared_with": {"python": 1},
        "times": times_slower,
    }

"""The demo's claims, one by one, on a live network with real hosts, on the softswitch and on BMv2.

Oracle: the hosts' own kernels (TCP, UDP, ICMP, ARP, ND) and the counters read back by the command
line. Blind spot: what a host cannot see (the reference interpreter's tests look there).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, command_line, orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, TRAFFIC, Live, network
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from support import eventually

from orchestrator.clients.vnf import WorkerClient
from orchestrator.emulation import net_status, run_in_host, start_in_host
from orchestrator.graph import load_graph
from orchestrator.model import ids
from orchestrator.model.elements import DROP, FilterProgram
from orchestrator.model.entries import TableEntry
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import lookup
from orchestrator.nfs.matching import first_output
from servernf.host.packetio import PacketSocket
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = NEEDS_EMULATION

GRAPH = "campus_edge"
GATEWAY = mac_text(GATEWAY_MAC)
H1, H3, H4 = "10.0.1.11", "198.51.100.13", "198.51.100.14"
H1_IPV6, H3_IPV6 = "2001:db8:1::11", "2001:db8:2::13"
H1_MAC, H3_MAC = "0a:00:00:00:00:01", "0a:00:00:00:00:03"
HTTP, ECHO, SINK = "8080", "5000", "8000"
"""Ports that the demo's ACL permits; the IDS reads HTTP and SINK."""
BYTES = 12_000_000
MALFORMED = 10_000


@dataclass(frozen=True)
class Campus(Live):
    """The network with the demo graph deployed and servers on h3."""

    pool: tuple[str, ...] = ()
    signature: str = ""

    def whoami(self, host: str) -> str:
        """The address that the host outside sees."""
        seen = self.traffic(host, "get", f"http://{H3}:{HTTP}/whoami")["text"]
        return seen.removeprefix("::ffff:")

    def works(self) -> None:
        """Every kind of traffic of the demo gets through."""
        self.comes_to_ping("h1", H3)
        self.comes_to_ping("h2", "2001:db8:2::14")
        assert self.traffic("h1", "udp", H3, ECHO)["answered"]
        assert self.whoami("h2") in self.pool

    def denied(self) -> list[dict[str, Any]]:
        """The ACL's deny entries on h1's switch that packets have hit."""
        entries = self.tables("leaf1", "--nf", "edge_acl", "--hit", "--limit", "0")
        return [entry for entry in entries if "deny" in entry["action"]]


@pytest.fixture(scope="module", params=SWITCHES)
def campus(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campus]:
    """The demo, deployed by the command line, on leaf-spine with two hosts more."""
    graph = load_graph(CAMPUS_EDGE).graph
    with ExitStack() as stack:
        topology = tmp_path_factory.mktemp("topology") / "leaf-spine-6.json"
        topology.write_text(json.dumps(_topology_with_more_hosts()))
        live = stack.enter_context(network(str(topology), request.param, f"ce-{request.param}"))
        orchestrator("deploy", str(CAMPUS_EDGE), "--network", live.name)
        for words in (("serve", HTTP, "--bytes", str(BYTES)), ("udp-serve", ECHO), ("sink", SINK)):
            server = start_in_host(live.state, "h3", [sys.executable, str(TRAFFIC), *words])
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
        (nat,) = (nf for nf in graph.nfs.values() if nf.type == "napt")
        (ids,) = (nf for nf in graph.nfs.values() if nf.type == "ids")
        yield Campus(
            live.name,
            live.state,
            live.folder,
            tuple(str(IPv4Address(a)) for a in nat.config.addresses),
            next(
                s.content
                for s in ids.config.all_signatures
                if s.protocol == "tcp" and s.content.isprintable() and "|" not in s.content
            ),
        )


def _topology_with_more_hosts() -> dict[str, Any]:
    """leaf-spine with h5 and h6, which belong to a second graph."""
    raw = json.loads((ROOT / "topologies" / "leaf-spine.json").read_text())
    for host, leaf, prefix in (("h5", "leaf1", "10.0.5"), ("h6", "leaf2", "10.0.6")):
        raw["hosts"][host] = {"addresses": [f"{prefix}.1/24"], "gateways": [f"{prefix}.254"]}
        raw["links"].append({"a": leaf, "b": host})
    return raw


# What passes.


def test_ping_over_ipv4_and_ipv6(campus: Campus) -> None:
    for target in (H3, H4, H3_IPV6, "2001:db8:2::14"):
        assert campus.pings("h1", target)
    assert campus.pings("h3", H1_IPV6), "IPv6 is not translated: the outside may begin"


def test_gateways_answer_without_static_neighbours(campus: Campus) -> None:
    campus.comes_to_ping("h2", H3)
    campus.comes_to_ping("h2", H3_IPV6)
    shown = run_in_host(campus.state, "h2", ["ip", "-json", "neigh"], check=True)
    neighbours = {n["dst"]: n for n in json.loads(shown.stdout)}
    for gateway in ("10.0.1.1", "2001:db8:1::1"):
        assert neighbours[gateway]["lladdr"] == GATEWAY
        assert "PERMANENT" not in neighbours[gateway]["state"]


def test_arp_answers_for_the_pool(campus: Campus) -> None:
    for address in campus.pool:
        asked = Ether(src=H3_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(
            hwsrc=H3_MAC, psrc=H3, pdst=address
        )
        replies = campus.frames(
            "h3", "ask", "eth0", "2", socket.inet_aton(address).hex(), lines=[bytes(asked)]
        )
        assert replies, f"nobody answers for {address}"
        answer = Ether(replies[0])[ARP]
        assert (answer.op, answer.psrc, answer.hwsrc) == (2, address, GATEWAY)


def test_udp_is_answered(campus: Campus) -> None:
    seen = campus.traffic("h1", "udp", H3, ECHO)
    assert seen["answered"]
    assert seen["seen_as"].rpartition(":")[0] in campus.pool


def test_download_is_byte_identical(campus: Campus) -> None:
    got = campus.traffic("h1", "get", f"http://{H3}:{HTTP}/")
    assert got["bytes"] == BYTES >= 10_000_000
    assert got["sha256"] == hashlib.sha256(random.Random(2016).randbytes(BYTES)).hexdigest()


def test_outside_sees_one_pool_address_for_each_host(campus: Campus) -> None:
    seen = {host: {campus.whoami(host) for _ in range(3)} for host in ("h1", "h2")}
    for addresses in seen.values():
        assert len(addresses) == 1
        assert addresses <= set(campus.pool)


# What does not pass.


def test_denied_flows_are_dropped_and_counted_in_the_switch(campus: Campus) -> None:
    (acl,) = (nf for nf in load_graph(CAMPUS_EDGE).graph.nfs.values() if nf.type == "acl")
    flow, origin = _denied_flow(acl.config)
    before = sum(entry["packets"] for entry in campus.denied())
    arrived = campus.counted("frames_in")

    campus.frames("h1", "send", "eth0", "1000", lines=[flow] * 37)

    def all_counted() -> list[dict[str, Any]]:
        entries = campus.denied()
        return entries if sum(e["packets"] for e in entries) >= before + 37 else []

    entries = eventually(all_counted)
    assert sum(entry["packets"] for entry in entries) == before + 37
    (hit,) = (entry for entry in entries if entry["origin"].endswith(origin))
    assert hit["graph"] == GRAPH
    assert hit["packets"] >= 37
    assert campus.counted("frames_in") == arrived, "a denied packet came to a worker"


def _denied_flow(config: Any) -> tuple[bytes, str]:
    """A frame from h1 that a deny rule (not the default) matches first, and that rule's origin."""
    program = lookup("acl")("edge_acl", config).elements("inside").elements["rules"].program
    assert isinstance(program, FilterProgram)
    for match, action, origin in config.all_rules:
        if action != "deny" or match.version == 6 or match.protocol not in (None, 6, 17):
            continue
        target = socket.inet_ntoa(match.dst.value.to_bytes(4, "big")) if match.dst else H3
        layer = UDP if match.protocol == 17 else TCP
        port = match.dst_port.low if match.dst_port else 9
        head = Ether(src=H1_MAC, dst=GATEWAY) / IP(src=H1, dst=target)
        frame = bytes(head / layer(sport=40_000, dport=port))
        if first_output(program, Packet.parse(frame)) == (DROP, origin):
            return frame, origin
    raise AssertionError("the demo's ACL denies nothing that h1 could send")


def test_a_split_signature_is_caught_on_the_server(campus: Campus) -> None:
    before = campus.counted(f"{GRAPH}/edge_ids.drop.signature")
    assert not campus.traffic("h1", "split", H3, SINK, f"this is {campus.signature} indeed")[
        "answered"
    ]
    assert campus.counted(f"{GRAPH}/edge_ids.drop.signature") == before + 1


def test_harmless_text_passes(campus: Campus) -> None:
    before = campus.counted(f"{GRAPH}/edge_ids.alerts")
    assert campus.traffic("h1", "split", H3, SINK, "this is a harmless text, indeed")["answered"]
    assert campus.counted(f"{GRAPH}/edge_ids.alerts") == before


def test_nobody_outside_may_begin(campus: Campus) -> None:
    """Neither to an inside address nor to an unmapped port of the pool."""
    listener = start_in_host(
        campus.state, "h1", [sys.executable, "-c", _LISTEN, "4444"], stderr=None
    )
    assert listener.stdout is not None
    assert listener.stdout.readline() == "ready\n"
    unmapped = campus.counted(f"{GRAPH}/edge_nat.drops")
    frames = [
        bytes(Ether(src=H3_MAC, dst=GATEWAY) / IP(src=H3, dst=target) / layer(sport=53, dport=4444))
        for target in (H1, *campus.pool)
        for layer in (UDP, TCP)
    ]
    campus.frames("h3", "send", "eth0", "100", lines=frames)
    assert not campus.pings("h3", H1, 1, wait=0.5)
    expected = unmapped + 2 * len(campus.pool)
    eventually(lambda: campus.counted(f"{GRAPH}/edge_nat.drops") >= expected)

    # The listener hears, if anything comes.
    run_in_host(campus.state, "h1", ["bash", "-c", f"echo me > /dev/udp/{H1}/4444"], check=True)
    heard = listener.communicate(timeout=120)[0]
    assert heard.split() == [H1]


_LISTEN = """
import socket, sys
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.bind(("", int(sys.argv[1])))
port.settimeout(60)
print("ready", flush=True)
try:
    while True:
        sender = port.recvfrom(100)[1][0]
        print(sender, flush=True)
        if sender.startswith("10."):
            break
except TimeoutError:
    pass
"""


# What can be seen.


def test_a_trajectory_has_every_hop_in_order(campus: Campus) -> None:
    listening = subprocess.Popen(
        [
            *command_line("samples", "--network", campus.name, "--json"),
            *("--points", "6", "--count", "1", "--seconds", "20"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    while listening.poll() is None:
        campus.traffic("h1", "udp", H3, ECHO)
        run_in_host(campus.state, "h1", ["ping", "-q", "-c", "400", "-i", "0.002", "-w", "3", H3])
    assert listening.stdout is not None
    (trajectory,) = json.loads(listening.stdout.read())
    listening.stdout.close()
    points = trajectory["points"]
    devices = [point["device"] for point in points]
    assert trajectory["graph"] == GRAPH
    assert {devices[0], devices[-1]} == {"leaf1", "leaf2"}, devices
    seen = [point["what"] for point in points if point["device"].startswith("server")]
    assert len({d for d in devices if d.startswith("server")}) == 1, "one worker has the flow"
    functions = [what.split()[0] for what in seen[::2]]
    assert "edge_nat" in functions
    assert seen == [f"{name} {way}" for name in functions for way in ("in", "out")]
    inner = [i for i, device in enumerate(devices) if device.startswith("server")]
    assert inner[0] > 0
    assert inner == list(range(inner[0], inner[-1] + 1))
    assert inner[-1] < len(points) - 1
    indexes = [point["si"] or 256 for point in points]
    assert indexes == sorted(indexes, reverse=True)


# Strange frames.


def test_tagged_and_unknown_frames_break_nothing(campus: Campus) -> None:
    inside = IP(src=H1, dst=H3) / UDP(sport=7, dport=int(ECHO)) / b"hello"
    frames = [
        bytes(Ether(src=H1_MAC, dst=GATEWAY) / layer)
        for layer in (
            Dot1Q(vlan=7) / inside,
            Dot1Q(vlan=7) / Dot1Q(vlan=8) / inside,
            Dot1Q(vlan=0, prio=5) / inside,
        )
    ]
    for ether_type in (0x88CC, 0x0842, 0x8847, 0x894F, 0x9000, 0x05DC):
        for target in (GATEWAY, H3_MAC, "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:0e"):
            frames.append(bytes(Ether(src=H1_MAC, dst=target, type=ether_type) / bytes(60)))
    for place, source in (("h1", H1_MAC), ("h3", H3_MAC)):
        mac = bytes.fromhex(source.replace(":", ""))
        turned = [frame[:6] + mac + frame[12:] for frame in frames]
        campus.frames(place, "send", "eth0", "500", lines=turned * 3)
    campus.works()
    assert _health(campus) == "running"


def test_ten_thousand_malformed_frames_at_a_host_port(campus: Campus) -> None:
    before = _processes(campus)
    frames = _malformed(_seeds(campus), random.Random(1))
    campus.frames("h1", "send", "eth0", "5000", lines=frames)
    _unharmed(campus, before)


def test_ten_thousand_malformed_frames_at_a_worker(campus: Campus) -> None:
    """Past the switch: out of the leaf's port, onto the server's link."""
    before = _processes(campus)
    worker, port = _worker_in_use(campus)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) as capture:
        capture.bind((port, 3))
        assert campus.pings("h1", H3)
        assert campus.traffic("h1", "get", f"http://{H3}:{HTTP}/whoami")["text"]
        capture.setblocking(False)
        tagged: list[bytes] = []
        while True:
            try:
                frame, address = capture.recvfrom(2048)
            except BlockingIOError:
                break
            if address[2] == socket.PACKET_OUTGOING and nsh.decode(frame):
                tagged.append(frame)
    assert tagged, "no packet of h1 went to its worker"
    frames = _malformed(
        [tagged[i] for i in range(0, len(tagged), 1 + len(tagged) // 20)], random.Random(2)
    )
    mac = worker.mac.to_bytes(6, "big")
    with PacketSocket(port) as out:
        for at in range(0, len(frames), 16):
            out.send_batch([mac + frame[6:] for frame in frames[at : at + 16]])
            time.sleep(16 / 10_000)
    _unharmed(campus, before)


def _seeds(campus: Campus) -> list[bytes]:
    """Valid frames of every kind that the parser knows."""
    link = Ether(src=H1_MAC, dst=GATEWAY)
    quoted = IP(src=H3, dst=H1) / UDP(sport=int(ECHO), dport=40_000) / bytes(8)
    udp = IP(src=H1, dst=H3) / UDP(sport=40_000, dport=int(ECHO)) / bytes(30)
    packets = [
        link / udp,
        link / IP(src=H1, dst=H3) / TCP(sport=40_001, dport=int(HTTP), flags="S"),
        link
        / IP(src=H1, dst=H3, options=b"\x94\x04\x00\x00")
        / TCP(sport=40_002, dport=int(SINK))
        / b"text",
        link / IP(src=H1, dst=H3) / ICMP(id=7, seq=1) / bytes(20),
        link / IP(src=H1, dst=H3) / ICMP(type=3, code=3) / quoted,
        link / IP(src=H1, dst=H3, frag=5, proto=17) / bytes(40),
        link / IP(src=H1, dst=H3, flags="MF") / UDP(sport=40_003, dport=int(ECHO)) / bytes(40),
        link / IPv6(src=H1_IPV6, dst=H3_IPV6) / UDP(sport=40_004, dport=int(ECHO)) / bytes(30),
        link / IPv6(src=H1_IPV6, dst=H3_IPV6) / ICMPv6EchoRequest(id=7) / bytes(20),
        Ether(src=H1_MAC, dst="33:33:ff:00:00:01")
        / IPv6(src=H1_IPV6, dst="ff02::1:ff00:1")
        / ICMPv6ND_NS(tgt="2001:db8:1::1")
        / ICMPv6NDOptSrcLLAddr(lladdr=H1_MAC),
        Ether(src=H1_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=H1_MAC, psrc=H1, pdst="10.0.1.1"),
        link / Dot1Q(vlan=5) / udp,
    ]
    frames = [bytes(packet) for packet in packets]
    worker = campus.state.workers[0].mac
    for spi in (ids.PATH.pack(1, 0), ids.PATH.pack(1, 2), ids.PATH.pack(1023, 4095)):
        tag = nsh.Tag(dst_mac=worker, src_mac=worker, spi=spi, si=254)
        frames += [nsh.encode(tag, frames[0]), nsh.encode(tag, nsh.encode(tag, frames[1]))]
    return frames


def _malformed(seeds: list[bytes], dice: random.Random) -> list[bytes]:
    """Random, truncated, mutated, and both; the same ones in every run."""
    frames: list[bytes] = []
    while len(frames) < MALFORMED:
        frame = bytearray(dice.choice(seeds))
        kind = dice.randrange(4)
        if kind == 0:
            frame[12:] = dice.randbytes(dice.randrange(2, 200))
        if kind in (1, 3):
            del frame[dice.randrange(14, len(frame)) :]
        if kind in (2, 3):
            for _ in range(dice.randrange(1, 6)):
                frame[dice.randrange(12, len(frame))] = dice.randrange(256)
        frames.append(bytes(frame))
    return frames


def _processes(campus: Campus) -> dict[str, int]:
    """Those of switches and workers that live, and how often an NF has raised."""
    (status,) = net_status(campus.name)
    pids = {c.name: c.pid for c in status.components if c.alive and c.kind in ("switch", "worker")}
    return pids | {"nf_error": campus.counted("drop.nf_error")}


def _unharmed(campus: Campus, before: dict[str, int]) -> None:
    campus.works()
    assert _processes(campus) == before
    for switch in campus.state.switches.values():
        assert "Traceback" not in Path(switch.log).read_text(errors="replace")
    for worker in campus.state.workers:
        assert "Traceback" not in Path(worker.log).read_text(errors="replace")


def _health(campus: Campus) -> str:
    (shown,) = orchestrator_json("net", "status", campus.name)
    return shown["health"]


def _worker_in_use(campus: Campus) -> tuple[Any, str]:
    """The worker that h1's packets go to, and the switch port in front of its server."""
    before = campus.worker_metrics()
    assert campus.pings("h1", H3)
    after = campus.worker_metrics()
    (busy,) = (w for w in after if after[w]["frames_in"] > before[w]["frames_in"])
    worker = next(w for w in campus.state.workers if w.name == busy)
    link = next(k for k in campus.state.topology.links if worker.server in (k.a, k.b))
    switch, port = (link.a, link.a_port) if link.b == worker.server else (link.b, link.b_port)
    return worker, campus.state.switches[switch].interfaces[port]


# Deploying and undeploying.


def test_deploying_twice_changes_nothing(campus: Campus) -> None:
    before = _entries(campus, GRAPH)
    orchestrator("deploy", str(CAMPUS_EDGE), "--network", campus.name, "--dry-run", expect=0)
    orchestrator("deploy", str(CAMPUS_EDGE), "--network", campus.name)
    assert _entries(campus, GRAPH) == before
    campus.comes_to_ping("h1", H3)


def test_two_graphs_do_not_disturb_each_other(campus: Campus, tmp_path: Path) -> None:
    second = tmp_path / "second.json"
    second.write_text(json.dumps(_second_graph()))
    alone = _entries(campus, GRAPH)
    assert not campus.pings("h5", "10.0.6.1", 1, wait=0.5)

    orchestrator("deploy", str(second), "--network", campus.name)
    campus.comes_to_ping("h5", "10.0.6.1")
    campus.works()
    assert not campus.pings("h5", H3, 1, wait=0.5), "one graph's packets reach another's host"
    assert _entries(campus, GRAPH) == alone

    orchestrator("undeploy", GRAPH, "--network", campus.name)
    assert _entries(campus, GRAPH) == set()
    assert not campus.pings("h1", H3, 1, wait=0.5)
    campus.comes_to_ping("h5", "10.0.6.1")

    orchestrator("deploy", str(CAMPUS_EDGE), "--network", campus.name)
    beside = _entries(campus, GRAPH)
    orchestrator("undeploy", "second", "--network", campus.name)
    assert not campus.pings("h5", "10.0.6.1", 1, wait=0.5)
    campus.works()
    assert _entries(campus, "second") == set()
    assert _entries(campus, GRAPH) == beside


def _second_graph() -> dict[str, Any]:
    """h5 -> acl -> napt -> h6, with the same names of NFs as the demo's."""
    return {
        "name": "second",
        "endpoints": {"inside": {"hosts": ["h5"]}, "outside": {"hosts": ["h6"]}},
        "nfs": {
            "edge_acl": {"type": "acl", "config": {"default": "permit"}},
            "edge_nat": {"type": "napt", "config": {"addresses": ["192.0.2.200"]}},
        },
        "edges": [
            {"from": "inside", "to": "edge_acl.inside"},
            {"from": "edge_acl.outside", "to": "edge_nat.inside"},
            {"from": "edge_nat.outside", "to": "outside"},
            {"from": "outside", "to": "edge_nat.outside"},
            {"from": "edge_nat.inside", "to": "inside"},
        ],
        "traffic": [
            {"name": "up", "from": "inside", "to": "outside", "rate": "10Mbit/s"},
            {"name": "down", "from": "outside", "to": "inside", "rate": "10Mbit/s"},
        ],
    }


def _installed(campus: Campus, switch: str) -> list[tuple[str, TableEntry]]:
    with campus.network.device(switch) as client:
        assert client.pipeline_cookie() is not None
        return [(item.graph, item.entry) for item in client.entries()]


def _entries(campus: Campus, graph: str) -> set[tuple[str, TableEntry]]:
    """What a graph has on every switch."""
    return {
        (switch, entry._replace(keys=tuple(sorted(entry.keys))))
        for switch in campus.state.switches
        for owner, entry in _installed(campus, switch)
        if owner == graph
    }


def test_killing_a_worker_leaves_the_others_flows_alone(campus: Campus) -> None:
    """The worker stays dead: only undeploying is tested after this."""
    mine, _ = _worker_in_use(campus)
    others = set(campus.status()["workers"]) - {f"{mine.server}.{mine.core + 1}"}
    victim = next(w for w in campus.state.workers if f"{w.server}.{w.core + 1}" in others)
    client = start_in_host(campus.state, "h1", [sys.executable, "-c", _TALK, H3, SINK, ECHO])
    assert client.stdout is not None
    assert client.stdout.readline() == "begun\n"

    os.kill(victim.pid, signal.SIGKILL)
    eventually(lambda: _health(campus) == "degraded")

    said = client.communicate(timeout=120)[0].split()
    assert said[-1] == "answered", said
    assert len(set(said[:-1])) == 1, f"the mapping changed: {said}"
    assert campus.pings("h1", H3)
    assert campus.traffic("h1", "get", f"http://{H3}:{HTTP}/")["bytes"] == BYTES


_TALK = """
import socket, sys, time
host, sink, echo = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
stream = socket.create_connection((host, sink), timeout=60)
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.settimeout(60)
def seen():
    datagrams.sendto(b"who am I?", (host, echo))
    return datagrams.recv(100).decode()
first = seen()
print("begun", flush=True)
print(first)
for _ in range(15):
    stream.sendall(b"more of it; ")
    print(seen())
    time.sleep(0.1)
stream.sendall(b"END\\n")
print("answered" if stream.recv(100) == b"got it\\n" else "silent")
"""


def test_undeploying_leaves_nothing(campus: Campus) -> None:
    """No entry on any switch and no NF on any worker, though one of them is dead by now."""
    dead = [c.name for s in net_status(campus.name) for c in s.dead]
    done = orchestrator("undeploy", GRAPH, "--network", campus.name)
    assert all(f"{name}: UNAVAILABLE" in done.stderr for name in dead)
    assert campus.status()["graphs"] == []
    for switch in campus.state.switches:
        assert _installed(campus, switch) == []
    for worker in (w for w in campus.state.workers if w.name not in dead):
        with WorkerClient(worker.name, worker.api) as session:
            assert not session.status().nfs
            assert not [name for name in session.metrics() if "/" in name]

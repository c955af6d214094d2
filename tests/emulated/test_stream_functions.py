"""NFs that look into streams or change payloads, between real hosts: real HTTP, real TCP, real resets.

Oracle: what clients see, what a host's interface receives, the workers' counters. Blind spot: time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import orchestrator
from live import NEEDS_EMULATION, SWITCHES, TRAFFIC, Live, chain_graph, network

from orchestrator.emulation import run_in_host, start_in_host

pytestmark = NEEDS_EMULATION
H3, HTTP, BYTES = "198.51.100.13", 8000, 300_000
NFS: dict[str, dict[str, Any]] = {
    "shaper": {
        "type": "traffic_shaper",
        "config": {"rate": "20Mbit/s", "burst": 15_140, "queue": 1_000_000},
    },
    "urls": {
        "type": "url_filter",
        "config": {
            "rules": [{"path": "/secret/*", "action": "deny"}],
            "ports": [str(HTTP)],
            "reset": True,
        },
    },
    "seal": {"type": "aes_encrypt", "config": {"key_file": "link.key", "spi": 4097, "mtu": 1600}},
    "open": {"type": "aes_decrypt", "config": {"key_file": "link.key", "spi": 4097, "mtu": 1600}},
}
CLIENT = """
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=int(sys.argv[2])) as answer:
        print(json.dumps({"bytes": len(answer.read())}))
except (urllib.error.URLError, OSError) as error:
    print(json.dumps({"error": type(getattr(error, "reason", error)).__name__}))
"""


OBSERVED: dict[str, dict[str, Any]] = {
    "once": {"type": "dedup"},
    "names": {"type": "dns_guard", "config": {"block": ["ads.example"]}},
    "cache": {"type": "cache_observer", "config": {"ports": [str(HTTP)]}},
    "no_hits": {"type": "label_filter", "config": {"rules": [{"label": 21, "action": "deny"}]}},
}
RESOLVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
print("ready", flush=True)
while True:
    query, sender = server.recvfrom(2048)
    server.sendto(query[:2] + bytes([query[2] | 0x80]) + query[3:], sender)
"""
RESOLVE = """
import socket, sys
labels = b"".join(bytes([len(l)]) + l.encode() for l in sys.argv[2].split("."))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
query = b"\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\1\\0\\1"
client.sendto(query, (sys.argv[1], 53))
try:
    print(len(client.recv(2048)) > 0)
except OSError:
    print(False)
"""


@pytest.fixture(scope="module", params=SWITCHES)
def streams(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "graph.json").write_text(json.dumps(chain_graph("streams", NFS)))
    (folder / "link.key").write_text(bytes(range(64)).hex())
    with network("single", request.param, f"sf-{request.param}") as live:
        orchestrator("deploy", str(folder / "graph.json"), "--network", live.name)
        start(live, str(TRAFFIC), "serve", str(HTTP), "--bytes", str(BYTES))
        yield live


def start(live: Live, *words: str) -> None:
    """A Python server on h3 that says when it is ready."""
    server = start_in_host(live.state, "h3", [sys.executable, *words])
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"


def fetch(live: Live, path: str, timeout: int = 20) -> dict[str, Any]:
    words = [sys.executable, "-c", CLIENT, f"http://{H3}:{HTTP}{path}", str(timeout)]
    done = run_in_host(live.state, "h1", words, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_permitted_page_comes_whole_through_shaper_and_encryption(streams: Live) -> None:
    assert fetch(streams, "/page") == {"bytes": BYTES}
    assert streams.counted("streams/urls.requests") >= 1
    assert streams.counted("streams/shaper.delayed") > 0
    assert streams.counted("streams/seal.sequence") > 0
    assert streams.counted("streams/open.drop.not_authentic") == 0
    assert streams.pings("h1", H3), "and other protocols"


def test_a_denied_page_is_reset_at_once(streams: Live) -> None:
    before = streams.counted("streams/urls.denied")
    assert fetch(streams, "/secret/plan") == {"error": "ConnectionResetError"}
    assert streams.counted("streams/urls.denied") == before + 1
    assert fetch(streams, "/page") == {"bytes": BYTES}


def test_the_key_is_in_no_file_of_the_deployment(streams: Live, tmp_path: Path) -> None:
    key = bytes(range(64)).hex().encode()
    # A namespace that is kept as a file has nothing to be read.
    kept = [p for p in streams.folder.rglob("*") if p.is_file() and p.suffix != ".netns"]
    assert kept
    assert not [path for path in kept if key in path.read_bytes()]


def test_labels_names_and_copies(tmp_path: Path) -> None:
    """A label that one NF gives decides at a later one; a DNS server is asked through the guard."""
    (tmp_path / "graph.json").write_text(json.dumps(chain_graph("streams", OBSERVED)))

    def resolves(name: str) -> bool:
        words = [sys.executable, "-c", RESOLVE, H3, name]
        return run_in_host(live.state, "h1", words, timeout=60).stdout == "True\n"

    with network("single", "softswitch", "sf-labels") as live:
        orchestrator("deploy", str(tmp_path / "graph.json"), "--network", live.name)
        start(live, str(TRAFFIC), "serve", str(HTTP), "--bytes", "1000")
        start(live, "-c", RESOLVER)
        assert fetch(live, "/page") == {"bytes": 1000}
        assert fetch(live, "/other") == {"bytes": 1000}
        assert fetch(live, "/page", 2)["error"] in ("TimeoutError", "timeout")
        assert live.counted("streams/no_hits.drop.label") > 0
        assert live.counted("streams/cache.misses") == 2
        assert resolves("www.example")
        assert not resolves("www.ads.example")
        assert live.counted("streams/names.drop.blocked") == 1
        assert live.counted("streams/once.remembered") > 0


IDS: dict[str, dict[str, Any]] = {
    "ids": {
        "type": "ids",
        "config": {
            "signatures": [
                {"id": 1, "content": "EVIL", "protocol": "tcp"},
                {"id": 2, "content": "EVIL", "protocol": "udp"},
            ]
        },
    }
}
ECHO = """
import socket, threading
server = socket.create_server(("", 80))
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.bind(("::", 5353))
def echo():
    while True:
        data, sender = datagrams.recvfrom(2048)
        datagrams.sendto(data, sender)
def answer(connection):
    while connection.recv(2048):
        connection.send(b"!")
threading.Thread(target=echo, daemon=True).start()
print("ready", flush=True)
while True:
    threading.Thread(target=answer, args=server.accept()[:1], daemon=True).start()
"""
FORGER = """
import json, socket, struct, sys
from scapy.all import IP, TCP, Ether, Raw
H1, H3 = "10.0.1.11", sys.argv[1]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 0))
wire.settimeout(60)
FORGED = {
    "harmless": [],
    "nothing": [],
    "a reset out of the window": [dict(flags="R", seq=900_000_000)],
    "a SYN in the window": [dict(flags="S", seq=-1)],
    "an old FIN": [dict(flags="FA", seq=-600)],
    "a FIN with a wrong checksum": [dict(flags="FA", seq=0, chksum=0x1234)],
    "a SYN-ACK": [dict(flags="SA", seq=-1)],
}
read = {}
for number, (name, forged) in enumerate(FORGED.items()):
    port = 42_000 + number
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.bind((H1, port))
    client.settimeout(60)
    client.connect((H3, 80))
    client.send(b"xxEV")
    while True:
        seen = Ether(wire.recv(2048))
        if TCP in seen and seen[TCP].sport == port and bytes(seen[TCP].payload)[:4] == b"xxEV":
            break
    assert client.recv(1) == b"!"
    for fields in forged:
        seq = seen[TCP].seq + 4 + fields.pop("seq") & 0xFFFF_FFFF
        tcp = TCP(sport=port, dport=80, seq=seq, ack=seen[TCP].ack, window=500, **fields)
        wire.send(bytes(Ether(src=seen.src, dst=seen.dst) / IP(src=H1, dst=H3) / tcp))
    client.send(b"fine" if name == "harmless" else b"ILyy")
    client.settimeout(10 if name == "harmless" else 1)
    try:
        read[name] = client.recv(1) == b"!"
    except OSError:
        read[name] = False
source, target = "2001:db8:1::11", "2001:db8:2::13"
for name, data in (("a jumbogram that is none, harmless", b"harmless"), ("a jumbogram", b"is EVIL!")):
    raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 17)
    raw.settimeout(10 if "harmless" in name else 1)
    words = socket.inet_pton(10, source) + socket.inet_pton(10, target)
    words += struct.pack("!IIHHHH", 8 + len(data), 17, 5, 5353, 0, 0) + data
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    raw.sendto(struct.pack("!HHHH", 5, 5353, 0, ~total & 0xFFFF) + data, (target, 0))
    try:
        read[name] = raw.recv(2048)[8:] == data
    except OSError:
        read[name] = False
print(json.dumps(read))
"""


def test_what_a_kernel_ignores_does_not_switch_inspection_off(tmp_path: Path) -> None:
    """Linux answers what it has read: nothing but the harmless."""
    (tmp_path / "graph.json").write_text(json.dumps(chain_graph("streams", IDS)))
    with network("leaf-spine", "softswitch", "sf-evasion") as live:
        orchestrator("deploy", str(tmp_path / "graph.json"), "--network", live.name)
        start(live, "-c", ECHO)
        done = run_in_host(live.state, "h1", [sys.executable, "-c", FORGER, H3], timeout=120)
        assert done.returncode == 0, done.stderr
        read = json.loads(done.stdout)
        assert [name for name, was_read in read.items() if was_read] == [
            "harmless",
            "a jumbogram that is none, harmless",
        ]
        assert live.counted("streams/ids.alerts") == len(read) - 2

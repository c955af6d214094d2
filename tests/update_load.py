"""Load for the updates of a live graph: numbered UDP both ways and one long TCP transfer.

Also the program that sends and receives inside the hosts' namespaces:
watch FLOW...            every numbered datagram that comes in; FLOW is a number of one's own
send FLOW HOST PORT FROM RATE     datagrams numbered from 0, RATE a second
serve PORT / fetch HOST PORT      a TCP transfer of pseudo-random bytes and its digest
Each says `ready`, runs until its standard input ends, and prints its counts as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from orchestrator.emulation import NetworkState

MAGIC = b"numbered"
_NUMBER = struct.Struct("!8sIQ")
INSIDE, OUTSIDE = "h1", "h3"
POOL = "203.0.113.1"
OUTWARD, INWARD, BALANCED = 1, 2, 3
INSIDE_PORT, OUTSIDE_PORT, TCP_PORT = 36_400, 5_000, 8_080
BALANCED_PORT = 5_001
"""A NAPT keeps the inside port: it is one of those that the inside host's bucket has of POOL."""
SETTLE_S = 1.0
"""Time for the last datagrams to arrive."""
_CHUNK, _CHUNKS_PER_S = 8_192, 25


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the load. `lost` counts both directions; `seconds` is how long it ran.

    `reordered` came behind a later one of its flow; `sources` is by how many addresses and ports a flow
    was seen, at most; `backends` to how many hosts the balanced flow came.
    """

    sent: int
    lost: int
    misrouted: int
    repeated: int
    reordered: int
    sources: int
    backends: int
    tcp_bytes: int
    tcp_intact: bool
    seconds: float


class Load:
    """Load on a network while the context is open; `report` is there afterwards.

    `seen_as`: the address by which the outside knows the inside host, where a NAPT translates it;
    `service` one that a load balancer gives to some host of the outside.
    """

    def __init__(
        self, state: NetworkState, rate: int, seen_as: str = "", service: str = ""
    ) -> None:
        self.state, self.rate, self.seen_as, self.service = state, rate, seen_as, service
        self.report: Report | None = None
        self._running: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        address = {
            name: next(str(a.ip) for a in host.addresses if a.version == 4)
            for name, host in self.state.topology.hosts.items()
        }
        for host in self.state.topology.hosts:
            mine = {OUTSIDE: [OUTWARD], INSIDE: [INWARD]}.get(host, [])
            balanced = [BALANCED] if self.service and host != INSIDE else []
            self._start(f"watch {host}", host, "watch", *mine, *balanced)
        self._start("serve", OUTSIDE, "serve", TCP_PORT)
        self._start("fetch", INSIDE, "fetch", address[OUTSIDE], TCP_PORT)
        _favour(self.state)
        there = (OUTWARD, address[OUTSIDE], OUTSIDE_PORT, INSIDE_PORT, self.rate)
        inside = self.seen_as or address[INSIDE]
        back = (INWARD, inside, INSIDE_PORT, OUTSIDE_PORT, self.rate)
        self._start("out", INSIDE, "send", *there)
        time.sleep(0.2)  # a stateful firewall lets in what has been sent out
        self._start("in", OUTSIDE, "send", *back)
        if self.service:
            words = (BALANCED, self.service, BALANCED_PORT, INSIDE_PORT + 1, self.rate)
            self._start("balanced", INSIDE, "send", *words)
        self.started = time.monotonic()
        return self

    def _start(self, name: str, host: str, *words: object) -> None:
        from orchestrator.emulation import host_argv

        argv = host_argv(self.state, host, [sys.executable, __file__, *map(str, words)])
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._running[name] = process
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{name} did not start in {host}")

    def _stop(self, name: str) -> dict[str, Any]:
        out, _ = self._running.pop(name).communicate(timeout=60)
        return json.loads(out)

    def __exit__(self, *failure: object) -> None:
        try:
            if failure[0] is None:
                self.report = self._finish()
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()

    def _finish(self) -> Report:
        seconds = time.monotonic() - self.started
        names = {"out": OUTWARD, "in": INWARD, "balanced": BALANCED}
        sent = {f: self._stop(name)["sent"] for name, f in names.items() if name in self._running}
        served = self._stop("serve")
        fetched = self._stop("fetch")
        time.sleep(SETTLE_S)
        seen = {host: self._stop(f"watch {host}") for host in self.state.topology.hosts}
        got = [
            {int(f): n for f, n in seen_there["received"].items()} for seen_there in seen.values()
        ]
        return Report(
            sent=sum(sent.values()),
            lost=sum(sent[flow] - sum(at.get(flow, 0) for at in got) for flow in sent),
            misrouted=sum(seen_there["strange"] for seen_there in seen.values()),
            repeated=sum(seen_there["repeated"] for seen_there in seen.values()),
            reordered=sum(seen_there["reordered"] for seen_there in seen.values()),
            sources=max(seen_there["sources"] for seen_there in seen.values()),
            backends=sum(at.get(BALANCED, 0) > 0 for at in got),
            tcp_bytes=fetched["bytes"],
            tcp_intact=fetched == served,
            seconds=round(seconds, 1),
        )


def _favour(state: NetworkState) -> None:
    """Switches and workers go before the controller, which in life has a machine of its own."""
    for process in (*state.switches.values(), *state.workers):
        for task in os.listdir(f"/proc/{process.pid}/task"):
            os.sched_setscheduler(int(task), os.SCHED_RR, os.sched_param(1))


# -- inside the hosts ------------------------------------------------------------------------------


def _ended(pause: float = 0.0) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], pause)
    return bool(readable)


def watch(*flows: str) -> dict[str, Any]:
    """Sees every frame, whatever address it has: what is not for this host is strange."""
    mine = set(map(int, flows))
    seen: set[tuple[int, int]] = set()
    strange = repeated = reordered = 0
    highest = dict.fromkeys(mine, -1)
    sources: dict[int, set[bytes]] = {flow: set() for flow in mine}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as capture:
        capture.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        _ready()
        while True:
            readable, _, _ = select.select([capture, sys.stdin], [], [])
            if capture not in readable:
                break
            frame, (_, _, kind, *_) = capture.recvfrom(4096)
            at = frame.find(MAGIC, 42)
            # What quotes a datagram (an ICMP error) is none.
            if kind == socket.PACKET_OUTGOING or at < 0 or frame[23] != socket.IPPROTO_UDP:
                continue
            _, flow, number = _NUMBER.unpack_from(frame, at)
            if flow not in mine:
                strange += 1
            elif (flow, number) in seen:
                repeated += 1
            else:
                reordered += number < highest[flow]
                highest[flow] = max(highest[flow], number)
                sources[flow].add(frame[26:30] + frame[34:36])
            seen.add((flow, number))
    return {
        "received": {flow: sum(flow_seen == flow for flow_seen, _ in seen) for flow in mine},
        "strange": strange,
        "repeated": repeated,
        "reordered": reordered,
        "sources": max(map(len, sources.values()), default=0),
    }


def send(flow: str, host: str, port: str, source: str, rate: str) -> dict[str, Any]:
    number, started = 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.bind(("", int(source)))
        _ready()
        while not _ended():
            due = int((time.monotonic() - started) * int(rate))
            while number < due:
                out.sendto(_NUMBER.pack(MAGIC, int(flow), number), (host, int(port)))
                number += 1
            time.sleep(0.001)
    return {"sent": number}


def serve(port: str) -> dict[str, Any]:
    digest, size, numbers = hashlib.sha256(), 0, random.Random(6)
    with socket.create_server(("", int(port))) as server:
        _ready()
        connection, _ = server.accept()
        with connection:
            while not _ended(1 / _CHUNKS_PER_S):
                chunk = numbers.randbytes(_CHUNK)
                connection.sendall(chunk)
                digest.update(chunk)
                size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def fetch(host: str, port: str) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        _ready()
        while chunk := connection.recv(65_536):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _ready() -> None:
    print("ready", flush=True)


COMMANDS: dict[str, Callable[..., dict[str, Any]]] = {
    "watch": watch,
    "send": send,
    "serve": serve,
    "fetch": fetch,
}


# -- graphs ----------------------------------------------------------------------------------------


def version(number: int) -> dict[str, Any]:
    """A graph between the load's hosts, a little different for every number, as JSON.

    Rules come, go and change places, an NF comes and goes in the switches and one on the servers,
    routes come and go. The load's packets pass in every version, some only since the firewall knows
    their connections: its rules change in every third, too.
    """
    rules = [
        {"protocol": "udp", "dst_port": 6_000 + port, "action": "deny"}
        for port in range(30 + number % 7)
    ]
    if number % 2:
        rules = rules[::-1]
    shape = number // 2  # so that every other update is of rules alone
    routes = [
        {"prefix": "10.0.1.0/24", "port": "inside"},
        {"prefix": "198.51.100.0/24", "port": "outside"},
        *({"prefix": f"192.0.2.{net}/32", "port": "outside"} for net in range(shape % 5)),
    ]
    if shape % 3 == 1:  # the load's own addresses get routes of their own
        routes.append({"prefix": "198.51.100.13/32", "port": "outside"})
        routes.append({"prefix": "10.0.1.11/32", "port": "inside"})
    nfs: dict[str, Any] = {
        "edge": {"type": "acl", "config": {"rules": rules, "default": "permit", "reverse": "same"}},
        "firewall": {
            "type": "stateful_firewall",
            "config": {
                "rules": [{"protocol": "udp", "dst_port": 9_000 + number // 3, "action": "deny"}],
                "default": "permit",
            },
            "workers": {"min": 2},
        },
        "routes": {"type": "router", "config": {"routes": routes}},
    }
    order = ["edge", "firewall", "routes"]
    if shape % 4 in (1, 2):
        deny = {"protocol": "tcp", "dst_port": 7_000 + shape, "action": "deny"}
        config = {"rules": [deny], "default": "permit", "reverse": "same"}
        nfs["more"] = {"type": "acl", "config": config}
        order.insert(1, "more")
    if shape % 5 == 2:
        nfs["monitor"] = {"type": "flow_monitor", "config": {}}
        order.insert(order.index("firewall"), "monitor")
    return graph_of(nfs, order)


def translating(number: int) -> dict[str, Any]:
    """A graph whose NFs both have state that the load needs, and whose configurations both change.

    The NAPT keeps the load's ports, so the outside knows the inside host as POOL.
    """
    rules = [{"protocol": "tcp", "dst_port": TCP_PORT, "action": "deny"}] if number else []
    nfs: dict[str, Any] = {
        "firewall": {"type": "stateful_firewall", "config": {"rules": rules, "default": "permit"}},
        "nat": {
            "type": "napt",
            "config": {"addresses": [POOL], "timeouts_s": {"udp": 300 + number}},
        },
    }
    return graph_of(nfs, list(nfs))


def graph_of(nfs: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """NFs in a row between the inside's hosts and the outside's."""
    ways = [
        "inside",
        *(f"{nf}.{side}" for nf in order for side in ("inside", "outside")),
        "outside",
    ]
    there = list(zip(ways[::2], ways[1::2], strict=True))
    pairs = [*there, *((b, a) for a, b in there)]
    return {
        "name": "updated",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
        "nfs": nfs,
        "edges": [{"from": a, "to": b} for a, b in pairs],
        "traffic": [
            {"name": f"{a}-{b}", "from": a, "to": b, "rate": "10Mbit/s", "match": {"version": 4}}
            for a, b in (("inside", "outside"), ("outside", "inside"))
        ],
    }


def write_version(folder: Path, number: int, of: Callable[[int], dict[str, Any]] = version) -> Path:
    """A version as a graph file."""
    file = folder / "graph.json"
    file.write_text(json.dumps(of(number)))
    return file


def main(words: Sequence[str]) -> int:
    print(json.dumps(COMMANDS[words[0]](*words[1:])), flush=True)
    return 0


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    sys.exit(main(sys.argv[1:]))

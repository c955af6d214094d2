"""What goes through a graph whose NFs move, beside `update_load`'s load: many flows, split signatures.

Also the program that runs inside the hosts' namespaces:
flows HOST COUNT      one datagram of each of COUNT flows, of as many addresses
listen PORT           what comes by each connection, until its standard input ends
halves HOST PORT      two connections, each with the first half of a text; the second halves when its
                      standard input ends: one text has the signature across both
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Self

from update_load import BALANCED_PORT, INSIDE, OUTSIDE, POOL, graph_of

if TYPE_CHECKING:
    from orchestrator.emulation import NetworkState

WATCHED_PORT = 80
SIGNATURE = "EVIL"
HALVES = {"good": (b"so g", b"ood it was"), "evil": (b"so EV", b"IL it was")}
CLIENTS = IPv4Network("10.1.0.0/16")
"""Behind the inside host; the flows are theirs."""
SERVICE = "192.0.2.1"
BACKENDS = ("198.51.100.13", "198.51.100.14")
_TRANSPARENT = 19
"""IP_TRANSPARENT (ip(7)): any source address."""
_SETTLE_S = 1.0


def moving() -> dict[str, Any]:
    """A graph all of whose NFs on servers have state that the load needs."""
    signature = {"id": 1, "content": SIGNATURE, "protocol": "tcp", "ports": [str(WATCHED_PORT)]}
    nfs: dict[str, Any] = {
        "firewall": {"type": "stateful_firewall", "config": {"default": "permit"}},
        "watch": {"type": "ids", "config": {"signatures": [signature], "action": "drop"}},
        "nat": {"type": "napt", "config": {"addresses": [POOL]}},
    }
    graph = graph_of(nfs, list(nfs))
    graph["endpoints"]["inside"]["prefixes"] = [str(CLIENTS)]
    return graph


def balancing() -> dict[str, Any]:
    """The same with a load balancer in front, whose clients are inside."""
    backends = [{"address": address, "port": BALANCED_PORT} for address in BACKENDS]
    service = {"address": SERVICE, "protocol": "udp", "port": BALANCED_PORT, "backends": backends}
    balancer = {"type": "l4_load_balancer", "config": {"virtual": [service]}}
    other = {"lb.inside": "lb.outside", "lb.outside": "lb.inside"}
    nfs = {"lb": balancer, **moving()["nfs"]}
    graph = graph_of(nfs, list(nfs))
    graph["edges"] = [{end: other.get(at, at) for end, at in e.items()} for e in graph["edges"]]
    graph["endpoints"] = moving()["endpoints"]
    return graph


def divided() -> dict[str, Any]:
    """NFs without a pool, on two cores."""
    graph = graph_of(
        {n: nf for n, nf in moving()["nfs"].items() if n != "nat"}, ["firewall", "watch"]
    )
    graph["endpoints"] = moving()["endpoints"]
    graph["nfs"]["firewall"]["workers"] = {"min": 2}
    return graph


class Halves:
    """Both connections stand, and half of each text has come, when the context is entered.

    `received` is what the outside got of each, once `finish` has had the second halves sent.
    """

    def __init__(self, state: NetworkState) -> None:
        self._state = state
        self._open = ExitStack()
        self.received: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        outside = next(
            str(a.ip) for a in self._state.topology.hosts[OUTSIDE].addresses if a.version == 4
        )
        self._listen = self._start(OUTSIDE, "listen", WATCHED_PORT)
        self._talk = self._start(INSIDE, "halves", outside, WATCHED_PORT)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def finish(self) -> None:
        """Send the second halves."""
        self._talk.communicate(timeout=60)
        out, _ = self._listen.communicate(timeout=60)
        self.received = {n: bytes.fromhex(data) for n, data in json.loads(out).items()}

    def _start(self, host: str, *words: object) -> subprocess.Popen[str]:
        process = started(self._state, host, *words)
        self._open.callback(process.wait)
        self._open.callback(process.kill)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{words[0]} did not start in {host}")
        return process


def open_flows(state: NetworkState, count: int) -> None:
    """Have the inside host open so many UDP flows."""
    outside = next(str(a.ip) for a in state.topology.hosts[OUTSIDE].addresses if a.version == 4)
    started(state, INSIDE, "flows", outside, count).communicate(timeout=120)


def started(state: NetworkState, host: str, *words: object) -> subprocess.Popen[str]:
    """This program in a host."""
    from orchestrator.emulation import host_argv

    argv = host_argv(state, host, [sys.executable, __file__, *map(str, words)])
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# -- inside the hosts ------------------------------------------------------------------------------


def flows(host: str, count: str) -> dict[str, Any]:
    """Some at a time: a worker's socket holds only so many."""
    for number in range(int(count)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.IPPROTO_IP, _TRANSPARENT, 1)
            out.bind((str(CLIENTS[1 + number]), 4_000))
            out.sendto(b"a flow", (host, 9_000))
        if number % 16 == 15:
            time.sleep(0.003)
    return {"sent": int(count)}


def listen(port: str) -> dict[str, Any]:
    """By the first letter that differs one knows which connection it is."""
    got: dict[socket.socket, bytes] = {}
    with socket.create_server(("", int(port))) as server:
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([server, sys.stdin, *got], [], [])
            if sys.stdin in readable:
                break
            for ready in readable:
                if ready is server:
                    got[server.accept()[0]] = b""
                elif data := _received(ready):
                    got[ready] += data
                else:
                    select.select([sys.stdin], [], [])
                    break
    texts = list(got.values())
    return {
        name: next((t.hex() for t in texts if t.startswith(first)), "")
        for name, (first, _) in HALVES.items()
    }


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionError:
        return b""


def halves(host: str, port: str) -> dict[str, Any]:
    """What is not acknowledged stays in the kernel: a connection that is cut keeps nobody waiting."""
    ends: dict[str, socket.socket] = {}
    for name, (first, _) in HALVES.items():
        ends[name] = socket.create_connection((host, int(port)), timeout=20)
        ends[name].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ends[name].sendall(first)
    time.sleep(_SETTLE_S / 2)
    print("ready", flush=True)
    sys.stdin.read()
    for name, (_, second) in HALVES.items():
        ends[name].sendall(second)
    time.sleep(_SETTLE_S)
    return {}


COMMANDS = {"flows": flows, "listen": listen, "halves": halves}


def main(words: Sequence[str]) -> int:
    print(json.dumps(COMMANDS[words[0]](*words[1:])), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

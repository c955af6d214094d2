"""What a pass through a switch costs: one of a target, two hosts, an access list between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.emulation import NetworkState, load_state
from orchestrator.errors import EnvironmentMissing, NetworkError
from orchestrator.profiles import SwitchProfile
from orchestrator.profiling.frames import SIZES, address, room, udp
from orchestrator.profiling.machine import measured_now
from orchestrator.profiling.rig import (
    BURST,
    Far,
    MeasuredDevice,
    alone_us,
    in_network,
    out_of_the_way,
    spent_ns,
)
from orchestrator.targets import lookup
from servernf.host.packetio import PacketSocket
from servernf.wire.addresses import GATEWAY_MAC

NAME = "profile"
_HOSTS = {"h1": "10.0.1.11/24", "h2": "10.0.2.11/24"}
_GRAPH: dict[str, Any] = {
    "name": NAME,
    "endpoints": {"in": {"hosts": ["h1"]}, "out": {"hosts": ["h2"]}},
    "nfs": {
        "filter": {
            "type": "acl",
            "config": {"rules": [{"dst_port": 53, "protocol": "udp", "action": "permit"}]},
        }
    },
    "edges": [
        {"from": "in", "to": "filter.inside"},
        {"from": "filter.outside", "to": "out"},
    ],
    "traffic": [{"name": "up", "from": "in", "to": "out", "rate": "1 Mbit/s", "packet_size": 1000}],
}
_LONE = 200


def measure_switch(
    target: str, *, rounds: int = 15, tell: Callable[[str], None] = lambda _: None
) -> SwitchProfile:
    """The profile of a target's engine on this machine."""
    engine = lookup(target).engine
    if engine is None:
        raise EnvironmentMissing(f"{target}: nothing on this machine runs it")
    if missing := engine.missing():
        raise EnvironmentMissing(missing)
    least: dict[int, float] = {}
    with _network(target) as state:
        device = MeasuredDevice(state.switches["s1"].pid)
        count = min(BURST, engine.queue)
        frames = {size: _frames(size, count) for size in SIZES}
        with _port(state, "h1") as sender, _port(state, "h2") as receiver, out_of_the_way():
            far = Far(sender, receiver)
            for number in range(rounds + 1):
                tell(f"{target}: round {number} of {rounds}")
                for size, some in frames.items():
                    ns = spent_ns(device, far, some, len(some))
                    if number:  # the first one finds no flow in any memo
                        least[size] = min(ns, least.get(size, ns))
            alone = alone_us(device, far, frames[SIZES[0]][:_LONE])
    return SwitchProfile(
        name=target,
        measured=measured_now(_title(target)),
        pass_ns={size: round(ns) for size, ns in least.items()},
        alone_us=round(max(0.0, alone - least[SIZES[0]] / 1000), 1),
    )


def _title(target: str) -> str:
    engine = lookup(target).engine
    return f"{engine.title if engine else target}, pipeline edge, an access list"


def _frames(size: int, count: int) -> list[bytes]:
    """One of each flow of h1's, to h2."""
    client, server = (address(a.partition("/")[0]) for a in _HOSTS.values())
    data = bytes(room(size, 8))
    made = [udp((client, 20_000 + n), (server, 53), data, n) for n in range(count)]
    return [GATEWAY_MAC.to_bytes(6) + frame[6:] for frame in made]


@contextmanager
def _network(target: str) -> Generator[NetworkState]:
    """A switch with two hosts and the graph, in folders of its own; nothing of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        own = {"XDG_STATE_HOME": f"{folder}/state", "XDG_RUNTIME_DIR": folder}
        own["ORCHESTRATOR_PROFILES"] = "none"
        before = {name: os.environ.get(name) for name in own}
        os.environ |= own
        topology, graph = Path(folder, "topology.json"), Path(folder, "graph.json")
        topology.write_text(json.dumps(_topology(target)))
        graph.write_text(json.dumps(_GRAPH))
        try:
            _orchestrator("net", "up", str(topology), "--switch", target, "--name", NAME)
            try:
                _orchestrator("deploy", str(graph), "--network", NAME)
                yield load_state(NAME)
            finally:
                _orchestrator("net", "down", NAME)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _topology(target: str) -> dict[str, Any]:
    return {
        "name": NAME,
        "switches": {"s1": {"target": target}},
        "hosts": {
            name: {"addresses": [a], "gateways": [a.replace(".11/24", ".1")]}
            for name, a in _HOSTS.items()
        },
        "links": [{"a": "s1", "b": name, "capacity": "10Gbit/s"} for name in _HOSTS],
    }


def _orchestrator(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NetworkError(f"orchestrator {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def _port(state: NetworkState, host: str) -> Generator[PacketSocket]:
    with in_network(state.hosts[host].pid):
        port = PacketSocket(state.hosts[host].interface, rcvbuf=16 << 20)
    with port:
        yield port

"""The rig of the live figures: a network of one's own, a generator on one CPU, the device on another.

Everything else of the network is stopped meanwhile (SIGSTOP), so that a figure is one device's; what
arrives is read from the kernel's counter of the far interface.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "mininet"))

from figures import Missing
from runtimes import topology_of
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from orchestrator.emulation import (
    NetworkState,
    SwitchState,
    WorkerState,
    host_argv,
    load_state,
    net_down,
)
from orchestrator.emulation.environment import require_emulation
from orchestrator.network.folders import list_networks
from orchestrator.runtimes import DEFAULT
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, mac_text

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = Path(__file__).with_name("generator.py")
TRAFFIC = ROOT / "mininet" / "traffic.py"
GRAPH = ROOT / "examples" / "campus_edge" / "graph.json"

FLOWS = 1024
LOSS = 0.001
TRIAL_S = 1.0
FINAL_S = 4.0
DRAIN_S = 0.05
"""Frames still queued so long after the last one was sent are backlog, that is, lost in time."""

Counter = Callable[[], int]


def orchestrator(*words: str) -> str:
    """Run the command line; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        raise RuntimeError(f"orchestrator {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def network(switch: str, *, deploy: bool = True, runtime: str = DEFAULT) -> Generator[NetworkState]:
    """leaf-spine with the demo graph, in folders of its own; nothing of it is left behind."""
    require_emulation()
    if switch == "bmv2" and not shutil.which("simple_switch_grpc"):
        raise Missing("BMv2 (simple_switch_grpc) is not on PATH")
    before = {name: os.environ.get(name) for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
    base = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ |= {"XDG_STATE_HOME": str(base / "state"), "XDG_RUNTIME_DIR": str(base)}
    try:
        topology = topology_of("leaf-spine", runtime, base)
        orchestrator("net", "up", topology, "--switch", switch, "--name", "bench")
        if deploy:
            orchestrator("deploy", str(GRAPH), "--network", "bench")
        yield load_state("bench")
    finally:
        for name in list_networks():
            net_down(name)
        shutil.rmtree(base)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def tcp_mbit(state: NetworkState, source: str, target: str, octets: int) -> float:
    """Megabits a second of one download by host `source` from `target`."""
    port = "8080"
    address = state.hosts[target].addresses[0].ip.exploded
    serve = [sys.executable, str(TRAFFIC), "serve", port, "--bytes", str(octets)]
    with subprocess.Popen(
        host_argv(state, target, serve), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            get = [sys.executable, str(TRAFFIC), "get", f"http://{address}:{port}/"]
            done = subprocess.run(
                host_argv(state, source, get), capture_output=True, text=True, check=True
            )
        finally:
            server.terminate()
    told = json.loads(done.stdout)
    assert told["bytes"] == octets
    return 8 * octets / told["seconds"] / 1e6


def cpus() -> tuple[int, int]:
    """(generator's, device's)."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise Missing("a second CPU for the generator")
    return available[0], available[1]


@contextmanager
def alone(state: NetworkState, pid: int) -> Generator[None]:
    """Only `pid` (0: none) of the switches and workers runs, on a CPU of its own."""
    others = {p.pid for p in (*state.switches.values(), *state.workers)} - {pid}
    for task in os.listdir(f"/proc/{pid}/task") if pid else ():
        os.sched_setaffinity(int(task), {cpus()[1]})
    try:
        for other in others:
            os.kill(other, signal.SIGSTOP)
        yield
    finally:
        for other in others:
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGCONT)


def flows() -> list[bytes]:
    """One 64-byte (FCS included) frame of each flow: DNS from h1, which the ACL permits."""
    return [
        bytes(
            Ether(src="0a:00:00:00:00:01", dst=mac_text(GATEWAY_MAC))
            / IP(src="10.0.1.11", dst="198.51.100.13", id=number)
            / UDP(sport=20_000 + number, dport=53)
            / bytes(18)
        )
        for number in range(FLOWS)
    ]


@dataclass(frozen=True, slots=True)
class Tagged:
    """The flows as leaf1 hands them to their worker."""

    port: str
    """Interface of the switch port in front of the server."""
    switch: SwitchState
    worker: WorkerState
    frames: tuple[bytes, ...]


def tagged_flows(state: NetworkState) -> Tagged:
    """Send every flow once through the real switches and capture what goes to the worker."""
    ports = {
        switch.interfaces[port]: (switch, server)
        for link in state.topology.links
        for node, port, server in ((link.a, link.a_port, link.b), (link.b, link.b_port, link.a))
        if server in state.servers and (switch := state.switches.get(node))
    }
    seen: dict[tuple[str, bytes], dict[bytes, None]] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) as capture:
        capture.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        with sender(state, "h1", "eth0", flows()) as send:
            send(1000, FLOWS / 1000)
        time.sleep(0.5)
        capture.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                frame, (name, _, kind, *_) = capture.recvfrom(4096)
                if name not in ports or kind != socket.PACKET_OUTGOING:
                    continue
                decoded = nsh.decode(frame)
                if decoded and decoded[1][26:30] == bytes((10, 0, 1, 11)):  # not h3's answers
                    seen.setdefault((name, frame[:6]), {})[frame] = None
    (port, mac), frames = max(seen.items(), key=lambda item: len(item[1]))
    core = int.from_bytes(mac[4:], "big")
    switch, server = ports[port]
    worker = next(w for w in state.servers[server].workers if w.core + 1 == core)
    return Tagged(port, switch, worker, tuple(frames))


@contextmanager
def sender(
    state: NetworkState, place: str, interface: str, frames: Iterable[bytes]
) -> Generator[Callable[[float, float], int]]:
    """A generator on its CPU; `send(rate, seconds)` returns how many frames it sent."""
    with tempfile.NamedTemporaryFile("w", suffix=".hex") as file:  # hosts do not see run_dir
        file.write("\n".join(frame.hex() for frame in frames))
        file.flush()
        words = [str(GENERATOR), "send", interface, str(cpus()[0]), file.name]
        with _started(state, place, words) as process:

            def send(rate: float, seconds: float) -> int:
                assert process.stdin is not None
                assert process.stdout is not None
                print(rate, seconds, file=process.stdin, flush=True)
                return int(json.loads(process.stdout.readline())["sent"])

            yield send


@contextmanager
def echo(state: NetworkState, worker: WorkerState) -> Generator[None]:
    """A process on the worker's interface that only sends every frame back."""
    words = [str(GENERATOR), "echo", worker.interface, str(cpus()[1])]
    with _started(state, worker.server, words):
        yield


@contextmanager
def _started(state: NetworkState, place: str, words: list[str]) -> Generator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, *words]
    if place:
        argv = host_argv(state, place, argv)
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{' '.join(words)} did not start")
            yield process
        finally:
            process.kill()


def received(interface: str, pid: int | None = None) -> Counter:
    """Frames that came in by an interface, of the namespace of `pid` if given."""
    file = Path(f"/proc/{pid or 'self'}/net/dev")

    def count() -> int:
        for line in file.read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == interface:
                return int(numbers.split()[1])
        raise RuntimeError(f"{interface} is not in {file}")

    return count


def highest_rate(send: Callable[[float, float], int], count: Counter) -> int:
    """The highest offered rate with less than LOSS lost, by doubling and halving; pps.

    Rates that fail are tried twice (the machine has other things to do); the result is confirmed by
    a longer trial.
    """

    def passes(rate: float, seconds: float = TRIAL_S) -> bool:
        return any(_lost(send, count, rate, seconds) < LOSS for _ in range(2))

    low, high = 0.0, 2000.0
    while passes(high):
        low, high = high, high * 2
    while high - low > max(low, 500.0) * 0.04:
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    while low > 100 and not passes(low, FINAL_S):
        low *= 0.96
    return round(low)


def _lost(
    send: Callable[[float, float], int], count: Counter, rate: float, seconds: float
) -> float:
    before = count()
    sent = send(rate, seconds)
    time.sleep(DRAIN_S)
    share = 1 - (count() - before) / sent
    last = -1
    while (now := count()) != last:  # What is still queued belongs to no other trial.
        last = now
        time.sleep(0.1)
    return share

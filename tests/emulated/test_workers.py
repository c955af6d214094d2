"""Real worker processes on macvlan interfaces over veth, in network namespaces.

Oracle: frames that a raw socket at the other end of the wire sends and gets back. Blind spot: the
switch in front, whose part this test plays.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import grpc
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from signed import signed
from support import eventually

from servernf.host.packetio import PacketSocket
from servernf.proto import vnf_pb2, vnf_pb2_grpc
from servernf.wire import nsh
from servernf.wire.addresses import device_mac, mac_text

ROOT = Path(__file__).resolve().parents[2]
SWITCH = device_mac(9)
WAIT_S = 60.0


def _missing() -> str:
    if os.geteuid() != 0:
        return "workers in namespaces: needs root"
    if not shutil.which("ip"):
        return "workers in namespaces: ip (iproute2) is not installed"
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing())


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass
class Process:
    """A worker process, a client of it, and the MAC of its core."""

    name: str
    mac: int
    spi: int
    process: subprocess.Popen[str]
    stub: vnf_pb2_grpc.VnfStub
    ready: dict[str, object]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(5)


@dataclass
class Server:
    """One namespace; `wire` is the raw socket at the switch's end of its only link."""

    namespace: str
    wire: PacketSocket
    workers: list[Process] = field(default_factory=list[Process])

    def exchange(self, frames: list[bytes], expected: int) -> list[bytes]:
        """Send frames, and wait until as many tagged ones as expected have come back."""
        self.wire.send_batch(frames)
        got: list[bytes] = []
        deadline = time.monotonic() + WAIT_S
        while len(got) < expected and time.monotonic() < deadline:
            got += [f for f in self.wire.recv_batch() if f[12:14] == b"\x89\x4f"]
            time.sleep(0.001)
        time.sleep(0.05)  # what comes beyond the expected is seen, too
        return got + [f for f in self.wire.recv_batch() if f[12:14] == b"\x89\x4f"]


def request(worker: Process, host: int, port: int = 4000, data: bytes = b"x" * 8) -> bytes:
    """A tagged UDP packet of one inside host, for the worker's core and path."""
    inside = IP(src=f"10.0.0.{host}", dst="198.51.100.9") / UDP(sport=port, dport=53) / Raw(data)
    frame = bytes(Ether(src="06:00:00:00:00:10", dst="06:00:00:00:00:01") / inside)
    return nsh.encode(nsh.Tag(worker.mac, SWITCH, worker.spi, 254, label=host), frame)


def received(worker: Process, count: int) -> bool:
    """Whether the worker has received so many frames."""
    return worker.stub.queryMetrics(vnf_pb2.MetricsRequest()).metrics["frames_in"] >= count


def mapped(frame: bytes) -> tuple[int, str, int]:
    """Source MAC (the worker), translated address and port."""
    tag, inner = nsh.decode(frame) or pytest.fail("no tag")
    packet = Ether(inner)
    return tag.src_mac, packet[IP].src, packet[UDP].sport


def start(server: Server, index: int, folder: Path, log: IO[str]) -> Process:
    mac = device_mac(1, core=index + 1)
    interface = f"core{index + 1}"
    inside = ["-n", server.namespace, "link"]
    ip(*inside, "add", interface, "link", "net0", "address", mac_text(mac), "type", "macvlan",
       "mode", "private")  # fmt: skip
    ip(*inside, "set", interface, "up")
    api = f"unix:{folder}/{interface}.sock"
    options = {
        "--name": f"server1-{interface}",
        "--interface": interface,
        "--api": api,
        "--samples": f"{folder}/{interface}.jsonl",
    }
    command = ["ip", "netns", "exec", server.namespace, sys.executable, "-m", "servernf.python"]
    command += [word for option in options.items() for word in option]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.kill()
        process.wait(5)
        pytest.fail(f"worker {interface} did not start, see {log.name}")
    stub = vnf_pb2_grpc.VnfStub(signed(grpc.insecure_channel(api)))
    worker = Process(f"server1-{interface}", mac, 100 + index, process, stub, json.loads(line))
    server.workers.append(worker)
    return worker


def deploy(worker: Process, index: int) -> None:
    """The demo's segment: ids, then napt with an address of its own; a path there and back."""
    pool = ["203.0.113.1", "203.0.113.2"]
    signatures = [{"id": 1, "content": "EVIL", "protocol": "udp"}]
    worker.stub.configure(
        vnf_pb2.ConfigureRequest(
            graph="g",
            nfs=[
                vnf_pb2.NfConfig(
                    name="g/ids", type="ids", config_json=json.dumps({"signatures": signatures})
                ),
                vnf_pb2.NfConfig(
                    name="g/nat",
                    type="napt",
                    config_json=json.dumps({"addresses": [pool[index]]}),
                ),
            ],
            manifest=vnf_pb2.Manifest(key0=1, key1=2, threshold=1 << 32),
        )
    )
    for nf, si, port, other in (
        ("g/ids", 254, "inside", "g/nat"),
        ("g/nat", 100, "outside", "g/ids"),
    ):
        worker.stub.serviceChain(
            vnf_pb2.ServiceChainRequest(
                nf=nf,
                scope=vnf_pb2.Scope(spi=worker.spi, si=si, in_port=port),
                next=[
                    vnf_pb2.Hop(nf=vnf_pb2.NfHop(name=other, port=port)),
                    vnf_pb2.Hop(exit=vnf_pb2.ExitHop(dst_mac=SWITCH, spi=worker.spi, si=si - 1)),
                ],
            )
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    unique = f"{os.getpid() % 100_000}{random.randrange(100)}"
    namespace, near = f"wt{unique}", f"wt{unique}a"
    made: Server | None = None
    ip("netns", "add", namespace)
    try:
        ip("link", "add", near, "mtu", "1600", "type", "veth", "peer", "name", "net0", "mtu",
           "1600", "netns", namespace)  # fmt: skip
        # The kernel's own multicast would be counted by the workers.
        quiet = "echo 1 > /proc/sys/net/ipv6/conf/{}/disable_ipv6"
        subprocess.run(["sh", "-c", quiet.format(near)], check=True)
        inside = ["ip", "netns", "exec", namespace, "sh", "-c"]
        subprocess.run([*inside, quiet.format("all")], check=True)
        subprocess.run([*inside, quiet.format("default")], check=True)
        ip("link", "set", near, "up")
        ip("-n", namespace, "link", "set", "net0", "up")
        made = Server(namespace, PacketSocket(near))
        with (tmp_path / "workers.log").open("w") as log:
            for index in range(2):
                deploy(start(made, index, tmp_path, log), index)
        yield made
    finally:
        if made is not None:
            for worker in made.workers:
                worker.stop()
            made.wire.close()
        # The link goes at once: a namespace's interfaces are removed some time after it.
        subprocess.run(["ip", "link", "del", near], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def test_ready_line(server: Server):
    for worker in server.workers:
        assert worker.ready["ready"] is True
        assert worker.ready["name"] == worker.name
        assert worker.ready["mac"] == mac_text(worker.mac)
        assert worker.stub.getStatus(vnf_pb2.StatusRequest()).mac == worker.mac


def test_dispatch_by_mac_is_exact(server: Server):
    first, second = server.workers
    frames = [request(worker, host) for host in range(1, 101) for worker in (first, second)]
    got = [mapped(frame) for frame in server.exchange(frames, len(frames))]
    assert {(mac, address) for mac, address, _ in got} == {
        (first.mac, "203.0.113.1"),
        (second.mac, "203.0.113.2"),
    }
    assert sum(mac == first.mac for mac, _, _ in got) == 100
    assert len(set(got)) == len(got) == 200  # every inside host has a mapping of its own
    for worker in (first, second):
        metrics = worker.stub.queryMetrics(vnf_pb2.MetricsRequest()).metrics
        assert (metrics["frames_in"], metrics["frames_out"]) == (100, 100)
    # A core that does not exist: nobody gets it.
    stray = bytearray(request(first, 1))
    stray[5] = 77
    assert server.exchange([bytes(stray)], 0) == []


def test_killing_one_worker_leaves_the_others_flows_untouched(server: Server):
    first, second = server.workers
    flows = [request(second, host) for host in range(1, 51)]
    before = sorted(mapped(frame) for frame in server.exchange(flows, 50))
    server.exchange([request(first, 1)], 1)
    first.process.send_signal(signal.SIGSTOP)  # `ip netns exec` has become the worker itself
    assert first.process.pid == first.ready["pid"]
    first.process.kill()
    assert first.process.wait(5) == -signal.SIGKILL
    after = sorted(mapped(frame) for frame in server.exchange(flows, 50))
    assert after == before
    assert server.exchange([request(first, 1)], 0) == []
    # Return traffic finds the same mappings.
    reply = IP(src="198.51.100.9", dst=before[0][1]) / UDP(sport=53, dport=before[0][2])
    frame = bytes(Ether(dst=mac_text(SWITCH)) / reply / Raw(b"x" * 8))
    back = server.exchange([nsh.encode(nsh.Tag(second.mac, SWITCH, second.spi, 100), frame)], 1)
    assert len(back) == 1
    assert Ether(back[0][38:])[IP].dst.startswith("10.0.0.")
    assert second.stub.queryMetrics(vnf_pb2.MetricsRequest()).metrics["g/nat.mappings"] == 50


def test_a_signature_does_not_pass_and_samples_are_written(server: Server, tmp_path: Path):
    worker = server.workers[0]
    frames = [request(worker, 7), request(worker, 8, data=b"so EVIL!")]
    assert len(server.exchange(frames, 1)) == 1
    samples = worker.stub.readSamples(vnf_pb2.ReadSamplesRequest()).samples
    assert [(s.label, s.nf, s.direction) for s in samples] == [
        (7, "g/ids", "in"),
        (7, "g/ids", "out"),
        (7, "g/nat", "in"),
        (7, "g/nat", "out"),
        (8, "g/ids", "in"),
        (8, "g/ids", "drop"),
    ]
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(5) == 0
    lines = (tmp_path / "core1.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [7, 7, 7, 7, 8, 8]


def test_ten_thousand_malformed_frames(server: Server):
    worker = server.workers[0]
    good = request(worker, 7)
    before = mapped(server.exchange([good], 1)[0])
    rng = random.Random(5)
    sent = 1
    for _ in range(100):
        batch: list[bytes] = []
        for _ in range(100):
            frame = bytearray(good[:14] + rng.randbytes(rng.randrange(120)))
            if rng.randrange(2):
                frame = bytearray(good)
                for _ in range(rng.randrange(1, 9)):
                    frame[rng.randrange(14, len(frame))] = rng.randrange(256)
            batch.append(bytes(frame))
        server.wire.send_batch(batch)
        sent += len(batch)
        eventually(partial(received, worker, sent), interval=0.002)
    while server.wire.recv_batch():
        pass
    assert mapped(server.exchange([good], 1)[0]) == before
    assert worker.process.poll() is None
    metrics = worker.stub.queryMetrics(vnf_pb2.MetricsRequest()).metrics
    assert metrics["frames_in"] == 10_002
    assert "drop.nf_error" not in metrics


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--interface", "nope0", "--api", "unix:{}/x"], 2, "--interface nope0: No such device"),
        (
            ["--interface", "lo", "--api", "unix:{}/x", "--cpu", "4000"],
            2,
            "--cpu 4000: Invalid argument",
        ),
        (
            ["--interface", "lo", "--api", "unix:{}/x", "--tls-key", "k"],
            2,
            "--tls-cert and --tls-key belong together",
        ),
        (["--interface", "lo", "--api", "nowhere.invalid:1"], 2, "--api nowhere.invalid:1"),
    ],
)
def test_what_cannot_start_says_why(arguments: list[str], code: int, text: str, tmp_path: Path):
    filled = [argument.format(tmp_path) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "servernf.python", "--name", "w", *filled],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr

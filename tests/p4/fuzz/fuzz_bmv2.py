"""BMv2 as an oracle: one process, programs loaded one after the other.

Its ports are veth pairs (packets of several ports could not be ordered in
pcap files), so it needs root, and frames have 14 bytes at least.
"""

from __future__ import annotations

import os
import queue
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from finsy.proto import p4i, p4r, p4r_grpc

from servernf.host.packetio import PacketSocket

BMV2 = shutil.which("simple_switch_grpc")
PORTS = (1, 2, 3, 4, 7)
PRIMARY = p4r.Uint128(low=1)
Outputs = dict[int, list[bytes]]


class Oracle:
    """A running BMv2: load a program, write entries, exchange packets."""

    def __init__(self, sockets: dict[int, PacketSocket], address: str, pid: int) -> None:
        self.sockets, self.pid = sockets, pid
        self.channel = grpc.insecure_channel(address)
        self.stub = p4r_grpc.P4RuntimeStub(self.channel)
        self.replication: list[p4r.Update] = []
        # The softswitch takes changes of a primary only.
        self.requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
        arbitration = p4r.MasterArbitrationUpdate(device_id=1, election_id=PRIMARY)
        self.requests.put(p4r.StreamMessageRequest(arbitration=arbitration))
        stream = self.stub.StreamChannel(iter(self.requests.get, None), wait_for_ready=True)
        self.is_primary = threading.Event()
        threading.Thread(target=self._drain, args=(stream,), daemon=True).start()

    def _drain(self, stream: Iterator[p4r.StreamMessageResponse]) -> None:
        """Read what the switch sends up, so that it never waits for us."""
        with suppress(grpc.RpcError):
            for message in stream:
                if message.HasField("arbitration"):
                    self.is_primary.set()

    def close(self) -> None:
        self.requests.put(None)
        self.channel.close()

    def load(self, raw: bytes, info: p4i.P4Info) -> None:
        """Commit a program; all entries are gone.

        BMv2 forgets neither multicast groups nor clone sessions with a commit
        (a session inserted anew then has its copies twice), so they go first.
        """
        for update in self.replication:
            undo = p4r.Update(type=p4r.Update.DELETE, entity=update.entity)
            self._write(undo)
        self.replication = []
        assert self.is_primary.wait(20), "the switch does not answer"
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1,
            election_id=PRIMARY,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT,
        )
        request.config.p4info.CopyFrom(info)
        request.config.p4_device_config = raw
        self.stub.SetForwardingPipelineConfig(request, wait_for_ready=True, timeout=120)
        # What the program before still sends is not this one's.
        select.select([], [], [], 0.05)
        self.collect({})

    def _write(self, update: p4r.Update) -> None:
        request = p4r.WriteRequest(device_id=1, election_id=PRIMARY, updates=[update])
        self.stub.Write(request, timeout=120)

    def write(self, updates: Sequence[p4r.Update]) -> list[int]:
        """Codes of the updates, 0 for applied."""
        codes: list[int] = []
        for update in updates:
            try:
                self._write(update)
                codes.append(0)
                if update.entity.WhichOneof("entity") == "packet_replication_engine_entry":
                    self.replication.append(update)
            except grpc.RpcError as e:
                codes.append(_first_code(e))
        return codes

    def exchange(self, port: int, frames: Sequence[bytes], expected: int, extra: float) -> Outputs:
        """Send frames; wait for `expected` (2 s at most), then `extra` seconds for more."""
        got: Outputs = {}
        sock = self.sockets[port]
        sent = 0
        while sent < len(frames):
            sent += sock.send_batch(list(frames[sent : sent + 32]))
        deadline = time.monotonic() + 2
        count = 0
        while count < expected and (left := deadline - time.monotonic()) > 0:
            select.select(list(self.sockets.values()), [], [], left)
            count += self.collect(got)
        if extra:
            select.select([], [], [], extra)
        self.collect(got)
        return got

    def collect(self, got: Outputs) -> int:
        count = 0
        for number, sock in self.sockets.items():
            while frames := sock.recv_batch():
                got.setdefault(number, []).extend(frames)
                count += len(frames)
        return count


def _first_code(e: Any) -> int:
    from finsy.proto import rpc_status

    for key, value in e.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in rpc_status.Status.FromString(value).details:
                error = p4r.Error()
                detail.Unpack(error)
                if error.canonical_code:
                    return error.canonical_code
    return e.code().value[0]


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def oracle(engine: str = "bmv2") -> Generator[Oracle, None, None]:
    """Veth pairs and a process, cleaned up in any case: BMv2, or softswitch with an `engine`."""

    def ip(*args: str) -> None:
        subprocess.run(["ip", "link", *args], check=True, capture_output=True)

    stem = f"fz{os.getpid() % 100000}"
    made: list[str] = []
    sockets: dict[int, PacketSocket] = {}
    process: subprocess.Popen[bytes] | None = None
    try:
        for n in PORTS:
            inner, outer = f"{stem}s{n}", f"{stem}h{n}"
            ip("add", inner, "type", "veth", "peer", "name", outer)
            made.append(inner)
            for side in (inner, outer):
                Path(f"/proc/sys/net/ipv6/conf/{side}/disable_ipv6").write_text("1")
                ip("set", side, "up")
            sockets[n] = PacketSocket(outer)
        address = f"127.0.0.1:{_free_port()}"
        options = [a for n in PORTS for a in ("-i", f"{n}@{stem}s{n}")]
        if engine == "bmv2":
            # Builds without Thrift do not know the option; others must not share its port.
            usage = subprocess.run([str(BMV2), "--help"], capture_output=True, text=True)
            if "--thrift-port" in usage.stdout + usage.stderr:
                options += ["--thrift-port", str(_free_port())]
            options += ["--", "--grpc-server-addr", address, "--cpu-port", "510"]
            command = [str(BMV2), "--no-p4", "--device-id", "1", *options]
        else:
            module = [sys.executable, "-m", "orchestrator.softswitch"]
            command = [*module, "--device-id", "1", "--grpc-addr", address, *options]
            command += ["--engine", engine]
        root = Path(__file__).parents[3]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)
            running = Oracle(sockets, address, process.pid)
            try:
                yield running
            finally:
                running.close()
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
        for sock in sockets.values():
            sock.close()
        for inner in made:
            ip("del", inner)

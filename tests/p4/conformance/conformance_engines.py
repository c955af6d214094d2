"""The switches under one test: both engines of softswitch in memory, BMv2 with packets in FIFOs.

BMv2 runs with `--use-files`: every port reads a pcap from a FIFO and writes a
pcap, so that frames of any length pass and no root is needed.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from conformance_stf import Command, Expect, Packet, Step, StfError, Translator
from finsy.proto import p4i, p4r, p4r_grpc

from orchestrator.errors import MalformedProgram, SwitchError, UnsupportedFeature
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.switch import SoftSwitch

BMV2 = shutil.which("simple_switch_grpc")
_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)

Outputs = dict[int, list[bytes]]


@dataclass(frozen=True, slots=True)
class Compiled:
    name: str
    json: Any
    raw: bytes
    p4info: p4i.P4Info


class NotRun(Exception):
    """This harness cannot run the test on an engine."""


class Refused(Exception):
    """An engine does not take the program or a command."""


class Unsupported(Refused):
    """It is the program, which has something that the engine does not do, by its own word."""


def run_softswitch(program: Compiled, steps: Sequence[Step], deadline: float) -> Outputs:
    switch = SoftSwitch()
    _load(switch, program)
    out = _in_memory(switch, program, steps, deadline)
    if switch.counters.faults:
        raise Refused(f"fault: {switch.counters.last_fault}")
    return out


def run_fast(program: Compiled, steps: Sequence[Step], timeout: float) -> Outputs:
    """C with sanitizers; the compiler may take as long as it takes. Unsupported: what it refuses."""
    with FastSwitch(sanitized=True) as switch:
        _load(switch, program)
        out = _in_memory(switch, program, steps, time.monotonic() + timeout)
        if switch.counters().faults:
            raise Refused("fault")
        return out


def _load(switch: SoftSwitch | FastSwitch, program: Compiled) -> None:
    try:
        switch.load(program.json, program.p4info)
    except UnsupportedFeature as e:
        raise Unsupported(" ".join(str(e).split())) from e
    except MalformedProgram as e:
        raise Refused(" ".join(str(e).split())) from e


def _in_memory(
    switch: SoftSwitch | FastSwitch, program: Compiled, steps: Sequence[Step], deadline: float
) -> Outputs:
    translator = Translator(program.p4info)
    out: Outputs = {}
    for step in steps:
        if time.monotonic() > deadline:
            raise TimeoutError
        if isinstance(step, Command):
            try:
                switch.write(translator.updates(step))
            except (SwitchError, StfError) as e:
                raise Refused(f"{step.name} {step.text}: {e}") from e
        elif isinstance(step, Packet):
            for port, frame in switch.process(step.port, step.frame):
                out.setdefault(port, []).append(frame)
    return out


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _read_pcap(path: Path) -> list[bytes]:
    """Whole frames of a pcap that may still grow."""
    data = path.read_bytes() if path.exists() else b""
    frames: list[bytes] = []
    at = 24
    while at + 16 <= len(data):
        _, _, kept, _ = struct.unpack_from("<IIII", data, at)
        if at + 16 + kept > len(data):
            break
        frames.append(data[at + 16 : at + 16 + kept])
        at += 16 + kept
    return frames


class Bmv2Files:
    """A BMv2 process whose ports are pcap FIFOs."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.folder = folder
        self.ports = list(ports)
        self.writers: dict[int, Any] = {}
        self.clock = 0
        for port in ports:
            os.mkfifo(folder / f"p{port}_in.pcap")
        address = f"127.0.0.1:{_free_port()}"
        interfaces = [a for p in ports for a in ("-i", f"{p}@{folder / f'p{p}'}")]
        self.log = (folder / "log").open("wb")
        command = [str(BMV2), "--no-p4", "--device-id", "1", *interfaces, "--use-files", "0"]
        usage = subprocess.run([str(BMV2), "--help"], capture_output=True, text=True)
        if "--thrift-port" in usage.stdout + usage.stderr:
            command += ["--thrift-port", str(_free_port())]
        command += ["--", "--grpc-server-addr", address, "--cpu-port", "510"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.opener = threading.Thread(target=self._open, daemon=True)
        self.opener.start()
        self.channel = grpc.insecure_channel(address)
        self.stub = p4r_grpc.P4RuntimeStub(self.channel)

    def _open(self) -> None:
        # BMv2 opens its ports one after the other, and reads each file's header.
        for port in self.ports:
            writer = (self.folder / f"p{port}_in.pcap").open("wb", buffering=0)
            writer.write(_PCAP_HEADER)
            self.writers[port] = writer

    def load(self, program: Compiled, timeout: float) -> None:
        request = p4r.SetForwardingPipelineConfigRequest(
            device_id=1, action=p4r.SetForwardingPipelineConfigRequest.VERIFY_AND_COMMIT
        )
        request.config.p4info.CopyFrom(program.p4info)
        request.config.p4_device_config = program.raw
        try:
            self.stub.SetForwardingPipelineConfig(request, wait_for_ready=True, timeout=timeout)
        except grpc.RpcError as e:
            raise Refused(self.reason(e)) from e

    def reason(self, e: grpc.RpcError) -> str:
        if self.process.poll() is not None:
            return f"exited with {self.process.returncode}"
        return f"{e.code().name}: {e.details()}"  # type: ignore[attr-defined]

    def write(self, updates: Sequence[p4r.Update], timeout: float) -> None:
        for update in updates:
            try:
                self.stub.Write(p4r.WriteRequest(device_id=1, updates=[update]), timeout=timeout)
            except grpc.RpcError as e:
                raise Refused(self.reason(e)) from e

    def send(self, port: int, frame: bytes) -> None:
        self.clock += 1
        head = struct.pack("<IIII", self.clock, 0, len(frame), len(frame))
        self.writers[port].write(head + frame)

    def outputs(self) -> Outputs:
        captured = {p: _read_pcap(self.folder / f"p{p}_out.pcap") for p in self.ports}
        return {p: frames for p, frames in captured.items() if frames}

    def finish_input(self, ports: Sequence[int]) -> None:
        for port in ports:
            if port in self.writers:
                self.writers.pop(port).close()

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        # An opener that still waits for a reader gets one.
        for port in self.ports:
            if self.opener.is_alive():
                fd = os.open(self.folder / f"p{port}_in.pcap", os.O_RDONLY | os.O_NONBLOCK)
                self.opener.join(0.05)
                os.close(fd)
        for writer in self.writers.values():
            writer.close()
        self.channel.close()
        self.log.close()


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def run_bmv2(program: Compiled, steps: Sequence[Step], deadline: float, wanted: int) -> Outputs:
    """Run the test on BMv2; `wanted` frames end the wait early (softswitch's count)."""
    translator = Translator(program.p4info)
    inputs = sorted({s.port for s in steps if isinstance(s, Packet)})
    ports = {*inputs, *(s.port for s in steps if isinstance(s, Expect)), *range(8)}
    with tempfile.TemporaryDirectory(prefix="conformance") as folder:
        bmv2 = Bmv2Files(Path(folder), sorted(ports))
        try:
            bmv2.load(program, max(1, deadline - time.monotonic()))
            bmv2.opener.join(5)
            bmv2.finish_input([p for p in ports if p not in inputs])
            seen = False
            for step in steps:
                if isinstance(step, Packet):
                    bmv2.send(step.port, step.frame)
                    seen = True
                elif isinstance(step, Command):
                    if seen:
                        if len(inputs) > 1:
                            raise NotRun("commands between packets of several ports")
                        pause(0.3)
                    try:
                        updates = translator.updates(step)
                    except StfError as e:
                        raise Refused(str(e)) from e
                    bmv2.write(updates, max(1, deadline - time.monotonic()))
            bmv2.finish_input(inputs)
            last, since = -1, time.monotonic()
            while time.monotonic() < deadline:
                pause(0.02)
                if bmv2.process.poll() is not None:
                    raise Refused(f"exited with {bmv2.process.returncode} during the packets")
                count = sum(map(len, bmv2.outputs().values()))
                if count != last:
                    last, since = count, time.monotonic()
                quiet = time.monotonic() - since
                if quiet > (0.1 if count >= wanted else 1.0):
                    break
            return bmv2.outputs()
        finally:
            bmv2.close()

"""A worker of the dpdk runtime on an interface: vectors, rights, an idle link and one that is cut off.

Oracle: the vectors. Blind spot: NICs (DPDK drives AF_PACKET here).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from live import NEEDS_DPDK, NEEDS_EMULATION

from orchestrator.runtimes import runtime
from servernf.conformance import packets
from servernf.conformance.device import WorkerUnderTest, interface

pytestmark = [NEEDS_EMULATION, NEEDS_DPDK, pytest.mark.slow]

USER = 60_701
VECTORS = [vector for vector in packets.VECTORS if vector.nf in runtime("dpdk").nf_types]


@dataclass
class Running:
    device: WorkerUnderTest
    far: str
    pid: int
    """Of the process that moves packets."""

    @property
    def cpu_ticks(self) -> int:
        """User and system time of the process (proc(5), stat, fields 14 and 15)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    api = f"unix:{tmp_path_factory.mktemp('worker')}/w.sock"
    near, far = (f"dw{os.getpid() % 100_000}{end}" for end in "ab")
    _ip("link", "add", near, "type", "veth", "peer", "name", far)
    try:
        _ip("link", "set", far, "address", "02:00:00:01:00:01")
        for name in (near, far):
            _ip("link", "set", name, "addrgenmode", "none", "up")
        options = ["--name", "w", "--interface", far, "--api", api, "--user", str(USER)]
        command = [sys.executable, "-m", "servernf.dpdk", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            try:
                assert json.loads(worker.stdout.readline())["ready"]
                children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()
                with WorkerUnderTest(api, interface(near)) as device:
                    yield Running(device, far, int(children.split()[0]))
            finally:
                worker.terminate()
    finally:
        subprocess.run(["ip", "link", "del", near], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def test_vectors_over_an_interface(running: Running) -> None:
    for vector in VECTORS:
        packets.check(running.device, vector)


def test_it_has_no_rights(running: Running) -> None:
    status = Path(f"/proc/{running.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(USER)] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


def test_a_link_that_goes_and_comes_and_costs_nothing(running: Running) -> None:
    for state in ("up", "down"):
        _ip("link", "set", running.far, state)
        time.sleep(0.5)  # what has just come or gone is over
        before = running.cpu_ticks
        time.sleep(2)
        assert running.cpu_ticks - before <= 4, f"more than 2 % of a CPU, idle and {state}"
    _ip("link", "set", running.far, "up")
    time.sleep(0.5)  # it looks at links ten times a second, and what it sends before is lost
    packets.check(running.device, VECTORS[0])

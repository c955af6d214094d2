"""Switches of the target dpdk: a network of them under updates, and their ports one by one.

Oracle: numbered datagrams and a digest for the network, frames at the far ends of links for the ports.
Blind spot: NICs (DPDK drives AF_PACKET here). `make exhaustive` runs the other live tests on dpdk, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import orchestrator_json
from finsy.proto import p4i
from live import NEEDS_DPDK, NEEDS_EMULATION, Live, network
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from support import eventually
from update_load import Load, write_version

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "softswitch"))

import bmv2_programs as by_hand

from orchestrator.errors import SwitchError
from orchestrator.softswitch.fast.device import EngineProcess
from orchestrator.softswitch.fast.switch import FastSwitch
from servernf.host.packetio import PacketSocket

pytestmark = [NEEDS_EMULATION, NEEDS_DPDK]

USER = 60_700


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with network("leaf-spine", "dpdk", "dpdk") as started:
        yield started


def test_updates_of_a_network_lose_nothing(live: Live) -> None:
    graph = str(write_version(live.folder, 0))
    orchestrator_json("deploy", graph, "-n", live.name)
    with Load(live.state, 200) as load:
        for number in (1, 2):
            write_version(live.folder, number)
            assert orchestrator_json("deploy", graph, "-n", live.name)["updated"]
    report = load.report
    assert report is not None
    assert (report.lost, report.misrouted, report.repeated) == (0, 0, 0), report
    assert report.tcp_intact, report
    counted = sum(row["packets"] or 0 for row in live.tables("leaf1"))
    assert counted > report.sent, "entries count in C and are read in Python"


@dataclass
class Wired:
    """A switch that sends all of port 1 to port 2, and the far ends of both."""

    switch: FastSwitch
    process: EngineProcess
    names: list[str]
    near: PacketSocket
    far: PacketSocket

    def passes(self, frame: bytes) -> bytes | None:
        """What comes out of the one end for a frame into the other."""
        while self.far.recv_batch():
            pass
        self.near.send_batch([frame])
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for received in self.far.recv_batch():
                if received[:12] == frame[:12]:
                    return received
            time.sleep(0.002)
        return None


@pytest.fixture
def wired() -> Iterator[Wired]:
    stem = f"fp{os.getpid() % 100_000}"
    names = [f"{stem}{end}" for end in ("a", "b", "c", "d")]
    try:
        for one, other in (names[:2], names[2:]):
            _ip("link", "add", one, "type", "veth", "peer", "name", other)
        for name in names:
            _ip("link", "set", name, "mtu", "1600", "addrgenmode", "none", "up")
        switch = FastSwitch()
        try:
            process = switch.open({1: names[1], 2: names[2]}, USER)
            switch.load(by_hand.small(), p4i.P4Info())
            with PacketSocket(names[0]) as near, PacketSocket(names[3]) as far:
                yield Wired(switch, process, names, near, far)
        finally:
            switch.close()
    finally:
        for name in (names[0], names[2]):
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def test_frames_pass_as_they_are(wired: Wired) -> None:
    datagram = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / Raw(bytes(range(200)))
    for frame in (
        bytes(LINK / datagram),
        bytes(LINK / Dot1Q(vlan=5, prio=3) / datagram),
        bytes(LINK / Dot1Q(vlan=5) / Dot1Q(vlan=6) / datagram),
        bytes(LINK / Raw(bytes(1))),  # as short as the kernel sends
        bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2", flags="MF") / Raw(bytes(64))),
        bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2", frag=8) / Raw(bytes(64))),
        bytes(LINK / Raw(bytes(1600))),
    ):
        assert wired.passes(frame) == frame


def test_links_that_go_down_come_back_and_are_deleted(wired: Wired) -> None:
    frame = bytes(LINK / Raw(b"x" * 60))
    assert wired.passes(frame)
    _ip("link", "set", wired.names[2], "down")
    time.sleep(0.3)  # links are looked at ten times a second
    for _ in range(50):
        wired.near.send_batch([frame] * 60)
        time.sleep(0.001)
    eventually(lambda: wired.switch.drops().get("link_down", 0) > 2000, timeout=10)
    _ip("link", "set", wired.names[2], "up")
    eventually(lambda: wired.passes(frame) is not None, timeout=20)
    _ip("link", "del", wired.names[2])
    before = _cpu_s(wired.process)
    for _ in range(20):
        wired.near.send_batch([frame] * 60)
        time.sleep(0.01)
    time.sleep(1)
    assert wired.switch.counters().received > 3000
    assert _cpu_s(wired.process) - before < 0.5, "it spins"


def test_an_idle_switch_costs_nothing_and_is_nobody(wired: Wired) -> None:
    before = _cpu_s(wired.process)
    time.sleep(2)
    assert _cpu_s(wired.process) - before <= 0.02
    threads = list(Path(f"/proc/{wired.process.pid}/task").iterdir())
    assert len(threads) > 1, "DPDK has one, too"
    for thread in threads:
        status = (thread / "status").read_text()
        assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status


def _cpu_s(process: EngineProcess) -> float:
    words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("interfaces", "wrong"),
    [
        ({1: "nosuch0"}, "port 1@nosuch0: no such interface"),
        ({70_000: "lo"}, "port 70000@lo: NUMBER@INTERFACE is expected"),
        ({1: "lo,iface=eth0"}, "no name of an interface"),
    ],
)
def test_ports_that_cannot_be_are_refused(interfaces: dict[int, str], wrong: str) -> None:
    with FastSwitch() as switch, pytest.raises(SwitchError, match=wrong):
        switch.open(interfaces)


def test_what_it_has_in_dpdks_folder_is_gone() -> None:
    with FastSwitch() as switch:
        process = switch.open({1: "lo"})
        assert not list(Path("/var/run/dpdk").glob(f"*-{process.pid}"))


def test_a_device_ends_with_the_process_that_moves_its_packets(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "orchestrator.softswitch", "--engine", "dpdk", "-i", "1@lo"]
    with subprocess.Popen(
        [*words, "--grpc-addr", f"unix:{tmp_path}/s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as device:
        assert device.stdout is not None
        assert device.stderr is not None
        assert '"ready": true' in device.stdout.readline()
        children = Path(f"/proc/{device.pid}/task/{device.pid}/children")
        pids = [int(c) for c in children.read_text().split()]
        (mover,) = (c for c in pids if "python" not in os.readlink(f"/proc/{c}/exe"))
        os.kill(mover, signal.SIGSEGV)
        assert device.wait(20) == 1
        assert "process is gone" in device.stderr.read()

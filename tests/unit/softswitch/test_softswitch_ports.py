"""Raw sockets and the switch as a process, over veth pairs (root only)."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from finsy.proto import p4r
from softswitch_client import Controller
from softswitch_support import PROGRAMS, Names, p4info, udp_frame
from support import eventually

from orchestrator.errors import SwitchError
from orchestrator.softswitch.__main__ import main
from orchestrator.softswitch.ports import open_ports
from servernf.host.packetio import PacketSocket

pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for veth interfaces")


@pytest.fixture
def veths() -> Iterator[Callable[[], tuple[str, str]]]:
    """Makes veth pairs, quiet (no IPv6), and removes them."""
    made: list[str] = []

    def make() -> tuple[str, str]:
        a = f"sw{os.getpid() % 100000}a{len(made)}"
        b = f"sw{os.getpid() % 100000}b{len(made)}"
        subprocess.run(["ip", "link", "add", a, "type", "veth", "peer", "name", b], check=True)
        made.append(a)
        for name in (a, b):
            Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
        for name in (
            a,
            b,
        ):  # the kernel gives the carrier's word later, and drops frames until then
            eventually(lambda name=name: operstate(name) == "up")
        return a, b

    yield make
    for name in made:
        subprocess.run(["ip", "link", "del", name], check=False)


def operstate(interface: str) -> str:
    return Path(f"/sys/class/net/{interface}/operstate").read_text().strip()


def receive(sock: PacketSocket, count: int) -> list[bytes]:
    """`count` frames, or fewer after a minute."""
    frames: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(frames) < count and (left := deadline - time.monotonic()) > 0:
        select.select([sock], [], [], left)
        frames += sock.recv_batch()
    return frames


@needs_root
def test_frames_arrive_whole_in_order_and_are_not_echoed(
    veths: Callable[[], tuple[str, str]],
) -> None:
    a, b = veths()
    with PacketSocket(a, batch=16) as left, PacketSocket(b, batch=16) as right:
        assert right.recv_batch() == []
        frames = [udp_frame(sport=i, payload=bytes(i % 700)) for i in range(100)]
        assert left.send_batch(frames) == 100
        assert receive(right, 100) == frames
        assert left.recv_batch() == []
        assert (left.sent, right.received, left.dropped) == (100, 100, 0)


@needs_root
def test_vlan_tag_taken_by_the_kernel_is_put_back(veths: Callable[[], tuple[str, str]]) -> None:
    a, b = veths()
    with PacketSocket(a) as left, PacketSocket(b) as right:
        frames = [udp_frame(vlan=vlan) for vlan in (0, 5, 0xEFFF)]
        provider = udp_frame()
        frames.append(provider[:12] + struct.pack(">HH", 0x88A8, 7) + provider[12:])
        left.send_batch(frames)
        assert receive(right, 4) == frames


@needs_root
def test_frames_that_the_kernels_queue_has_no_room_for_are_counted(
    veths: Callable[[], tuple[str, str]],
) -> None:
    a, b = veths()
    with PacketSocket(a) as left, PacketSocket(b, rcvbuf=4096) as right:
        assert right.drops() == {}
        sent = left.send_batch([bytes(1000)] * 200)
        received = 0

        def all_accounted_for() -> bool:
            nonlocal received
            while more := right.recv_batch():
                received += len(more)
            return received + right.drops().get("receive_queue_full", 0) == sent

        eventually(all_accounted_for)
        assert 0 < received < sent
        told = right.drops()
        assert told == right.drops() == {"receive_queue_full": sent - received}, (
            "cleared by reading"
        )
        left.send_batch([b"short"])
        assert left.drops() == {"send_queue_full": 1}


@needs_root
def test_unsendable_frames_are_counted_not_fatal(veths: Callable[[], tuple[str, str]]) -> None:
    a, b = veths()
    with PacketSocket(a) as left, PacketSocket(b) as right:
        good = udp_frame()
        assert left.send_batch([good, b"short", b"", bytes(60_000), good]) == 2
        assert left.dropped == 3
        assert receive(right, 2) == [good, good]
        subprocess.run(["ip", "link", "set", b, "down"], check=True)
        left.send_batch([good])
        right.recv_batch()
        subprocess.run(["ip", "link", "set", b, "up"], check=True)
        left.recv_batch()
        left.clear_error()
        assert left.send_batch([good]) == 1


def test_packetio_imports_nothing_of_the_softswitch() -> None:
    code = (
        "import sys, servernf.host.packetio; "
        "print([m for m in sys.modules if 'softswitch' in m or 'grpc' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_root
def test_missing_interface_names_those_there_are() -> None:
    with pytest.raises(SwitchError, match=r"port 3@nosuch: no such interface \(found: .*lo"):
        open_ports({3: "nosuch"})


@needs_root
def test_missing_interface_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", "1@nosuch", "--grpc-addr", "127.0.0.1:0", "--name", "leaf1"]) == 2
    assert "softswitch leaf1: port 1@nosuch: no such interface" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-i", "veth0"], "PORT@INTERFACE is expected, as in 1@veth0"),
        (["-i", "1@a", "-i", "1@b"], "port 1 is given twice"),
        (["--tls-cert", "x"], "--tls-cert and --tls-key belong together"),
        (["--pipeline", "x"], "--pipeline and --p4info belong together"),
    ],
)
def test_bad_arguments_exit_2(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as e:
        main(["--grpc-addr", "127.0.0.1:0", *arguments])
    assert e.value.code == 2
    assert text in capsys.readouterr().err


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.softswitch", "--grpc-addr", "127.0.0.1:0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["ready"] is True
    return process, ready["grpc_addr"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    process, address = start()
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=60).close()
    process.send_signal(number)
    assert process.wait(10) == 0


@needs_root
def test_process_forwards_and_counts(veths: Callable[[], tuple[str, str]]) -> None:
    (a, a_host), (b, b_host) = veths(), veths()
    process, address = start(
        "-i", f"1@{a}", "-i", f"2@{b}",
        "--pipeline", str(PROGRAMS / "router.json"),
        "--p4info", str(PROGRAMS / "router.p4info.txtpb"),
    )  # fmt: skip
    try:
        names = Names(p4info("router"))
        controller = Controller(address, 1)
        with controller.channel:
            controller.next()
            update = names.entry("ig.ipv4_lpm", {"dst": (0x0A000000, 8)}, "ig.route", (2, 5))
            controller.write(update)
            with PacketSocket(a_host) as sender, PacketSocket(b_host) as receiver:
                frames = [udp_frame(sport=i, vlan=7) for i in range(200)]
                assert sender.send_batch(frames) == 200
                got = receive(receiver, 200)
            assert [f[38:40] for f in got] == [struct.pack(">H", i) for i in range(200)]
            assert all(f[12:16] == b"\x81\x00\x00\x07" and f[26] == 63 for f in got)
            counter = p4r.CounterEntry(
                counter_id=p4info("router").counters[0].preamble.id, index=p4r.Index(index=1)
            )
            (response,) = controller.read(p4r.Entity(counter_entry=counter))
            assert response.entities[0].counter_entry.data.packet_count == 200
        subprocess.run(["ip", "link", "del", b], check=False)
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(10) == 0

"""Customer's taps: packets are known again behind NATs; loss, change, injection and delay are told.

Oracle: who changes the packets knows what he did.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.verification import keys, tapping, taps
from orchestrator.verification.taps import RECEIVED, SENT, Ends, Sight, Tap, TapWatcher

KEY = bytes(range(32))
SECOND = 1_000_000


def frame(l4: Packet, source: str = "10.0.0.7", ttl: int = 64, identity: int = 7) -> bytes:
    ip = IP(src=source, dst="198.51.100.9", ttl=ttl, id=identity)
    return bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / l4)


PAYLOAD = 64
BASE = frame(UDP(sport=4000, dport=53) / Raw(bytes(PAYLOAD)))


def datagram(number: int) -> bytes:
    """One of many, without the time that scapy takes."""
    return BASE[:-PAYLOAD] + random.Random(number).randbytes(PAYLOAD)


BEHIND_A_NAT = [
    (TCP(sport=4000, dport=80, seq=5, ack=6, flags="PA") / Raw(b"GET /"), {"sport": 1024}),
    (UDP(sport=4000, dport=53) / Raw(b"\x12\x34question"), {"sport": 1024}),
    (ICMP(id=9, seq=3) / Raw(b"ping"), {"id": 77}),
]


@pytest.mark.parametrize(("l4", "changes"), BEHIND_A_NAT)
def test_a_packet_is_known_again_behind_a_nat(l4: Packet, changes: dict[str, int]) -> None:
    translated = l4.copy()
    for name, value in changes.items():
        setattr(translated, name, value)
    before, after = frame(l4), frame(translated, "203.0.113.1", 61)
    assert taps.followed(before) == taps.followed(after) != None  # noqa: E711
    tampered = after[:-1] + bytes([after[-1] ^ 1])
    (marks, rest), (same, other) = (
        taps.followed(before) or (b"", b""),
        taps.followed(tampered) or (),
    )
    assert (marks, rest != other) == (same, True)


def test_what_is_not_followed() -> None:
    error = ICMP(type=11) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP()
    arp = bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP())
    multicast = bytes(Ether(dst="33:33:00:00:00:01") / IPv6() / UDP())
    for unseen in (frame(error), arp, multicast, b"short", frame(UDP())[:20]):
        assert taps.followed(unseen) is None


def test_both_ends_watch_the_same_share() -> None:
    one, other = TapWatcher(KEY, 0.1), TapWatcher(bytes(32), 0.1)
    frames = [datagram(number) for number in range(3000)]
    watched = [f for f in frames if one.saw(f, 0, SENT)]
    assert 220 < len(watched) < 380
    assert watched != [f for f in frames if other.saw(f, 0, SENT)]


def a_run(
    change: Callable[[int, bytes], bytes | None] = lambda number, data: data,
    more: tuple[bytes, ...] = (),
) -> Ends:
    """1000 packets over 100 s through a network that does this; it takes 500 us."""
    watcher = TapWatcher(KEY, 1.0)
    sent: list[Sight | None] = []
    came: list[Sight | None] = []
    for number in range(1000):
        at, data = number * SECOND // 10, datagram(number)
        sent.append(watcher.saw(data, at, SENT))
        if (changed := change(number, data)) is not None:
            came.append(watcher.saw(changed, at + 500, RECEIVED))
    came += [watcher.saw(data, 50 * SECOND, RECEIVED) for data in more]
    one, other = (
        Tap("e", keys.commitment(KEY), 1.0, 0, 100 * SECOND, 0, tuple(s for s in seen if s))
        for seen in (sent, came)
    )
    return taps.compare(one, other, 0.001, 2 * SECOND)


def test_an_honest_network_and_the_cheats() -> None:
    honest = a_run()
    assert (honest.lost, honest.changed, honest.injected, honest.problems) == (0, 0, 0, ())
    assert (honest.sent, honest.delay_us(99)) == (1000, 500)
    within = a_run(lambda number, data: None if number == 500 else data)
    assert (within.lost, within.problems) == (1, ())
    dropped = a_run(lambda number, data: None if number % 50 == 7 else data)
    assert dropped.lost == 20
    assert "did not come" in dropped.problems[0]
    changed = a_run(lambda number, data: data[:-1] + b"!" if number == 500 else data)
    assert (changed.lost, changed.changed) == (0, 1)
    assert "other contents" in changed.problems[0]
    injected = a_run(more=(frame(UDP() / Raw(b"buy this now")),))
    assert (injected.lost, injected.injected) == (0, 1)
    assert "nobody had sent" in injected.problems[0]


def test_the_edges_of_the_time_are_left_out_and_equal_packets_are_counted() -> None:
    sights = tuple(Sight(at * SECOND, SENT, "same", "d") for at in range(10))
    one = Tap("a", "k", 1.0, 0, 10 * SECOND, 0, sights)
    came = tuple(replace(s, way=RECEIVED) for s in sights[:9])
    assert taps.compare(one, replace(one, sights=came), 0.0, 2 * SECOND).lost == 0
    assert taps.compare(one, replace(one, sights=came[:5]), 0.0, 2 * SECOND).lost == 4
    early = replace(one, sights=(*came, Sight(0, RECEIVED, "other", "d")))
    assert taps.compare(one, early, 1.0, 2 * SECOND).injected == 0
    with pytest.raises(InputError, match="other keys"):
        taps.compare(one, replace(one, commitment="other"), 0.0, 0)


def test_a_file_that_is_cut_short_is_read_to_its_last_line(tmp_path: Path) -> None:
    file = tmp_path / "a.tap"
    text = json.dumps(taps.header("eth0", "k", 0.5, 5)) + "\n"
    text += taps.line(Sight(7, SENT, "p", "d")) + taps.line(Sight(9, RECEIVED, "q", "d"))
    file.write_text(text[:-5])
    tap = taps.read(file)
    assert (tap.ended_us, tap.sights) == (7, (Sight(7, SENT, "p", "d"),))
    file.write_text(text + '[1, "sideways", "p", "d"]\n')
    with pytest.raises(InputError, match="line 4"):
        taps.read(file)
    file.write_text("{}")
    with pytest.raises(InputError, match="no file of"):
        taps.read(file)


def _no_veth() -> str:
    if os.geteuid() != 0:
        return "needs root"
    words = ["ip", "link", "add", "tapt0", "type", "veth", "peer", "tapt1"]
    made = subprocess.run(words, capture_output=True, text=True)
    subprocess.run(["ip", "link", "del", "tapt0"], capture_output=True)
    return made.stderr.strip()


@pytest.mark.skipif(bool(_no_veth()), reason="no veth can be made")
def test_a_tap_hears_both_ways_and_the_ends_are_compared(tmp_path: Path) -> None:
    one, other = f"ta{os.getpid()}", f"tb{os.getpid()}"
    subprocess.run(["ip", "link", "add", one, "type", "veth", "peer", other], check=True)
    try:
        for name in (one, other):
            subprocess.run(["ip", "link", "set", name, "addrgenmode", "none", "up"], check=True)
        ended, began = threading.Event(), [threading.Event(), threading.Event()]

        def watch(interface: str, ready: threading.Event) -> None:
            with tapping.listening(interface) as port, (tmp_path / interface).open("w") as file:
                said = interface, keys.commitment(KEY), 1.0
                tapping.tap(
                    port, TapWatcher(KEY, 1.0), said, file, ended=ended.is_set, ready=ready.set
                )

        threads = [
            threading.Thread(target=watch, args=(name, ready))
            for name, ready in zip((one, other), began, strict=True)
        ]
        for thread, ready in zip(threads, began, strict=True):
            thread.start()
            assert ready.wait(30)
        mac = (Path("/sys/class/net") / other / "address").read_text().strip()
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
            port.bind((one, 0))
            for number in range(50):
                data = datagram(number)
                port.send(bytes.fromhex(mac.replace(":", "")) + data[6:])
        ended.set()
        for thread in threads:
            thread.join()
    finally:
        subprocess.run(["ip", "link", "del", one], check=True)
    words = ["verify", "ends", str(tmp_path / one), str(tmp_path / other), "--settle", "0"]
    done = CliRunner().invoke(app, [*words, "--json"])
    told = json.loads(done.stdout)[f"{tmp_path / one} -> {tmp_path / other}"]
    assert (done.exit_code, told["sent"], told["lost"], told["changed"]) == (0, 50, 0, 0)
    assert abs(told["delay_us"]["p50"]) < 10 * SECOND
    assert "50 watched, 0 lost" in CliRunner().invoke(app, words).stdout

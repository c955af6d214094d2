"""Capture at a switch's port or in front of a server's NF: both directions, VLAN tags put back.

Sockets are opened inside the network namespace that owns the interface, by a thread that enters it;
nothing runs there, and no device is told.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import EnvironmentMissing, InputError, NetworkError, unknown
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.network.facilities import Interface
from orchestrator.observation.pcapng import INBOUND, OUTBOUND, PcapngWriter
from orchestrator.observation.ports import port_names
from servernf.host.packetio import (
    ETH_P_ALL,
    PACKET_ADD_MEMBERSHIP,
    PACKET_AUXDATA,
    PACKET_MR_PROMISC,
    SOL_PACKET,
    TP_STATUS_VLAN_TPID_VALID,
    TP_STATUS_VLAN_VALID,
    overflowed,
)
from servernf.wire.nsh import decode

_CLONE_NEWNET = 0x40000000
_OUTGOING = 4
_LARGEST = 65_536
_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33
_AUXDATA = struct.Struct("=IIIHHHH")


@dataclass(frozen=True, slots=True)
class CapturePlace:
    """Where to capture; `paths` limits it to tagged frames on these (SPI, SI), None takes all."""

    interface: Interface
    description: str
    paths: frozenset[tuple[int, int]] | None = None


@dataclass(slots=True)
class Captured:
    """What a capture has got."""

    frames: int = 0
    bytes: int = 0
    missed: int = 0
    """Frames that the kernel's queue had no room for."""
    by_place: dict[str, int] = field(default_factory=dict[str, int])


def places(live: LiveNetwork, bundles: Mapping[str, Bundle], text: str) -> list[CapturePlace]:
    """`leaf1:3`, `leaf1:h1`, `leaf1` (all its ports), `server1:edge_nat`, `server1`.

    EnvironmentMissing where the network's interfaces are not on this machine.
    """
    device, _, what = text.partition(":")
    devices = live.inventory.devices
    if device not in devices:
        raise InputError(f"{unknown('device', device, tuple(devices))}; SWITCH:PORT or SERVER:NF")
    facilities = live.facilities("capturing")
    if devices[device].has_pipeline:
        return _port_places(
            facilities.ports(device), port_names(live.topology, device), device, what
        )
    return _server_places(live, facilities.cores(device), bundles, device, what)


def _port_places(
    interfaces: Mapping[int, Interface], names: Mapping[int, str], device: str, what: str
) -> list[CapturePlace]:
    chosen = [
        port
        for port in sorted(interfaces)
        if not what or what == str(port) or what == names.get(port)
    ]
    if not chosen:
        names_known = [*(str(p) for p in sorted(interfaces)), *names.values()]
        raise InputError(f"{device}: {unknown('port', what, names_known)}")
    return [
        CapturePlace(interfaces[port], f"{device} port {port} ({names.get(port, 'nothing')})")
        for port in chosen
    ]


def _server_places(
    live: LiveNetwork,
    interfaces: Mapping[int, Interface],
    bundles: Mapping[str, Bundle],
    server: str,
    nf: str,
) -> list[CapturePlace]:
    name_of = {index: live.worker_name(Core(server, index)) for index in interfaces}
    if not nf:
        return [CapturePlace(interfaces[index], name) for index, name in name_of.items()]
    graph, slash, name = nf.rpartition("/")
    names: list[str] = []
    chosen: list[CapturePlace] = []
    for bundle in bundles.values():
        if slash and bundle.graph != graph:
            continue
        for program in bundle.workers:
            if program.server != server:
                continue
            names += program.nfs
            paths: set[tuple[int, int]] = set()
            for chain in program.chains:
                if any(hop.nf == name for hop in chain.hops):
                    paths.add((chain.spi, chain.si))
                    paths |= {(hop.spi, hop.si) for hop in chain.hops if not hop.nf}
            if program.core in interfaces and paths:
                told = f"{name_of[program.core]}, frames of {bundle.graph}/{name}"
                chosen.append(CapturePlace(interfaces[program.core], told, frozenset(paths)))
    if not chosen:
        raise InputError(f"{server}: {unknown('NF', nf, sorted(set(names)))}")
    return chosen


def capture(
    where: list[CapturePlace],
    writer: PcapngWriter,
    *,
    count: int,
    seconds: float,
    ready: Callable[[], None] = lambda: None,
) -> Captured:
    """Write what passes until `count` frames or `seconds` (0: no limit); Ctrl-C ends it, too."""
    result = Captured()
    sockets: dict[socket.socket, tuple[CapturePlace, int]] = {}
    try:
        for place in where:
            number = writer.interface(place.interface.name, place.description)
            sockets[open_interface(place.interface)] = (place, number)
        ready()
        with suppress(KeyboardInterrupt):  # what was seen until Ctrl-C is the capture
            _write_frames(writer, sockets, result, count, seconds)
    finally:
        for port in sockets:
            result.missed += overflowed(port)
            port.close()
    return result


def _write_frames(
    writer: PcapngWriter,
    sockets: Mapping[socket.socket, tuple[CapturePlace, int]],
    result: Captured,
    count: int,
    seconds: float,
) -> None:
    deadline = time.monotonic() + seconds if seconds else float("inf")
    while time.monotonic() < deadline:
        wait = min(0.5, max(0.0, deadline - time.monotonic()))
        readable, _, _ = select.select(list(sockets), [], [], wait)
        for port in readable:
            place, number = sockets[port]
            for at, frame, outgoing in received(port):
                if not _wanted(place, frame):
                    continue
                direction = OUTBOUND if outgoing else INBOUND
                writer.packet(number, at, frame, direction=direction)
                result.frames += 1
                result.bytes += len(frame)
                described = place.description
                result.by_place[described] = result.by_place.get(described, 0) + 1
                if count and result.frames >= count:
                    return


def _wanted(place: CapturePlace, frame: bytes) -> bool:
    if place.paths is None:
        return True
    decoded = decode(frame)
    return decoded is not None and (decoded[0].spi, decoded[0].si) in place.paths


def received(port: socket.socket) -> Iterator[tuple[int, bytes, bool]]:
    """(time in ns, frame, whether it leaves) of all that has come."""
    while True:
        try:
            data, control, _, address = port.recvmsg(_LARGEST, 256)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.ENETDOWN, errno.EINTR):
                return
            raise
        at = time.time_ns()
        frame = data
        for level, kind, value in control:
            if level == SOL_PACKET and kind == PACKET_AUXDATA and len(value) >= _AUXDATA.size:
                status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(value)
                if status & TP_STATUS_VLAN_VALID:
                    kind_of = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
                    frame = data[:12] + struct.pack("!HH", kind_of, tci) + data[12:]
        yield at, frame, address[2] == _OUTGOING


def open_interface(interface: Interface) -> socket.socket:
    """A socket on an interface, opened in its namespace."""
    if not interface.pid:
        return _open_here(interface.name)
    opened: list[socket.socket] = []
    failed: list[Exception] = []

    def enter() -> None:
        # A namespace belongs to a thread: this one enters, opens, and ends.
        try:
            _enter(interface.pid)
            opened.append(_open_here(interface.name))
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return opened[0]


def _enter(pid: int) -> None:
    try:
        descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    except OSError as error:
        raise NetworkError(f"the namespace of process {pid} is gone ({error.strerror})") from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise EnvironmentMissing(
                f"entering the server's namespace: {os.strerror(ctypes.get_errno())}; root is needed"
            )
    finally:
        os.close(descriptor)


def _open_here(interface: str) -> socket.socket:
    try:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError as error:
        raise EnvironmentMissing("capturing needs root (CAP_NET_RAW)") from error
    try:
        port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        port.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        port.bind((interface, ETH_P_ALL))
        index = socket.if_nametoindex(interface)
        membership = struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b"")
        port.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership)
        port.setblocking(False)
    except OSError as error:
        port.close()
        raise NetworkError(
            f"interface {interface}: {error.strerror}; is the network up?"
        ) from error
    return port

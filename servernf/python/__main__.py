"""`python -m servernf.python`: one worker process on one interface, one core.

Prints one JSON line when it is ready, `{"ready": true, "name", "api", "interface", "mac", "pid"}`,
and ends with exit code 0 on SIGTERM or SIGINT. Errors go to stderr; the exit code is the error's.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from servernf.host.authority import DEFAULT_WITNESSES, DEFAULT_WRITERS, exposure
from servernf.host.framepipe import FramePipe
from servernf.host.packetio import PacketSocket
from servernf.host.privileges import confine, drop, user_number
from servernf.python.esp import KEY_BYTES
from servernf.python.keys import use
from servernf.python.network_function import known_types
from servernf.python.runtime.door import open_door
from servernf.python.runtime.loop import run
from servernf.python.runtime.messages import Place
from servernf.python.runtime.opener import Opener
from servernf.python.runtime.peers import UNIX, Tls
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker
from servernf.wire.addresses import mac_text, parse_mac
from servernf.wire.errors import EnvironmentMissing, InputError, ReportedError
from servernf.wire.ring import Ring

BATCH = 64
RING_BYTES = 64 << 20
"""Of a ring of records that is not there yet."""
SWITCH_INTERVAL_S = 0.001
"""How long a management call may hold the data path up (Python's default is 5 ms)."""
_SIOCGIFHWADDR = 0x8927


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ReportedError as error:
        print(f"servernf.python: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m servernf.python", description=__doc__)
    parser.add_argument("--name", required=True, help="the worker's name, e.g. server1-core1")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--interface", help="its (macvlan) interface")
    where.add_argument(
        "--frames",
        metavar="PATH",
        help="a listening Unix socket (SOCK_SEQPACKET, one frame a message) instead; needs no root",
    )
    parser.add_argument("--mac", type=parse_mac, help="with --frames: the worker's MAC")
    parser.add_argument(
        "--api",
        required=True,
        help="unix:/path.sock (who may open it may change everything) or HOST:PORT",
    )
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate of this worker")
    parser.add_argument("--tls-key", type=Path, help="its PEM key")
    parser.add_argument("--tls-ca", type=Path, help="PEM certificates that clients are signed by")
    parser.add_argument(
        "--writer",
        action="append",
        metavar="CN",
        help="with --tls-ca: common name of a client certificate that may change the worker, others "
        f"only read (repeatable; default: {', '.join(DEFAULT_WRITERS)})",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="another worker that a chain may go on to (repeatable); those with sockets beside this "
        "one's are known",
    )
    parser.add_argument(
        "--peer-name",
        action="append",
        default=[],
        metavar="CN",
        help="with --tls-ca: common name of another worker's certificate, which may pass chains on "
        "to this one (repeatable)",
    )
    parser.add_argument(
        "--witness",
        action="append",
        metavar="CN",
        help="with --tls-ca: common name of a client certificate that may say which packets are told "
        f"to witnesses (repeatable; default: {', '.join(DEFAULT_WITNESSES)})",
    )
    parser.add_argument(
        "--door",
        type=Path,
        metavar="PATH",
        help="a Unix socket where other workers bring state, and can do nothing else (default: --api); "
        "theirs lie beside it, and its folder becomes the working directory",
    )
    parser.add_argument("--cpu", type=int, default=-1, help="CPU to run on (default: any)")
    parser.add_argument(
        "--user",
        type=user_number,
        metavar="UID",
        help="become this user (a number), without capabilities, once sockets and files are open",
    )
    parser.add_argument(
        "--samples", type=Path, help="write samples to this file, too (64 MiB at most)"
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="FILE",
        help="the ring that records for witnesses go to (servernf ship makes and empties it)",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    tls = tls_of(options)
    if options.cpu >= 0:
        try:
            os.sched_setaffinity(0, {options.cpu})
        except OSError as error:
            raise InputError(f"--cpu {options.cpu}: {error.strerror}") from None
    user: int | None = options.user
    opener = None
    if user is not None:
        # Before there are threads: they inherit it.
        opener = Opener(user, KEY_BYTES)
        confine()
    mac = _mac(options)
    # The signal wakes the loop through a socket, so that none is missed between two polls.
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    worker = Worker(options.name, mac)
    if options.samples is not None:
        try:
            worker.shim.write_to(options.samples)
        except OSError as error:
            raise InputError(f"--samples {options.samples}: {error.strerror}") from None
    if options.records is not None:
        worker.shim.record_to(Ring(options.records, create=RING_BYTES).put)
    with _frames(options) as frames:
        known_types()
        worker.socket_drops = frames.drops
        place = Place(interface=options.interface or options.frames, cpu=options.cpu)
        os.umask(0o077)  # nobody else's are a socket and what else is made
        peers, door = options.peer, None
        at = f"{UNIX}{options.door.name}" if options.door is not None else ""
        server, service, api = serve(worker, options.api, tls, place=place, peers=peers, door=at)
        if options.door is not None:
            door = open_door(worker, options.door, tls, user)
        if opener is not None and user is not None:
            use(opener.read)
            drop(user)
        warning = exposure(
            api, tls=tls is not None, certified=tls is not None and tls.ca is not None
        )
        if warning:
            print(f"servernf.python {options.name}: warning: {warning}", file=sys.stderr)
        gc.collect()
        gc.freeze()  # what is there by now stays: the collector need not look at it again
        gc.set_threshold(50_000, 20, 20)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        ready = {
            "ready": True,
            "name": options.name,
            "api": api,
            "interface": options.interface or options.frames,
            "mac": mac_text(mac),
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        try:
            run(worker, frames, wake.fileno())
        finally:
            service.stopping.set()
            ends = [each.stop(grace=0.5) for each in (server, door) if each is not None]
            for end in ends:
                end.wait()
            worker.shim.close()
            if opener is not None:
                opener.close()
    return 0


def _frames(options: argparse.Namespace) -> PacketSocket | FramePipe:
    """Where frames come from and go to."""
    if options.frames is not None:
        try:
            return FramePipe.connect(options.frames)
        except OSError as error:
            raise EnvironmentMissing(f"--frames {options.frames}: {error.strerror}") from None
    try:
        # The macvlan interface passes on what its own MAC is the destination of.
        return PacketSocket(options.interface, batch=BATCH, promiscuous=False)
    except OSError as error:
        raise EnvironmentMissing(
            f"--interface {options.interface}: {error.strerror} (raw sockets need CAP_NET_RAW)"
        ) from None


def _mac(options: argparse.Namespace) -> int:
    if options.interface is not None:
        if options.mac is not None:
            raise InputError("--mac: an interface has its own")
        return interface_mac(options.interface)
    if options.mac is None:
        raise InputError("--frames needs --mac")
    return int(options.mac)


def interface_mac(interface: str) -> int:
    """The MAC address of a network interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), _SIOCGIFHWADDR, request)
        except OSError as error:
            raise InputError(f"--interface {interface}: {error.strerror}") from None
    return int.from_bytes(answer[18:24], "big")


def tls_of(options: argparse.Namespace) -> Tls | None:
    cert, key, ca = options.tls_cert, options.tls_key, options.tls_ca
    if ca is None and (options.writer or options.peer_name or options.witness):
        raise InputError(
            "--writer, --peer-name and --witness need --tls-ca: only certificates tell clients apart"
        )
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None:
        raise InputError("--tls-cert and --tls-key belong together")
    writers, peers = tuple(options.writer or DEFAULT_WRITERS), tuple(options.peer_name)
    try:
        pems = cert.read_bytes(), key.read_bytes(), ca.read_bytes() if ca else None
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    return Tls(*pems, writers, peers, tuple(options.witness or DEFAULT_WITNESSES))


if __name__ == "__main__":
    sys.exit(main())

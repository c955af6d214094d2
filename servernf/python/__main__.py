"""`python -m servernf.python`: one worker process on one interface, one core.

Prints one JSON line when it is ready, `{"ready": true, "name", "api", "interface", "mac", "pid"}`,
and ends with exit code 0 on SIGTERM or SIGINT. Errors go to stderr; the exit code is the error's.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from servernf.host.authority import exposure
from servernf.host.framepipe import FramePipe
from servernf.host.links import LinkWatch
from servernf.host.packetio import PacketSocket
from servernf.host.privileges import confine, drop
from servernf.python.esp import KEY_BYTES
from servernf.python.keys import use
from servernf.python.network_function import known_types
from servernf.python.options import mac_of, parser_of, pin, ready_line, tls_of
from servernf.python.runtime.door import open_door
from servernf.python.runtime.loop import run
from servernf.python.runtime.messages import WorkerPlace
from servernf.python.runtime.opener import Opener
from servernf.python.runtime.peers import UNIX
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker
from servernf.wire.errors import EnvironmentMissing, InputError, ReportedError
from servernf.wire.ring import Ring

BATCH = 64
RING_BYTES = 64 << 20
"""Of a ring of records that is not there yet."""
SWITCH_INTERVAL_S = 0.001
"""How long a management call may hold the data path up (Python's default is 5 ms)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ReportedError as error:
        print(f"servernf.python: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "python -m servernf.python",
        __doc__,
        frames="needs no root",
        door="a Unix socket where other workers bring state, and can do nothing else (default: --api); "
        "theirs lie beside it, and its folder becomes the working directory",
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
    pin(options.cpu)
    user: int | None = options.user
    opener = None
    if user is not None:
        # Before there are threads: they inherit it.
        opener = Opener(user, KEY_BYTES)
        confine()
    mac = mac_of(options)
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
        worker.socket_drops = worker.shim.surroundings.socket_drops = frames.drops
        if options.interface:
            worker.shim.surroundings.link_changes = LinkWatch(options.interface).changes
        worker.load.queue = frames.queue
        place = WorkerPlace(interface=options.interface or options.frames, cpu=options.cpu)
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
        print(ready_line(options, api, mac), flush=True)
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


if __name__ == "__main__":
    sys.exit(main())

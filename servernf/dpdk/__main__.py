"""`python -m servernf.dpdk`: one worker on one interface, one core, whose packets a C process runs.

Prints one JSON line when it is ready, `{"ready": true, "name", "api", "interface", "mac", "pid"}`,
and ends with exit code 0 on SIGTERM or SIGINT. Errors go to stderr; the exit code is the error's. The C
part is compiled when it is first needed, by the system's compiler, which takes some seconds.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence

from servernf.dpdk.building import build
from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import WorkerProcess
from servernf.dpdk.service import DpdkService
from servernf.dpdk.worker import DpdkWorker
from servernf.host.authority import exposure
from servernf.host.devices import device
from servernf.host.framepipe import FramePipe
from servernf.host.privileges import confine, drop
from servernf.python.network_function import known_types
from servernf.python.options import mac_of, parser_of, pin, ready_line, tls_of
from servernf.python.runtime.door import open_door
from servernf.python.runtime.messages import WorkerPlace
from servernf.python.runtime.peers import UNIX
from servernf.python.runtime.service import serve
from servernf.wire.errors import EnvironmentMissing, InputError, ReportedError, ServerError

_LOOK_S = 0.05
"""How often there is a look for frames that waited while state moved, where frames come as messages."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ReportedError as error:
        print(f"servernf.dpdk: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "python -m servernf.dpdk",
        __doc__,
        interface=", which DPDK opens (root)",
        device="a device that is this core's alone, by its PCI address (0000:3b:02.0: a virtual"
        " function bound to vfio-pci; huge pages), or a virtual device of DPDK's (net_ring0)",
        frames="needs no DPDK",
        door="a Unix socket where other workers bring state (as servernf.python has it)",
    )
    parser.add_argument(
        "--poll",
        choices=("always",),
        help="with --device: ask it for frames again and again, which takes the whole CPU; without, it"
        " has to wake who waits (rx interrupts)",
    )
    parser.add_argument(
        "--sanitized",
        action="store_true",
        help="compile the C part with address and undefined-behaviour sanitizers",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    tls = tls_of(options)
    pin(options.cpu)
    mac, user = mac_of(options), options.user
    if options.poll and options.device is None:
        raise InputError("--poll: needs --device; an interface wakes who waits for its frames")
    port = None
    if options.device is not None:
        port = device(options.device, polled=options.poll == "always")
    live = options.frames is None
    executable = build(dpdk=live, sanitized=options.sanitized)
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)

    def start(memory: int) -> WorkerProcess:
        return WorkerProcess(
            executable,
            mac,
            memory,
            interface=options.interface or "",
            device=port,
            user=user or 0,
        )

    engine = NfEngine(mac, start)
    if user is not None:
        confine()  # after the process is there, which needs it, and before there are threads
    # Who is no longer root cannot open a port again.
    worker = DpdkWorker(options.name, mac, engine, restarts=user is None, live=live)
    try:
        frames = _frames(options)
        known_types()
        place = WorkerPlace(
            interface=options.interface or options.device or options.frames, cpu=options.cpu
        )
        os.umask(0o077)  # nobody else's are a socket and what else is made
        door = None
        at = f"{UNIX}{options.door.name}" if options.door is not None else ""
        server, service, api = serve(
            worker, options.api, tls, place=place, peers=options.peer, door=at, kind=DpdkService
        )
        if options.door is not None:
            door = open_door(worker, options.door, tls, user)
        if user is not None:
            drop(user)
        warning = exposure(
            api, tls=tls is not None, certified=tls is not None and tls.ca is not None
        )
        if warning:
            print(f"servernf.dpdk {options.name}: warning: {warning}", file=sys.stderr)
        print(ready_line(options, api, mac), flush=True)
        threading.Thread(target=_end_with, args=(worker, waker), daemon=True).start()
        try:
            run(worker, frames, wake.fileno())
        finally:
            service.stopping.set()
            for end in [each.stop(grace=0.5) for each in (server, door) if each is not None]:
                end.wait()
    finally:
        worker.close()
    if worker.ended.is_set():
        raise ServerError(worker.last_error)
    return 0


def run(worker: DpdkWorker, frames: FramePipe | None, wake: int) -> None:
    """Until the descriptor `wake` is readable; frames that come as messages are handed on."""
    poller = select.epoll()
    poller.register(wake, select.EPOLLIN)
    if frames is not None:
        poller.register(frames.fileno(), select.EPOLLIN)
    with poller:
        wait_s = None if frames is None else _LOOK_S
        while not any(fd == wake for fd, _ in poller.poll(wait_s)):
            if frames is None:
                continue
            batch = frames.recv_batch()
            if batch or worker.wait_us() == 0:
                frames.send_batch(worker.process(batch))


def _end_with(worker: DpdkWorker, waker: socket.socket) -> None:
    """Wake the loop when the process is gone for good."""
    worker.ended.wait()
    waker.send(b"\0")


def _frames(options: argparse.Namespace) -> FramePipe | None:
    if options.frames is None:
        return None
    try:
        return FramePipe.connect(options.frames)
    except OSError as error:
        raise EnvironmentMissing(f"--frames {options.frames}: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())

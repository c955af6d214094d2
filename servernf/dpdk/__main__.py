"""`python -m servernf.dpdk`: one worker on one interface, one core, whose packets a C process runs.

Prints one JSON line when it is ready, `{"ready": true, "name", "api", "interface", "mac", "pid"}`,
and ends with exit code 0 on SIGTERM or SIGINT. Errors go to stderr; the exit code is the error's. The C
part is compiled when it is first needed, by the system's compiler, which takes some seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from servernf.dpdk.building import build
from servernf.dpdk.engine import Engine
from servernf.dpdk.process import Process
from servernf.dpdk.service import DpdkService
from servernf.dpdk.worker import DpdkWorker
from servernf.host.authority import DEFAULT_WITNESSES, DEFAULT_WRITERS, exposure
from servernf.host.framepipe import FramePipe
from servernf.host.privileges import confine, drop, user_number
from servernf.python.__main__ import interface_mac, tls_of
from servernf.python.network_function import known_types
from servernf.python.runtime.messages import Place
from servernf.python.runtime.service import serve
from servernf.wire.addresses import mac_text, parse_mac
from servernf.wire.errors import EnvironmentMissing, InputError, ReportedError, ServerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ReportedError as error:
        print(f"servernf.dpdk: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m servernf.dpdk", description=__doc__)
    parser.add_argument("--name", required=True, help="the worker's name, e.g. server1-core1")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--interface", help="its (macvlan) interface, which DPDK opens (root)")
    where.add_argument(
        "--frames",
        metavar="PATH",
        help="a listening Unix socket (SOCK_SEQPACKET, one frame a message) instead; needs no DPDK",
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
    for option, what, default in (
        ("--writer", "may change the worker", DEFAULT_WRITERS),
        ("--peer-name", "is another worker's, which may pass chains on", ()),
        ("--witness", "may ask for records", DEFAULT_WITNESSES),
    ):
        parser.add_argument(
            option,
            action="append",
            metavar="CN",
            help=f"with --tls-ca: common name of a certificate that {what} (repeatable; default: "
            f"{', '.join(default) or 'none'})",
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
        "--door",
        type=Path,
        metavar="PATH",
        help="taken as by servernf.python; no state comes by it",
    )
    parser.add_argument("--cpu", type=int, default=-1, help="CPU to run on (default: any)")
    parser.add_argument(
        "--user",
        type=user_number,
        metavar="UID",
        help="become this user (a number), without capabilities, once sockets and files are open",
    )
    parser.add_argument(
        "--sanitized",
        action="store_true",
        help="compile the C part with address and undefined-behaviour sanitizers",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    tls = tls_of(options)
    if options.cpu >= 0:
        try:
            os.sched_setaffinity(0, {options.cpu})
        except OSError as error:
            raise InputError(f"--cpu {options.cpu}: {error.strerror}") from None
    mac, user = _mac(options), options.user
    executable = build(dpdk=options.interface is not None, sanitized=options.sanitized)
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)

    def start(memory: int) -> Process:
        return Process(executable, mac, memory, interface=options.interface or "", user=user or 0)

    engine = Engine(mac, start)
    if user is not None:
        confine()  # after the process is there, which needs it, and before there are threads
    # Who is no longer root cannot open a port again.
    worker = DpdkWorker(options.name, mac, engine, restarts=user is None)
    try:
        frames = _frames(options)
        known_types()
        place = Place(interface=options.interface or options.frames, cpu=options.cpu)
        os.umask(0o077)  # nobody else's are a socket and what else is made
        server, service, api = serve(
            worker, options.api, tls, place=place, peers=options.peer, kind=DpdkService
        )
        if user is not None:
            drop(user)
        warning = exposure(
            api, tls=tls is not None, certified=tls is not None and tls.ca is not None
        )
        if warning:
            print(f"servernf.dpdk {options.name}: warning: {warning}", file=sys.stderr)
        ready = {
            "ready": True,
            "name": options.name,
            "api": api,
            "interface": options.interface or options.frames,
            "mac": mac_text(mac),
            "pid": os.getpid(),
        }
        print(json.dumps(ready), flush=True)
        threading.Thread(target=_end_with, args=(worker, waker), daemon=True).start()
        try:
            run(worker, frames, wake.fileno())
        finally:
            service.stopping.set()
            server.stop(grace=0.5).wait()
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
        while not any(fd == wake for fd, _ in poller.poll()):
            if frames is not None and (batch := frames.recv_batch()):
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


def _mac(options: argparse.Namespace) -> int:
    if options.interface is not None:
        if options.mac is not None:
            raise InputError("--mac: an interface has its own")
        return interface_mac(options.interface)
    if options.mac is None:
        raise InputError("--frames needs --mac")
    return int(options.mac)


if __name__ == "__main__":
    sys.exit(main())

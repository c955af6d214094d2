"""`python -m orchestrator.softswitch`: a switch process on network interfaces."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from servernf.host.authority import DEFAULT_WRITERS, exposure
from servernf.host.privileges import drop, user_number

if TYPE_CHECKING:  # imported when it is needed: --help must be quick
    from orchestrator.softswitch.engine import Engine


def interface(text: str) -> tuple[int, str]:
    number, at, name = text.partition("@")
    if not at or not name or not number.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}': PORT@INTERFACE is expected, as in 1@veth0")
    return int(number), name


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m orchestrator.softswitch",
        description="A P4 switch: executes p4c's BMv2 JSON on network interfaces and serves "
        "P4Runtime. Prints one JSON line when it listens; SIGTERM or SIGINT ends it.",
    )
    p.add_argument(
        "--device-id", type=int, default=1, metavar="N", help="P4Runtime device id (default 1)"
    )
    p.add_argument(
        "--grpc-addr",
        required=True,
        metavar="ADDRESS",
        help="where P4Runtime listens: unix:PATH (who may open the socket may change everything), "
        "or HOST:PORT (port 0 picks a free one; without client certificates that is open to all "
        "who can connect)",
    )
    p.add_argument(
        "-i",
        "--interface",
        type=interface,
        action="append",
        default=[],
        metavar="PORT@IF",
        help="attach a network interface as a port, as in -i 1@veth0 (repeatable)",
    )
    p.add_argument(
        "--cpu-port",
        type=int,
        default=510,
        metavar="PORT",
        help="port of PacketIn and PacketOut (default 510)",
    )
    p.add_argument(
        "--drop-port",
        type=int,
        default=511,
        metavar="PORT",
        help="port that means drop (default 511)",
    )
    p.add_argument(
        "--priority-queues",
        type=int,
        default=1,
        metavar="N",
        help="queues a port; packets of standard_metadata.priority N and up are dropped (default 1)",
    )
    p.add_argument(
        "--engine",
        choices=("python", "dpdk"),
        default="python",
        help="what packets pass: Python, or C on DPDK that is compiled for the program (default "
        "python)",
    )
    p.add_argument("--name", default="", help="name for messages")
    add_tls(p)
    p.add_argument(
        "--user",
        type=user_number,
        metavar="UID",
        help="become this user (a number), without capabilities, once sockets and files are open",
    )
    p.add_argument("--pipeline", type=Path, metavar="FILE", help="BMv2 JSON to load at start")
    p.add_argument("--p4info", type=Path, metavar="FILE", help="its P4Info (text format)")
    return p


def add_tls(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="server certificate (PEM); turns TLS on"
    )
    p.add_argument("--tls-key", type=Path, metavar="FILE", help="server key (PEM)")
    p.add_argument(
        "--tls-ca",
        type=Path,
        metavar="FILE",
        help="CA of client certificates (PEM); turns mutual TLS on",
    )
    p.add_argument(
        "--writer",
        action="append",
        metavar="CN",
        help="with --tls-ca: common name of a client certificate that may change the switch, others "
        f"only read (repeatable; default: {', '.join(DEFAULT_WRITERS)})",
    )
    p.add_argument(
        "--listener",
        action="append",
        default=[],
        metavar="CN",
        help="with --tls-ca: common name of a client certificate that may hear what the switch reports, "
        "in the P4Runtime role of that name, and change nothing (repeatable)",
    )


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments that fit each other; ends the process with a word on those that do not."""
    cli = parser()
    args = cli.parse_args(argv)
    if bool(args.tls_cert) != bool(args.tls_key) or (args.tls_ca and not args.tls_cert):
        cli.error("--tls-cert and --tls-key belong together, and --tls-ca needs both")
    for option in ("writer", "listener"):
        if getattr(args, option) and not args.tls_ca:
            cli.error(f"--{option} needs --tls-ca: only certificates tell clients apart")
    if bool(args.pipeline) != bool(args.p4info):
        cli.error("--pipeline and --p4info belong together")
    numbers = [n for n, _ in args.interface]
    double = sorted({n for n in numbers if numbers.count(n) > 1})
    if double:
        cli.error(f"port {double[0]} is given twice")
    return args


class RunningEngine(Protocol):
    """An engine on its ports."""

    @property
    def engine(self) -> Engine: ...

    def run(self) -> int:
        """Move packets until `stop`; the exit code."""
        ...

    def stop(self) -> None:
        """End `run`; a signal handler may call it."""
        ...

    def close(self) -> None: ...


def open_engine(args: argparse.Namespace) -> RunningEngine:
    """The engine with its ports, before this process has threads, sockets or keys."""
    if args.engine == "dpdk":
        from orchestrator.softswitch.fast_running import FastRunning as Opened
    else:
        from orchestrator.softswitch.python_running import PythonRunning as Opened

    return Opened(
        dict(args.interface),
        args.user,
        device_id=args.device_id,
        cpu_port=args.cpu_port,
        drop_port=args.drop_port,
        queues=args.priority_queues,
        name=args.name,
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = read_arguments(argv)

    # Imported after the arguments are known to be good: --help must be quick.
    from orchestrator.errors import ReportedError
    from orchestrator.softswitch.server import P4RuntimeServer, ServerTls

    label = f"softswitch {args.name or args.device_id}"
    tls = None
    if args.tls_cert:
        writers = tuple(args.writer or DEFAULT_WRITERS)
        listeners = tuple(args.listener)
        tls = ServerTls(args.tls_cert, args.tls_key, args.tls_ca, writers, listeners)
    running: RunningEngine | None = None
    try:
        running = open_engine(args)
        os.umask(0o077)  # nobody else's are a socket and what else is made
        server = P4RuntimeServer(running.engine, args.grpc_addr, tls)
        if args.pipeline:
            from finsy.proto import p4i
            from google.protobuf import text_format

            p4info = text_format.Parse(args.p4info.read_text(), p4i.P4Info())
            server.preload(args.pipeline.read_bytes(), p4info)
        if args.user is not None:
            drop(args.user)
    except (ReportedError, OSError, ValueError) as e:
        print(f"{label}: {e}", file=sys.stderr)
        if running is not None:
            running.close()
        return 2

    def stop(number: int, frame: FrameType | None) -> None:
        running.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.start()
    # Table entries are many, long-lived and acyclic: scanning them for cycles
    # again and again would cost more than it could ever free.
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    certified = tls is not None and tls.ca is not None
    announce(
        args, server.address, exposure(server.address, tls=tls is not None, certified=certified)
    )
    code = running.run()
    server.stop()
    running.close()
    return code


def announce(args: argparse.Namespace, address: str, warning: str) -> None:
    """Say on standard output that the switch listens, and on standard error who may change it."""
    if warning:
        print(f"softswitch {args.name or args.device_id}: warning: {warning}", file=sys.stderr)
    ready = {
        "ready": True,
        "grpc_addr": address,
        "device_id": args.device_id,
        "name": args.name,
        "ports": {str(n): name for n, name in args.interface},
    }
    print(json.dumps(ready), flush=True)


if __name__ == "__main__":
    sys.exit(main())

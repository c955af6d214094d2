"""The command line that workers of all our runtimes have, and the line with which they are ready."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import struct
from pathlib import Path

from servernf.host.authority import DEFAULT_WITNESSES, DEFAULT_WRITERS
from servernf.host.privileges import user_number
from servernf.python.runtime.peers import PeerTls
from servernf.wire.addresses import mac_text, parse_mac
from servernf.wire.errors import InputError

_SIOCGIFHWADDR = 0x8927


def parser_of(
    prog: str,
    description: str | None,
    *,
    interface: str = "",
    device: str = "",
    frames: str,
    door: str,
) -> argparse.ArgumentParser:
    """Their options; the last are what a runtime says of --interface, --device (none: it has
    no such option), --frames and --door."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--name", required=True, help="the worker's name, e.g. server1.1")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--interface", help=f"its (macvlan) interface{interface}")
    where.add_argument(
        "--frames",
        metavar="PATH",
        help=f"a listening Unix socket (SOCK_SEQPACKET, one frame a message) instead; {frames}",
    )
    parser.set_defaults(device=None)
    if device:
        where.add_argument("--device", help=device)
    parser.add_argument("--mac", type=parse_mac, help="without --interface: the worker's MAC")
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
        help=door,
    )
    parser.add_argument("--cpu", type=int, default=-1, help="CPU to run on (default: any)")
    parser.add_argument(
        "--user",
        type=user_number,
        metavar="UID",
        help="become this user (a number), without capabilities, once sockets and files are open",
    )
    return parser


def pin(cpu: int) -> None:
    """Run on this CPU only, unless it is below 0."""
    if cpu >= 0:
        try:
            os.sched_setaffinity(0, {cpu})
        except OSError as error:
            raise InputError(f"--cpu {cpu}: {error.strerror}") from None


def ready_line(options: argparse.Namespace, api: str, mac: int) -> str:
    """The line that whoever has started the worker waits for."""
    ready = {
        "ready": True,
        "name": options.name,
        "api": api,
        "interface": options.interface or options.device or options.frames,
        "mac": mac_text(mac),
        "pid": os.getpid(),
    }
    return json.dumps(ready)


def mac_of(options: argparse.Namespace) -> int:
    """The interface's own, or what --mac says."""
    if options.interface is not None:
        if options.mac is not None:
            raise InputError("--mac: an interface has its own")
        return interface_mac(options.interface)
    if options.mac is None:
        raise InputError(f"{'--device' if options.device else '--frames'} needs --mac")
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


def tls_of(options: argparse.Namespace) -> PeerTls | None:
    """What the worker shows and asks for; InputError for options that do not go together."""
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
    return PeerTls(*pems, writers, peers, tuple(options.witness or DEFAULT_WITNESSES))

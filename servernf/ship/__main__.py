"""`servernf ship`: carries records from the rings of this server's workers to the CLE.

Prints one JSON line when it has begun, and ends with exit code 0 on SIGTERM or SIGINT; what was not
acknowledged then stays in the rings. Errors go to stderr; the exit code is the error's.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc

from servernf.ship.shipper import Shipper
from servernf.wire.errors import InputError, ReportedError
from servernf.wire.ring import Ring

RING_BYTES = 64 << 20
_LOOK_S = 0.5
"""How often there may be new rings."""
_AGAIN = (("grpc.max_reconnect_backoff_ms", 5000),)
"""A CLE that was long away is found as soon as the shipper tries again; gRPC waits up to two minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Ship until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ReportedError as error:
        print(f"servernf ship: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="servernf ship",
        description=__doc__,
        epilog="example: servernf ship --cle 192.0.2.1:9600 "
        "--rings /var/lib/servernf/rings --tls-cert server1.crt "
        "--tls-key server1.key --tls-ca ca.crt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cle", required=True, help="unix:/path.sock or HOST:PORT")
    parser.add_argument(
        "--ring",
        action="append",
        default=[],
        metavar="POINT=FILE",
        help=f"a worker's ring (its --records); made where there is none, {RING_BYTES >> 20} MiB",
    )
    parser.add_argument(
        "--rings",
        type=Path,
        metavar="FOLDER",
        help="the rings there, POINT.ring each, those that come later, too (the agent's workers)",
    )
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate of this server")
    parser.add_argument("--tls-key", type=Path, help="its PEM key")
    parser.add_argument("--tls-ca", type=Path, help="PEM certificates that the CLE is signed by")
    parser.add_argument("--json", action="store_true", help="print counts as JSON at the end")
    return parser


def _run(options: argparse.Namespace) -> int:
    rings: dict[str, Ring] = {}
    if not options.ring and options.rings is None:
        raise InputError("give --ring or --rings: what is to be shipped")
    for word in options.ring:
        name, equals, file = word.partition("=")
        if not name or not equals or not file:
            raise InputError(f"--ring {word}: POINT=FILE is expected")
        rings[name] = Ring(Path(file), create=RING_BYTES)
    with _channel(options) as channel:
        rings |= _new(options.rings, rings)
        shipper = Shipper(rings, channel)
        thread = threading.Thread(target=shipper.run, name="ship")
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: ended.set())
        thread.start()
        print(json.dumps({"ready": True, "points": sorted(rings)}), flush=True)
        while not ended.wait(_LOOK_S):
            for name, ring in _new(options.rings, shipper.rings).items():
                shipper.add(name, ring)
        shipper.stop()
        thread.join()
    counts = shipper.counts
    lost = {name: ring.lost for name, ring in shipper.rings.items()}
    if options.json:
        told = {
            "acknowledged": counts.acknowledged,
            "failed": counts.failed,
            "refused": counts.refused,
            "damaged": counts.damaged,
            "lost": lost,
        }
        print(json.dumps(told))
    return 0


def _new(folder: Path | None, rings: Mapping[str, Ring]) -> dict[str, Ring]:
    """Rings of a folder that are not known yet; one that is none is told once it is looked at."""
    if folder is None:
        return {}
    return {p.stem: Ring(p) for p in sorted(folder.glob("[!.]*.ring")) if p.stem not in rings}


def _channel(options: argparse.Namespace) -> grpc.Channel:
    files = options.tls_cert, options.tls_key, options.tls_ca
    if not any(files):
        return grpc.insecure_channel(options.cle, _AGAIN)
    if not all(files):
        raise InputError("--tls-cert, --tls-key and --tls-ca belong together")
    try:
        cert, key, ca = (path.read_bytes() for path in files)
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None
    return grpc.secure_channel(options.cle, grpc.ssl_channel_credentials(ca, key, cert), _AGAIN)


if __name__ == "__main__":
    sys.exit(main())

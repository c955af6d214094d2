"""`python -m servernf.conformance`: test a worker, and say what passed.

The worker must be idle: what runs there of the graph "conformance" goes. Exit code 1 when a check fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import grpc

from servernf.conformance import calls, packets
from servernf.conformance.calls import Check
from servernf.conformance.device import (
    NotConforming,
    WorkerUnderTest,
    accept,
    details,
    interface,
    is_unimplemented,
    listen,
)
from servernf.wire.errors import ReportedError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        wire = interface(options.interface) if options.interface else accept(listen(options.frames))
        with WorkerUnderTest(options.api, wire) as device:
            return _run(device, options.only)
    except ReportedError as error:
        print(f"servernf.conformance: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m servernf.conformance", description=__doc__)
    parser.add_argument("--api", required=True, help="the worker's: unix:/path.sock or HOST:PORT")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--interface", help="the other end of the worker's interface")
    where.add_argument(
        "--frames",
        type=Path,
        metavar="PATH",
        help="listen at a Unix socket that the worker connects to",
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="checks whose name has it")
    return parser


def checks(device: WorkerUnderTest) -> Iterator[tuple[str, Check | None]]:
    """All of them by name; None: the worker has no such NF."""
    yield from calls.CHECKS.items()
    for vector in packets.VECTORS:
        there = vector.nf in device.nf_types
        yield vector.name, partial(packets.check, vector=vector) if there else None


def _run(device: WorkerUnderTest, only: str) -> int:
    passed = failed = absent = 0
    for name, check in checks(device):
        if only not in name:
            continue
        if check is None:
            absent += 1
            print(f"absent  {name}")
            continue
        try:
            device.begin()
            check(device)
        except (NotConforming, grpc.RpcError) as error:
            if is_unimplemented(error):
                absent += 1
                print(f"absent  {name}: {details(error)}", flush=True)
                continue
            failed += 1
            told = details(error)
            print(f"FAILED  {name}: {told}", flush=True)
        else:
            passed += 1
            print(f"passed  {name}", flush=True)
    print(f"{passed} passed, {failed} failed, {absent} of what the worker has not")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The CLE's process: a folder with the log and the published heads, and an address."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import InputError
from orchestrator.verification.cle.audit import audit, entries
from orchestrator.verification.cle.intake import RATE, Intake
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.segments import SEGMENT_BYTES, Log
from orchestrator.verification.cle.service import Credentials, serve
from orchestrator.verification.keys import public_text

HEADS = "heads.jsonl"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a CLE serves."""

    credentials: Credentials | None = None
    shippers: Mapping[str, tuple[str, ...]] | None = None
    rate: float = RATE
    segment_bytes: int = SEGMENT_BYTES


def log_folder(folder: Path) -> Path:
    """Where the log of a CLE's folder is."""
    return folder / "log"


def run(
    folder: Path, key: Ed25519PrivateKey, address: str, terms: Terms, ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT. The log is looked at first: a damaged one is not written to."""
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    log = Log(log_folder(folder), key, segment_bytes=terms.segment_bytes)
    try:
        found = audit(log_folder(folder), public_text(key))
        if found.problems:
            raise InputError(found.problems)
        intake = Intake(log, rate=terms.rate)
        with (folder / HEADS).open("ab", buffering=0) as published:
            publisher = _Publisher(published.fileno())
            intake.on_head = publisher.publish
            intake.start(list(entries(log_folder(folder))))
            server, bound = serve(intake, address, terms.credentials, terms.shippers)
            ready(bound)
            try:
                wake.recv(1)
            finally:
                server.stop(grace=1.0).wait()
                intake.end()
                publisher.publish(log.head, at_once=True)
    finally:
        log.close()


class _Publisher:
    """Appends heads to the file that the customer fetches: at most one a second, and the last."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._next_us = 0

    def publish(self, head: Head, *, at_once: bool = False) -> None:
        """A head that was sealed."""
        if at_once or head.wall_us >= self._next_us:
            self._next_us = head.wall_us + 1_000_000
            os.write(self._descriptor, head.line().encode())

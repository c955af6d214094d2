"""The CLE's process: a folder with the log and the published heads, and an address."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import InputError
from orchestrator.verification.cle.audit import audit, entries, newest
from orchestrator.verification.cle.intake import RATE, Intake
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.segments import SEGMENT_BYTES, Log
from orchestrator.verification.cle.service import Credentials, serve
from orchestrator.verification.keys import public_text

HEADS = "heads.jsonl"
_FORGET_S = 60.0
"""How often old segments are looked for."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a CLE serves."""

    credentials: Credentials | None = None
    shippers: Mapping[str, tuple[str, ...]] | None = None
    rate: float = RATE
    segment_bytes: int = SEGMENT_BYTES
    retention_days: float = 0.0
    """Segments whose records are all older go; 0: none goes."""


def log_folder(folder: Path) -> Path:
    """Where the log of a CLE's folder is."""
    return folder / "log"


def run(
    folder: Path, key: Ed25519PrivateKey, address: str, terms: Terms, ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT. What a log goes on from, its newest segment, is looked at first: a
    damaged one is not written to. The rest is `audit`'s."""
    wake, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    log = Log(log_folder(folder), key, segment_bytes=terms.segment_bytes)
    try:
        recent = newest(log_folder(folder))
        audited = audit(log_folder(folder), public_text(key), segments=recent)
        if audited.problems:
            raise InputError(audited.problems)
        intake = Intake(log, rate=terms.rate)
        with (folder / HEADS).open("ab", buffering=0) as published:
            publisher = _Publisher(published.fileno())
            intake.on_head = publisher.publish
            intake.start(list(entries(log_folder(folder), recent)))
            server, bound = serve(intake, address, terms.credentials, terms.shippers)
            ready(bound)
            try:
                while not select.select([wake], [], [], _FORGET_S)[0]:
                    _forget(log, terms.retention_days)
            finally:
                server.stop(grace=1.0).wait()
                intake.end()
                publisher.publish(log.head, at_once=True)
    finally:
        log.close()


def _forget(log: Log, days: float) -> None:
    if days:
        log.forget(time.time_ns() // 1000 - round(days * 86_400e6))


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

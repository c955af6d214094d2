"""Long work speaks: a bar on a terminal, plain lines elsewhere, and nothing where it is over at once."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.output import errors, note

COMPILING = "compiling"
_SILENT_S = 1.0
"""What takes no longer says nothing."""
_LINE_EVERY_S = 10.0
_TICK_S = 0.1


class Work:
    """What a command does now, told on standard error. Any thread may begin steps and count.

    `silent`: a program reads what the command prints.
    """

    def __init__(self, what: str, *, silent: bool = False) -> None:
        self._what, self._total, self._count = what, 0, 0
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._over = threading.Event()
        tell = self._bar if errors.is_terminal else self._lines
        self._teller = None if silent else threading.Thread(target=tell, daemon=True)

    def __enter__(self) -> Self:
        if self._teller is not None:
            self._teller.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._teller is not None:
            self._teller.join()

    def step(self, what: str, total: int = 0) -> None:
        """The next part begins; `total`: what `advance` will come to, where that is known."""
        with self._lock:
            self._what, self._total, self._count = what, total, 0

    def advance(self, count: int) -> None:
        """So much more of the part is done."""
        with self._lock:
            self._count += count

    def _bar(self) -> None:
        if self._over.wait(_SILENT_S):
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=errors, transient=True) as bar:
            task = bar.add_task("")
            while not self._over.wait(_TICK_S):
                with self._lock:
                    total, count, words = self._total or None, self._count, self._words()
                bar.update(task, description=words, total=total, completed=count)

    def _lines(self) -> None:
        told, again_at = "", 0.0
        over = self._over.wait(_SILENT_S)
        while not over:
            with self._lock:
                what, words = self._what, self._words()
            now = time.monotonic()
            if what != told or now >= again_at:
                note(words if what != told else f"{words} ({now - self._began:.0f} s)")
                told, again_at = what, now + _LINE_EVERY_S
            over = self._over.wait(_TICK_S)

    def _words(self) -> str:
        if not self._total:
            return self._what
        return f"{self._what}: {min(self._count, self._total):,} of {self._total:,}"

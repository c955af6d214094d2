"""Helpers that any test may use."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T | None], *, timeout: float = 120.0, interval: float = 0.05, what: str = ""
) -> T:
    """Poll until `probe` returns something true, and return that.

    Only a failure takes as long as `timeout` (s): it says nothing of how quick a machine is.

    On failure the AssertionError shows the last value or exception. AssertionErrors and
    OSErrors raised by the probe mean "not yet".
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            last: object = (value := probe())
            if value:
                return value
        except (AssertionError, OSError) as e:
            last = e
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'condition'} not met in {timeout:g} s; last: {last!r}")
        time.sleep(interval)


def json_lines(file: Path) -> list[Any]:
    """The JSON lines of a file that is still being written; the last may not be whole yet."""
    lines = file.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]

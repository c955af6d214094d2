"""Helpers that any test may use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    probe: Callable[[], T], *, timeout: float = 120.0, interval: float = 0.05, what: str = ""
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

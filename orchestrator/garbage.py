"""Python's cycle collector, kept away from large frozen data."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def large_frozen_data() -> Generator[None]:
    """Without the collector: there are no cycles in millions of tuples, and it would walk them again and
    again (half of a large compilation's time)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

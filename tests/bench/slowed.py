"""A worker of which one NF takes longer: slowed.py NF MICROSECONDS [arguments of servernf.python]."""

from __future__ import annotations

import sys
import time
from typing import Any

from servernf.python.__main__ import main
from servernf.python.runtime import tables


def slow_down(name: str, spent_ns: int) -> None:
    """Packets spend so much CPU time more in the instance of this name."""
    made = tables.CompiledCall.__init__

    def init(self: Any, instance: Any, port: str, path: int, quick: tables.Process) -> None:
        def process(*arguments: Any) -> str | None:
            end = time.thread_time_ns() + spent_ns
            while time.thread_time_ns() < end:
                pass
            return quick(*arguments)

        made(self, instance, port, path, process if instance.name == name else quick)

    tables.CompiledCall.__init__ = init


if __name__ == "__main__":
    slow_down(sys.argv[1], round(float(sys.argv[2]) * 1000))
    sys.exit(main(sys.argv[3:]))

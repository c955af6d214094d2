"""`servernf`: the programs of a server by their names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

_PROGRAMS = {
    "agent": "starts, bounds, watches and ends the workers of this server",
    "python": "one worker of the Python runtime (the agent starts it)",
    "ship": "carries what workers tell witnesses to the CLE",
    "conformance": "tests whether a worker is one",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program that the first argument names; its exit code."""
    listed = "\n".join(f"  {name:12} {what}" for name, what in _PROGRAMS.items())
    parser = argparse.ArgumentParser(
        prog="servernf",
        description=f"programs, each with --help:\n{listed}",
        epilog="example: servernf agent --check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("program", choices=_PROGRAMS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    return import_module(f"servernf.{options.program}.__main__").main(options.arguments)


if __name__ == "__main__":
    sys.exit(main())

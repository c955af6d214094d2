"""`orchestrator`, also as `python -m orchestrator`."""

from __future__ import annotations

import sys


def main() -> None:
    """Import the commands, which takes a while, so that Ctrl-C ends this, too, without a traceback."""
    try:
        from orchestrator.cli import main as run
    except KeyboardInterrupt:
        print("orchestrator: interrupted", file=sys.stderr)
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()

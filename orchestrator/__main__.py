"""`orchestrator`, also as `python -m orchestrator`."""

from __future__ import annotations

# The built-in part of signal: what the whole of it imports, Ctrl-C would show.
import _signal as signal  # pyright: ignore[reportMissingImports]  # pyrefly: ignore[missing-import]
import os


def _end(*_: object) -> None:
    """Nothing has been done, so nothing is to be undone; an exception would show where imports were."""
    os.write(2, b"orchestrator: interrupted\n")
    os._exit(130)


def main() -> None:
    """Import the commands, which takes a while, so that Ctrl-C ends this, too, without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # else ignored, as under nohup, or a caller's own
        signal.signal(signal.SIGINT, _end)
    # gRPC's own log would tell on standard error that a server says goodbye.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from orchestrator.cli import main as run

    try:
        signal.signal(signal.SIGINT, before)
        run()
    except KeyboardInterrupt:  # between the two
        _end()


if __name__ == "__main__":
    main()

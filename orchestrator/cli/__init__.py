"""The command line. Only this package prints; every command has `--json`; errors own exit codes."""

from __future__ import annotations

import errno
import signal
import sys

import typer
from typer.exceptions import TyperException

from orchestrator.cli.output import INTERRUPTED, fail
from orchestrator.cli.table import LazyGroup
from orchestrator.errors import InputError, ReportedError, StoreError
from orchestrator.observation import telemetry

EXIT_CODES = (
    "Exit codes: 0 done, 1 other error, 2 wrong input, 3 no placement or no lowering, "
    "4 the machine lacks something, 5 network, 6 switch, 7 server, 8 deployment undone, "
    "9 another's graph, 10 store, 130 Ctrl-C."
)

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What any file may meet: a full or read-only disk."""

app = typer.Typer(
    name="orchestrator",
    cls=LazyGroup,
    help="Split a service graph between P4 switches and servers, deploy it, see what it does.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _no_options() -> None:
    """Nothing is asked before the command."""


def main() -> None:
    """Entry point of the `orchestrator` command."""
    try:
        telemetry.start(sys.argv[1:])
        code = app(standalone_mode=False)
    except ReportedError as error:
        fail(str(error))
        sys.exit(error.exit_code)
    except TyperException as error:
        # typer's usage errors know their text only by a name of click's.
        told = str(getattr(error, "format_message", str)() or error)
        if told:
            fail(f"{told} (see --help)")
        sys.exit(InputError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends what is left to do at once
        fail("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        fail(f"{error.filename or 'a file'}: {error.strerror}")
        sys.exit(StoreError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)

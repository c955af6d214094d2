"""The command line. Only this package prints; every command has `--json`; errors own exit codes."""

from __future__ import annotations

import errno
import signal
import sys

import typer
from typer.exceptions import TyperException

from orchestrator.cli import (
    attaching,
    bundles,
    cle,
    cordoning,
    deploying,
    events,
    executing,
    graphs,
    importing,
    inspection,
    moving,
    network_status,
    page,
    placement,
    profiling,
    reconcile,
    recovery,
    starting,
    status,
    taps,
    verdicts,
    verify,
    whatif,
)
from orchestrator.cli.access import with_access, with_files, with_trust
from orchestrator.cli.examples import with_examples
from orchestrator.cli.output import INTERRUPTED, fail
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
    help="Split a service graph between P4 switches and servers, deploy it, see what it does.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
graphs.register(app)
bundles.register(app)
importing.register(app)
deploying.register(app)
status.register(app)
starting.register(app)
network_status.register(starting.net_app)
attaching.register(starting.net_app)
executing.register(starting.net_app)
recovery.register(app)
placement.register(app)
profiling.register(app)
whatif.register(app)
inspection.register(app)
events.register(app)
reconcile.register(app)
cordoning.register(app)
page.register(app)
moving.register(app)
verify.register(app)
cle.register(verify.verify_app)
verdicts.register(verify.verify_app)
taps.register(verify.verify_app)
with_files(app, "compile_command", "deploy", "page", "place_command", "whatif")
with_files(graphs.graph_app, "check")
with_trust(app, "deploy", "page")
with_trust(bundles.bundle_app, "show")
with_access(app, "network", "live")
with_access(starting.net_app, "topology", "name")
with_examples(app)


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

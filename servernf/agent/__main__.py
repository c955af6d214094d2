"""`servernf agent`: starts, bounds, watches and ends the workers of this server.

Prints one JSON line when it listens, `{"ready": true, "name", "listen", "pid"}`, and ends its workers
and itself with exit code 0 on SIGTERM or SIGINT. Errors go to stderr; the exit code is the error's.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.json_format import MessageToDict

from servernf.agent.bounds import find_bounds
from servernf.agent.carrier import Carrier
from servernf.agent.config import DEFAULT_CONFIG, UNIX, Config, read_config
from servernf.agent.describing import description
from servernf.agent.fleet import Fleet
from servernf.agent.installing import install
from servernf.agent.memory import WorkerMemory
from servernf.agent.service import AgentService, serve
from servernf.agent.starter import Starter
from servernf.host.privileges import group
from servernf.wire.errors import InputError, ReportedError, visible

_EXAMPLES = """examples:
  servernf agent --install                 # the systemd unit, and a configuration to be completed
  servernf agent --check                   # what this server would offer
  servernf agent --config ./agent.json
"""
_GRACE_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.install:
            print("\n".join(install(config=options.config.absolute())))
            return 0
        config = read_config(options.config)
        if options.check:
            return _check(config, as_json=options.json)
        return _run(config, insecure=options.insecure)
    except ReportedError as error:
        print(f"servernf agent: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="servernf agent",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"JSON (docs/reference.md of the orchestrator; default: {DEFAULT_CONFIG})",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="check the configuration and print what is offered"
    )
    what.add_argument(
        "--install", action="store_true", help="write a systemd unit and an example of FILE"
    )
    parser.add_argument("--json", action="store_true", help="with --check: as JSON")
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen on TCP though not everybody who connects must show a certificate",
    )
    return parser


def _check(config: Config, *, as_json: bool) -> int:
    told = description(config, find_bounds())
    if as_json:
        document = MessageToDict(
            told, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps({**document, "listen": config.listen}, indent=1))
        return 0
    print(f"{told.name}: agent at {config.listen}, servernf {told.version}")
    cores = config.workers.most_cores
    print(f"{cores} worker cores on CPUs {', '.join(str(cpu.number) for cpu in told.cpus)}")
    print(f"runtimes: {', '.join(told.runtimes)}")
    for nic in told.nics:
        carrier = "" if nic.carrier else ", no carrier"
        print(f"interface {visible(nic.name)}: MTU {nic.mtu}{carrier} {nic.driver}".rstrip())
    for warning in told.warnings:
        print(f"warning: {warning}")
    return 0


def _run(config: Config, *, insecure: bool) -> int:
    os.umask(0o077)  # nobody else's are sockets, logs and what is remembered
    exposed = config.exposures()
    if exposed and not insecure:
        raise InputError([*exposed, "give tls with ca, or say --insecure"])
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    memory = _prepare(config)
    bounds = find_bounds()
    bounds.prepare()
    starter = Starter(config, bounds)
    fleet = Fleet(starter, memory, restarts=config.workers.restart, log=_log)
    carrier = Carrier(config, _log)
    try:
        fleet.resume(config.name)
        server = serve(AgentService(config, bounds, starter, fleet), config)
        for line in exposed:
            _log(f"warning: {line}")
        ready = {"ready": True, "name": config.name, "listen": config.listen, "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        stopped.wait()
        server.stop(_GRACE_S)
    finally:
        fleet.end()
        carrier.end()
        memory.close()
    return 0


def _prepare(config: Config) -> WorkerMemory:
    """Make the folders; InputError when one cannot be, or another agent has it."""
    memory = WorkerMemory(config.folder)
    agents, workers = config.listen, config.workers.listen
    folders = [Path(agents.removeprefix(UNIX)).parent] if agents.startswith(UNIX) else []
    folders += [Path(workers.removeprefix(UNIX))] if workers.startswith(UNIX) else []
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"listen: {folder}: {error.strerror}") from None
    if config.workers.doors is not None:
        _make_doors(config.workers.doors, config.workers.user)
    return memory


def _make_doors(folder: Path, user: int | None) -> None:
    """Who is none of the workers' user's does not get in; nor can they put sockets there themselves."""
    try:
        with group(user):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user is not None:
            if folder.stat().st_gid != user:
                os.chown(folder, -1, user)
            folder.chmod(0o710)
    except OSError as error:
        raise InputError(f"workers.doors: {folder}: {error.strerror}") from None


def _log(line: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {visible(line)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

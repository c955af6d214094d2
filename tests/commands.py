"""`orchestrator` commands as users run them: each in a process of its own.

A command takes a second of a CPU to import what it needs, and the tests run hundreds. So one process
has imported it all, and forks for each: what differs from a user's command is only that. Real starts
are those of `command_line`, of the demo, and of tests/test_wheel.py.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_MOST = 1 << 20
_NUMBER = struct.Struct("=i")


def command_line(*words: str) -> list[str]:
    """The words that start `orchestrator WORDS`."""
    installed = Path(sys.executable).with_name("orchestrator")
    start = [str(installed)] if installed.exists() else [sys.executable, "-m", "orchestrator"]
    return [*start, *words]


def orchestrator(
    *words: str, expect: int = 0, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `orchestrator WORDS`; its exit code must be `expect`, and no traceback is ever shown."""
    done = _server().run(words, timeout)
    shown = (
        f"orchestrator {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    )
    assert "Traceback" not in done.stderr, shown
    assert done.returncode == expect, shown
    return done


def orchestrator_json(*words: str, expect: int = 0) -> Any:
    """What `orchestrator WORDS --json` prints."""
    return json.loads(orchestrator(*words, "--json", expect=expect).stdout)


@cache
def _server() -> _Server:
    return _Server()


class _Server:
    """The process that forks, which ends when this one does."""

    def __init__(self) -> None:
        self._line, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asked:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(asked.fileno())],
                pass_fds=[asked.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def run(self, words: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        """A command in this process's folder and environment, with nothing to read."""
        asked = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
        answers, answer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with answers, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with answer:
                socket.send_fds(self._line, [asked], [f.fileno() for f in (out, err, answer)])
            (pid,) = _NUMBER.unpack(answers.recv(_NUMBER.size))
            answers.settimeout(timeout)
            try:
                (code,) = _NUMBER.unpack(answers.recv(_NUMBER.size))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["orchestrator", *words], timeout) from None
            told = [_text(file.fileno()) for file in (out, err)]
        return subprocess.CompletedProcess(["orchestrator", *words], code, *told)


def _text(file: int) -> str:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0).decode()


def _serve(line: socket.socket) -> None:
    """Fork for each command, until nobody can ask. In a command's process: it, and the end of it."""
    askers: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not line:
                    pid = key.data
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with askers.pop(pid) as asker, contextlib.suppress(OSError):  # it may have gone
                        asker.send(_NUMBER.pack(code))
                    continue
                asked, fds, _, _ = socket.recv_fds(line, _MOST, 3)
                if not asked:
                    return
                if not (pid := os.fork()):
                    line.close()
                    ready.close()
                    os.close(fds.pop())
                    words, folder, environment = json.loads(asked)
                    return _become(words, folder, environment, fds)
                askers[pid] = asker = socket.socket(fileno=fds.pop())
                asker.send(_NUMBER.pack(pid))
                for fd in fds:
                    os.close(fd)
                ready.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)


def _become(words: list[str], folder: str, environment: Mapping[str, str], fds: list[int]) -> None:
    """Be the command."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, place in zip((nothing, *fds), (0, 1, 2), strict=True):
        os.dup2(fd, place)
        os.close(fd)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["orchestrator", *words]
    import_module("orchestrator.__main__").main()


def _import_all() -> None:
    """What any command imports."""
    for entry in import_module("orchestrator.cli.table").COMMANDS.values():
        for module in getattr(entry, "table", {"": entry}).values():
            import_module(f"orchestrator.cli.{module}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.path.remove(str(Path(__file__).parent))
    _import_all()
    gc.freeze()  # so that what all share is not copied when one collects its garbage
    _serve(socket.socket(fileno=int(sys.argv[1])))

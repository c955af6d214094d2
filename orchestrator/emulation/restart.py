"""Start a switch or worker of a live network again, by its supervisor: `net restart`.

The request and its answer are files in the network's folder; SIGCHLD, which the supervisor wakes up for
anyhow, tells it to look.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from orchestrator.emulation.state import NetworkState, load_state
from orchestrator.emulation.status import net_status
from orchestrator.errors import NetworkError, StoreError, unknown

_REQUEST, _ANSWER = "restart", "restarted"
_TIMEOUT_S = 60.0


def restart(name: str, device: str) -> NetworkState:
    """End a switch or worker if it lives, and start it anew: empty, where it was reached before.

    Returns the network's new state. NetworkError when there is no such device, or it does not start.
    """
    state = load_state(name)
    names = (*state.switches, *(worker.name for worker in state.workers))
    if device not in names:
        raise NetworkError(f"{name}: {unknown('switch or worker', device, names)}")
    if net_status(name)[0].health in ("crashed", "starting"):
        raise NetworkError(
            f"{name}: its supervisor does not run (any more, or yet): `orchestrator net down {name}`, "
            "then `net up`"
        )
    folder = Path(state.run_dir)
    with suppress(FileNotFoundError):
        (folder / _ANSWER).unlink()
    _write(folder / _REQUEST, {"device": device})
    os.kill(state.supervisor, signal.SIGCHLD)
    problem = _answer(folder / _ANSWER, device)
    if problem:
        raise NetworkError(f"{device}: {problem}")
    return load_state(name)


def serve(folder: Path, act: Callable[[str], None]) -> None:
    """The supervisor's part: do what is asked, and say how it ended."""
    request = folder / _REQUEST
    if not request.exists():
        return
    device = _read(request).get("device", "")
    request.unlink()
    problem = ""
    try:
        act(device)
    except Exception as error:  # whatever it was, the others go on
        problem = str(error) or type(error).__name__
    _write(folder / _ANSWER, {"device": device, "problem": problem})


def _answer(path: Path, device: str) -> str:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        if path.exists():
            return _read(path).get("problem", "")
        time.sleep(0.02)
    return f"the supervisor has not started {device} in {_TIMEOUT_S:.0f} s"


def _read(path: Path) -> dict[str, str]:
    return cast("dict[str, str]", json.loads(path.read_bytes()))


def _write(path: Path, what: dict[str, str]) -> None:
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(what))
        new.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error

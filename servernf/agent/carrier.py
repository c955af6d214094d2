"""The carrier: `servernf ship` beside the workers, started again when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable

from servernf.agent.config import Config
from servernf.agent.keeper import PAUSES_S
from servernf.agent.starter import CHILD

_GRACE_S = 3.0


class Carrier:
    """Carries what workers tell witnesses to the CLE, until `end`; nothing where there is none.

    Of a carrier that is away nothing is lost while the rings have room.
    """

    def __init__(self, config: Config, log: Callable[[str], None]) -> None:
        self._config, self._log = config, log
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel ends it when the thread that started it ends (child.py).
        self._thread = threading.Thread(target=self._run, name="carrier", daemon=True)
        if config.cle is not None:
            config.rings.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process that ships, or did last; 0: there was none."""
        return self._process.pid if self._process is not None else 0

    def end(self) -> None:
        """End it; what was not acknowledged stays in the rings."""
        self._ending.set()
        if self._thread.ident is not None:
            if self._process is not None:
                self._process.terminate()
            self._thread.join()

    def _run(self) -> None:
        failures = 0
        while not self._ending.is_set():
            with (self._config.folder / "ship.log").open("wb") as log:
                self._process = process = subprocess.Popen(
                    self._argv(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd="/",
                    start_new_session=True,
                )
            while process.poll() is None:
                if self._ending.wait(0.5):
                    process.terminate()
                    _wait(process)
            if not self._ending.is_set():
                self._log(f"ship: ended with exit code {process.returncode}, see {log.name}")
                failures = min(failures + 1, len(PAUSES_S) - 1)
                self._ending.wait(PAUSES_S[failures])

    def _argv(self) -> list[str]:
        cle = self._config.cle
        assert cle is not None
        bounds = {
            "parent": os.getpid(),
            "cpus": list(self._config.workers.cpus),
            "groups": [],
            "data_bytes": 0,
        }
        argv = [sys.executable, "-I", "-S", str(CHILD), json.dumps(bounds)]
        argv += [sys.executable, "-m", "servernf", "ship", "--cle", cle.address]
        argv += ["--rings", str(self._config.rings)]
        if cle.tls is not None:
            argv += ["--tls-cert", str(cle.tls.certificate), "--tls-key", str(cle.tls.key)]
            argv += ["--tls-ca", str(cle.tls.ca)]
        return argv


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The command's first moments."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTED = """
import signal, sys
from importlib.abc import MetaPathFinder
class CtrlC(MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname == "orchestrator.cli.output":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
signal.signal(signal.SIGINT, {before})
sys.argv = ["orchestrator", "--help"]
from orchestrator.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("before", "code", "told"),
    [
        ("signal.default_int_handler", 130, "orchestrator: interrupted\n"),
        ("signal.SIG_IGN", 0, ""),  # as under nohup
    ],
)
def test_interrupted_while_importing(before: str, code: int, told: str) -> None:
    script = INTERRUPTED.replace("{before}", before)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, told)

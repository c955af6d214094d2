"""`make demo` as a new user types it: what it claims of real traffic holds, and nothing is left.

Oracle: the demo's own exit code, and the list of networks.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from commands import ROOT, orchestrator_json
from live import NEEDS_EMULATION, own_folders


@pytest.mark.slow
@NEEDS_EMULATION
def test_the_demo_keeps_its_word() -> None:
    with own_folders():
        run = subprocess.run(
            [sys.executable, str(ROOT / "mininet" / "demo.py")],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.count("  ok  ") == 8
        assert not orchestrator_json("net", "status")

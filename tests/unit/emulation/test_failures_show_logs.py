"""A test that fails beside a network shows what its devices have said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EMULATED = Path(__file__).resolve().parents[2] / "emulated"

FAILING = """
def test_fails():
    assert False
"""


def test_the_logs_are_in_the_report(tmp_path: Path) -> None:
    states, runs = tmp_path / "state" / "orchestrator" / "networks", tmp_path / "run"
    for folder in (states, runs):
        folder.mkdir(parents=True)
    (runs / "switch1.log").write_text("the socket was taken")
    handle = {"id": "0000", "run_dir": str(runs), "supervisor": 0, "namespace": 0}
    (states / "lab.json").write_text(json.dumps(handle))
    (tmp_path / "test_failing.py").write_text(FAILING)
    (tmp_path / "conftest.py").write_text((EMULATED / "conftest.py").read_text())
    paths = [str(EMULATED), str(EMULATED.parent), str(EMULATED.parents[1])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PYTHONPATH": os.pathsep.join(paths),
        },
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Logs of the devices" in done.stdout
    assert "--- lab: switch1.log\nthe socket was taken" in done.stdout

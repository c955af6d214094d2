"""The shipped systemd unit, as `servernf agent --install` writes it.

Oracle: systemd's own check of units. Blind spot: the unit is not run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from servernf.agent.installing import UNIT, install

NEEDS_SYSTEMD = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze: not installed"
)


def verified(unit: Path) -> str:
    """What systemd finds wrong with a unit."""
    words = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else "".join(_of(unit, done.stderr.splitlines()))


def _of(unit: Path, lines: list[str]) -> list[str]:
    """Other units of the machine are not ours to judge."""
    return [line for line in lines if unit.name in line]


@NEEDS_SYSTEMD
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    install(tmp_path)
    unit = tmp_path / UNIT.relative_to("/")
    assert f"ExecStart={sys.executable} -m servernf agent" in unit.read_text()
    assert verified(unit) == ""
    unit.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=mixt"))
    assert "mixt" in verified(unit)

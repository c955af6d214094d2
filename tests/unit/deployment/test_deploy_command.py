"""What `deploy` asks first."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import NetworkError


def test_a_wrong_network_is_told_before_the_graph_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["deploy", str(tmp_path / "none.json"), "-n", "nowhere"])
    assert isinstance(done.exception, NetworkError)
    assert "unknown network 'nowhere'" in str(done.exception)

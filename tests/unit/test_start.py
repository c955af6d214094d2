"""The command's first moments."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest

from orchestrator.__main__ import main


class _CtrlC(MetaPathFinder):
    """Ctrl-C while the commands are being imported."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "orchestrator.cli":
            raise KeyboardInterrupt


def test_interrupted_while_importing_says_so_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "orchestrator.cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_CtrlC(), *sys.meta_path])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
    assert capsys.readouterr().err == "orchestrator: interrupted\n"

"""Long work speaks, short work and programs' work does not."""

from __future__ import annotations

import io
import threading

import pytest
from networks import make_graph, one_way, permits, small, topology
from rich.console import Console
from support import eventually

from orchestrator.cli import output, working
from orchestrator.cli.working import Work
from orchestrator.compile import CompileRequest, compile_graph


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to standard error, which is no terminal; nothing counts as short."""
    return _told_to(monkeypatch, is_terminal=False)


def _told_to(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> io.StringIO:
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, highlight=False, width=100)
    for module in (output, working):
        monkeypatch.setattr(module, "errors", console)
    monkeypatch.setattr(working, "_SILENT_S", 0.0)
    monkeypatch.setattr(working, "_LINE_EVERY_S", 0.0)
    return file


def test_steps_and_counts_are_lines_where_nobody_sees_a_bar(lines: io.StringIO) -> None:
    with Work("compiling") as work:
        eventually(lambda: "compiling (" in lines.getvalue(), what="a line again and again")
        work.step("installing", 2000)
        eventually(lambda: "installing: 0 of 2,000\n" in lines.getvalue())
        work.advance(1500)
        eventually(lambda: "installing: 1,500 of 2,000 (" in lines.getvalue())
    assert lines.getvalue().startswith("compiling\n")
    assert "\r" not in lines.getvalue()


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _told_to(monkeypatch, is_terminal=True)
    with Work("compiling") as work:
        eventually(lambda: "compiling" in file.getvalue())
        work.step("installing", 2000)
        eventually(lambda: "installing: 0 of 2,000" in file.getvalue())
    assert file.getvalue().endswith("\x1b[2K"), "it is wiped away"


def test_programs_are_told_nothing(lines: io.StringIO) -> None:
    before = threading.active_count()
    with Work("compiling", silent=True) as work:
        work.step("installing", 5)
        work.advance(5)
        assert threading.active_count() == before
    assert not lines.getvalue()


def test_what_is_over_at_once_says_nothing(
    lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "_SILENT_S", 60.0)
    with Work("compiling"):
        pass
    assert not lines.getvalue()


def test_compiling_tells_its_steps_in_order() -> None:
    graph = make_graph({"fw": permits()}, one_way("inside", "fw", "outside"), name="g")
    told: list[str] = []
    compile_graph(CompileRequest(graph, topology(), step=told.append))
    assert told == [
        "cutting g", "synthesising g", "choosing forms of g's filters", "placing g",
        "making entries of g", "numbering g",
    ]  # fmt: skip
    told.clear()
    full = small(topology(), **{f"acl.{table}": 0 for table in ("ipv4", "ipv6", "other")})
    compile_graph(CompileRequest(graph, full, step=told.append))
    assert told.count("placing g") > 1, "what is tried again is told again"

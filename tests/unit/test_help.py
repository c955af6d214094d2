"""What `--help` shows of every command.

Oracle: the words that users copy. Blind spot: whether the examples do what they should.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from orchestrator.cli import app, manual
from orchestrator.cli.examples import BETWEEN
from orchestrator.cli.table import COMMANDS, Table, app_of


def commands(above: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(above, TyperGroup):
        for name in above.commands:
            yield from commands(above.commands[name], (*path, name))
    else:
        yield path


ALL = sorted(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_examples_stand_one_a_line(words: tuple[str, ...]) -> None:
    text = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).stdout
    assert BETWEEN not in text
    _, colon, examples = text.partition("Example")
    if not colon:
        pytest.fail(f"{' '.join(words)} --help has no example")
    lines = [line.strip() for line in examples.splitlines()[1:] if line.strip()]
    assert lines
    assert all("orchestrator " in line for line in lines), lines


def test_every_command_that_prints_has_json() -> None:
    """`net exec` prints what the host's own command does."""
    without = {
        " ".join(words)
        for words in ALL
        if "--json"
        not in CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).stdout
    }
    assert without == {"net exec"}


def said_by_themselves() -> dict[str, manual.Page]:
    """The manual of all commands, in the table's order."""
    of = {module: manual.pages_of(app_of(module)) for module in modules(COMMANDS)}

    def pages(table: Table) -> Iterator[tuple[str, manual.Page]]:
        for name, entry in table.items():
            if isinstance(entry, str):
                yield name, of[entry][name]
            else:
                yield name, {"help": entry.summary, "commands": dict(pages(entry.table))}

    return dict(pages(COMMANDS))


def modules(table: Table) -> set[str]:
    return {
        module
        for entry in table.values()
        for module in ({entry} if isinstance(entry, str) else modules(entry.table))
    }


def test_the_manual_is_what_the_commands_say(request: pytest.FixtureRequest) -> None:
    pages = said_by_themselves()
    if request.config.getoption("--rewrite-golden"):
        Path(manual.__file__).with_name(manual.FILE).write_text(json.dumps(pages, indent=1) + "\n")
        manual.pages.cache_clear()
    again = "pytest tests/unit/test_help.py --rewrite-golden"
    assert manual.pages() == json.loads(json.dumps(pages)), again


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_the_manual_is_that_of_the_command(words: tuple[str, ...]) -> None:
    """Without the manual a command is made to show its help."""
    asked = [*words, "--help"]
    shown = CliRunner().invoke(app, asked, env={"COLUMNS": "120"}).stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manual, "pages", dict)
        assert CliRunner().invoke(app, asked, env={"COLUMNS": "120"}).stdout == shown
    assert shown


IMPORTED = """
import sys
from orchestrator.cli import app
app(sys.argv[1:], standalone_mode=False)
print(*sys.modules)
"""


@pytest.mark.parametrize("words", ["", "deploy", "net up", "graph", "verify cle serve"])
def test_help_imports_no_command(words: str) -> None:
    asked = [sys.executable, "-c", IMPORTED, *words.split(), "--help"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    imported = {*done.stdout.splitlines()[-1].split()}
    assert "orchestrator.cli.table" in imported
    assert not imported & {f"orchestrator.cli.{module}" for module in modules(COMMANDS)}
    assert not imported & {"orchestrator.deployment", "grpc", "numpy", "networkx"}

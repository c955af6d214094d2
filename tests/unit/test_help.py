"""What `--help` shows of every command.

Oracle: the words that users copy. Blind spot: whether the examples do what they should.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.examples import BETWEEN
from orchestrator.cli.table import LazyGroup


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


def test_the_table_says_of_commands_what_they_say_themselves() -> None:
    """`--help` of a group with a table imports none of them."""
    for group in (app_group := typer.main.get_command(app)), app_group.commands["net"]:  # type: ignore[attr-defined]
        assert isinstance(group, LazyGroup)
        for name, entry in group.table.items():
            said = (group.commands[name].help or "").partition("\n\n")[0]
            assert " ".join(said.split()) == entry.summary, name


IMPORTED = """
import sys
from orchestrator.cli import app
app(["--help"], standalone_mode=False)
print(*sys.modules)
"""


def test_help_imports_no_command() -> None:
    words = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    imported = {*done.stdout.splitlines()[-1].split()}
    assert "orchestrator.cli.table" in imported
    assert {
        "orchestrator.cli.deploying",
        "orchestrator.deployment",
        "grpc",
        "numpy",
    } & imported == set()

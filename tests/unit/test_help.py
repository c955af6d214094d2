"""What `--help` shows of every command.

Oracle: the words that users copy. Blind spot: whether the examples do what they should.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.examples import BETWEEN


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

"""What `--help` shows of every command.

Oracle: the words that users copy. Blind spot: whether the examples do what they should.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cli.examples import BETWEEN


def commands(above: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in above.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__)
    for group in above.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, (*path, str(group.name)))


@pytest.mark.parametrize("words", sorted(commands(app)), ids=" ".join)
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
        for words in commands(app)
        if "--json"
        not in CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).stdout
    }
    assert without == {"net exec"}

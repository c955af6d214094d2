"""What `--help` says of commands, as data: nothing of what they do is imported for it.

`manual.json` is what the commands say themselves (`pytest tests/unit/test_help.py --rewrite-golden`
writes it, and a test holds it to them); of it the same help is shown in any width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_type_hints

import typer
from typer.models import ArgumentInfo, DefaultPlaceholder, OptionInfo, ParameterInfo

Page: TypeAlias = Mapping[str, Any]
"""Of a command `help`, `epilog` and `parameters`; of a group `help` and `commands`: pages by name."""

HELP = "--help"
FILE = "manual.json"
_TYPES: Mapping[str, Any] = {
    str(kind): kind
    for kind in (
        *(bool, int, float, str, Path),
        *(int | None, float | None, Path | None),
        *(list[str], list[str] | None, list[Path], list[Path] | None),
    )
}


@cache
def pages() -> Mapping[str, Page]:
    """By the names of commands and groups."""
    return json.loads(files("orchestrator.cli").joinpath(FILE).read_text())


def pages_of(app: typer.Typer) -> dict[str, Page]:
    """What the commands of `app` say themselves."""
    commands = {
        info.name: _page(info.callback, info.epilog)
        for info in app.registered_commands
        if info.name and info.callback
    }
    groups = {
        info.name: {"help": _text(info.typer_instance.info.help), "commands": below}
        for info in app.registered_groups
        if isinstance(info.name, str)
        and info.typer_instance
        and (below := pages_of(info.typer_instance))
    }
    return commands | groups


def is_asked(page: Page, words: Sequence[str]) -> bool:
    """Whether words behind a command's name ask for its help, or for that of one below it."""
    if [*words] == [HELP]:
        return True
    below = page.get("commands", {})
    return bool(words) and words[0] in below and is_asked(below[words[0]], words[1:])


def shown(name: str, page: Page) -> Any:
    """A command (or group) that can do nothing but show its help."""
    app = typer.Typer(rich_markup_mode="rich")
    app.callback()(_nothing)  # a group, though there may be one command only
    _add(app, name, page)
    return typer.main.get_group(app).commands[name]


def _add(app: typer.Typer, name: str, page: Page) -> None:
    if "commands" not in page:
        app.command(name, help=page["help"], epilog=page["epilog"])(_callback(page["parameters"]))
        return
    group = typer.Typer(help=page["help"], no_args_is_help=True)
    for below, its in page["commands"].items():
        _add(group, below, its)
    app.add_typer(group, name=name)


def _nothing(**_: Any) -> None:
    """Nobody calls it."""


def _page(function: Callable[..., Any], epilog: str | None) -> Page:
    hints = get_type_hints(function, include_extras=True)
    parameters = [
        _row(parameter, hints[parameter.name])
        for parameter in signature(function).parameters.values()
    ]
    return {"help": cleandoc(function.__doc__ or ""), "epilog": epilog, "parameters": parameters}


def _row(parameter: Parameter, hint: Any) -> dict[str, Any]:
    (info,) = hint.__metadata__
    usual = signature(type(info).__init__).parameters
    words = () if info.default is ... else (info.default,)
    said = {
        name: value
        for name, value in vars(info).items()
        if name not in ("default", "param_decls") and value != usual[name].default
    }
    row = {"name": parameter.name, "type": str(hint.__origin__), **said}
    if isinstance(info, OptionInfo):
        row["option"] = [*words, *(info.param_decls or ())]
    if parameter.default is not Parameter.empty:
        default = parameter.default
        row["default"] = str(default) if isinstance(default, Path) else default
    return row


def _callback(rows: Sequence[Mapping[str, Any]]) -> Callable[..., None]:
    """A function with the parameters of `rows`."""

    def command(**given: Any) -> None:
        _nothing(**given)

    parameters = list(map(_parameter, rows))
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return command


def _parameter(row: Mapping[str, Any]) -> Parameter:
    said = dict(row)
    kind, option = _TYPES[said.pop("type")], said.pop("option", None)
    name, default = said.pop("name"), said.pop("default", Parameter.empty)
    info: ParameterInfo = (
        ArgumentInfo(default=..., **said)
        if option is None
        else OptionInfo(default=..., param_decls=option, **said)
    )
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _text(help_text: Any) -> str:
    return cleandoc("" if isinstance(help_text, DefaultPlaceholder) else help_text or "")

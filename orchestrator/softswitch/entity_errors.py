"""Errors of P4Runtime requests: who raises them, and how they list what is valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar

from finsy.proto import p4i, rpc_code

from orchestrator.errors import SwitchError


class EntityError(SwitchError):
    """A P4Runtime request that cannot be served: `code` is a google.rpc code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class WriteError(SwitchError):
    """Some updates of a batch failed; `errors` has one item an update, None if it was applied."""

    def __init__(self, errors: Sequence[EntityError | None]) -> None:
        self.errors = tuple(errors)
        failed = [(i, e) for i, e in enumerate(self.errors) if e is not None]
        shown = "; ".join(f"update {i}: {e.message}" for i, e in failed[:3])
        more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
        super().__init__(f"{len(failed)} of {len(self.errors)} updates failed: {shown}{more}")


class Named:
    """An object of the P4 program that P4Runtime writes to; its errors start with its name."""

    word: ClassVar[str]
    """What it is: "table", "meter", ..."""

    def __init__(self, preamble: p4i.Preamble) -> None:
        self.id = preamble.id
        self.name = preamble.name

    def error(self, code: int, what: str) -> EntityError:
        return EntityError(code, f"{self.word} {self.name}: {what}")

    def invalid(self, what: str) -> EntityError:
        return self.error(rpc_code.INVALID_ARGUMENT, what)


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def suggest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean '{close[0]}'?" if close else ""

"""Errors of P4Runtime requests, and how their messages list what is valid."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

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


def listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def suggest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean '{close[0]}'?" if close else ""

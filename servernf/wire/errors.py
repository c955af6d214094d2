"""Errors that both sides raise, and how they quote what was given. Each class owns its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

MOST_QUOTED = 80
MOST_LINE = 2000
MOST_PROBLEMS = 200
"""Problems that one message tells; of the others only their number."""


def visible(text: str) -> str:
    """Text of others for a terminal or a log: what is no printable character (but a line's end) is
    written as an escape, so that it neither moves the cursor nor turns the text around."""
    if text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def shortened(text: str, most: int) -> str:
    """Text with its middle left out where it is longer."""
    if len(text) <= most:
        return text
    side = most // 2
    return f"{text[:side]}...({len(text):,} characters)...{text[-side:]}"


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """`'value'` as an error quotes it: in one line, in printable characters, and not megabytes.

    What is no text is written as Python would.
    """
    if not isinstance(value, str):
        return visible(shortened(repr(value), most)).replace("\n", "\\n")
    text = shortened(value, most).replace("\n", "\\n").replace("\t", "\\t")
    return f"'{visible(text)}'"


def readable(message: str) -> str:
    """A message whose lines are bounded and printable, whatever was quoted in it."""
    return "\n".join(visible(shortened(line, MOST_LINE)) for line in message.split("\n"))


class ReportedError(Exception):
    """Base of every error that a user can cause or meet: told in words, never as a traceback.

    Exit code 1.
    """

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(readable(message))


class InputError(ReportedError):
    """A file or option that is wrong; `problems` lists all of them at once. Exit code 2."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        listed = (problems,) if isinstance(problems, str) else problems
        self.problems: tuple[str, ...] = tuple(map(readable, listed))
        more = len(self.problems) - MOST_PROBLEMS
        told = [
            *self.problems[:MOST_PROBLEMS],
            *([f"and {more} more problems"] if more > 0 else []),
        ]
        super().__init__("\n".join(told))


class EnvironmentMissing(ReportedError):
    """Something that the machine lacks (root, Mininet, p4c, ...). Exit code 4."""

    exit_code = 4


class ServerError(ReportedError):
    """A server worker that refuses or cannot do what it was asked. Exit code 7."""

    exit_code = 7


def unknown(what: str, name: str, choices: Sequence[str]) -> str:
    """`unknown NF type 'natt'; did you mean 'napt'? (known: acl, ...)`."""
    near = get_close_matches(name, choices, n=1) if len(name) <= MOST_QUOTED else []
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    listed = ", ".join(shortened(visible(k), MOST_QUOTED) for k in sorted(choices)[:20]) or "none"
    return f"unknown {what} {quoted(name)}{hint} (known: {listed})"

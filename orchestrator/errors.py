"""The exception tree. Each class owns the exit code that the command line returns for it."""

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


class OrchestratorError(Exception):
    """Base of every error that a user can cause or meet. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(readable(message))


class InputError(OrchestratorError):
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


class InfeasibleError(OrchestratorError):
    """No placement satisfies the constraints; `blocking` names the groups that do not go together.

    Exit code 3.
    """

    exit_code = 3

    def __init__(self, message: str, blocking: Sequence[str] = ()) -> None:
        self.blocking = tuple(blocking)
        super().__init__(message)


class CompileError(OrchestratorError):
    """A graph that no device on its path can serve. Exit code 3."""

    exit_code = 3


class TooManyClasses(CompileError):
    """Two NFs whose rules make more traffic classes than the limit; `nfs` are their names."""

    def __init__(self, message: str, nfs: tuple[str, str], classes: int) -> None:
        self.nfs = nfs
        self.classes = classes
        super().__init__(message)


class DoesNotFit(CompileError):
    """An element that no block of its switch holds beside what is there; a server can run its NF."""

    def __init__(self, message: str, nf: str) -> None:
        self.nf = nf
        super().__init__(message)


class EnvironmentMissing(OrchestratorError):
    """Something that the machine lacks (root, Mininet, p4c, ...). Exit code 4."""

    exit_code = 4


class NetworkError(OrchestratorError):
    """A network that cannot be started, found or stopped. Exit code 5."""

    exit_code = 5


class SwitchError(OrchestratorError):
    """A switch that refuses or cannot do what it was asked. Exit code 6."""

    exit_code = 6


class WriteRefused(SwitchError):
    """Updates that a switch refused: the text says which, of which rule, and why."""


class MastershipLost(SwitchError):
    """Another controller is a switch's primary now: this one writes nothing any more."""


class UnsupportedFeature(SwitchError):
    """A P4 program that uses what the softswitch does not implement, by name."""


class MalformedProgram(SwitchError):
    """A P4 program's JSON with a wrong or missing value: where, and what would be valid."""


class ServerError(OrchestratorError):
    """A server worker that refuses or cannot do what it was asked. Exit code 7."""

    exit_code = 7


class ServerGone(ServerError):
    """Nothing listens where a worker was: it has ended, and its state with it."""


class DeploymentError(OrchestratorError):
    """A deployment that could not be finished; says what was rolled back. Exit code 8."""

    exit_code = 8


class OwnerError(OrchestratorError):
    """A change of what belongs to another tenant. Exit code 9."""

    exit_code = 9


class StoreError(OrchestratorError):
    """The store of journal and leadership does not answer, or another controller leads. Exit code 10."""

    exit_code = 10


class LeadershipLost(StoreError):
    """Another controller may have taken over: nothing more may be changed."""


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """`unknown NF type 'natt'; did you mean 'napt'? (known: acl, ...)`."""
    near = get_close_matches(name, known, n=1) if len(name) <= MOST_QUOTED else []
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    listed = ", ".join(shortened(visible(k), MOST_QUOTED) for k in sorted(known)[:20]) or "none"
    return f"unknown {what} {quoted(name)}{hint} (known: {listed})"

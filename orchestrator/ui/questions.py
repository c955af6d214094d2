"""What the page asks: checked as any input from outside."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InputError

Name = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(max_length=65536)]
Names = Annotated[list[Name], Field(max_length=64)]
MOST_ROWS = 1000


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntriesQuestion(_Question):
    """Entries of a device, or of `all`: a page of those that pass the filter (as of `tables`)."""

    device: Name
    table: Name = ""
    nf: Name = ""
    graph: Name = ""
    match: Names = []
    rule: Name = ""
    hit: bool = False
    unhit: bool = False
    sort: Name = "packets"
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 200
    fresh: bool = False


class PacketQuestion(_Question):
    """A packet, as `explain` has it: from a host to an end, or a frame in hex or words."""

    source: Name = ""
    target: Name = ""
    packet: Text = ""
    why_not: Name = ""


class TraceQuestion(_Question):
    """A packet to be sent (`trace`)."""

    source: Name
    target: Name
    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0


class SamplesQuestion(_Question):
    """Trajectories to listen for (`samples`)."""

    count: Annotated[int, Field(ge=1, le=50)] = 5
    seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    points: Annotated[int, Field(ge=1, le=64)] = 2


class Planned(_Question):
    """A graph file that was named when the server was started, by its number."""

    file: Annotated[int, Field(ge=0)]
    allow_interruption: bool = False


class Supposed(_Question):
    """Changes as of `whatif`; `file` None: to what is deployed, as a repair would place it anew."""

    file: Annotated[int, Field(ge=0)] | None = None
    fail: Names = []
    scale: Names = []
    change: Names = []
    without_offload: bool = False
    fail_each: Literal["", "link", "node"] = ""
    sweep: Name = ""


Q = TypeVar("Q", bound=_Question)


def question(kind: type[Q], body: bytes) -> Q:
    """The question in a request's body; InputError tells every field that is wrong."""
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise InputError(
            [
                f"{'.'.join(str(part) for part in problem['loc']) or 'question'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            ]
        ) from None

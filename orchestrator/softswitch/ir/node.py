"""JSON values that know where they are: every access is a check, every error has its path.

A P4 program comes from whoever wrote it. Nothing in it is taken for what it
should be: an integer is an `int` within bounds, a name is printable text, a
list is not too long. What is not so is `MalformedProgram`, told as
`actions[3].runtime_data[0].bitwidth: ...`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.errors import MalformedProgram

Json = Any

MAX_CONFIG = 16 << 20
"""Bytes of one program's JSON (a pipeline of ours has half a megabyte)."""
MAX_VALUES = 2_000_000
"""Values in it: what they take in memory is bounded before they are decoded."""
MAX_ITEMS = 65_536
"""Items of one list."""
MAX_NAME = 1024
MAX_TEXT = 65_536
MAX_BITS = 65_536
"""Width of a field, parameter, register cell or constant."""
MAX_INT = (1 << 31) - 1
"""BMv2 reads its numbers as C's int."""
_SHOWN = 60
_LONGEST_PATH = 200

_HEX = re.compile(r"(-?)(?:0[xX])?([0-9a-fA-F]+)")


def check_size(data: bytes) -> None:
    """Raises MalformedProgram if to decode this would take too much."""
    if len(data) > MAX_CONFIG:
        raise MalformedProgram(
            f"BMv2 JSON: {len(data)} bytes are too many (at most {MAX_CONFIG >> 20} MiB)"
        )
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise MalformedProgram(f"BMv2 JSON: more than {MAX_VALUES} values")


def decode_program(data: bytes) -> Json:
    """The JSON of a program as Python values; raises MalformedProgram."""
    check_size(data)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:
        what = "too deeply nested" if isinstance(e, RecursionError) else str(e)[:200]
        raise MalformedProgram(f"p4_device_config is not JSON of p4c-bm2-ss: {what}") from e


def _shown(value: Json, length: int = _SHOWN) -> str:
    """A value in an error: quoted, short, on one line, whatever it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >> 128:
        return f"an integer of {value.bit_length()} bits"
    text = json.dumps(value[: length + 1] if isinstance(value, str) else value)
    return text if len(text) <= length else text[:length] + "..."


class JsonNode:
    """One value of the JSON; `node["key"]` is what must be there, `node.get("key")` what may."""

    __slots__ = ("_key", "_parent", "value")

    def __init__(self, value: Json, parent: JsonNode | None = None, key: str | int = "") -> None:
        self.value = value
        self._parent = parent
        self._key = key

    @property
    def path(self) -> str:
        parts: list[str] = []
        node = self
        while node._parent is not None:
            parts.append(f"[{node._key}]" if isinstance(node._key, int) else f".{node._key}")
            node = node._parent
        path = "".join(reversed(parts)).removeprefix(".")
        return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."

    def wrong(self, what: str) -> MalformedProgram:
        """The error that says where this value is and what is wrong with it."""
        where = self.path
        return MalformedProgram(f"BMv2 JSON: {where + ': ' if where else ''}{what}")

    def expected(self, what: str) -> MalformedProgram:
        return self.wrong(f"{_shown(self.value)} is not {what}")

    def unknown(self, what: str, names: Sequence[str] = ()) -> MalformedProgram:
        valid = f" (known: {', '.join(names)})" if names and len(names) <= 20 else ""
        return self.wrong(f"no {what} {_shown(self.value)}{valid}")

    # ------------------------------------------------------------- containers

    def _object(self) -> dict[str, Json]:
        if not isinstance(self.value, dict):
            raise self.expected("an object")
        return self.value  # pyright: ignore[reportUnknownVariableType]

    def __getitem__(self, key: str) -> JsonNode:
        members = self._object()
        if key not in members:
            raise self.wrong(f"'{key}' is missing")
        return JsonNode(members[key], self, key)

    def get(self, key: str) -> JsonNode | None:
        """A member that may be absent; null is as good as absent, as for BMv2."""
        value = self._object().get(key)
        return None if value is None else JsonNode(value, self, key)

    def members(self) -> Iterator[tuple[str, JsonNode]]:
        """Names and values of an object that maps names."""
        for key, value in self._object().items():
            if not _printable(key):
                raise self.wrong(f"{_shown(key)} is no name")
            yield key, JsonNode(value, self, key)

    def items(self, count: int | None = None, most: int = MAX_ITEMS) -> list[JsonNode]:
        """Items of a list, exactly `count` of them if that is given; p4c may write none as `{}`."""
        value: Json = [] if self.value == {} else self.value
        if not isinstance(value, list):
            raise self.expected("a list")
        if count is not None and len(value) != count:  # pyright: ignore[reportUnknownArgumentType]
            raise self.wrong(f"{len(value)} items, {count} expected")  # pyright: ignore[reportUnknownArgumentType]
        if len(value) > most:  # pyright: ignore[reportUnknownArgumentType]
            raise self.wrong(f"{len(value)} items are too many (at most {most})")  # pyright: ignore[reportUnknownArgumentType]
        return [JsonNode(item, self, i) for i, item in enumerate(value)]  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]

    def list(self, key: str, most: int = MAX_ITEMS) -> list[JsonNode]:
        """Items of a list that may be absent."""
        node = self.get(key)
        return [] if node is None else node.items(most=most)

    # ----------------------------------------------------------------- leaves

    def integer(self, low: int = 0, high: int = MAX_INT) -> int:
        value = self.value
        if type(value) is not int:
            raise self.expected(f"an integer ({low} to {high})")
        if not low <= value <= high:
            raise self.wrong(f"{_shown(value)} is out of range ({low} to {high})")
        return value

    def flag(self) -> bool:
        """true or false; p4c also writes 0 for false."""
        if type(self.value) not in (bool, int) or self.value not in (0, 1):
            raise self.expected("true or false")
        return bool(self.value)

    def name(self) -> str:
        """A name of the program: printable, so that it can be told and quoted anywhere."""
        value = self.value
        if type(value) is not str:
            raise self.expected("a name")
        if not _printable(value):
            raise self.expected(f"a name (1 to {MAX_NAME} printable characters)")
        return value

    def text(self) -> str:
        """Text that is only ever shown (log_msg)."""
        value = self.value
        if type(value) is not str or len(value) > MAX_TEXT:
            raise self.expected(f"text (at most {MAX_TEXT} characters)")
        try:
            value.encode()
        except UnicodeEncodeError as e:
            raise self.expected("text: half a surrogate pair") from e
        return value

    def hexadecimal(self, bits: int = MAX_BITS, *, signed: bool = False) -> int:
        """A number written in hexadecimal, as `0x0800` or `-0x01`."""
        value = self.value
        match = _HEX.fullmatch(value) if type(value) is str else None
        if match is None or (match[1] and not signed):
            raise self.expected("a hexadecimal number in quotes")
        if len(match[2]) > MAX_BITS // 4 + 1:
            raise self.wrong(f"a constant of more than {MAX_BITS} bits")
        number = int(match[2], 16)
        if number >> bits:
            raise self.wrong(f"{_shown(value)} has more than {bits} bits")
        return -number if match[1] else number

    def one_of(self, valid: Sequence[str]) -> str:
        if type(self.value) is not str or self.value not in valid:
            raise self.expected(f"one of {', '.join(valid)}")
        return self.value


def _printable(value: str) -> bool:
    return 0 < len(value) <= MAX_NAME and value.isprintable()

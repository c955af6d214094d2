"""Files that a config names (rules, routes, signatures): read, and their problems told by place."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from operator import ne
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeVar, cast

from pydantic import BaseModel, ValidationError

from orchestrator.alignment import answers_beside, differing
from orchestrator.durable import Durable
from orchestrator.errors import MOST_QUOTED, InputError, quoted, shortened, unknown, visible
from orchestrator.files import MAX_BYTES, read_regular

MAX_FILE_BYTES = MAX_BYTES
ALLOW_FILES = "ORCHESTRATOR_ALLOW_FILES"
MAX_PROBLEMS = 20
"""Problems told of one file; of the others only their number."""

_BETWEEN = re.compile(r"[\s,]*")

_T = TypeVar("_T")
_ItemT = TypeVar("_ItemT")
ModelT = TypeVar("ModelT", bound=BaseModel)

_SETTLED_NS = 2_000_000_000
"""A file may be changed again within the same tick of its time stamp, so a young one says nothing."""


_UNREADABLE = b""


class FileState(NamedTuple):
    """What tells whether a file has changed; `stat` only once it had not been written for a while."""

    stat: tuple[int, ...] | None
    digest: bytes


class Stored(Protocol):
    """What a file says, in a form that is quickly written and read again."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote; ValueError, LookupError or TypeError where that is something else."""
        ...

    def to_bytes(self) -> bytes:
        """In bytes."""
        ...


StoredT = TypeVar("StoredT", bound=Stored)


class Readings:
    """What whoever reads the same files again and again keeps of the last time.

    Nothing in it changes what is read: only what has changed is parsed again, and for the rest there are
    the same objects. `durable` has what was read by other processes.
    """

    def __init__(self, durable: Durable | None = None) -> None:
        self.durable = durable
        self.files: dict[Path, FileState] = {}
        """The files of the last reading, as they were then."""
        self.functions: dict[Hashable, tuple[Any, dict[Path, FileState], Any]] = {}
        """Of each NF that was read: its JSON, its files, and what it is."""
        self.lines: dict[Hashable, tuple[list[str], list[Any]]] = {}
        """Of each file that was read: its lines, and what each became."""
        self.answers: dict[Hashable, tuple[Sequence[Any], list[Any]]] = {}
        """Of each list that was asked about: its items, and the answers."""


class Files:
    """The files of one graph's folder `base`, as configs name them; `read` is what was read of them."""

    def __init__(self, base: Path, readings: Readings | None = None) -> None:
        self.base = base
        self.readings = Readings() if readings is None else readings
        self.read: dict[Path, FileState] = {}

    def text(self, name: str) -> str:
        """A file's UTF-8 text; InputError names it as the user wrote it."""
        return decoded(self._data(name), name)

    def text_of(self, path: Path, name: str) -> str:
        """Likewise, of a file wherever it lies."""
        return decoded(self._data_of(path, name), name)

    def lines(
        self,
        name: str,
        parse: Callable[[str, int], _T | None],
        kind: Hashable,
    ) -> list[_T]:
        """`parse_lines` of a file. `kind` says all that `parse` depends on besides its arguments: lines
        that the last reading had in the same place are the same objects."""
        what = (self.base, name, kind)
        text = self.text(name)
        parsed, self.readings.lines[what] = _parsed(
            text, name, parse, self.readings.lines.get(what)
        )
        return parsed

    def each(
        self, what: Hashable, items: Sequence[_ItemT], answer: Callable[[_ItemT], _T]
    ) -> list[_T]:
        """`answer` of every item. `what` says which items and what is asked: of objects that the last
        reading had there, too, it is the answer of then."""
        answered = self.readings.answers.get((self.base, what), ([], []))
        answers = answers_beside(answered, items, answer)
        self.readings.answers[self.base, what] = (items, answers)
        return answers

    def stored(
        self, name: str, kind: type[StoredT], parse: Callable[[str], StoredT], also: str = ""
    ) -> StoredT:
        """What `parse` makes of a file's text, by this process or an earlier one.

        `also` says all that `parse` depends on besides its argument and the file's name.
        """
        data = self._data(name)
        durable = self.readings.durable
        question = (kind.__qualname__, also, name, data)
        remembered = None if durable is None else durable.get(*question)
        if remembered is not None:
            with suppress(ValueError, LookupError, TypeError):
                return kind.from_bytes(remembered)
        stored = parse(decoded(data, name))
        if durable is not None:
            durable.put(stored.to_bytes(), *question)
        return stored

    def _data(self, name: str) -> bytes:
        return self._data_of(named_file(self.base, name), name)

    def _data_of(self, path: Path, name: str) -> bytes:
        try:
            stat = _stat(path)  # before it is read: later writes show
        except (OSError, ValueError):
            stat = None  # reading tells why
        try:
            data = _bytes_of(path, name)
        except InputError:
            self.read[path] = FileState(None, _UNREADABLE)
            raise
        self.read[path] = FileState(stat, _digest(data))
        return data


def unchanged(files: dict[Path, FileState]) -> bool:
    """Whether files are as they were; those that are have their states brought up to date."""
    for path, was in files.items():
        try:
            stat = _stat(path)
            same = stat is not None and stat == was.stat
            digest = was.digest if same else _digest(read_regular(path, "", MAX_FILE_BYTES))
        except (OSError, ValueError, InputError):
            stat, digest = None, _UNREADABLE
        if digest != was.digest:
            return False
        files[path] = FileState(stat, digest)
    return True


def _stat(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written; None while it is too young to tell."""
    status = path.stat()
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def named_file(base: Path, name: str) -> Path:
    """The file that a config names, relative to its graph's folder `base`; InputError outside of it.

    Who compiles may read more than who wrote the graph. What $ORCHESTRATOR_ALLOW_FILES lists (folders,
    as in $PATH) is allowed, too; symbolic links count as where they lead to.
    """
    try:
        path = (base / name).resolve()
        folders = [base.resolve(), *(Path(f).resolve() for f in _allowed() if f)]
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{quoted(name)} is no path of a file: {error}") from None
    if not any(path.is_relative_to(folder) for folder in folders):
        raise InputError(
            f"{quoted(name)} is outside of the graph's folder: put it there, or allow its folder with "
            f"--allow-files (${ALLOW_FILES})"
        )
    return path


def _allowed() -> list[str]:
    return os.environ.get(ALLOW_FILES, "").split(os.pathsep)


def read_text(path: Path, name: str) -> str:
    """The file's UTF-8 text; InputError names it as the user wrote it."""
    return decoded(_bytes_of(path, name), name)


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        return read_regular(path, name, MAX_FILE_BYTES)
    except InputError:
        if path.parent.is_dir() and not os.path.lexists(path):
            near = sorted(p.name for p in path.parent.glob("*"))
            raise InputError(f"{name}: {unknown('file', path.name, near)}") from None
        raise


def decoded(data: bytes, name: str) -> str:
    """The text of a file's UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start}: is not UTF-8 text") from None


def parse_json(text: str, name: str) -> Any:
    """JSON with line and column of a syntax error; a key given twice is an error, too."""
    doubles: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in items:
            if key in result:
                doubles.append(f"{name}: the key {quoted(key)} is given twice in one object")
            result[key] = value
        return result

    def constant(text: str) -> Any:
        doubles.append(f"{name}: {text} is not JSON")
        return 0

    def finite(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else constant(shortened(text, MOST_QUOTED))

    hooks: dict[str, Any] = {"parse_constant": constant, "parse_float": finite}
    try:
        value = json.loads(text, object_pairs_hook=pairs, **hooks)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}:{error.lineno}:{error.colno}: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{name}: is nested too deeply") from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise InputError(f"{name}: {error}") from None
    raise_problems(doubles, name)
    return value


def parse_lines(text: str, name: str, parse: Callable[[str, int], _T | None]) -> list[_T]:
    """`parse(line, its number)` for every line, from 1 on; None skips, ValueError collects."""
    return _parsed(text, name, parse, None)[0]


_Lines = tuple[list[str], list[_T | None]]


def _parsed(
    text: str, name: str, parse: Callable[[str, int], _T | None], earlier: _Lines[_T] | None
) -> tuple[list[_T], _Lines[_T]]:
    """What lines become, without and with those that are skipped; `known` are those of a text before."""
    lines = text.splitlines()
    result: list[_T | None] = [None] * len(lines)
    places: Iterable[int] = range(len(lines))
    if earlier is not None and len(earlier[0]) == len(lines):
        result, places = list(earlier[1]), differing(earlier[0], lines, ne)
    problems: list[str] = []
    for place in places:
        try:
            result[place] = parse(lines[place], place + 1)
        except ValueError as error:
            where = f"{name}:{place + 1}"
            column = getattr(error, "column", None)
            problems.append(f"{where}:{column}: {error}" if column else f"{where}: {error}")
    raise_problems(problems, name)
    return [item for item in result if item is not None], (lines, result)


def parse_list(text: str, name: str, model: type[ModelT]) -> list[ModelT]:
    """A JSON list of objects, each checked by `model`; problems say `name: [3].src: ...`."""
    items = parse_json(text, name)
    if not isinstance(items, list):
        raise InputError(f"{name}: must be a JSON list of objects")
    result: list[ModelT] = []
    problems: list[str] = []
    for index, item in enumerate(cast("list[Any]", items)):
        try:
            result.append(model.model_validate(item))
        except ValidationError as error:
            problems += [f"{name}: [{index}]{p}" for p in explain(error, model)]
    raise_problems(problems, name)
    return result


def item_lines(text: str) -> list[int]:
    """The line (from 1) where each item of a JSON list begins; the text has been parsed before."""
    decoder = json.JSONDecoder()
    lines: list[int] = []
    at = text.index("[") + 1
    line = text.count("\n", 0, at) + 1
    while True:
        start = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # matches the empty string
        if text[start] == "]":
            return lines
        line += text.count("\n", at, start)
        lines.append(line)
        _, end = decoder.raw_decode(text, start)
        line += text.count("\n", start, end)
        at = end


def raise_problems(problems: list[str], name: str) -> None:
    """Raise them, a bounded number of them, if there are any."""
    if problems:
        raise InputError(bounded(problems, name))


def bounded(problems: list[str], name: str) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    if more <= 0:
        return problems
    return [*problems[:MAX_PROBLEMS], f"{name}: and {more} more problems like these"]


def located(name: str, problem: str) -> str:
    """A text of `explain` with its file: `.path: text` as `name: path: text`."""
    return f"{name}{problem}" if problem.startswith(":") else f"{name}: {problem.lstrip('.')}"


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Pydantic's errors as `.path.to.field: what, and what would be valid`."""
    items: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False)]
    places: list[tuple[int | str, ...]] = [item["loc"] for item in items]

    def only_follows(item: dict[str, Any]) -> bool:
        """A list whose items are all wrong is not an empty list, whatever pydantic says of it."""
        place = item["loc"]
        return item["type"] == "too_short" and any(
            len(other) > len(place) and other[: len(place)] == place for other in places
        )

    return [_explain_one(item, model) for item in items if not only_follows(item)]


def _explain_one(item: dict[str, Any], model: type[BaseModel]) -> str:
    location = tuple(part for part in item["loc"] if part != "[key]")
    kind, value = item["type"], item["input"]
    context: dict[str, Any] = item.get("ctx", {})
    if kind == "extra_forbidden":
        keys = _keys_at(model, location[:-1])
        text = unknown("key", str(location[-1]), keys)
        return f"{path_text(location[:-1])}: {text}"
    where = path_text(location)
    if kind == "missing":
        return f"{path_text(location[:-1])}: the key {quoted(location[-1])} is missing"
    if kind == "literal_error":
        choices = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{where}: {unknown('value', str(value), choices)}"
    if kind in ("value_error", "assertion_error"):
        return f"{where}: {context['error']}"
    if kind == "too_short":
        return f"{where}: must not be empty"
    words = {
        "model_type": "must be an object",
        "model_attributes_type": "must be an object",
        "dict_type": "must be an object",
        "tuple_type": "must be a list",
        "list_type": "must be a list",
        "string_type": "must be text in quotes",
        "bool_type": "must be true or false",
    }
    if kind in words:
        return f"{where}: {words[kind]}, not {_shown(value)}"
    message = item["msg"]
    return f"{where}: {message[0].lower()}{message[1:]}, not {_shown(value)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _part_text(part: str) -> str:
    return shortened(visible(part).replace("\n", "\\n"), MOST_QUOTED)


def path_text(location: tuple[int | str, ...]) -> str:
    """`('rules', 3, 'src')` as `.rules[3].src`."""
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{_part_text(part)}" for part in location
    )


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys that the object at a location may have."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        deeper: list[type[BaseModel]] = []
        for cls in models:
            for name, field in cls.model_fields.items():
                if part in (name, field.alias):
                    deeper += _models_in(field.annotation)
        # a part that is no field is the name of a dict's item: the models stay the same
        models = deeper or models
    return [field.alias or name for cls in models for name, field in cls.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]

"""Snort 2/3 and Suricata rules as signatures of an ids: the subset that means the same there.

A rule that asks for more than an ids can say is told with its place and keyword, never bent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import InputError
from orchestrator.graph.importers.tables import chain_graph
from orchestrator.model.match import PortRange
from orchestrator.nfs.files import raise_problems, read_text
from orchestrator.nfs.inspecting import merged

ACTIONS = ("alert", "drop")
PROTOCOLS = {"tcp": "tcp", "tcp-stream": "tcp", "udp": "udp"}
INFORMATION = frozenset(
    (
        "msg",
        "rev",
        "classtype",
        "priority",
        "reference",
        "metadata",
        "gid",
        "fast_pattern",
        "target",
    )
)
"""Options that say nothing about what matches."""
SUPPORTED = ", ".join(sorted({"content", "nocase", "flow", "sid"} | INFORMATION))
_FLOWS = {
    "to_server": "server",
    "from_client": "server",
    "to_client": "client",
    "from_server": "client",
}
"""Whose port a signature names for packets of this direction: the destination's or the source's."""
_VARIABLE = re.compile(r"(?:var|ipvar|portvar)\s+(\w+)\s+(\S+)")
_HEADER = re.compile(r"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(->|<>)\s+(\S+)\s+(\S+)\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PIECE = re.compile(r"\\(.)|\|([^|]*)\||([^\\|]+)")
_LAST_PORT = 65_535


class Unsupported(NamedTuple):
    """What an ids cannot say of a rule."""

    where: str
    keyword: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.keyword}: {self.why}"


@dataclass(slots=True)
class SnortImport:
    """Signatures for ids's `signatures`; rules of `unsupported` are not among them."""

    signatures: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unsupported: list[Unsupported] = field(default_factory=list[Unsupported])

    @property
    def skipped(self) -> int:
        """How many rules are not among the signatures."""
        return len({item.where for item in self.unsupported})


def import_snort(path: Path, variables: Mapping[str, str]) -> SnortImport:
    """Read a rule file; `variables` ($HOME_NET, ...) go before those that the file defines.

    Lines that are no rules raise InputError, all of them told with line and column.
    """
    name, result = str(path), SnortImport()
    known, problems, sids = dict(variables), list[str](), dict[int, str]()
    for number, text in _logical_lines(read_text(path, name)):
        where = f"{name}:{number}"
        variable = _VARIABLE.fullmatch(text)
        if variable:
            known.setdefault(variable[1], variable[2])
            continue
        try:
            rule = _Rule(text, where, known)
        except _NoRule as error:
            problems.append(f"{where}:{error.column}: {error}")
            continue
        if rule.sid in sids:
            problems.append(f"{where}: sid {rule.sid} is given at {sids[rule.sid]} already")
        sids[rule.sid] = where
        if rule.unsupported:
            result.unsupported += rule.unsupported
        else:
            result.signatures.append(rule.signature)
    raise_problems(problems, name)
    if not sids:
        raise InputError(f"{name}: has no rules")
    return result


def ids_graph(signatures: list[dict[str, Any]]) -> dict[str, Any]:
    """A graph with one ids between inside and outside, both ways."""
    graph = chain_graph("snort", {"ids": {"type": "ids", "config": {"signatures": signatures}}})
    graph["edges"] += [
        {"from": "outside", "to": "ids.outside"},
        {"from": "ids.inside", "to": "inside"},
    ]
    down = {**graph["traffic"][0], "name": "down", "from": "outside", "to": "inside"}
    graph["traffic"].append(down)
    return graph


class _NoRule(ValueError):
    """A line that cannot be read, and the column (from 1) where."""

    def __init__(self, column: int, text: str) -> None:
        super().__init__(text)
        self.column = column


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of the first line, text) without comments; a backslash at the end joins lines."""
    begun, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        whole = (joined + line).strip()
        if whole and not whole.startswith("#"):
            yield begun, whole
        begun, joined = 0, ""
    if joined.strip():
        yield begun, joined.strip()


class _Rule:
    """One rule as a signature, or why it is none."""

    def __init__(self, text: str, where: str, variables: Mapping[str, str]) -> None:
        self._where = where
        self._variables = variables
        self.unsupported: list[Unsupported] = []
        self.sid = -1
        self._contents: list[tuple[bytes, bool]] = []
        self._flow: set[str] = set()
        self._message = ""
        header = _HEADER.match(text)
        if header is None:
            raise _NoRule(1, "is no 'ACTION PROTOCOL FROM PORTS -> TO PORTS (OPTIONS)'")
        if text[header.end() : header.end() + 1] != "(" or not text.endswith(")"):
            raise _NoRule(header.end() + 1, "the options must be in parentheses")
        for column, key, value in _options(text, header.end() + 1, len(text) - 1):
            self._option(column, key, value)
        if self.sid < 0:
            raise _NoRule(header.end() + 1, "has no sid")
        action, protocol, source, source_ports, arrow, target, target_ports = header.groups()
        if action not in ACTIONS:
            self._cannot(action, f"an ids can do: {', '.join(ACTIONS)}")
        if protocol not in PROTOCOLS:
            self._cannot(protocol, "an ids knows tcp and udp")
        for address in (source, target):
            self._address(address)
        self.signature: dict[str, Any] = {"id": self.sid}
        if self._message:
            self.signature["msg"] = self._message
        self.signature |= {
            "protocol": PROTOCOLS.get(protocol, protocol),
            "action": action,
            **self._content(),
            **self._ports(source_ports, arrow == "->", target_ports),
        }

    def _cannot(self, keyword: str, why: str) -> None:
        self.unsupported.append(Unsupported(self._where, keyword, why))

    def _option(self, column: int, key: str, value: str) -> None:
        if key == "sid":
            if not value.isdecimal() or int(value) >= 1 << 32:
                raise _NoRule(column, f"'{value}' is no sid")
            self.sid = int(value)
        elif key == "content":
            self._read_content(column, value)
        elif key == "nocase" and self._contents:
            self._contents[-1] = self._contents[-1][0], True
        elif key == "flow":
            self._flow |= {word.strip() for word in value.split(",")}
        elif key == "msg":
            self._message = re.sub(r"\\(.)", r"\1", value.strip('"'))
        elif key not in INFORMATION:
            self._cannot(key, f"not in an ids (known: {SUPPORTED})")

    def _read_content(self, column: int, value: str) -> None:
        quoted = _QUOTED.search(value)
        if quoted is None:
            raise _NoRule(column, "content must be in quotes")
        if value.lstrip().startswith("!"):
            self._cannot("content", "a negated one is not in an ids")
        try:
            content = _content_bytes(quoted[1])
        except ValueError as error:
            raise _NoRule(column, f"content: {error}") from None
        nocase = False
        for word in filter(None, (w.strip() for w in value[quoted.end() :].split(","))):
            name = word.split()[0]  # Snort 3: content:"x",nocase,depth 3;
            nocase = nocase or name == "nocase"
            if name not in ("nocase", "fast_pattern", "fast_pattern_offset", "fast_pattern_length"):
                self._cannot(name, "not in an ids")
        self._contents.append((content, nocase))

    def _address(self, text: str) -> None:
        resolved = self._resolved(text)
        if resolved is not None and resolved != "any":
            self._cannot(
                text, "addresses: an ids inspects what the graph's traffic sends to it (any)"
            )

    def _resolved(self, text: str) -> str | None:
        """The text, or what the variable stands for that it is."""
        for _ in range(len(self._variables) + 1):
            if not text.startswith("$"):
                return text
            if text[1:] not in self._variables:
                self._cannot(text, f"is not defined: give --var {text[1:]}=any (or ports)")
                return None
            text = self._variables[text[1:]]
        self._cannot(text, "is defined by itself")
        return None

    def _content(self) -> dict[str, Any]:
        if len(self._contents) != 1:
            many = "more than one is" if self._contents else "a rule without is"
            self._cannot("content", f"{many} not in an ids")
            return {}
        content, nocase = self._contents[0]
        return {"content": _content_text(content), **({"nocase": True} if nocase else {})}

    def _ports(self, source: str, one_way: bool, target: str) -> dict[str, Any]:
        """`ports` and `to`: an ids looks at the port of one side."""
        sides: dict[str, list[PortRange]] = {}
        for side, text in (("client", source), ("server", target)):
            resolved = self._resolved(text)
            if resolved is None:
                return {}
            try:
                ports = _port_ranges(resolved)
            except ValueError as error:
                self._cannot(text, str(error))
                return {}
            if ports != [PortRange(0, _LAST_PORT)]:
                sides[side] = ports
        if len(sides) > 1:
            self._cannot(f"{source} -> {target}", "ports on both sides are not in an ids")
            return {}
        self._check_flow(next(iter(sides), ""), one_way=one_way)
        if not sides:
            return {}
        ((side, ports),) = sides.items()
        found: dict[str, Any] = {"ports": [str(r) for r in ports]}
        return found | ({"to": side} if one_way else {})

    def _check_flow(self, side: str, *, one_way: bool) -> None:
        """An ids takes the end whose port a signature names for the server."""
        asked = {_FLOWS[word] for word in self._flow if word in _FLOWS}
        if asked and (asked != {side} or not one_way):
            self._cannot(
                "flow", f"{', '.join(sorted(self._flow))}: only the side that has the ports"
            )
        known = {"established", "only_stream", *_FLOWS}
        for word in sorted(self._flow - known):
            self._cannot("flow", f"{word} is not in an ids")


def _options(text: str, at: int, end: int) -> Iterator[tuple[int, str, str]]:
    """(column, keyword, value) of `key:value; key; ...`; a semicolon in quotes ends nothing."""
    start, quoted = at, False
    while at < end:
        if text[at] == "\\":
            at += 2
            continue
        quoted ^= text[at] == '"'
        if text[at] == ";" and not quoted:
            key, _, value = text[start:at].partition(":")
            if not key.strip():
                raise _NoRule(start + 1, "an option is empty")
            yield start + 1, key.strip(), value.strip()
            start = at + 1
        at += 1
    if quoted:
        raise _NoRule(start + 1, "a quote is not closed")
    if text[start:end].strip():
        raise _NoRule(start + 1, "the last option does not end with ';'")


def _content_bytes(text: str) -> bytes:
    """Snort's text: hex between bars, and behind a backslash a character that else means something."""
    result, at = b"", 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            raise ValueError("a '|' is not closed, or nothing follows a backslash")
        at = piece.end()
        escaped, hexadecimal, plain = piece.groups()
        if hexadecimal is None:
            result += (escaped or plain).encode()
            continue
        try:
            result += bytes.fromhex(hexadecimal)
        except ValueError:
            raise ValueError(f"'|{hexadecimal}|' is not hex, like '|0d 0a|'") from None
    if not result:
        raise ValueError("is empty")
    return result


def _content_text(content: bytes) -> str:
    """As ids's `content` has it: what is not printable ASCII is hex between bars."""

    def shown(match: re.Match[bytes]) -> bytes:
        return b"|" + match[0].hex(" ").encode() + b"|"

    return re.sub(rb"[^\x20-\x7b\x7d\x7e]+", shown, content).decode("ascii")


def _port_ranges(text: str) -> list[PortRange]:
    """`any`, `80`, `1024:`, `:80`, `!80`, `[80,8000:8100]`; in a list all that is not negated."""
    negated = text.startswith("!")
    inner = text.removeprefix("!")
    if inner.startswith("[") and inner.endswith("]"):
        items = [item.strip() for item in inner[1:-1].split(",")]
    else:
        items = [inner]
    wanted = [_port_range(item) for item in items if not item.startswith("!")]
    unwanted = [_port_range(item[1:]) for item in items if item.startswith("!")]
    ranges = merged(wanted or [PortRange(0, _LAST_PORT)])
    for hole in unwanted:
        ranges = _without(ranges, hole)
    if negated:
        holes, ranges = ranges, [PortRange(0, _LAST_PORT)]
        for hole in holes:
            ranges = _without(ranges, hole)
    if not ranges:
        raise ValueError("no port is left")
    return ranges


def _port_range(text: str) -> PortRange:
    if text == "any":
        return PortRange(0, _LAST_PORT)
    low, colon, high = text.partition(":")
    first, last = low or "0", (high or str(_LAST_PORT)) if colon else low
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= _LAST_PORT):
        raise ValueError("is no port, range or list of them, like [80,8000:8100]")
    return PortRange(int(first), int(last))


def _without(ranges: list[PortRange], hole: PortRange) -> list[PortRange]:
    pieces = [
        piece
        for r in ranges
        for piece in (
            (r.low, min(r.high, hole.low - 1)),
            (max(r.low, hole.high + 1), r.high),
        )
    ]
    return merged({PortRange(low, high) for low, high in pieces if low <= high})

"""Snort 2/3 and Suricata rules as signatures of an ids: the subset that means the same there.

A rule that asks for more than an ids can say, and a line that is no rule, is told with its place and
keyword, never bent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from orchestrator.errors import InputError
from orchestrator.files import read_regular
from orchestrator.graph.importers.snort_text import Statement, shown, statements
from orchestrator.graph.importers.tables import chain_graph
from orchestrator.model.match import PortRange
from orchestrator.nfs.files import explain
from orchestrator.nfs.ids import SignatureFields
from orchestrator.nfs.inspecting import merged

ACTIONS = ("alert", "drop")
PROTOCOLS = {"tcp": "tcp", "tcp-stream": "tcp", "udp": "udp"}
INFORMATION = frozenset(
    (
        "msg",
        "rem",
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
_ARROWS = ("->", "<>")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_VARIABLE = re.compile(r"\$\(?(\w+)\)?")
_PIECE = re.compile(r"\\(.)|\|([^|]*)\||([^\\|]+)")
_LAST_PORT = 65_535
_LONGEST_LIST, _DEEPEST_LIST = 100_000, 20


class UnsupportedRule(NamedTuple):
    """What of a rule an ids cannot say, or what of a file is no rule."""

    where: str
    keyword: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.keyword}: {self.why}"


@dataclass(slots=True)
class SnortImport:
    """Signatures for ids's `signatures`; rules of `unsupported` are not among them.

    Nor are those that `replaced` tells: another revision of the rule is in the file.
    """

    signatures: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unsupported: list[UnsupportedRule] = field(default_factory=list[UnsupportedRule])
    replaced: list[str] = field(default_factory=list[str])

    @property
    def skipped(self) -> int:
        """How many rules and lines are not among the signatures."""
        return len({item.where for item in self.unsupported})


def import_snort(path: Path, variables: Mapping[str, str]) -> SnortImport:
    """Read a rule file; `variables` ($HOME_NET, ...) go before those that the file defines.

    Of a rule (gid, sid) that is there in several revisions the newest counts.
    """
    name, result = str(path), SnortImport()
    data = read_regular(path, name)
    if data.startswith(_UTF16):
        raise InputError(f"{name}: is UTF-16 text; UTF-8 is expected")
    variables_set, rules, sids = dict(variables), dict[tuple[int, int], _Rule](), dict[int, _Rule]()
    for statement in statements(data):
        where = f"{name}:{statement.line}"
        if statement.variable is not None:
            variables_set.setdefault(*statement.variable)
            continue
        try:
            _newest(rules, _Rule(statement, where, variables_set), result)
        except _NoRule as error:
            result.unsupported.append(UnsupportedRule(where, error.what, str(error)))
    for rule in rules.values():
        result.unsupported += rule.unsupported
        if rule.unsupported:
            continue
        if (other := sids.setdefault(rule.sid, rule)) is not rule:
            why = f"{other.where} has sid {rule.sid} too (gid {other.gid}), and an ids knows no gid"
            result.unsupported.append(UnsupportedRule(rule.where, f"gid {rule.gid}", why))
            continue
        result.signatures.append(rule.signature)
    if not rules and not result.unsupported:
        raise InputError(f"{name}: has no rules")
    result.unsupported.sort(key=lambda item: int(item.where.rpartition(":")[2]))
    return result


def _newest(rules: dict[tuple[int, int], _Rule], rule: _Rule, result: SnortImport) -> None:
    """Keep the newer of a rule and the one that is known; equal revisions are a mistake."""
    other = rules.setdefault((rule.gid, rule.sid), rule)
    if other is rule:
        return
    if rule.revision == other.revision:
        raise _NoRule(f"sid {rule.sid}", f"is given at {other.where} already, in the same revision")
    old, new = sorted((rule, other), key=lambda r: r.revision)
    rules[rule.gid, rule.sid] = new
    result.replaced.append(
        f"{old.where}: sid {rule.sid}: revision {new.revision} at {new.where} goes before "
        f"revision {old.revision}"
    )


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
    """What cannot be read, and why."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(why)
        self.what = what


class _Rule:
    """One rule as a signature, or why it is none."""

    def __init__(self, statement: Statement, where: str, variables: Mapping[str, str]) -> None:
        if statement.problem is not None:
            raise _NoRule(*statement.problem)
        self.where = where
        self._variables = variables
        self.unsupported: list[UnsupportedRule] = []
        self.sid, self.gid, self.revision = -1, 1, 0
        self._contents: list[tuple[bytes, bool]] = []
        self._flow: set[str] = set()
        self._message = ""
        for key, value in statement.options:
            self._option(key, value)
        if self.sid < 0:
            raise _NoRule(shown(" ".join(statement.header)), "has no sid")
        self.signature: dict[str, Any] = {"id": self.sid}
        self._header(statement.header)
        if not self.unsupported:
            self._check()

    def _header(self, words: tuple[str, ...]) -> None:
        if len(words) != 7 or words[4] not in (*_ARROWS, "=>"):
            if len(words) > 2:
                raise _NoRule(
                    shown(" ".join(words)), "is no 'ACTION PROTOCOL FROM PORTS -> TO PORTS'"
                )
            self._cannot(
                " ".join(words), "a rule of a service or file, without ports, is not in an ids"
            )
            return
        action, protocol, source, source_ports, arrow, target, target_ports = words
        if action not in ACTIONS:
            self._cannot(action, f"an ids can do: {', '.join(ACTIONS)}")
        if protocol not in PROTOCOLS:
            self._cannot(protocol, "an ids knows tcp and udp")
        if arrow not in _ARROWS:
            self._cannot(arrow, "request and answer in one rule are not in an ids")
        for address in (source, target):
            self._address(address)
        if self._message:
            self.signature["msg"] = self._message
        self.signature |= {
            "protocol": PROTOCOLS.get(protocol, protocol),
            "action": action,
            **self._content(),
            **self._ports(source_ports, arrow == "->", target_ports),
        }

    def _check(self) -> None:
        """What an ids would refuse is told now."""
        try:
            SignatureFields.model_validate(self.signature)
        except ValidationError as error:
            for problem in explain(error, SignatureFields):
                what, _, why = problem.lstrip(".").partition(": ")
                self._cannot(what, why)

    def _cannot(self, keyword: str, why: str) -> None:
        self.unsupported.append(UnsupportedRule(self.where, shown(keyword), why))

    def _option(self, key: str, value: str) -> None:
        if key == "sid":
            self.sid = _number(key, value)
        elif key == "gid":
            self.gid = _number(key, value)
        elif key == "rev":
            self.revision = _number(key, value)
        elif key == "content":
            self._read_content(value)
        elif key == "nocase" and self._contents and not value:
            self._contents[-1] = self._contents[-1][0], True
        elif key == "flow":
            self._flow |= {word.strip() for word in value.split(",")}
        elif key == "msg":
            text = re.sub(r"\\(.)", r"\1", value.removeprefix('"').removesuffix('"'))
            self._message = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        elif key not in INFORMATION:
            self._cannot(key, f"not in an ids (known: {SUPPORTED})")

    def _read_content(self, value: str) -> None:
        quoted = _QUOTED.search(value)
        if quoted is None:
            raise _NoRule(shown(f"content:{value}"), "must be in quotes")
        if value.lstrip().startswith("!"):
            self._cannot("content", "a negated one is not in an ids")
        try:
            content = _content_bytes(quoted[1])
        except ValueError as error:
            raise _NoRule("content", str(error)) from None
        nocase = False
        for word in filter(None, (w.strip() for w in value[quoted.end() :].split(","))):
            name = word.split()[0]  # Snort 3: content:"x",nocase,depth 3;
            nocase = nocase or name == "nocase"
            if name not in ("nocase", "fast_pattern", "fast_pattern_offset", "fast_pattern_length"):
                self._cannot(name, "not in an ids")
        self._contents.append((content, nocase))

    def _address(self, text: str) -> None:
        try:
            items = _list_items(self._resolved(text))
        except ValueError as error:
            self._cannot(text, str(error))
            return
        if "any" not in items or any(item.startswith("!") for item in items):
            self._cannot(
                text, "addresses: an ids inspects what the graph's traffic sends to it (any)"
            )

    def _resolved(self, text: str) -> str:
        """The text with what its variables stand for."""
        for _ in range(len(self._variables) + 1):
            names = _VARIABLE.findall(text)
            if not names:
                return text.replace(" ", "")
            for name in names:
                if name not in self._variables:
                    raise ValueError(f"${name} is not defined: give --var {name}=any (or ports)")
            text = _VARIABLE.sub(lambda variable: self._variables[variable[1]], text)
            if len(text) > _LONGEST_LIST:
                break
        raise ValueError("is defined by itself, or too long")

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
            try:
                ports = _port_ranges(self._resolved(text))
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
        content: dict[str, Any] = {"ports": [str(r) for r in ports]}
        return content | ({"to": side} if one_way else {})

    def _check_flow(self, side: str, *, one_way: bool) -> None:
        """An ids takes the end whose port a signature names for the server."""
        asked = {_FLOWS[word] for word in self._flow if word in _FLOWS}
        if asked and (asked != {side} or not one_way):
            self._cannot(
                "flow", f"{shown(', '.join(sorted(self._flow)))}: only the side that has the ports"
            )
        options = {"established", "only_stream", *_FLOWS}
        for word in sorted(self._flow - options):
            self._cannot("flow", f"{shown(word)} is not in an ids")


def _number(key: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", value) or int(value) >= 1 << 32:
        raise _NoRule(shown(f"{key}:{value}"), f"is no {key}")
    return int(value)


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
            result += (escaped or plain).encode("utf-8", "surrogateescape")
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
    listed = inner.startswith("[")
    ranges = _list_ranges(_list_items(inner)) if listed else [_port_range(inner)]
    if negated:
        ranges = _without_all([PortRange(0, _LAST_PORT)], ranges)
    if not ranges:
        raise ValueError("no port is left")
    return ranges


def _list_ranges(items: Sequence[str]) -> list[PortRange]:
    wanted = [r for item in items if not item.startswith("!") for r in _port_ranges(item)]
    unwanted = [r for item in items if item.startswith("!") for r in _port_ranges(item[1:])]
    return _without_all(merged(wanted or [PortRange(0, _LAST_PORT)]), unwanted)


def _list_items(text: str) -> list[str]:
    """The items of `[a,!b,[c,d]]`, a list in it as one item; what is no list is its only item."""
    if not text.startswith("["):
        return [text]
    if not text.endswith("]"):
        raise ValueError("a list is not closed")
    items, depth = [""], 0
    for piece in re.findall(r"[\[\],]|[^\[\],]+", text[1:-1]):
        depth += {"[": 1, "]": -1}.get(piece, 0)
        if not 0 <= depth <= _DEEPEST_LIST:
            raise ValueError("a list is closed twice, or nested too deeply")
        if piece == "," and not depth:
            items.append("")
        else:
            items[-1] += piece
    if depth or not all(items):
        raise ValueError("a list has an empty item, or is not closed")
    return [inner for item in items for inner in (_list_items(item) if item[0] == "[" else [item])]


def _port_range(text: str) -> PortRange:
    if text == "any":
        return PortRange(0, _LAST_PORT)
    low, colon, high = text.partition(":")
    first, last = low or "0", (high or str(_LAST_PORT)) if colon else low
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) <= _LAST_PORT):
        raise ValueError("is no port, range or list of them, like [80,8000:8100]")
    return PortRange(int(first), int(last))


def _without_all(ranges: list[PortRange], holes: Sequence[PortRange]) -> list[PortRange]:
    for hole in holes:
        ranges = _without(ranges, hole)
    return ranges


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

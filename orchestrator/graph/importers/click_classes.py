"""Click's packet filter language (IPFilter, IPClassifier), turned into first-match acl rules.

A class is an expression of primitives with and, or, not. An acl rule has neither alternatives nor
negations, so a class becomes *terms* of which one must hold. The complement of a prefix is a few
prefixes, that of a port two ranges; that of a protocol would be 255 rules. So a term may exclude
protocols: the rules that decide the excluded packets are written in front of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

from orchestrator.model.match import Prefix
from orchestrator.nfs.values import PROTOCOLS, parse_prefix

MAX_TERMS = 10_000
"""Rules that one file may become."""
MAX_PAIRS = 1_000_000
"""Pairs that one `&&` may look at: most of them have no packet in common."""
_TOKEN = re.compile(r"\s*(\(|\)|&&|\|\||!=|==|>=|<=|!|>|<|=|[^\s()!&|=<>]+)")
_AND, _OR, _NOT = ("&&", "and"), ("||", "or"), ("!", "not")
_COMPARISONS = ("==", "=", "!=", ">", ">=", "<", "<=")
_MAX_PORT = 65535
UNSUPPORTED = "src ether host"
"""The key of what an acl cannot ask; such a term is an error unless earlier rules take its packets."""


@dataclass(frozen=True, slots=True)
class Term:
    """Match keys that hold together, for a packet of none of the protocols `excluded`."""

    keys: dict[str, Any] = field(default_factory=dict[str, Any])
    excluded: frozenset[int] = frozenset()


Alternatives = list[Term]
"""One of them must hold; none: never."""


def parse_class(text: str) -> Alternatives:
    """The terms of a class; ValueError saying what cannot be read or said."""
    return _Parser(text).terms()


class _Parser:
    """Recursive descent; `wanted` is False under an odd number of negations."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        if "".join(self._tokens) != "".join(text.split()):
            raise ValueError(f"'{text}' cannot be read")

    def terms(self) -> Alternatives:
        result = self._either(True)
        if self._peek():
            raise ValueError(f"unexpected '{self._peek()}'")
        return result

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _either(self, wanted: bool) -> Alternatives:
        result = self._both(wanted)
        while self._peek() in _OR:
            self._next()
            other = self._both(wanted)
            result = result + other if wanted else joined(result, other)
        return result

    def _both(self, wanted: bool) -> Alternatives:
        result = self._one(wanted)
        while self._peek() in _AND:
            self._next()
            other = self._one(wanted)
            result = joined(result, other) if wanted else result + other
        return result

    def _one(self, wanted: bool) -> Alternatives:
        word = self._next()
        if word == "(":
            result = self._either(wanted)
            if self._next() != ")":
                raise ValueError("a '(' is not closed")
            return result
        if word in _NOT:
            return self._one(not wanted)
        if word in ("all", "any", "true", "-"):
            return [Term()] if wanted else []
        if word in ("none", "false"):
            return [] if wanted else [Term()]
        if word == "ip" and self._peek() == "proto":
            self._next()
            return _protocol(self._next(), wanted)
        if word == "ip" and self._peek() in ("frag", "unfrag"):
            raise ValueError(f"'ip {self._peek()}' is not supported")
        if word in ("src", "dst"):
            return self._address_or_port((word,), wanted)
        self._at -= 1
        return self._address_or_port(("src", "dst"), wanted)

    def _address_or_port(self, sides: Sequence[str], wanted: bool) -> Alternatives:
        """A condition on one side; on both it is one of them that must meet it."""
        word = self._next()
        made: list[Alternatives]
        if word in ("net", "host"):
            prefix = parse_prefix(self._next(), strict=False)
            made = [_prefix(side, prefix, wanted) for side in sides]
        elif word == "ether" and self._peek() == "host":
            self._next()
            mac = self._next()
            made = [[Term({UNSUPPORTED: mac})] for _ in sides]
            if not wanted or sides != ("src",):
                raise ValueError(f"'ether host {mac}' is not supported here")
        elif word in ("tcp", "udp") and self._peek() == "port":
            self._next()
            made = self._ports(sides, (word,), wanted)
        elif word == "port":
            made = self._ports(sides, ("tcp", "udp"), wanted)
        elif word in PROTOCOLS and len(sides) == 2:
            return _protocol(word, wanted)
        else:
            raise ValueError(f"'{' '.join((*sides[: len(sides) % 2], word))}' is not supported")
        result = made[0]
        for other in made[1:]:
            result = result + other if wanted else joined(result, other)
        return result

    def _ports(
        self, sides: Sequence[str], protocols: Sequence[str], wanted: bool
    ) -> list[Alternatives]:
        comparison = self._next() if self._peek() in _COMPARISONS else "=="
        value = self._next()
        low, dash, high = value.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"'{value}' is no port")
        first, last = int(low), int(high) if dash else int(low)
        if not 0 <= first <= last <= _MAX_PORT:
            raise ValueError(f"'{value}' is no port (0 to {_MAX_PORT})")
        inside = {
            "==": [(first, last)],
            "=": [(first, last)],
            "!=": [(0, first - 1), (last + 1, _MAX_PORT)],
            ">": [(last + 1, _MAX_PORT)],
            ">=": [(first, _MAX_PORT)],
            "<": [(0, first - 1)],
            "<=": [(0, last)],
        }[comparison]
        made: list[Alternatives] = []
        for side in sides:
            if wanted:
                made.append([t for p in protocols for t in _port_terms(side, p, inside)])
                continue
            # Neither of these protocols; or without ports, since a later fragment has none; or another.
            others = frozenset(PROTOCOLS[p] for p in protocols)
            terms = [Term({}, others), Term({"later_fragment": True})]
            for protocol in protocols:
                terms += _port_terms(side, protocol, _gaps(inside))
            made.append(terms)
        return made


def _port_terms(side: str, protocol: str, ranges: Sequence[tuple[int, int]]) -> Alternatives:
    return [
        Term({"protocol": protocol, f"{side}_port": f"{low}-{high}" if low < high else str(low)})
        for low, high in ranges
        if low <= high
    ]


def _gaps(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ports outside of ordered ranges."""
    result: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        if low > high:
            continue
        result.append((start, low - 1))
        start = high + 1
    return [*result, (start, _MAX_PORT)]


def _protocol(name: str, wanted: bool) -> Alternatives:
    number = PROTOCOLS.get(name, int(name) if name.isdecimal() else 256)
    if number > 255:
        raise ValueError(
            f"'{name}' is no protocol (known: {', '.join(sorted(PROTOCOLS))}, 0 to 255)"
        )
    if wanted:
        return [Term({"protocol": _protocol_value(number)})]
    return [Term({}, frozenset({number}))]


def _protocol_value(number: int) -> str | int:
    """The one way in which a protocol is written, so that equal ones compare equal."""
    return next((name for name, value in PROTOCOLS.items() if value == number), number)


def _prefix(side: str, prefix: Prefix, wanted: bool) -> Alternatives:
    """The prefix, or the prefixes that make up its complement."""
    if wanted:
        return [Term({side: str(prefix)})]
    bits = 32 if prefix.version == 4 else 128
    return [
        Term({side: str(Prefix(prefix.version, _sibling(prefix.value, bits - n), n))})
        for n in range(1, prefix.length + 1)
    ]


def _sibling(value: int, low: int) -> int:
    """The address with bit `low` turned over, and 0 below it."""
    return (value >> low ^ 1) << low


def joined(first: Alternatives, second: Alternatives) -> Alternatives:
    """Terms that hold when one of each holds."""
    if len(first) * len(second) > MAX_PAIRS:
        raise ValueError(f"becomes more than {MAX_TERMS} rules")
    made = (both(a, b) for a, b in product(first, second))
    terms = list(islice((term for term in made if term is not None), MAX_TERMS + 1))
    if len(terms) > MAX_TERMS:
        raise ValueError(f"becomes more than {MAX_TERMS} rules")
    return terms


def both(first: Term, second: Term) -> Term | None:
    """The term of packets that meet both; None when there are none."""
    keys = dict(first.keys)
    for key, value in second.keys.items():
        if key not in keys or keys[key] == value:
            keys[key] = value
            continue
        common = _common(key, keys[key], value)
        if common is None:
            return None
        keys[key] = common
    if keys.get("later_fragment") and any(key.endswith("_port") for key in keys):
        return None
    excluded = first.excluded | second.excluded
    if "protocol" in keys:
        if _number(keys["protocol"]) in excluded:
            return None
        excluded = frozenset()
    return Term(keys, excluded)


def _common(key: str, one: Any, other: Any) -> Any | None:
    """The value of a key that asks for both."""
    if key in ("src", "dst"):
        a, b = sorted((parse_prefix(one), parse_prefix(other)), key=lambda p: p.length)
        return str(b) if _within(b, a) else None
    if key.endswith("_port"):
        (low, high), (start, end) = _range(one), _range(other)
        low, high = max(low, start), min(high, end)
        return None if low > high else (f"{low}-{high}" if low < high else str(low))
    if key == UNSUPPORTED:
        raise ValueError("two conditions on src ether host")
    return None


def _within(inner: Prefix, outer: Prefix) -> bool:
    return (
        inner.version == outer.version
        and inner.length >= outer.length
        and inner.value & outer.mask == outer.value
    )


def _range(text: Any) -> tuple[int, int]:
    low, dash, high = str(text).partition("-")
    return int(low), int(high) if dash else int(low)


def _number(protocol: Any) -> int:
    return PROTOCOLS[protocol] if isinstance(protocol, str) else int(protocol)


def covers(outer: Term, inner: Term) -> bool:
    """Whether `outer` (without exclusions) holds for every packet for which `inner` does."""
    for key, value in outer.keys.items():
        if key not in inner.keys:
            return False
        mine = inner.keys[key]
        if mine == value:
            continue
        if key in ("src", "dst"):
            if not _within(parse_prefix(mine), parse_prefix(value)):
                return False
        elif key.endswith("_port"):
            (low, high), (start, end) = _range(value), _range(mine)
            if not low <= start <= end <= high:
                return False
        else:
            return False
    return True


@dataclass(frozen=True, slots=True)
class ClickDecision:
    """A class and what becomes of its packets; `place` tells where it stands."""

    terms: Alternatives
    action: str
    place: str


def first_match(
    decisions: Sequence[ClickDecision], default: str
) -> Iterator[tuple[dict[str, Any], str, str]]:
    """(keys, action, place) rules that decide as the classes do, first match first; the rest: `default`.

    ValueError when they become too many, or ask what an acl cannot.
    """
    pairs = [(term, decision) for decision in decisions for term in decision.terms]
    yield from _Rules(pairs, default).deciding(0, Term(), ())


class _Rules:
    """Writes the rules of (term, decision) pairs; `left` is how many more there may be."""

    def __init__(self, pairs: Sequence[tuple[Term, ClickDecision]], default: str) -> None:
        self.pairs, self.default, self.left = pairs, default, MAX_TERMS

    def deciding(
        self, start: int, region: Term, before: Sequence[Term]
    ) -> Iterator[tuple[dict[str, Any], str, str]]:
        """Rules for the packets of a region, by the pairs from `start` on; `before` took theirs.

        The outermost region is everything: what is left there is the acl's default.
        """
        written = list(before)
        for index, (term, decision) in enumerate(self.pairs[start:], start):
            here = both(region, term)
            if here is None or any(covers(earlier, here) for earlier in written):
                continue
            for protocol in sorted(here.excluded):
                inner = Term({**here.keys, "protocol": _protocol_value(protocol)})
                yield from self.deciding(index + 1, inner, written)
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"the classes become more than {MAX_TERMS} rules")
            if UNSUPPORTED in here.keys:
                asked = f"{UNSUPPORTED} {here.keys[UNSUPPORTED]}"
                raise ValueError(f"{decision.place}: '{asked}' has no equivalent in an acl rule")
            written.append(Term(here.keys))
            yield here.keys, decision.action, decision.place
        if region.keys and not any(covers(earlier, region) for earlier in written):
            yield region.keys, self.default, "no class"

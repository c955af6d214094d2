"""acl: an access list; the first rule that matches permits or denies, else the default does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, Self

from pydantic import PrivateAttr

from orchestrator.model.elements import (
    DROP,
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Leave,
)
from orchestrator.model.match import Match
from orchestrator.model.packet import Packet
from orchestrator.nfs import classbench
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.files import Files, item_lines, parse_list
from orchestrator.nfs.matching import MatchFields, first_output, mirrored
from orchestrator.nfs.values import match_json

Action = Literal["permit", "deny"]
PlacedRule = tuple[Match, Action, str]
"""A rule and where it was written: `access.rules:12`, `rules[3]`."""
OPPOSITE = {"inside": "outside", "outside": "inside"}


class _Filters(NamedTuple):
    """A rule of a file as elements have it, by the port that packets enter."""

    placed: PlacedRule
    inside: FilterRule
    outside: FilterRule


@dataclass(frozen=True, slots=True)
class _Known:
    """What follows from rules that a file had: nothing by which two configs could differ."""

    filters: tuple[_Filters, ...] = field(default=(), compare=False)


class AclRule(MatchFields):
    """A match and what happens to the packets that it matches first."""

    action: Action


class AclConfig(NfConfig):
    """Inline rules come before those of the file."""

    rules: tuple[AclRule, ...] = ()
    rules_file: str | None = None
    file_action: Action = "permit"
    """What the rules of a ClassBench file do."""
    default: Action = "deny"
    reverse: Literal["permit", "mirror", "same"] = "permit"
    _from_file: tuple[PlacedRule, ...] = PrivateAttr(default=())
    _known: _Known = PrivateAttr(default=_Known())
    """The same objects for lines that were read before."""

    def with_files(self, files: Files) -> Self:
        if self.rules_file is None:
            return self
        result = self.model_copy()
        result._from_file = read_rules(files, self.rules_file, self.file_action)
        mirror = self.reverse == "mirror"
        what = (_Filters, self.rules_file, self.file_action, mirror)
        filters = files.each(what, result._from_file, partial(_filters_of, mirror))
        result._known = _Known(tuple(filters))
        return result

    @property
    def all_rules(self) -> tuple[PlacedRule, ...]:
        """(match, action, origin) in order: inline ones, then the file's."""
        inline: list[PlacedRule] = [
            (rule.to_match(), rule.action, f"rules[{i}]") for i, rule in enumerate(self.rules)
        ]
        return (*inline, *self._from_file)

    def filters(self, port: str) -> tuple[FilterRule, ...]:
        """Its rules as those of the element that packets meet who enter a port."""
        mirror = self.reverse == "mirror"
        pairs = self._known.filters
        if tuple([pair.placed for pair in pairs]) != self._from_file:  # it was given other rules
            pairs = tuple(_filters_of(mirror, placed) for placed in self._from_file)
        inline = self.all_rules[: len(self.rules)]
        both = (*(_filters_of(mirror, placed) for placed in inline), *pairs)
        return tuple([pair.inside if port == "inside" else pair.outside for pair in both])


def _filters_of(mirror: bool, placed: PlacedRule) -> _Filters:
    """A rule both ways; with `mirror` it asks for the opposite direction of what enters the outside."""
    match, action, origin = placed
    out, back = (OPPOSITE[port] if action == "permit" else DROP for port in ("inside", "outside"))
    turned = mirrored(match) if mirror else match
    return _Filters(placed, FilterRule(match, out, origin), FilterRule(turned, back, origin))


def read_rules(files: Files, name: str, action: Action) -> tuple[PlacedRule, ...]:
    """The rules of a ClassBench file (each does `action`) or of a JSON list."""
    if name.endswith(".json"):
        text = files.text(name)
        rules = parse_list(text, name, AclRule)
        places = [f"{name}:{line}" for line in item_lines(text)]
        return tuple(
            (r.to_match(), r.action, place) for r, place in zip(rules, places, strict=True)
        )

    def one(line: str, number: int) -> PlacedRule | None:
        match = classbench.parse_rule(line)
        return None if match is None else (match, action, f"{name}:{number}")

    return tuple(files.lines(name, one, (read_rules, action)))


@network_function("acl")
class Acl(NetworkFunction[AclConfig]):
    """Stateless: one element `rules` for each entered port."""

    Config = AclConfig
    cost = CostProfile(985, 0.0, "Lemur (CoNEXT'20), ACL, 1500 B at 1.7 GHz")

    def __init__(self, name: str, config: AclConfig) -> None:
        super().__init__(name, config)
        self._programs = {port: self._program(port) for port in self.ports}

    def elements(self, port: str) -> ElementGraph:
        exit_port = OPPOSITE[port]
        rules = Element("rules", self._programs[port], (exit_port,))
        return ElementGraph("rules", {"rules": rules}, {("rules", exit_port): Leave(exit_port)})

    def reference(self) -> Reference:
        return _AclReference(self._programs)

    def runtime_config(self) -> Mapping[str, Any]:
        return {
            "rules": [
                {**match_json(m), "action": action} for m, action, _ in self.config.all_rules
            ],
            "default": self.config.default,
            "reverse": self.config.reverse,
        }

    def rule_places(self) -> Mapping[str, Sequence[str]]:
        if self.config.rules_file is None:
            return {}
        return {"rules": tuple(place for _, _, place in self.config.all_rules)}

    def _program(self, port: str) -> FilterProgram:
        config = self.config
        exit_port = OPPOSITE[port]
        if port == "outside" and config.reverse == "permit":
            return FilterProgram((), exit_port)
        return FilterProgram(
            config.filters(port), exit_port if config.default == "permit" else DROP
        )


class _AclReference(Reference):
    def __init__(self, programs: Mapping[str, FilterProgram]) -> None:
        self._programs = programs

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        output, _rule = first_output(self._programs[port], packet)
        return () if output == DROP else ((output, packet),)

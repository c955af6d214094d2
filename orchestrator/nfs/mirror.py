"""mirror: packets pass, and a copy of those that a rule matches leaves by port `mirror`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.model.elements import (
    COPY,
    DROP,
    PASS,
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    Leave,
    MirrorProgram,
)
from orchestrator.model.match import ANY
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.choosing import OPPOSITE, SELECT, Reverse, chooser
from orchestrator.nfs.matching import MatchFields, first_output
from orchestrator.nfs.values import match_json

MIRROR = "mirror"


class MirrorConfig(NfConfig):
    """Without rules every packet is copied."""

    rules: tuple[MatchFields, ...] = (MatchFields(),)
    reverse: Reverse = "pass"


@network_function("mirror")
class Mirror(NetworkFunction[MirrorConfig]):
    """Stateless. Elements of inside and outside: `select`, then `copy`. Nothing enters `mirror`."""

    Config = MirrorConfig
    cost = CostProfile(
        550, 0.1, "our estimate: ACL (985) for few rules and a copy of the frame; Lemur (CoNEXT'20)"
    )

    @property
    def ports(self) -> tuple[str, ...]:
        return ("inside", "outside", MIRROR)

    def elements(self, port: str) -> ElementGraph:
        if port == MIRROR:
            return ElementGraph("none", {"none": Element("none", FilterProgram((), DROP), ())}, {})
        left, program = OPPOSITE[port], self._chooser(port)
        copy = Element(COPY, MirrorProgram(), (left, COPY))
        edges: dict[tuple[str, str], str | Leave] = {
            (COPY, left): Leave(left),
            (COPY, COPY): Leave(MIRROR),
        }
        if program.rules and program.rules[0].match == ANY:
            return ElementGraph(COPY, {COPY: copy}, edges)
        edges[SELECT, PASS] = Leave(left)
        if not program.rules:
            select = Element(SELECT, program, (PASS,))
            return ElementGraph(SELECT, {SELECT: select}, {(SELECT, PASS): Leave(left)})
        select = Element(SELECT, program, (COPY, PASS))
        edges[SELECT, COPY] = COPY
        return ElementGraph(SELECT, {SELECT: select, COPY: copy}, edges)

    def reference(self) -> Reference:
        return _MirrorReference({p: self._chooser(p) for p in ("inside", "outside")})

    def runtime_config(self) -> Mapping[str, Any]:
        rules = [match_json(rule.to_match()) for rule in self.config.rules]
        return {"rules": rules, "reverse": self.config.reverse}

    def _chooser(self, port: str) -> FilterProgram:
        rules = [(rule.to_match(), COPY) for rule in self.config.rules]
        return chooser(rules, PASS, port, self.config.reverse)


class _MirrorReference(Reference):
    def __init__(self, choosers: Mapping[str, FilterProgram]) -> None:
        self._choosers = choosers

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if port == MIRROR:
            return ()
        choice, _rule = first_output(self._choosers[port], packet)
        outputs: list[Output] = [(OPPOSITE[port], packet)]
        if choice == COPY:
            outputs.append((MIRROR, packet.copy()))
        return outputs

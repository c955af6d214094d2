"""Rules that choose one of several programs for a packet, for NFs that look the same on both sides.

Rules are written for packets that go from inside to outside. For the others `reverse` says: no rules
("pass"), source and destination swapped ("mirror"), or as they are ("same").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from orchestrator.model.elements import (
    PASS,
    Element,
    ElementGraph,
    ElementProgram,
    FilterProgram,
    FilterRule,
    Leave,
)
from orchestrator.model.match import ANY, Match
from orchestrator.nfs.matching import mirrored

Reverse = Literal["pass", "mirror", "same"]
OPPOSITE = {"inside": "outside", "outside": "inside"}
SELECT = "select"


def chooser(
    rules: Sequence[tuple[Match, str]], default: str, port: str, reverse: Reverse
) -> FilterProgram:
    """The choice for packets that enter `port`: outputs are names of choices, PASS for none."""
    if port == "outside" and reverse == "pass":
        return FilterProgram((), PASS)
    turned = port == "outside" and reverse == "mirror"
    return FilterProgram(
        tuple(
            FilterRule(mirrored(match) if turned else match, choice, f"rules[{index}]")
            for index, (match, choice) in enumerate(rules)
        ),
        default,
    )


def choice_elements(
    program: FilterProgram, choices: Mapping[str, ElementProgram], left: str
) -> ElementGraph:
    """`select` and an element for each choice that it can make; all leave by `left`.

    Where every packet meets the same choice there is no `select`.
    """
    first = program.rules[0] if program.rules else None
    always = first.output if first and first.match == ANY else None if first else program.default
    if always is not None and always != PASS:
        only = Element(always, choices[always], (left,))
        return ElementGraph(always, {always: only}, {(always, left): Leave(left)})
    outputs = tuple(dict.fromkeys((*(rule.output for rule in program.rules), program.default)))
    elements = {SELECT: Element(SELECT, program, outputs)}
    edges: dict[tuple[str, str], str | Leave] = {}
    for output in outputs:
        if output == PASS:
            edges[SELECT, output] = Leave(left)
        else:
            elements[output] = Element(output, choices[output], (left,))
            edges[SELECT, output] = output
            edges[output, left] = Leave(left)
    return ElementGraph(SELECT, elements, edges)

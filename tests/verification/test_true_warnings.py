"""Warnings that a rule can never match: neither false alarm nor, where it is plain, silence.

Oracle of false alarms: the packets of `compile --verify` on the unsplit graph, and which rule each NF's
filter finds first for them. Oracle of silence: rules that another one, asked before, holds whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from test_random_graphs import GRAPHS, HOSTS, acls, graphs

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.compiler.headerspace import box_of
from orchestrator.errors import CompileError, InfeasibleError, InputError
from orchestrator.graph import functions_of, load_graph, load_topology
from orchestrator.model.elements import DROP, FilterProgram, RewriteProgram
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import Environment, NetworkFunction, Output, Reference
from orchestrator.nfs.matching import first_output
from orchestrator.oracle import Driver, campaign
from orchestrator.oracle.network import ReferenceNetwork

pytestmark = pytest.mark.slow

PACKETS = 400
_WARNED = re.compile(r"nfs\.(\w+): (.+) can never match: ")
_MORE = re.compile(r"nfs\.(\w+): \d+ more rules can never match")
FIXED = settings(
    max_examples=GRAPHS,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)


class Noting(Reference):
    """An NF's reference that notes which of its rules packets meet as they enter."""

    def __init__(self, function: NetworkFunction[Any], reference: Reference) -> None:
        self._function, self._reference = function, reference
        self.met: set[str] = set()

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        elements = self._function.elements(port)
        program = elements.elements[elements.entry].program
        if isinstance(program, FilterProgram):
            self.met.add(first_output(program, packet)[1])
        elif isinstance(program, RewriteProgram) and packet.version:
            asked = packet.version, getattr(packet, program.field)
            for number, (version, old, _) in enumerate(program.pairs):
                if asked == (version, old):
                    self.met.add(f"pairs[{number}]")
        return self._reference.process(packet, port, env)

    def due_us(self) -> int | None:
        return self._reference.due_us()

    def release(self) -> Output:
        return self._reference.release()


def met(graph: ServiceGraph) -> dict[str, set[str]]:
    """By NF, the rules that the packets of --verify meet."""
    topology = load_topology("leaf-spine")
    network = ReferenceNetwork(graph, topology)
    functions = functions_of(graph)
    noting = {n: Noting(functions[n], r) for n, r in network.references.items()}
    network.references = dict[str, Reference](noting)

    def send(host: str, frame: bytes) -> list[tuple[str, bytes]]:
        network.now_us += 1000
        return list(network.send(host, frame))

    Driver([send], seed=1).run(campaign(graph, topology, 1), PACKETS)
    return {name: notes.met for name, notes in noting.items()}


def warnings_of(raw: dict[str, Any], folder: Path) -> tuple[ServiceGraph, tuple[str, ...]]:
    """The checked graph and what compiling it warns of; graphs that cannot be compiled are left out."""
    file = folder / "graph.json"
    file.write_text(json.dumps(raw))
    try:
        graph = load_graph(file).graph
        bundle = compile_graph(CompileRequest(graph, load_topology("leaf-spine"))).bundle
    except (InputError, InfeasibleError, CompileError):
        assume(False)
        raise
    return graph, bundle.warnings


@pytest.mark.xfail(reason="two lists in a row on port 0: a rule told as never met is met")
@FIXED
@given(graphs())
def test_what_can_never_match_is_never_met(tmp_path: Path, raw: dict[str, Any]) -> None:
    graph, warnings = warnings_of(raw, tmp_path)
    warned = [matched.groups() for text in warnings if (matched := _WARNED.search(text))]
    assume(warned)
    matched = met(graph)
    assert [(nf, rule) for nf, rule in warned if rule in matched[nf]] == [], json.dumps(raw)


def chain(lists: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Access lists one behind the other, one way."""
    nfs = {f"nf{i}": nf for i, nf in enumerate(lists)}
    way = ["inside", *nfs, "outside"]
    edges = [
        {
            "from": a if a == "inside" else f"{a}.outside",
            "to": b if b == "outside" else f"{b}.inside",
        }
        for a, b in pairwise(way)
    ]
    ends = {name: {"hosts": HOSTS[name]} for name in ("inside", "outside")}
    demand = {"name": "t", "from": "inside", "to": "outside", "rate": "10Mbit/s"}
    return {"name": "lists", "endpoints": ends, "nfs": nfs, "edges": edges, "traffic": [demand]}


@FIXED
@given(st.lists(acls(), min_size=1, max_size=3))
def test_what_an_earlier_rule_takes_whole_is_told(
    tmp_path: Path, lists: list[dict[str, Any]]
) -> None:
    graph, warnings = warnings_of(chain(lists), tmp_path)
    told = {matched.groups() for text in warnings if (matched := _WARNED.search(text))}
    many = {matched[1] for text in warnings if (matched := _MORE.search(text))}
    functions = functions_of(graph)
    if any("no packet ever goes" in text for text in warnings):
        return  # then an edge is told, and not each rule behind it
    denied = []
    for name, function in functions.items():
        program = function.elements("inside").elements["rules"].program
        assert isinstance(program, FilterProgram)
        boxes = [(box_of(rule.match), rule) for rule in program.rules]
        for index, (box, rule) in enumerate(boxes):
            before = [*denied, *(earlier for earlier, _ in boxes[:index])]
            if box is not None and any(one is not None and box.within(one) for one in before):
                assert (name, rule.rule) in told or name in many, (rule.rule, json.dumps(lists))
        first = boxes[0] if boxes else None
        if first is not None and first[1].output == DROP:
            denied.append(first[0])

"""What is legal in a graph and probably not meant: copies that nobody takes, packets encrypted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.graph.paths import ports_left
from orchestrator.model.elements import (
    COPY,
    DscpProgram,
    FilterProgram,
    Leave,
    MirrorProgram,
    StatefulProgram,
    TtlProgram,
)
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.nfs.base import Functions, NetworkFunction
from orchestrator.nfs.esp import EspFunction

_KEEP_DESTINATION = (FilterProgram, DscpProgram, TtlProgram, MirrorProgram)
"""Programs behind which a packet is for whom it was for."""


def unintended(graph: ServiceGraph, functions: Functions) -> Iterator[str]:
    """Texts that begin with their path in the file."""
    next_port = {edge.source: edge.target for edge in graph.edges}
    yield from _untaken_copies(graph, functions, next_port)
    yield from _encrypted_twice(functions, next_port)


def _untaken_copies(
    graph: ServiceGraph, functions: Functions, next_port: Mapping[Port, Port]
) -> Iterator[str]:
    """Copies keep their destination, and an endpoint takes what is for its own hosts
    (docs/architecture.md, 'Delivery at an endpoint')."""
    egresses = {traffic.egress for traffic in graph.traffic}
    for name, function in functions.items():
        copies = [
            Port(name, port) for entered in function.ports for port in _copied(function, entered)
        ]
        for end in _ends(copies, functions, next_port, _keeps_destination):
            if not end.port and end.node not in egresses:
                yield (
                    f"edges: copies of '{name}' come to '{end.node}' for whom they were, and it takes "
                    "only what is for its own hosts: the others are dropped (a vxlan_encap before it "
                    "brings all of them there)"
                )


def _copied(function: NetworkFunction[Any], entered: str) -> Iterator[str]:
    """Ports by which copies leave of what entered a port."""
    graph = function.elements(entered)
    for (element, output), step in graph.edges.items():
        program = graph.elements[element].program
        if isinstance(program, MirrorProgram) and output == COPY and isinstance(step, Leave):
            yield step.port


def _encrypted_twice(functions: Functions, next_port: Mapping[Port, Port]) -> Iterator[str]:
    """What one end has encrypted enters the other, of the same SPI, where that encrypts, too."""
    for name, function in functions.items():
        if not isinstance(function, EspFunction):
            continue
        encrypted = [Port(name, function.cipher_port)]
        for target in _ends(encrypted, functions, next_port, _encrypts_nothing):
            other = functions.get(target.node)
            if not isinstance(other, EspFunction):
                continue
            if target.port == other.plain_port and other.config.spi == function.config.spi:
                yield (
                    f"nfs.{target.node}: what {name} has encrypted enters it at '{target.port}', where "
                    f"it encrypts: connect it to '{other.cipher_port}', where it decrypts"
                )


def _ends(
    starts: Sequence[Port],
    functions: Functions,
    next_port: Mapping[Port, Port],
    passes: Callable[[NetworkFunction[Any], str], bool],
) -> Iterator[Port]:
    """Endpoints to which packets come from ports, and ports of the first NFs that they do not pass."""
    todo, seen = list(starts), set(starts)
    while todo:
        target = next_port.get(todo.pop())
        if target is None:
            continue
        if not target.port or not passes(functions[target.node], target.port):
            yield target
            continue
        left = {Port(target.node, p) for p in ports_left(functions[target.node], target.port)}
        todo += sorted(left - seen, key=str)
        seen |= left


def _keeps_destination(function: NetworkFunction[Any], entered: str) -> bool:
    programs = (element.program for element in function.elements(entered).elements.values())
    return all(
        p.keeps_headers if isinstance(p, StatefulProgram) else isinstance(p, _KEEP_DESTINATION)
        for p in programs
    )


def _encrypts_nothing(function: NetworkFunction[Any], entered: str) -> bool:
    del entered
    return not isinstance(function, EspFunction)

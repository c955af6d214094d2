"""The state that bundles ask of a switch, and the one that a switch is in, in the same form.

A state maps an entity's identity (table, match and priority; group; session) to the entity, both
serialised: comparing half a million entries is comparing bytes. Order is the order of writing:
what an entity refers to stands before it, and what admits packets comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from finsy.proto import p4r

from orchestrator.clients.identity import identify
from orchestrator.clients.p4info import Schema, clone_session_update, flood_update
from orchestrator.compiler.fabric_program import OWNER
from orchestrator.deployment.transaction import CloneSession
from orchestrator.linker.graphs import Own
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import PipelineProgram, TableEntry
from orchestrator.model.manifest import SamplingSecret, manifest_entries
from orchestrator.targets.pipelines import target_for

State = dict[bytes, bytes]
"""Entities by identity, in the order in which they are to be written."""

_NOTHING = PipelineProgram((), (), ())


class PlacedGraph(Protocol):
    """A graph on a network, as the journal keeps it."""

    @property
    def bundle(self) -> Bundle:
        """What was compiled."""
        ...

    @property
    def manifest(self) -> SamplingSecret | None:
        """Its sampling secret."""
        ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """A graph that is to be placed."""

    bundle: Bundle
    manifest: SamplingSecret | None


def desired(schema: Schema, placed: Iterable[PlacedGraph], device: str) -> State:
    """All that graphs ask of a switch, with the fabric's entries once; nothing without graphs."""
    state: State = {}
    graphs = [p for p in placed if device in p.bundle.pipeline_of]
    if not graphs:
        return state
    session = sample_session(graphs[0].bundle, device)
    _add(state, clone_session_update(*session, p4r.Update.INSERT).entity)
    for of_graph in graphs:
        for flood in of_graph.bundle.programs.get(device, _NOTHING).floods:
            _add(state, flood_update(flood, p4r.Update.INSERT).entity)
    for graph, entry in desired_entries(graphs, device):
        identity, entity = schema.identified(entry, graph)
        state[identity] = entity
    return state


def sample_session(bundle: Bundle, device: str) -> CloneSession:
    """By which samples and copies leave a device, as its target has it."""
    target = target_for(bundle, device)
    return CloneSession(target.cloning.session, target.ports.cpu, target.cloning.copies)


def desired_entries(placed: Iterable[PlacedGraph], device: str) -> Iterator[tuple[str, TableEntry]]:
    """(graph, entry) of a switch's table entries; those that admit packets are last."""
    graphs = [p for p in placed if device in p.bundle.pipeline_of]
    for graph in graphs[:1]:
        for entry in graph.bundle.fabric.get(device, _NOTHING).entries:
            yield OWNER, entry
    for graph in graphs:
        if graph.manifest is not None:
            for entry in manifest_entries(graph.manifest):
                yield graph.bundle.graph, entry
        own = Own(graph.bundle.graph_id)
        for entry in graph.bundle.programs.get(device, _NOTHING).entries:
            if own(entry):  # a journal of before bundles were checked may hold others
                yield graph.bundle.graph, entry
    for graph in graphs:
        for entry in graph.bundle.programs.get(device, _NOTHING).activation:
            yield graph.bundle.graph, entry


def late(schema: Schema, placed: Iterable[PlacedGraph], device: str) -> frozenset[bytes]:
    """The entities that put graphs in force on a switch: they are written after all others."""
    return frozenset(
        schema.identified(entry, graph.bundle.graph)[1]
        for graph in placed
        for entry in graph.bundle.programs.get(device, _NOTHING).activation
    )


def present(entities: Iterable[p4r.Entity], expected: Mapping[bytes, bytes] | None = None) -> State:
    """The state that a switch returned. `expected` only makes it faster and smaller.

    Entities that are byte for byte as expected are not looked into, and share its bytes.
    """
    identities = {entity: identity for identity, entity in (expected or {}).items()}
    state: State = {}
    for entity in entities:
        data = entity.SerializeToString(deterministic=True)
        identity = identities.get(data)
        if identity is None or expected is None:
            identity, data = identify(entity)
        else:
            data = expected[identity]
        state[identity] = data
    return state


def _add(state: State, entity: p4r.Entity) -> None:
    identity, data = identify(entity)
    state[identity] = data

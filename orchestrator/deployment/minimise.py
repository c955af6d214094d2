"""Make a difference small: the fewest packets and rules with which the bundle still differs.

Delta debugging (Zeller and Hildebrandt, 2002): halves, quarters, ... of a list are left out while the
difference stays. Every attempt starts with networks that have no state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from orchestrator.deployment.apply import apply_bundle
from orchestrator.errors import ReportedError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.manifest import new_manifest
from orchestrator.model.packet import Packet
from orchestrator.model.topology import Topology
from orchestrator.nfs.base import FROM_FILE
from orchestrator.oracle import Comparator, ReferenceNetwork
from orchestrator.oracle.network import Delivery
from orchestrator.simulation.memory import MemoryNetwork

Compile = Callable[[ServiceGraph], Bundle]
STEP_US = 500
"""Virtual time between two packets."""
_MOST_ATTEMPTS = 200
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Minimal:
    """The last of `frames` (host, bytes) is treated otherwise; `rules` are what that takes."""

    frames: tuple[Delivery, ...]
    rules: tuple[str, ...]
    why: str
    graph: ServiceGraph

    def __str__(self) -> str:
        shown = [f"{host} sends {frame.hex()}" for host, frame in self.frames]
        return "\n".join([*shown, f"with {'; '.join(self.rules) or 'any config'}:", self.why])


class SystemPair:
    """The unsplit graph and its bundle on a network in memory, sent the same frames in step."""

    def __init__(self, graph: ServiceGraph, topology: Topology, bundle: Bundle) -> None:
        self.reference = ReferenceNetwork(graph, topology)
        self.network = MemoryNetwork(topology)
        self.comparator = Comparator(graph, topology, lambda: self.reference.now_us)
        apply_bundle(bundle, self.network, new_manifest(bundle.graph_id, 0.05), first=True)

    def expected(self, host: str, frame: bytes) -> list[Delivery]:
        """What the unsplit graph delivers, a step later."""
        self.reference.now_us += STEP_US
        return list(self.reference.send(host, frame))

    def actual(self, host: str, frame: bytes) -> list[Delivery]:
        """What the bundle delivers; the network's own answers are left out, as the reference does."""
        self.network.advance(STEP_US)
        delivered = self.network.send(host, frame)
        if self.reference.for_network(host, Packet.parse(frame)):
            return []
        return [(delivery.host, delivery.frame) for delivery in delivered]

    def first_difference(self, frames: Sequence[Delivery]) -> tuple[int, str] | None:
        """(index, why) of the first frame after which they differ."""
        for index, (host, frame) in enumerate(frames):
            translated = self.comparator.translated(frame)
            expected = self.expected(host, frame)
            actual = self.actual(host, frame if translated is None else translated)
            if translated is None:
                continue
            why = self.comparator.difference(expected, actual)
            if why is not None:
                return index, why
        return None


def minimise(
    graph: ServiceGraph, topology: Topology, frames: Sequence[Delivery], compiled: Compile
) -> Minimal | None:
    """The smallest difference found; None when sending the frames again shows none.

    `frames` end with the packet that was treated otherwise; `compiled` makes a graph's bundle.
    """
    attempts = 0

    def difference(tried: ServiceGraph, sent: Sequence[Delivery]) -> tuple[int, str] | None:
        nonlocal attempts
        attempts += 1
        if attempts > _MOST_ATTEMPTS:
            return None
        try:
            return SystemPair(tried, topology, compiled(tried)).first_difference(sent)
        except ReportedError:
            return None  # leaving this out made another kind of failure

    # Mostly the last packet is enough; else up to the first difference of the whole run.
    differs = difference(graph, frames[-1:])
    sent: tuple[Delivery, ...] = tuple(frames[-1:])
    if differs is None:
        differs = difference(graph, frames)
        if differs is None:
            return None
        *before, last = frames[: differs[0] + 1]
        kept = reduced(before, lambda some: difference(graph, [*some, last]) is not None)
        sent = (*kept, last)
    for name, part in list(_lists(graph)):
        items = getattr(graph.nfs[name].config, part)

        def still(
            some: Sequence[object], name: str = name, part: str = part, within: ServiceGraph = graph
        ) -> bool:
            return difference(_with_list(within, name, part, some), sent) is not None

        graph = _with_list(graph, name, part, reduced(items, still))
    attempts = 0
    last_found = difference(graph, sent)
    why = last_found[1] if last_found is not None else differs[1]
    return Minimal(sent, tuple(_told(graph)), why, graph)


def reduced(items: Sequence[_Item], fails: Callable[[Sequence[_Item]], bool]) -> list[_Item]:
    """A small part of the items with which it still fails; it is known to fail with all of them."""
    kept = list(items)
    size = len(kept)
    while size:
        start = 0
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if fails(rest):
                kept = rest
            else:
                start += size
        size //= 2
    return kept


def _lists(graph: ServiceGraph) -> Iterator[tuple[str, str]]:
    """(NF, attribute) of every list in a config: rules, routes, pairs, and what a file held."""
    for name, nf in graph.nfs.items():
        for part in (*type(nf.config).model_fields, FROM_FILE):
            value = getattr(nf.config, part, ())
            if value and (
                part == FROM_FILE or (isinstance(value, tuple) and isinstance(value[0], BaseModel))
            ):
                yield name, part


def _with_list(graph: ServiceGraph, nf: str, part: str, items: Sequence[object]) -> ServiceGraph:
    instance = graph.nfs[nf]
    if part == FROM_FILE:
        config = instance.config.model_copy()
        setattr(config, part, tuple(items))
    else:
        config = instance.config.model_copy(update={part: tuple(items)})
    changed = dataclasses.replace(instance, config=config)
    return dataclasses.replace(graph, nfs={**graph.nfs, nf: changed})


def _told(graph: ServiceGraph) -> Iterator[str]:
    """What is left in every config's lists, as the config would say it."""
    for name, part in _lists(graph):
        for item in getattr(graph.nfs[name].config, part, ()):
            if isinstance(item, BaseModel):
                yield f"{name}.{part}: {item.model_dump_json(exclude_defaults=True)}"
            else:  # a rule that a file held: its last field tells where
                yield f"{name}: {item[-1] if isinstance(item, tuple) else item.rule}"

"""Which worker follows which: what the standbys of a plan come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.deployment.scopes import EVERYTHING, Scope, id_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import ClassMap, Core
from orchestrator.nfs.base import lookup
from orchestrator.placement.running import running_of
from orchestrator.placement.spaces import divided
from servernf.wire.buckets import BUCKETS, HASH_BITS, MOST_BUCKETS
from servernf.wire.instances import base_name

_HASHES = 1 << HASH_BITS


@dataclass(frozen=True, slots=True)
class Following:
    """A core follows another one's state of an NF (the name of an instance)."""

    graph: str
    nf: str
    source: Core
    standby: Core
    variant: str
    scope: Scope = EVERYTHING

    @property
    def id(self) -> str:
        """The same for whoever makes it again."""
        return id_of(self)

    def __str__(self) -> str:
        there, here = self.standby, self.source
        return f"{base_name(self.nf)}: {there} follows {here} ({self.variant})"


def followings(bundle: Bundle) -> tuple[Following, ...]:
    """All of a deployed graph."""
    return tuple(_followings(bundle))


def _followings(bundle: Bundle) -> Iterator[Following]:
    if not bundle.plan.standbys:
        return
    running = running_of(bundle)
    nfs_of = {Core(worker.server, worker.core): worker.nfs for worker in bundle.workers}
    for standby in bundle.plan.standbys:
        cores = running.cores_of.get(standby.nf, ())
        for name, (kind, _) in nfs_of.get(standby.core, {}).items():
            if base_name(name) != standby.nf:
                continue
            for core in cores:
                if name not in nfs_of[core]:
                    continue
                who = bundle.graph, name, core, standby.core, standby.variant
                if len(cores) == 1:
                    yield Following(*who)
                elif lookup(kind).state_key is not None:
                    key = bundle.plan.spread[standby.nf]
                    for scope in _owned(key, running.dispatch[standby.nf], core):
                        yield Following(*who, scope)


def _owned(key: str, found: tuple[ClassMap, ...], core: Core) -> Iterator[Scope]:
    """What a core has of an NF: buckets of any of its classes, and flow spaces."""
    of = BUCKETS
    while of < MOST_BUCKETS and any(s.low % (_HASHES // of) for c in found for s in c.slices):
        of *= 2
    classes, spaces = divided(found)
    without = tuple(space.regions[0] for space in spaces)
    unit = _HASHES // of

    def buckets(some: tuple[ClassMap, ...]) -> tuple[int, ...]:
        mine = [s for c in some for s in c.slices if s.core == core]
        return tuple(b for b in range(of) if any(s.low <= b * unit < s.high for s in mine))

    if rest := buckets(classes):
        yield Scope(key, of, rest, without=without)
    for space in spaces:
        if own := buckets((space,)):
            yield Scope(key, of, own, space.regions[0])

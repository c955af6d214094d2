"""Which worker follows which: what the standbys of a plan come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.deployment.scopes import EVERYTHING, MovedScope, id_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import ClassMap, Core
from orchestrator.nfs.base import lookup
from orchestrator.placement.running import running_of
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
    scope: MovedScope = EVERYTHING

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
                    yield Following(*who, _owned(key, running.dispatch[standby.nf], core))


def _owned(key: str, classes: tuple[ClassMap, ...], core: Core) -> MovedScope:
    """The buckets that a core has of any of an NF's classes; what is doubled has no flow spaces."""
    slices = [s for classes_of_nf in classes for s in classes_of_nf.slices]
    of = BUCKETS
    while of < MOST_BUCKETS and any(s.low % (_HASHES // of) for s in slices):
        of *= 2
    mine = [s for s in slices if s.core == core]
    unit = _HASHES // of
    buckets = tuple(b for b in range(of) if any(s.low <= b * unit < s.high for s in mine))
    return MovedScope(key, of, buckets)

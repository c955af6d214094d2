"""Whose state goes from worker to worker when one version of a graph takes another's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import ClassMap, Core
from orchestrator.nfs.base import lookup
from orchestrator.placement.running import Running, running_of
from servernf.wire.buckets import BUCKETS, HASH_BITS, MOST_BUCKETS
from servernf.wire.configs import config_text
from servernf.wire.instances import base_name

_ONE = "one"
_HASHES = 1 << HASH_BITS
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class StateMove:
    """State of NFs (names of instances) goes from a core to another: of some buckets, of which there are
    `of`, by `key`; without a key, everything."""

    graph: str
    source: Core
    target: Core
    nfs: tuple[str, ...]
    key: str = ""
    of: int = 0
    buckets: tuple[int, ...] = ()

    @property
    def id(self) -> str:
        """The same for whoever makes the transaction again."""
        return blake2b(repr(self).encode(), digest_size=_ID_BYTES).hexdigest()

    def reversed(self) -> StateMove:
        """Back again."""
        return replace(self, source=self.target, target=self.source)

    def __str__(self) -> str:
        what = f"{len(self.buckets)} of {self.of} buckets" if self.key else "everything"
        names = ", ".join(sorted(map(base_name, self.nfs)))
        return f"{names}: {what} from {_name(self.source)} to {_name(self.target)}"


def state_moves(old: Bundle, new: Bundle) -> tuple[StateMove, ...]:
    """Moves by which every NF that goes on with its configuration goes on with its state.

    What comes to another core under another configuration or key, and buckets of which only some classes
    do, stay behind.
    """
    found: dict[StateMove, list[str]] = {}
    was, will = running_of(old), running_of(new)
    for name, kind in _staying(old, new):
        for move in _of(base_name(name), kind, old, new, was, will):
            found.setdefault(move, []).append(name)
    return tuple(replace(move, nfs=tuple(sorted(nfs))) for move, nfs in found.items())


def _staying(old: Bundle, new: Bundle) -> Iterator[tuple[str, str]]:
    """Instances with state that both versions have, with the same configuration, and their types."""
    before, after = ({n: s for w in b.workers for n, s in w.nfs.items()} for b in (old, new))
    for name, (kind, config) in after.items():
        was = before.get(name)
        # What has no state may have a configuration of half a million routes: it is not looked at.
        if was is None or was[0] != kind or not lookup(kind).has_state():
            continue
        if was[1] == config or config_text(was[1]) == config_text(config):
            yield name, kind


def _of(
    nf: str, kind: str, old: Bundle, new: Bundle, was: Running, will: Running
) -> Iterator[StateMove]:
    key = new.plan.spread.get(nf)
    if nf not in was.cores_of or nf not in will.cores_of or key != old.plan.spread.get(nf):
        return
    if key is None or (key != _ONE and lookup(kind).state_key is None):
        return  # each worker has its own
    before, after = was.cores_of[nf], will.cores_of[nf]
    if key == _ONE or (len(before) == len(after) == 1):
        if before[0] != after[0]:
            yield StateMove(new.graph, before[0], after[0], ())
        return
    owners = _owners(was.dispatch[nf], will.dispatch[nf])
    moves: dict[tuple[Core, Core], list[int]] = {}
    for bucket, pairs in enumerate(owners):
        if len(pairs) == 1:
            ((source, target),) = pairs
            if source != target:
                moves.setdefault((source, target), []).append(bucket)
    for (source, target), buckets in sorted(moves.items(), key=lambda m: m[1]):
        yield StateMove(new.graph, source, target, (), key, len(owners), tuple(buckets))


def _owners(
    before: tuple[ClassMap, ...], after: tuple[ClassMap, ...]
) -> list[set[tuple[Core, Core]]]:
    """By bucket: the cores that own it before and after, of all classes."""
    if len({s.core for c in before for s in c.slices}) == 1:
        before = tuple(ClassMap(c.traffics, c.regions, before[0].slices) for c in after)
    if len({s.core for c in after for s in c.slices}) == 1:
        after = tuple(ClassMap(c.traffics, c.regions, after[0].slices) for c in before)
    if [c.regions for c in before] != [c.regions for c in after]:
        return []
    bounds = {bound for c in (*before, *after) for s in c.slices for bound in (s.low, s.high)}
    of = BUCKETS
    while of <= MOST_BUCKETS and any(bound % (_HASHES // of) for bound in bounds):
        of *= 2
    if of > MOST_BUCKETS:
        return []
    return [
        {
            (_owner(old, bucket * _HASHES // of), _owner(new, bucket * _HASHES // of))
            for old, new in zip(before, after, strict=True)
        }
        for bucket in range(of)
    ]


def _owner(found: ClassMap, value: int) -> Core:
    return next(s.core for s in found.slices if s.low <= value < s.high)


def _name(core: Core) -> str:
    return f"{core.server} core {core.index + 1}"

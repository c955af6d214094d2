"""Whose state goes from worker to worker when one version of a graph takes another's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

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
        return f"{names}: {what} from {self.source} to {self.target}"


def state_moves(old: Bundle, new: Bundle) -> tuple[StateMove, ...]:
    """Moves by which every NF that goes on with its configuration goes on with its state.

    What comes to another core under another configuration or key, and buckets of which only some classes
    do, stay behind (`started_anew`).
    """
    found: dict[StateMove, list[str]] = {}
    for move, name, is_possible in _wanted(old, new):
        if is_possible:
            found.setdefault(move, []).append(name)
    return tuple(replace(move, nfs=tuple(sorted(nfs))) for move, nfs in found.items())


def _wanted(old: Bundle, new: Bundle) -> Iterator[tuple[StateMove, str, bool]]:
    """Moves and the instance that each is of; whether both cores have it by this name.

    Those of an NF have other names where only some of its cores had an earlier configuration.
    """
    was, will = running_of(old), running_of(new)
    here, there = (
        {(Core(w.server, w.core), name) for w in b.workers for name in w.nfs} for b in (old, new)
    )
    for name, kind in _staying(old, new):
        for move in _of(base_name(name), kind, old, new, was, will):
            yield move, name, (move.source, name) in here and (move.target, name) in there


def started_anew(old: Bundle, new: Bundle) -> Iterator[str]:
    """NFs that keep some core, and of which buckets come to another one without their state: how many,
    and why, in words."""
    before, after = (
        {(base_name(n), w.server, w.core): s for w in b.workers for n, s in w.nfs.items()}
        for b in (old, new)
    )
    kept = {at[0]: (before[at], after[at]) for at in sorted(before.keys() & after.keys())}
    kept = {nf: both for nf, both in kept.items() if all(lookup(s[0]).has_state() for s in both)}
    if not kept:
        return
    was, will = running_of(old), running_of(new)
    for nf, both in kept.items():
        if nf not in was.cores_of or nf not in will.cores_of:
            continue
        key = new.plan.spread.get(nf)
        if key in (None, _ONE) or lookup(both[1][0]).state_key is None:
            continue
        why = ""
        if not _is_same(*both):
            why = "under another configuration"
        elif key != old.plan.spread.get(nf):
            why = f"divided by {key} instead of {old.plan.spread.get(nf)}"
        if told := without_state(was.dispatch[nf], will.dispatch[nf], why):
            yield f"{nf}: {told}"
    possible = {(move, base_name(name)) for move, name, is_it in _wanted(old, new) if is_it}
    others = {(move, base_name(name)) for move, name, is_it in _wanted(old, new) if not is_it}
    for move, nf in sorted(others - possible, key=str):
        yield f"{replace(move, nfs=(nf,))}: starts anew (its instance has another name there)"


def without_state(before: tuple[ClassMap, ...], after: tuple[ClassMap, ...], why: str = "") -> str:
    """Which buckets change hands and leave their state behind, in words; empty: none."""
    owners = _owners(before, after)
    if not owners:
        return f"what comes to another core starts anew ({why or 'its classes are others'})"
    moving = [any(source != target for source, target in pairs) for pairs in owners]
    left = sum(m and bool(why or len(p) > 1) for m, p in zip(moving, owners, strict=True))
    if not left:
        return ""
    why = why or "some of their traffic classes do, and others stay"
    return f"{left} of {len(owners)} buckets come to another core without their state ({why})"


def _is_same(one: tuple[str, Any], other: tuple[str, Any]) -> bool:
    return one == other or (one[0] == other[0] and config_text(one[1]) == config_text(other[1]))


def _staying(old: Bundle, new: Bundle) -> Iterator[tuple[str, str]]:
    """Instances with state that both versions have, with the same configuration, and their types."""
    before, after = ({n: s for w in b.workers for n, s in w.nfs.items()} for b in (old, new))
    for name, (kind, config) in after.items():
        was = before.get(name)
        # What has no state may have a configuration of half a million routes: it is not looked at.
        if was is None or was[0] != kind or not lookup(kind).has_state():
            continue
        if _is_same(was, (kind, config)):
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

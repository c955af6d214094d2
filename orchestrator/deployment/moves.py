"""Whose state goes from worker to worker when one version of a graph takes another's place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from orchestrator.deployment.scopes import EVERYTHING, MovedScope, id_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import EVERYWHERE, ClassMap, Core, Region
from orchestrator.nfs.base import lookup
from orchestrator.placement.classes import meet
from orchestrator.placement.running import Running, running_of
from orchestrator.placement.spaces import around, divided, owner
from servernf.wire.buckets import BUCKETS, HASH_BITS, MOST_BUCKETS
from servernf.wire.configs import config_text
from servernf.wire.instances import base_name

_ONE = "one"
_HASHES = 1 << HASH_BITS
_Owners = list[set[tuple[Core, Core]]]
"""By bucket: the cores that own it before and after."""


@dataclass(frozen=True, slots=True)
class StateMove:
    """State of NFs (names of instances) goes from a core to another."""

    graph: str
    source: Core
    target: Core
    nfs: tuple[str, ...]
    scope: MovedScope = EVERYTHING

    @property
    def id(self) -> str:
        """The same for whoever makes the transaction again."""
        return id_of(self)

    def reversed(self) -> StateMove:
        """Back again."""
        return replace(self, source=self.target, target=self.source)

    def __str__(self) -> str:
        names = ", ".join(sorted(map(base_name, self.nfs)))
        return f"{names}: {self.scope} from {self.source} to {self.target}"


def state_moves(old: Bundle, new: Bundle) -> tuple[StateMove, ...]:
    """Moves by which every NF that goes on with its configuration goes on with its state.

    What comes to another core under another configuration or key, and buckets of which only some classes
    do, stay behind (`started_anew`).
    """
    moves: dict[StateMove, list[str]] = {}
    for move, name, is_possible in _wanted(old, new):
        if is_possible:
            moves.setdefault(move, []).append(name)
    return tuple(replace(move, nfs=tuple(sorted(nfs))) for move, nfs in moves.items())


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
    parts = list(zip(*owners.values(), strict=True))
    left = sum(
        any(
            source != target and (why or len(pairs) > 1)
            for pairs in all_of
            for source, target in pairs
        )
        for all_of in parts
    )
    if not left:
        return ""
    why = why or "some of their traffic classes do, and others stay"
    return f"{left} of {len(parts)} buckets come to another core without their state ({why})"


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
    spaces = tuple(space for space in owners if space != EVERYWHERE)
    for space, by_bucket in owners.items():
        moves: dict[tuple[Core, Core], list[int]] = {}
        for bucket, pairs in enumerate(by_bucket):
            if len(pairs) == 1:
                ((source, target),) = pairs
                if source != target:
                    moves.setdefault((source, target), []).append(bucket)
        without = spaces if space == EVERYWHERE else ()
        for (source, target), buckets in sorted(moves.items(), key=lambda m: m[1]):
            scope = MovedScope(key, len(by_bucket), tuple(buckets), space, without)
            yield StateMove(new.graph, source, target, (), scope)


def _owners(before: tuple[ClassMap, ...], after: tuple[ClassMap, ...]) -> dict[Region, _Owners]:
    """Who owns what before and after: of all classes, and of the flow spaces of either."""
    if len({s.core for c in before for s in c.slices}) == 1:
        before = tuple(ClassMap(c.traffics, c.regions, before[0].slices) for c in divided(after)[0])
    if len({s.core for c in after for s in c.slices}) == 1:
        after = tuple(ClassMap(c.traffics, c.regions, after[0].slices) for c in divided(before)[0])
    (classes, spaces), (new_classes, new_spaces) = divided(before), divided(after)
    if [c.regions for c in classes] != [c.regions for c in new_classes]:
        return {}
    regions = dict.fromkeys(space.regions[0] for space in (*spaces, *new_spaces))
    if any(meet(one, other) for one, other in combinations(regions, 2)):
        return {}
    bounds = {bound for c in (*before, *after) for s in c.slices for bound in (s.low, s.high)}
    of = BUCKETS
    while of <= MOST_BUCKETS and any(bound % (_HASHES // of) for bound in bounds):
        of *= 2
    if of > MOST_BUCKETS:
        return {}
    lows = [bucket * _HASHES // of for bucket in range(of)]
    owners: dict[Region, _Owners] = {
        EVERYWHERE: [
            {
                (owner(old.slices, low), owner(new.slices, low))
                for old, new in zip(classes, new_classes, strict=True)
            }
            for low in lows
        ]
    }
    for region in regions:
        was, will = _of_space(region, classes, spaces), _of_space(region, new_classes, new_spaces)
        owners[region] = [
            {(owner(o.slices, low), owner(n.slices, low)) for o in was for n in will}
            for low in lows
        ]
    return owners


def _of_space(
    region: Region, classes: Sequence[ClassMap], spaces: Sequence[ClassMap]
) -> list[ClassMap]:
    """Whose slices count for a flow space."""
    return [s for s in spaces if s.regions == (region,)] or list(around(classes, region))

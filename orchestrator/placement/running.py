"""Where a deployed graph runs, so that its next version stays there: state stays on its core."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from orchestrator.errors import InputError, unknown
from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import Cuts, Group
from orchestrator.model.plan import EVERYWHERE, ClassMap, Core, HashSlice, Plan, Region, Standby
from orchestrator.placement.buckets import whole_buckets
from orchestrator.placement.spaces import divided, folded, owner, why_none, with_space
from servernf.wire.buckets import BUCKETS, HASH_BITS
from servernf.wire.instances import base_name

_HASHES = 1 << HASH_BITS


@dataclass(frozen=True, slots=True)
class Running:
    """`device_of` by unit; `cores_of` by NF, in the order of its replicas; `dispatch` of its classes.

    `pinned` are NFs that have these cores and slices, whatever a placement would give them.
    """

    device_of: Mapping[str, str]
    cores_of: Mapping[str, tuple[Core, ...]]
    dispatch: Mapping[str, tuple[ClassMap, ...]] = field(
        default_factory=dict[str, "tuple[ClassMap, ...]"]
    )

    pinned: frozenset[str] = frozenset()
    standbys: frozenset[Core] = frozenset()
    """Cores of standbys."""
    takes_over: bool = False
    """Whether some of the NFs run where their standby was."""
    spread: Mapping[str, str] = field(default_factory=dict[str, str])
    """By NF: what buckets of its state are a hash of."""

    def devices(self, cuts: Cuts) -> dict[str, str]:
        """The device that each unit of the next version is on now."""
        devices: dict[str, str] = {}
        grouped = {unit for group in cuts.groups for unit in group.units}
        for name, unit in cuts.units.items():
            if name in grouped:
                if unit.nf in self.cores_of:
                    devices[name] = self.cores_of[unit.nf][0].server
            elif name in self.device_of:
                devices[name] = self.device_of[name]
        return devices


@dataclass(frozen=True, slots=True)
class Moving:
    """Buckets of an NF's group go to a core of its server; none named: all of them, to any server's. Of
    these buckets the flows of a `space` only, to a core of its server."""

    nf: str
    core: Core
    buckets: tuple[int, ...] = ()
    space: Region = EVERYWHERE


def moved(
    running: Running, wanted: Moving, pools: Set[str] = frozenset(), doubled: Set[str] = frozenset()
) -> Running:
    """Where a graph shall run; InputError when it cannot be moved so. `pools` are NFs that have one,
    `doubled` those with a standby."""
    nf, target = wanted.nf, wanted.core
    if nf not in running.cores_of:
        raise InputError(f"nf: {unknown('NF on a server', nf, sorted(running.cores_of))}")
    cores, classes = running.cores_of[nf], running.dispatch[nf]
    group = [name for name, of_group in running.dispatch.items() if of_group == classes]
    key = running.spread.get(nf, "one")
    is_part = bool(wanted.buckets) or wanted.space != EVERYWHERE
    if is_part and cores[0].server != target.server:
        raise InputError(
            f"to: {nf} is on {cores[0].server}, and a group's buckets are on one server: name a core"
            " of that, or no buckets"
        )
    if wanted.buckets and key == "one":
        raise InputError(f"buckets: {nf} has none: all of its state belongs together")
    if wanted.space != EVERYWHERE and (
        why := why_none(nf, key, wanted.space, pools & set(group), doubled & set(group))
    ):
        raise InputError(f"flow space: {why}")
    bounds = [s.low for c in classes for s in c.slices if s.low]
    of = max([BUCKETS, *(_HASHES // (bound & -bound) for bound in bounds)])
    if wanted.buckets and max(wanted.buckets) >= of:
        raise InputError(f"buckets: {max(wanted.buckets)} is not among {of} (0 to {of - 1})")
    chosen = frozenset(wanted.buckets or range(of))
    if wanted.space != EVERYWHERE:
        after = with_space(classes, wanted.space, chosen, of, target)
    else:
        after = folded([replace(c, slices=_given(c.slices, chosen, of, target)) for c in classes])
    owners = dict.fromkeys(s.core for c in after for s in c.slices)
    staying = [core for core in cores if core in owners]
    kept = tuple(dict.fromkeys((*staying, *owners)))
    return replace(
        running,
        cores_of={**running.cores_of, **dict.fromkeys(group, kept)},
        dispatch={**running.dispatch, **dict.fromkeys(group, after)},
        pinned=frozenset(group),
    )


def _given(
    slices: Sequence[HashSlice], chosen: Collection[int], of: int, target: Core
) -> tuple[HashSlice, ...]:
    """Slices with some buckets given to a core, as few as there can be."""
    unit = _HASHES // of
    given: list[HashSlice] = []
    for bucket in range(of):
        low = bucket * unit
        core = target if bucket in chosen else owner(slices, low)
        if given and given[-1].core == core:
            low = given.pop().low
        given.append(HashSlice(core, low, (bucket + 1) * unit))
    return tuple(given)


def running_of(bundle: Bundle) -> Running:
    """Where a deployed graph runs."""
    at = {Core(w.server, w.core): frozenset(map(base_name, w.nfs)) for w in bundle.workers}
    cores_of: dict[str, tuple[Core, ...]] = {}
    dispatch: dict[str, tuple[ClassMap, ...]] = {}
    for cores, classes in zip(bundle.plan.cores_of, bundle.plan.dispatch, strict=True):
        # Its instances have other names where only some cores had an earlier configuration.
        for name in sorted(frozenset.intersection(*(at[core] for core in cores))):
            cores_of.setdefault(name, cores)
            dispatch.setdefault(name, classes)
    standbys = frozenset(standby.core for standby in bundle.plan.standbys)
    return Running(
        bundle.plan.device_of,
        cores_of,
        dispatch,
        standbys=standbys,
        spread=bundle.plan.spread,
    )


def taken_over(running: Running, standbys: Iterable[Standby], away: Container[Core]) -> Running:
    """Where a graph shall run: NFs of which cores are `away` on the core of their standby."""
    core_of = {standby.nf: standby.core for standby in standbys if standby.core not in away}
    cores_of, dispatch = dict(running.cores_of), dict(running.dispatch)
    pinned: set[str] = set()
    for nf, core in core_of.items():
        cores = running.cores_of.get(nf, ())
        if nf in pinned or not any(owners in away for owners in cores):
            continue
        classes = running.dispatch[nf]
        whole = folded([replace(c, slices=(HashSlice(core, 0, _HASHES),)) for c in classes])
        group = [n for n, owners in running.cores_of.items() if owners == cores]
        cores_of |= dict.fromkeys(group, (core,))
        dispatch |= dict.fromkeys(group, whole)
        pinned.update(group)
    if not pinned:
        return running
    return replace(
        running,
        cores_of=cores_of,
        dispatch=dispatch,
        pinned=running.pinned | pinned,
        standbys=running.standbys - {cores_of[nf][0] for nf in pinned},
        takes_over=True,
    )


def stay(
    plan: Plan,
    cuts: Cuts,
    running: Running,
    taken: Collection[Core] = (),
    buckets: Callable[[int, int], int] | None = None,
    undivided: Set[str] = frozenset(),
) -> Plan:
    """The plan with the cores of a server exchanged so that NFs keep theirs (cores are alike), and with
    each bucket where it is, while a group's cores and classes are the same.

    Cores that are `taken` cannot be kept: another graph has them, or they do not answer. `buckets` says
    how many a group (its number) has on so many cores; `undivided` are NFs of which no flow space can be
    elsewhere.
    """
    plan = _on_its_cores(plan, cuts, running, taken)
    pins = [
        next(
            (nf for nf in g.nfs if nf in running.pinned and _server(running, nf) == at.server), None
        )
        for g, (at, *_) in zip(cuts.groups, plan.cores_of, strict=True)
    ]
    plan = replace(
        plan,
        cores_of=tuple(
            now if nf is None else running.cores_of[nf]
            for nf, now in zip(pins, plan.cores_of, strict=True)
        ),
        dispatch=tuple(
            now if nf is None else running.dispatch[nf]
            for nf, now in zip(pins, plan.dispatch, strict=True)
        ),
    )
    if buckets is None:
        return plan
    return replace(
        plan,
        dispatch=tuple(
            _in_place(plan.dispatch[at], group, cores, running, buckets(at, len(cores)), undivided)
            for at, (group, cores) in enumerate(zip(cuts.groups, plan.cores_of, strict=True))
        ),
    )


def _server(running: Running, nf: str) -> str:
    return running.cores_of[nf][0].server


def _in_place(
    classes: tuple[ClassMap, ...],
    group: Group,
    cores: Collection[Core],
    running: Running,
    buckets: int,
    undivided: Set[str],
) -> tuple[ClassMap, ...]:
    """The classes of a group with the slices that they have now, and its flow spaces."""
    nf = next((nf for nf in group.nfs if nf in running.dispatch), "")
    now = running.dispatch.get(nf, ())
    base, spaces = divided(now)
    owners = {own.core for class_map in now for own in class_map.slices}
    wanted, _ = divided(classes)
    if owners != set(cores) or [c.regions for c in base] != [c.regions for c in wanted]:
        return classes
    kept = [
        replace(new, slices=tuple(whole_buckets(old.slices, buckets)))
        for new, old in zip(wanted, base, strict=True)
    ]
    if running.spread.get(nf) == group.spread and undivided.isdisjoint(group.nfs):
        kept = [
            *(replace(s, slices=tuple(whole_buckets(s.slices, buckets))) for s in spaces),
            *kept,
        ]
    return tuple(kept)


def _on_its_cores(plan: Plan, cuts: Cuts, running: Running, taken: Collection[Core]) -> Plan:
    wanted: dict[Core, Core] = {}
    for group, cores in zip(cuts.groups, plan.cores_of, strict=True):
        now = next((running.cores_of[nf] for nf in group.nfs if nf in running.cores_of), ())
        for core, old in zip(cores, now, strict=False):
            if core.server == old.server and old not in (*wanted.values(), *taken):
                wanted.setdefault(core, old)
    used = list(dict.fromkeys(core for cores in plan.cores_of for core in cores))
    free = [core for core in used if core not in wanted.values()]
    for core in used:
        if core not in wanted:
            mine = next(c for c in [core, *free] if c in free and c.server == core.server)
            free.remove(mine)
            wanted[core] = mine
    if all(core == old for core, old in wanted.items()):
        return plan
    return replace(
        plan,
        cores_of=tuple(tuple(wanted[core] for core in cores) for cores in plan.cores_of),
        dispatch=tuple(
            tuple(
                replace(c, slices=tuple(replace(s, core=wanted[s.core]) for s in c.slices))
                for c in classes
            )
            for classes in plan.dispatch
        ),
        core_load={wanted.get(core, core): load for core, load in plan.core_load.items()},
    )

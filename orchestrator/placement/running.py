"""Where a deployed graph runs, so that its next version stays there: state stays on its core."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import Cuts, Group
from orchestrator.model.plan import ClassMap, Core, Plan
from orchestrator.placement.buckets import whole_buckets
from servernf.wire.instances import base_name


@dataclass(frozen=True, slots=True)
class Running:
    """`device_of` by unit; `cores_of` by NF, in the order of its replicas; `dispatch` of its classes."""

    device_of: Mapping[str, str]
    cores_of: Mapping[str, tuple[Core, ...]]
    dispatch: Mapping[str, tuple[ClassMap, ...]] = field(
        default_factory=dict[str, "tuple[ClassMap, ...]"]
    )

    def devices(self, cuts: Cuts) -> dict[str, str]:
        """The device that each unit of the next version is on now."""
        found: dict[str, str] = {}
        grouped = {unit for group in cuts.groups for unit in group.units}
        for name, unit in cuts.units.items():
            if name in grouped:
                if unit.nf in self.cores_of:
                    found[name] = self.cores_of[unit.nf][0].server
            elif name in self.device_of:
                found[name] = self.device_of[name]
        return found


def running_of(bundle: Bundle) -> Running:
    """Where a deployed graph runs."""
    at = {Core(worker.server, worker.core): worker for worker in bundle.workers}
    cores_of: dict[str, tuple[Core, ...]] = {}
    dispatch: dict[str, tuple[ClassMap, ...]] = {}
    for cores, classes in zip(bundle.plan.cores_of, bundle.plan.dispatch, strict=True):
        for name in at[cores[0]].nfs:
            if all(name in at[core].nfs for core in cores):
                cores_of.setdefault(base_name(name), cores)
                dispatch.setdefault(base_name(name), classes)
    return Running(bundle.plan.device_of, cores_of, dispatch)


def stay(
    plan: Plan,
    cuts: Cuts,
    running: Running,
    taken: Collection[Core] = (),
    buckets: Sequence[int] = (),
) -> Plan:
    """The plan with the cores of a server exchanged so that NFs keep theirs (cores are alike), and with
    each bucket where it is, while a group's cores and classes are the same.

    Cores that are `taken` cannot be kept: another graph has them, or they do not answer. `buckets` is
    how many each group has.
    """
    plan = _on_its_cores(plan, cuts, running, taken)
    if not buckets:
        return plan
    return replace(
        plan,
        dispatch=tuple(
            _in_place(classes, group, cores, running, count)
            for classes, group, cores, count in zip(
                plan.dispatch, cuts.groups, plan.cores_of, buckets, strict=True
            )
        ),
    )


def _in_place(
    classes: tuple[ClassMap, ...],
    group: Group,
    cores: Collection[Core],
    running: Running,
    buckets: int,
) -> tuple[ClassMap, ...]:
    """The classes of a group with the slices that they have now."""
    now = next((running.dispatch[nf] for nf in group.nfs if nf in running.dispatch), ())
    owners = {own.core for found in now for own in found.slices}
    if owners != set(cores) or [c.regions for c in now] != [c.regions for c in classes]:
        return classes
    return tuple(
        replace(new, slices=tuple(whole_buckets(old.slices, buckets)))
        for new, old in zip(classes, now, strict=True)
    )


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
    names = {f"{a.server}.{a.index}": f"{b.server}.{b.index}" for a, b in wanted.items()}
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
        core_load={names.get(name, name): load for name, load in plan.core_load.items()},
    )

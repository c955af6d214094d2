"""Where a deployed graph runs, so that its next version stays there: state stays on its core."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from orchestrator.model.bundle import Bundle
from orchestrator.model.cuts import Cuts
from orchestrator.model.plan import Core, Plan
from servernf.wire.instances import base_name


@dataclass(frozen=True, slots=True)
class Running:
    """`device_of` by unit; `cores_of` by NF, in the order of its replicas."""

    device_of: Mapping[str, str]
    cores_of: Mapping[str, tuple[Core, ...]]

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
    for cores in bundle.plan.cores_of:
        for name in at[cores[0]].nfs:
            if all(name in at[core].nfs for core in cores):
                cores_of.setdefault(base_name(name), cores)
    return Running(bundle.plan.device_of, cores_of)


def stay(plan: Plan, cuts: Cuts, running: Running, taken: Collection[Core] = ()) -> Plan:
    """The plan with the cores of a server exchanged so that NFs keep theirs (cores are alike).

    Those that are `taken` cannot be kept: another graph has them, or they do not answer.
    """
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

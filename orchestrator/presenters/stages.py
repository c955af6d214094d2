"""What `orchestrator compile --resources` tells: what switches with stages hold, by table and NF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from orchestrator.compile import Compiled
from orchestrator.errors import InputError
from orchestrator.fitting.pipelines import fitted, refusal
from orchestrator.fitting.reports import MEMORIES, shipped_report
from orchestrator.fitting.stages import Fit
from orchestrator.fitting.steps import instance_table
from orchestrator.model.builds import Build
from orchestrator.model.topology import Topology
from orchestrator.placement.resources import Network
from orchestrator.targets import known_targets, lookup
from orchestrator.targets.chip import RESOURCES
from orchestrator.targets.pipelines import SHIPPED


def check_has_chips(topology: Topology) -> None:
    """InputError where no switch has stages to tell of."""
    if any(lookup(s.target).chip is not None for s in topology.switches.values()):
        return
    chips = ", ".join(name for name in known_targets() if lookup(name).chip is not None)
    raise InputError(
        f"--resources: no switch of {topology.name} has a target with match-action stages ({chips}); "
        "its topology file says one (`target`)"
    )


def stages_json(compiled: Compiled) -> dict[str, object]:
    """By switch: the estimate, and what the compiler says: of pipelines nothing yet (null), of a
    table what it took for one of that size by itself (null: none such was measured)."""
    told: dict[str, object] = {}
    made = compiled.bundle.entries_by_table()
    for name, switch in compiled.topology.switches.items():
        chip = lookup(switch.target).chip
        layout = compiled.lowered.layouts.get(name)
        if chip is None:
            continue
        build = SHIPPED.planned_build(switch.pipeline, switch.target)
        pipeline = Network.planned(compiled.topology).pipelines[name]
        parts = [] if layout is None else layout.parts(pipeline)
        need: Counter[str] = Counter()
        users: dict[str, Counter[str]] = {}
        for part in parts:
            table = f"{part.instance}.{part.table}"
            need[table] += part.entries
            users.setdefault(table, Counter())[part.nf] += part.entries
        need |= made.get(name, Counter())  # of what every pipeline has, too
        fit = fitted(build, chip, need)
        refused = refusal(build, chip, need)
        told[name] = {
            "target": switch.target,
            "chip": chip.title,
            "fits": fit.fits,
            "why": "" if refused is None else refused.text,
            "stages": {"estimate": len(fit.stages), "compiler": None, "of": chip.stages},
            "phv_bits": {"estimate": fit.phv_bits, "compiler": None, "of": chip.phv_bits},
            "nfs": _by_nf(fit, users),
            "tables": _tables(fit, need, users, _Measured(switch.target, build)),
            "by_stage": [asdict(use) for use in fit.stages],
            "of_each_stage": asdict(chip.stage),
        }
    return told


def _by_nf(fit: Fit, users: Mapping[str, Counter[str]]) -> dict[str, dict[str, object]]:
    """In how many stages each NF's tables stand, and what it has of the stages' resources; of a table of
    several its share of the entries. "": what every pipeline has."""
    taken: dict[str, dict[str, float]] = {}
    stages: dict[str, set[int]] = {}
    for placed in fit.placed:
        shares = users.get(instance_table(placed.name)) or Counter({"": 1})
        for nf, share in shares.items():
            stages.setdefault(nf, set()).update(range(placed.first, placed.last + 1))
            mine = taken.setdefault(nf, dict.fromkeys(RESOURCES, 0.0))
            for resource, count in asdict(placed.use).items():
                mine[resource] += count * share / shares.total()
    return {
        nf: {"stages": len(stages[nf]), **{r: round(n, 1) for r, n in taken[nf].items()}}
        for nf in sorted(taken)
    }


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a chip's compiler said of tables of a build's blocks."""

    target: str
    build: Build

    def of(self, table: str, entries: int) -> dict[str, int] | None:
        instance, _, rest = table.partition(".")
        block = {slot.instance: slot.block for slot in self.build.slots}.get(instance, instance)
        said = shipped_report(self.target, f"{block}.{rest}", entries)
        return None if said is None else {kind: getattr(said, kind) for kind in MEMORIES}


def _tables(
    fit: Fit, need: Counter[str], users: Mapping[str, Counter[str]], measured: _Measured
) -> list[dict[str, object]]:
    """Tables in packet order; stages are counted from 1."""
    return [
        {
            "table": (table := instance_table(placed.name)),
            "nfs": list(users.get(table, ())),
            "first_stage": placed.first + 1,
            "last_stage": placed.last + 1,
            "entries": need.get(table, 0),
            "size": placed.entries,
            **asdict(placed.use),
            "compiler": measured.of(table, placed.entries),
        }
        for placed in fit.placed
        if placed.keyed and placed.entries
    ]

"""What `orchestrator whatif` compares, and what it tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from orchestrator.graph import check_hosts
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.offers import check_offers
from orchestrator.presenters.live_case import LiveCase
from orchestrator.whatif.run import ScenarioOutcome
from orchestrator.whatif.scenarios import Case, Scenario, fail_each, sweep


def planned_case(graphs: Sequence[ServiceGraph], topology: Topology) -> LiveCase:
    """Graphs on a topology on which nothing runs; InputError where they do not go together."""
    case = Case(tuple(graphs), None, topology)
    _check(case)
    return LiveCase(case)


def _check(case: Case) -> None:
    for graph in case.graphs:
        check_hosts(graph, case.topology)
        check_offers(graph, Fabric(case.topology))


def scenarios_of(
    case: Case,
    fail: Sequence[str],
    scale: Sequence[str],
    changes: Sequence[str],
    *,
    without_offload: bool,
    sweep_text: str,
    each: str,
) -> list[Scenario]:
    """All changes together; of a sweep or of failures one by one, on top of those, one a step."""
    words = [f"fail {f.partition(':')[2]}" for f in fail] + [*scale, *changes]
    words += ["without offload"] if without_offload else []
    one = Scenario(", ".join(words), tuple(fail), tuple(scale), tuple(changes), without_offload)
    steps = [*(sweep(sweep_text) if sweep_text else ())]
    steps += [*(fail_each(case.topology, each) if each else ())]
    if not steps:
        return [one] if words else []
    return [
        replace(
            step,
            name=", ".join([*words, step.name]),
            fail=(*one.fail, *step.fail),
            scale=one.scale,
            set=one.set,
            without_offload=one.without_offload,
        )
        for step in steps
    ]


def outcomes_json(
    start: LiveCase, outcomes: Sequence[ScenarioOutcome], *, interrupted: bool = False
) -> dict[str, object]:
    """What each scenario comes to, the unchanged one first."""
    return {
        "topology": start.case.topology.name,
        "interrupted": interrupted,
        "measured": start.measured,
        "scenarios": [asdict(o) | {"slo_met": o.slo_met} for o in outcomes],
    }

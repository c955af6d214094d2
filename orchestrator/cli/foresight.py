"""`whatif --live NETWORK` without a graph: what `reconcile --watch` would do about a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.networks import find_network
from orchestrator.cli.output import print_json, print_table, say
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.upkeep.foresight import Foreseen


def foresee_failures(live: str, fail: Sequence[str], fail_each: str, as_json: bool) -> None:
    """Place the deployed graphs without what fails, as a repair would, and print it."""
    from orchestrator.upkeep.foresight import failing, foresee
    from orchestrator.whatif.scenarios import fail_each as each

    network = find_network(live)
    if not fail and not fail_each:
        raise InputError("whatif --live without GRAPH: say what fails (--fail or --fail-each)")
    topology = network.topology
    workers = {network.worker_name(core): core for core in network.cores}
    scenarios = [tuple(fail)]
    if fail_each:
        scenarios = [(*fail, *step.fail) for step in each(topology, fail_each)]
    away = {", ".join(what): failing(topology, workers, what) for what in scenarios}
    found = {name: foresee(network, lost) for name, lost in away.items()}
    if as_json:
        print_json(
            {
                "network": network.name,
                "scenarios": [
                    {"scenario": name, "graphs": {g: _document(f) for g, f in graphs.items()}}
                    for name, graphs in found.items()
                ],
            }
        )
        return
    _print(found)


def _document(found: Foreseen) -> dict[str, object]:
    from orchestrator.network.names import worker_name

    plan = found.bundle.plan
    return {
        "placed": not found.why,
        "why": found.why,
        "device_of": plan.device_of,
        "cores_of": [[worker_name(c.server, c.index) for c in cores] for cores in plan.cores_of],
        "hops": [[hop.source, hop.target, hop.tree] for hop in plan.hops],
        "latency_us": plan.latency_us,
        "moves": found.moves,
    }


def _print(found: Mapping[str, Mapping[str, Foreseen]]) -> None:
    print_table(
        "What a repair would do",
        ("fails", "graph", "placed", "moves"),
        (
            (name, graph, "NO" if seen.why else "yes", "; ".join(seen.moves))
            for name, graphs in found.items()
            for graph, seen in graphs.items()
        ),
    )
    for name, graphs in found.items():
        for seen in graphs.values():
            if seen.why:
                say(f"{name}: {seen.why}")

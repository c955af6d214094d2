"""What `orchestrator whatif --live` without a graph tells: what a repair would do about failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.deployment.live import LiveNetwork
from orchestrator.upkeep.foresight import Foreseen, failing, foresee
from orchestrator.whatif.scenarios import fail_each as each


def foreseen(
    network: LiveNetwork, fail: Sequence[str], fail_each: str
) -> dict[str, dict[str, Foreseen]]:
    """The deployed graphs without what fails: scenario -> graph -> where it would run."""
    topology = network.topology
    workers = {network.worker_name(core): core for core in network.cores}
    scenarios = [tuple(fail)]
    if fail_each:
        scenarios = [(*fail, *step.fail) for step in each(topology, fail_each)]
    away = {", ".join(what): failing(topology, workers, what) for what in scenarios}
    return {name: foresee(network, lost) for name, lost in away.items()}


def foreseen_json(
    network: LiveNetwork, failures: Mapping[str, Mapping[str, Foreseen]]
) -> dict[str, object]:
    """All scenarios."""
    return {
        "network": network.name,
        "scenarios": [
            {"scenario": name, "graphs": {g: _document(f) for g, f in graphs.items()}}
            for name, graphs in failures.items()
        ],
    }


def _document(failure: Foreseen) -> dict[str, object]:
    plan = failure.bundle.plan
    return {
        "placed": not failure.why,
        "why": failure.why,
        "device_of": plan.device_of,
        "stories": [{"unit": s.unit, "device": s.device} for s in failure.bundle.stories],
        "cores_of": [[str(core) for core in cores] for cores in plan.cores_of],
        "hops": [[hop.source, hop.target, hop.tree] for hop in plan.hops],
        "latency_us": plan.latency_us,
        "moves": failure.moves,
    }

"""Listening at all trusted points of a network for whole trajectories."""

from __future__ import annotations

from contextlib import ExitStack

from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deployed_graphs
from orchestrator.model.plan import Core
from orchestrator.observation.samples import SeenSample, collect, open_all

Trajectories = list[tuple[int, list[SeenSample]]]


def listen(
    live: LiveNetwork, count: int, seconds: float, points: int
) -> tuple[Trajectories, dict[int, str]]:
    """Up to `count` trajectories by label, the longest first, and the names of graphs by id.

    It ends after `seconds`, or when so many have been seen by `points` points.
    """
    deployed = deployed_graphs(live)
    cores = {Core(w.server, w.core) for d in deployed.values() for w in d.bundle.workers}
    names = {d.bundle.graph_id: d.bundle.graph for d in deployed.values()}
    switches = [live.listener(name) for name in live.inventory.pipelines]
    workers = [live.worker(core) for core in sorted(cores, key=lambda c: (c.server, c.index))]

    def whole(points_seen: dict[int, list[SeenSample]]) -> bool:
        return sum(len(seen) >= points for seen in points_seen.values()) >= count

    with ExitStack() as stack:
        open_all(stack, switches)
        open_all(stack, workers)
        for switch in switches:
            switch.pipeline_cookie()
        points_seen = collect(switches, workers, seconds=seconds, enough=whole)
    best = sorted(
        points_seen.items(), key=lambda item: (-len({p.device for p in item[1]}), len(item[1]))
    )
    return best[:count], names

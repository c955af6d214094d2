"""Pictures of what-if outcomes, SVG or PNG: bars over scenarios, and chains over the topology."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any

import networkx as nx

from orchestrator.errors import InputError
from orchestrator.model.topology import Topology
from orchestrator.pictures import FORMATS, pyplot_of_matplotlib
from orchestrator.whatif.run import ScenarioOutcome, capacity_end
from orchestrator.whatif.scenarios import Case

_MOST_MAPS = 6
_MOST_CHAINS = 12


def draw(case: Case, outcomes: Sequence[ScenarioOutcome], path: Path) -> list[Path]:
    """Write the comparison to `path`, and a map for each of the first scenarios beside it."""
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {path}: the name must end in {' or '.join(FORMATS)}")
    pyplot = pyplot_of_matplotlib()
    files = [path]
    _compare(pyplot, outcomes, path)
    for outcome in [o for o in outcomes if o.paths][:_MOST_MAPS]:
        words = re.sub(r"[^A-Za-z0-9.]+", "-", outcome.scenario).strip("-")
        file = path.with_name(f"{path.stem}-{words}{path.suffix}")
        _map(pyplot, case.topology, outcome, file)
        files.append(file)
    return files


def _compare(pyplot: Any, outcomes: Sequence[ScenarioOutcome], path: Path) -> None:
    """Cores, rate carried, worst latency and SLO missed, a bar for each scenario."""
    names = [o.scenario for o in outcomes]
    panels = (
        ("worker cores", [o.cores for o in outcomes]),
        ("carried, Gbit/s", [sum(o.rate_of.values()) / 1e9 for o in outcomes]),
        ("worst latency, us", [max(o.latency_us.values(), default=0.0) for o in outcomes]),
        ("SLO missed, chains", [sum(o.missed.values()) for o in outcomes]),
    )
    height = max(2.5, 0.3 * len(names) + 1.2)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(14, height), sharey=True)
    for axis, (title, values) in zip(axes, panels, strict=True):
        colors = ["tab:red" if not o.slo_met else "tab:blue" for o in outcomes]
        axis.barh(range(len(names)), values, color=colors)
        axis.set_title(title, fontsize=10)
        axis.set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    if end := capacity_end(outcomes):
        figure.suptitle("\n".join(wrap(end, 150)), fontsize=8, color="tab:red")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def positions(topology: Topology) -> dict[str, tuple[float, float]]:
    """Layers by distance from the hosts where there are layers, else springs (seeded)."""
    graph = nx.Graph([(x.a, x.b) for x in topology.links])
    graph.add_nodes_from((*topology.switches, *topology.servers, *topology.hosts))
    ends = [n for n in (*topology.hosts, *topology.servers) if n in graph]
    depth = dict(nx.multi_source_dijkstra_path_length(graph, set(ends))) if ends else {}
    layered = all(abs(depth.get(x.a, 0) - depth.get(x.b, 0)) == 1 for x in topology.links)
    if layered:
        layers: dict[int, list[str]] = {}
        for node in graph:
            layers.setdefault(int(depth.get(node, 0)), []).append(node)
        return {
            node: ((i + 0.5) / len(nodes), float(layer))
            for layer, nodes in layers.items()
            for i, node in enumerate(nodes)
        }
    return {n: (float(x), float(y)) for n, (x, y) in nx.spring_layout(graph, seed=1).items()}


def _map(pyplot: Any, topology: Topology, outcome: ScenarioOutcome, path: Path) -> None:
    """The topology with the chains' ways drawn over it."""
    at = positions(topology)
    figure, axis = pyplot.subplots(figsize=(max(8, len(at) ** 0.5 * 1.6), 6))
    for link in topology.links:
        (x, y), (u, v) = at[link.a], at[link.b]
        axis.plot([x, u], [y, v], color="lightgray", linewidth=1, zorder=1)
    kinds: tuple[tuple[Mapping[str, object], str, str], ...] = (
        (topology.switches, "s", "tab:blue"),
        (topology.servers, "h", "tab:orange"),
        (topology.hosts, "o", "tab:gray"),
    )
    for nodes, marker, color in kinds:
        points = [at[n] for n in nodes]
        if points:
            axis.scatter(*zip(*points, strict=True), marker=marker, color=color, s=90, zorder=3)
    if len(at) <= 60:
        for node, (x, y) in at.items():
            axis.annotate(node, (x, y), fontsize=7, xytext=(4, 5), textcoords="offset points")
    colors = pyplot.get_cmap("tab10").colors
    for i, (chain, paths) in enumerate(list(outcome.paths.items())[:_MOST_CHAINS]):
        color, shift = colors[i % len(colors)], 0.006 * (i - 2)
        label: str | None = chain
        for nodes in paths:
            for a, b in pairwise(nodes):
                if a not in at or b not in at:
                    continue
                (x, y), (u, v) = at[a], at[b]
                axis.plot(
                    [x + shift, u + shift],
                    [y + shift, v + shift],
                    color=color,
                    linewidth=2,
                    alpha=0.8,
                    zorder=2,
                    label=label,
                )
                label = None
    hidden = len(outcome.paths) - _MOST_CHAINS
    more = f" ({hidden} more chains not drawn)" if hidden > 0 else ""
    axis.set_title(
        f"{outcome.scenario}: {outcome.cores} cores, {outcome.status}{more}", fontsize=10
    )
    if outcome.paths:
        axis.legend(fontsize=7, loc="best")
    axis.axis("off")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)

"""A picture of a cut graph: its units from ingress to delivery, coloured by the running device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from orchestrator.errors import InputError
from orchestrator.model.bundle import Story
from orchestrator.model.cuts import SERVER, Cuts, Unit
from orchestrator.pictures import FORMATS, pyplot_of_matplotlib

_WIDTH, _HEIGHT = 3.4, 1.15
"""Inches that a unit takes."""
_NO_DEVICE = "lightgray"


def draw_cut(cuts: Cuts, stories: Sequence[Story], title: str, path: Path) -> None:
    """Write the picture as SVG or PNG; InputError for any other name."""
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {path}: the name must end in {' or '.join(FORMATS)}")
    pyplot = pyplot_of_matplotlib()
    at = _positions(cuts)
    device = {story.unit: _device(story) for story in stories}
    names = sorted(set(device.values()))
    palette = pyplot.get_cmap("tab20").colors
    # Pale colours first, so that text on them can be read.
    shades = [*palette[1::2], *palette[0::2]]
    color = {name: shades[i % len(shades)] for i, name in enumerate(names)}
    columns = 1 + max((x for x, _ in at.values()), default=0)
    rows = 1 + max((y for _, y in at.values()), default=0)
    figure, axis = pyplot.subplots(figsize=(_WIDTH * columns + 0.5, _HEIGHT * rows + 1.2))
    for source, target, label in _edges(cuts):
        _arrow(axis, at[source], at[target], label)
    for name, (x, y) in at.items():
        unit = cuts.units.get(name)
        fill = color[device[name]] if unit else _NO_DEVICE
        style = "sawtooth,pad=0.3" if unit and unit.kind == SERVER else "round,pad=0.35"
        axis.text(
            *(x, y, _label(name, unit)),
            **{"ha": "center", "va": "center", "fontsize": 8, "zorder": 3},
            bbox={"boxstyle": style, "facecolor": fill, "edgecolor": "dimgray"},
        )
    handles = [
        pyplot.Line2D([], [], marker="s", linestyle="", markersize=9, color=color[n], label=n)
        for n in names
    ]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=6, fontsize=8)
    axis.set_title(title, fontsize=11)
    axis.set_xlim(-0.6, columns - 0.4)
    axis.set_ylim(rows - 0.4, -0.6)
    axis.axis("off")
    figure.savefig(path, bbox_inches="tight", metadata=_undated(path))
    pyplot.close(figure)


def _undated(path: Path) -> dict[str, None]:
    """The same graph gives the same file."""
    return {"Date": None} if path.suffix == ".svg" else {}


def _device(story: Story) -> str:
    """A switch, or the server without its core."""
    first = story.device.split(", ")[0]
    return first.rpartition(" core ")[0] or first


def _start(endpoint: str, switch: str) -> str:
    return f"{endpoint}\nat {switch}"


def _edges(cuts: Cuts) -> list[tuple[str, str, str]]:
    """(from, to, output); outputs of one pair of units together."""
    labels: dict[tuple[str, str], list[str]] = {}
    for entry in cuts.entries:
        labels[_start(entry.endpoint, entry.switch), entry.target] = []
    for arc in cuts.arcs:
        labels.setdefault((arc.source, arc.target), []).append(arc.output)
    return [(a, b, "\n".join(outputs)) for (a, b), outputs in labels.items()]


def _positions(cuts: Cuts) -> dict[str, tuple[int, int]]:
    """A column for each step from the ingress; ways from one ingress together, in rows."""
    order: nx.DiGraph[str] = nx.DiGraph()
    for source, target, _ in _edges(cuts):
        order.add_edge(source, target)
    rows: dict[str, int] = {}
    positions: dict[str, tuple[int, int]] = {}
    taken: set[tuple[int, int]] = set()
    for column, names in enumerate(nx.topological_generations(order)):
        for name in sorted(
            names, key=lambda n: min((rows[b] for b in order.predecessors(n)), default=0)
        ):
            row = min((rows[before] for before in order.predecessors(name)), default=0)
            while (column, row) in taken:
                row += 1
            if not column:
                row = max((r for _, r in taken), default=-2) + 2 if taken else 0
            rows[name] = row
            taken.add((column, row))
            positions[name] = (column, row)
    return positions


def _label(name: str, unit: Unit | None) -> str:
    if unit is None:
        return name
    if unit.endpoint:
        return f"hosts of\n{unit.endpoint}"
    what = unit.element.name if unit.element else f"{unit.port} (NF)"
    merged = "".join(f"\n+ {place.nf} {place.element}" for place in unit.merged)
    return f"{unit.nf}\n{what}{merged}"


def _arrow(axis: Any, source: tuple[int, int], target: tuple[int, int], label: str) -> None:
    bend = 0.0 if source[1] == target[1] and target[0] - source[0] == 1 else 0.15
    axis.annotate(
        *("", target, source),
        arrowprops={
            **{"arrowstyle": "-|>", "color": "dimgray", "shrinkA": 34, "shrinkB": 36},
            "connectionstyle": f"arc3,rad={bend}",
        },
    )
    x, y = (source[0] + target[0]) / 2, (source[1] + target[1]) / 2 - 0.08
    if bend and source[1] == target[1]:
        y += 0.15 * (target[0] - source[0]) + 0.08  # below the units that it passes by
    axis.text(x, y, label, fontsize=7, color="dimgray", ha="center", va="bottom", zorder=2)

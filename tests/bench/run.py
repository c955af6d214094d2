"""`make bench [ONLY=name]`: one JSON line a figure. A missed goal is a figure, too, not a failure.

Figures are the functions of the modules beside this one: registered by `figures.figure`, or plain
functions without parameters that return a dict with name, value, unit and compared_with.
"""

from __future__ import annotations

import importlib
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from figures import FIGURES, Missing, Result, plain_figures  # noqa: E402

from orchestrator.errors import EnvironmentMissing  # noqa: E402

NOT_FIGURES = {"run", "figures"}


def all_figures() -> dict[str, Callable[[], Result]]:
    """Every figure by name."""
    figures: dict[str, Callable[[], Result]] = {}
    for path in sorted(HERE.glob("*.py")):
        if path.stem in NOT_FIGURES:
            continue
        module = importlib.import_module(path.stem)
        figures |= {figure.name: figure.measure for figure in plain_figures(module)}
    return figures | {name: figure.measure for name, figure in FIGURES.items()}


def main(wanted: list[str]) -> int:
    """Measure the wanted figures (all when none is named) one after another."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that networks are taken down
    figures = all_figures()
    unknown = [name for name in wanted if name not in figures]
    if unknown:
        listed = ", ".join(sorted(figures))
        print(f"no figure is called {', '.join(unknown)} (known: {listed})", file=sys.stderr)
        return 2
    for name in wanted or figures:
        try:
            line: Result = figures[name]()
        except (Missing, EnvironmentMissing) as missing:
            line = {"name": name, "skipped": str(missing)}
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Stages of chips as a picture: which share of each stage's resources is taken, darker for more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.pictures import FORMATS, pyplot_of_matplotlib
from orchestrator.targets.chip import RESOURCES


def draw_stages(told: dict[str, Any], title: str, path: Path) -> None:
    """Write a panel a switch to `path`, of what `presenters.stages` tells of it."""
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {path}: the name must end in {' or '.join(FORMATS)}")
    pyplot = pyplot_of_matplotlib()
    figure, axes = pyplot.subplots(len(told), 1, figsize=(10, 3 * len(told)), squeeze=False)
    for axis, (switch, plan) in zip(axes[:, 0], told.items(), strict=True):
        most = plan["of_each_stage"]
        shares = [
            [min(1.0, use[name] / most[name]) for use in plan["by_stage"]] for name in RESOURCES
        ]
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        stages = range(len(plan["by_stage"]))
        axis.set_xticks(stages, [str(stage + 1) for stage in stages], fontsize=7)
        axis.set_yticks(range(len(RESOURCES)), [r.replace("_", " ") for r in RESOURCES], fontsize=8)
        axis.axvline(plan["stages"]["of"] - 0.5, color="tab:red")
        axis.set_title(f"{switch}, {plan['chip']}: stages (red: where the chip ends)", fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)

"""What pictures of all kinds have in common: their file formats, and the library that draws them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from orchestrator.errors import EnvironmentMissing

FORMATS = (".svg", ".png")


def pyplot_of_matplotlib() -> Any:
    """matplotlib.pyplot, without a display; EnvironmentMissing where it is not installed."""
    try:
        matplotlib: Any = import_module("matplotlib")
        matplotlib.use("Agg")
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        raise EnvironmentMissing(
            "matplotlib is not installed; pip install 'p4-offload-orchestrator[plots]'"
        ) from error

"""What a figure is: a function that measures something and says what it compared it with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

Result = Mapping[str, Any]
"""`value` and `compared_with` at least; anything else is printed with them."""


class Missing(Exception):
    """This machine lacks what the figure needs; the text says what."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A named measurement; `measure` returns what its JSON line holds."""

    name: str
    measure: Callable[[], Result]


FIGURES: dict[str, Figure] = {}


def figure(
    name: str, *, unit: str, goal: float | None = None
) -> Callable[[Callable[[], Result]], Callable[[], Result]]:
    """Register a function as a figure; its line gets name, value, unit, goal, compared_with."""

    def register(function: Callable[[], Result]) -> Callable[[], Result]:
        if name in FIGURES:
            raise ValueError(f"two figures are called {name}")

        @wraps(function)
        def measure() -> Result:
            figure = dict(function())
            value = figure.pop("value")
            compared = figure.pop("compared_with", {})
            return {
                **{"name": name, "value": value, "unit": unit, "goal": goal},
                **{"compared_with": compared, **figure},
                "load_average": round(os.getloadavg()[0], 1),
            }

        FIGURES[name] = Figure(name, measure)
        return measure

    return register


def plain_figures(module: ModuleType) -> list[Figure]:
    """Functions of a module that are figures by form: no parameters, and a dict as annotated result."""
    return [
        Figure(name, function)
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not hasattr(function, "__wrapped__")
        and not name.startswith("_")
        and not inspect.signature(function).parameters
        and str(function.__annotations__.get("return", "")).startswith(("dict", "Result"))
    ]

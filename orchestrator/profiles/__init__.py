"""What was measured of runtimes and switches: `orchestrator profile` writes it, placement plans with it.

The shipped ones are the files beside this one. `ORCHESTRATOR_PROFILES` names another folder, of profiles
that `orchestrator profile --folder` has made on the machine that shall run the plans; `none`: nothing
was measured, and NFs cost what their own files estimate (`CostProfile`).
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from orchestrator.profiles.data import (
    CostPoint,
    Measurement,
    NfCost,
    RuntimeProfile,
    SwitchProfile,
    between,
    dumped,
    read_runtime,
    read_switch,
)

__all__ = (
    "FOLDER",
    "SHIPPED",
    "CostPoint",
    "Measurement",
    "NfCost",
    "RuntimeProfile",
    "SwitchProfile",
    "between",
    "dumped",
    "folder",
    "runtime_profile",
    "switch_profile",
)

FOLDER = "ORCHESTRATOR_PROFILES"
"""The environment variable."""
_NONE = "none"
SHIPPED = Path(__file__).parent


def folder() -> Path | None:
    """Where the profiles are that count; None: none do."""
    said = os.environ.get(FOLDER, "")
    return None if said == _NONE else Path(said) if said else SHIPPED


def runtime_profile(name: str) -> RuntimeProfile | None:
    """What was measured of a server's runtime; None: nothing. InputError for a file that is wrong."""
    at = folder()
    return None if at is None else _runtime(at / f"{name}.json")


def switch_profile(name: str) -> SwitchProfile | None:
    """What was measured of a target; None: nothing. InputError for a file that is wrong."""
    at = folder()
    return None if at is None else _switch(at / f"{name}-switch.json")


@lru_cache(64)
def _runtime(file: Path) -> RuntimeProfile | None:
    return read_runtime(file) if file.is_file() else None


@lru_cache(64)
def _switch(file: Path) -> SwitchProfile | None:
    return read_switch(file) if file.is_file() else None

"""What each kind of device offers, what things cost there, and how it is programmed: one file a target.

Importing the package imports every file here; targets register themselves.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from orchestrator.targets.target import (
    AUTO,
    Target,
    automatic,
    choices,
    known_targets,
    lookup,
    profile_of,
)

__all__ = ["AUTO", "Target", "automatic", "choices", "known_targets", "lookup", "profile_of"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

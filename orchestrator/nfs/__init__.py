"""The catalogue of network functions: importing it imports every file here, each registers itself."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from orchestrator.nfs.base import known_types, lookup

__all__ = ["known_types", "lookup"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

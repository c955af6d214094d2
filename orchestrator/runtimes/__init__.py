"""What executes NFs on servers. A runtime is one file here, found on import: its NFs and their costs."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from orchestrator.runtimes.base import (
    DEFAULT,
    ESTIMATED_FOR,
    Runtime,
    known_runtimes,
    register,
    runtime,
)

__all__ = ["DEFAULT", "ESTIMATED_FOR", "Runtime", "known_runtimes", "register", "runtime"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

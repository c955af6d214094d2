"""The Python runtime (`servernf.python`): it has every NF, at the cost that the NF itself declares."""

from __future__ import annotations

from orchestrator.runtimes.base import DEFAULT, Runtime, register

register(Runtime(DEFAULT, lambda nf: nf.cost))

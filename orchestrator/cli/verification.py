"""The group `orchestrator verify`, of several modules."""

from __future__ import annotations

import typer

from orchestrator.cli import cle, taps, verdicts
from orchestrator.cli.verify import verify_app


def register(app: typer.Typer) -> None:
    """Add the group."""
    for module in (cle, verdicts, taps):
        module.register(verify_app)
    app.add_typer(verify_app, name="verify")

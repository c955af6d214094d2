"""The group `orchestrator net`, of several modules."""

from __future__ import annotations

import typer

from orchestrator.cli import attaching, executing, network_status
from orchestrator.cli.access import with_access
from orchestrator.cli.starting import net_app


def register(app: typer.Typer) -> None:
    """Add the group."""
    for module in (network_status, attaching, executing):
        module.register(net_app)
    with_access(net_app, "topology", "name")
    app.add_typer(net_app, name="net")

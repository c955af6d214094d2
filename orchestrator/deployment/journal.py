"""What is deployed where: one SQLite file per network in the user's state directory.

The bundle and the sampling keys are kept, since undeploying needs them; the file is the user's only.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.bundle.codec import dump, load
from orchestrator.model.bundle import Bundle
from orchestrator.verification.manifest import Manifest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS graphs (
    name TEXT PRIMARY KEY, graph_id INTEGER UNIQUE NOT NULL, deployed_at TEXT NOT NULL,
    bundle BLOB NOT NULL, threshold INTEGER, key0 INTEGER, key1 INTEGER
)
"""


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployed graph."""

    bundle: Bundle
    manifest: Manifest | None
    deployed_at: str


def state_directory() -> Path:
    """`$XDG_STATE_HOME/orchestrator` or `~/.local/state/orchestrator`, the user's only."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(base) / "orchestrator"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class Journal:
    """The journal of one network."""

    def __init__(self, network: str) -> None:
        folder = state_directory() / "journal"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / f"{network}.sqlite"

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            connection.execute(_SCHEMA)
            with connection:
                yield connection
        finally:
            connection.close()

    def deployed(self) -> dict[str, Deployed]:
        """All deployed graphs by name."""
        if not self.path.exists():
            return {}
        with self._open() as connection:
            rows = connection.execute(
                "SELECT name, graph_id, deployed_at, bundle, threshold, key0, key1 "
                "FROM graphs ORDER BY graph_id"
            ).fetchall()
        return {
            name: Deployed(
                load(blob, f"{self.path}:{name}"),
                None if threshold is None else Manifest(graph_id, threshold, key0, key1),
                deployed_at,
            )
            for name, graph_id, deployed_at, blob, threshold, key0, key1 in rows
        }

    def free_graph_id(self) -> int:
        """The smallest id that no deployed graph has (1..1023)."""
        taken = {deployed.bundle.graph_id for deployed in self.deployed().values()}
        return next(i for i in range(1, 1024) if i not in taken)

    def record(self, bundle: Bundle, manifest: Manifest | None) -> None:
        """A graph is deployed."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        keys = (
            (None,) * 3 if manifest is None else (manifest.threshold, manifest.key0, manifest.key1)
        )
        with self._open() as connection:
            connection.execute(
                "INSERT INTO graphs VALUES (?, ?, ?, ?, ?, ?, ?)",
                (bundle.graph, bundle.graph_id, now, dump(bundle), *keys),
            )

    def forget(self, graph: str) -> None:
        """A graph is no longer deployed."""
        with self._open() as connection:
            connection.execute("DELETE FROM graphs WHERE name = ?", (graph,))

    def clear(self) -> None:
        """The network is gone, and all that was on it."""
        self.path.unlink(missing_ok=True)

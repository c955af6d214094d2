"""What a witness is told of a point beside packets: what its socket drops, its link, and by which paths
packets come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from servernf.python.runtime.tables import CompiledCall

_MOST_PATHS = 4_096
"""Of a record."""


class Surroundings:
    """Tells what has changed since it was told last."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self._tell = tell
        self.socket_drops: Callable[[], Mapping[str, int]] = dict
        """What the point's socket has dropped, by reason."""
        self.link_changes: Callable[[], int | None] = lambda: None
        """How often its link has failed or come back; None: not known."""
        self._drops: Mapping[str, int] = {}
        self._changes: int | None = None
        self._paths: Mapping[str, frozenset[int]] = {}

    def look(self) -> None:
        """A record where the socket has dropped more, or the link has changed."""
        drops, changes = self.socket_drops(), self.link_changes()
        if drops != self._drops:
            self._drops = dict(drops)
            self._tell({"event": "socket drops", "frames": self._drops})
        before = self._changes
        if changes is not None:
            self._changes = changes
            if before is not None and changes != before:
                self._tell({"event": "link", "carrier_changes": changes - before})

    def follow(self, graphs: Collection[str], steps: Mapping[int, CompiledCall]) -> None:
        """A record of the paths by which a witnessed graph's packets come from now on, and of those that
        are gone: an epoch of a graph has paths of its own."""
        taken: dict[str, set[int]] = {graph: set() for graph in graphs}
        for path, step in steps.items() if graphs else ():
            if step.instance.graph in taken:
                taken[step.instance.graph].add(path)
        for graph, paths in taken.items():
            before = self._paths.get(graph, frozenset())
            for word, some in (("taken", paths - before), ("gone", before - paths)):
                ordered = [f"{path >> 8}/{path & 0xFF}" for path in sorted(some)]
                for at in range(0, len(ordered), _MOST_PATHS):
                    here = ordered[at : at + _MOST_PATHS]
                    self._tell({"event": "paths", "graph": graph, word: here})
        self._paths = {graph: frozenset(paths) for graph, paths in taken.items()}

"""A graph compiled again and again as its files change, each version beside the one before."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.compile import MOST_CLASSES, CompileRequest, compile_graph
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.summary import Summary, summarise
from orchestrator.errors import ReportedError
from orchestrator.garbage import large_frozen_data
from orchestrator.graph import load_graph
from orchestrator.memo import Memo
from orchestrator.model.bundle import Bundle
from orchestrator.model.topology import Topology
from orchestrator.nfs.files import FileState, Readings, unchanged


@dataclass(frozen=True, slots=True)
class Recompiled:
    """A version, what an update to it from the one before would change, and the seconds it took."""

    bundle: Bundle
    summary: Summary
    seconds: float


class Recompiler:
    """Holds the last version of a graph and what was found out about it, so that little is done anew.

    Everything counts that an update needs: reading the files, compiling, and the minimal difference.
    """

    def __init__(self, graph: Path, topology: Topology, *, max_classes: int = MOST_CLASSES) -> None:
        self.graph, self.topology, self.max_classes = graph, topology, max_classes
        self._readings = Readings()
        self._memo = Memo()
        self._last: Version | None = None

    @property
    def files(self) -> dict[Path, FileState]:
        """What the last version was read from, as it was."""
        return self._readings.files

    def version(self) -> Recompiled:
        """The graph as its files say now; on an ReportedError the last version stays."""
        started = time.perf_counter()
        with large_frozen_data():
            loaded = load_graph(self.graph, self._readings)
            bundle = compile_graph(
                CompileRequest(
                    loaded.graph,
                    self.topology,
                    functions=loaded.functions,
                    warnings=loaded.warnings,
                    max_classes=self.max_classes,
                    memo=self._memo,
                    beside=None if self._last is None else self._last.bundle,
                )
            ).bundle
            new = Version(bundle, None, alone=True)
            summary = summarise(plan(self._last, new), self._last, new)
        self._last = new
        seconds = time.perf_counter() - started
        gc.freeze()  # what lasts from version to version need not be walked by the cycle collector
        return Recompiled(bundle, summary, seconds)

    def watch(self, interval_s: float) -> Iterator[Recompiled | ReportedError]:
        """The version of now, and one whenever a file changes; for ever. Errors leave the last one."""
        while True:
            try:
                yield self.version()
            except ReportedError as error:
                yield error
            while unchanged(self.files):
                time.sleep(interval_s)

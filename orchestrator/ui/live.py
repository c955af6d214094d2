"""A running network as the page's source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from orchestrator.bundle.codec import Packed
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.journal import state_directory
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph, prepare
from orchestrator.deployment.sources import to_deploy
from orchestrator.deployment.summary import change_words
from orchestrator.errors import InputError, unknown
from orchestrator.model.graph import ServiceGraph
from orchestrator.observation.at_once import at_once
from orchestrator.observation.events import EventsWanted, kept_events
from orchestrator.observation.frames import between_hosts
from orchestrator.observation.sessions import read_rows
from orchestrator.observation.telemetry import record_deployment
from orchestrator.observation.tracing import trace_packet
from orchestrator.observation.trajectories import listen
from orchestrator.observation.views import see_live
from orchestrator.presenters.bundles import contents_json
from orchestrator.presenters.changes import changes_json, delays_of, done_json
from orchestrator.presenters.compiled import compiled_json
from orchestrator.presenters.foresight import foreseen, foreseen_json
from orchestrator.presenters.live_case import live_case
from orchestrator.presenters.packets import explained, traced_json, trajectories_json
from orchestrator.presenters.status import look_at, status_json
from orchestrator.presenters.tables import coverage_json, not_installed, schema_of, target_in
from orchestrator.ui.entries import ALL, EntriesReading, Pages, stamped
from orchestrator.ui.questions import (
    EntriesQuestion,
    PacketQuestion,
    Planned,
    SamplesQuestion,
    Supposed,
    TraceQuestion,
)
from orchestrator.ui.source import Tell, Told, file_of, outcomes

MEASURED_S = 2.0
"""How long rates are measured before a what-if on them."""
_MOST_EVENTS = 500
_MOST_CHANGES = 1000
"""Entries that a plan shows."""


class LiveSource:
    """Reads by sessions that are nobody's primary; only `deploy` and `trace` act."""

    kind = "live"

    def __init__(self, find: Callable[[], LiveNetwork], files: Sequence[Path]) -> None:
        self._find = find
        self.live = find()
        self.name = self.live.name
        self.files = files
        self._pages = Pages(self._read)

    def network(self) -> Told:
        """As `status` sees it."""
        return status_json(look_at(self.live))

    def graphs(self) -> Told:
        """All that are deployed."""
        return {
            "graphs": [
                {"deployed_at": graph.deployed_at, **contents_json(graph.bundle)}
                for graph in self.live.journal.deployed().values()
            ]
        }

    def rules(self) -> Told:
        """Read anew from all switches."""
        rows = self._pages.reading(ALL, fresh=True).rows
        return coverage_json(rows, not_installed(self.live, rows))

    def entries(self, asked: EntriesQuestion) -> Told:
        """A page."""
        return self._pages.page(asked)

    def explain(self, asked: PacketQuestion) -> Told:
        """On a copy of the network as it is now."""
        return explained(see_live(self.live), **asked.model_dump())

    def trace(self, asked: TraceQuestion) -> Told:
        """A packet is sent."""
        live = self.live

        def make(identification: int) -> bytes:
            return between_hosts(
                live.topology, asked.source, asked.target, identification=identification
            )

        return traced_json(trace_packet(live, asked.source, make, asked.seconds))

    def samples(self, asked: SamplesQuestion) -> Told:
        """What trusted points report meanwhile."""
        trajectories, graphs = listen(self.live, asked.count, asked.seconds, asked.points)
        return {"trajectories": trajectories_json(trajectories, graphs)}

    def events(self) -> Told:
        """The last of all workers."""
        kept = kept_events(self.live, EventsWanted())
        return {"events": kept.records[-_MOST_EVENTS:], "silent": kept.silent}

    def synthesis(self, graph: str) -> Told:
        """The deployed graph compiled for the whole network, as if it were alone there."""
        deployed = self.live.journal.deployed()
        if graph not in deployed:
            raise InputError(unknown("deployed graph", graph, tuple(deployed)))
        source = deployed[graph].graph()
        if source is None:
            raise InputError(f"{graph}: it was deployed as a bundle, which does not hold its graph")
        return compiled_json(compile_graph(CompileRequest(source, self.live.topology)))

    def plan(self, asked: Planned, tell: Tell) -> Told:
        """What deploying the file would change."""
        tell("reading", 0, 0)
        file = file_of(self.files, asked.file)
        source, warnings = to_deploy(file)
        tell("compiling", 0, 0)
        prepared = prepare(
            source, self.live, allow_interruption=asked.allow_interruption, warnings=warnings
        )
        words = change_words(prepared.transaction, prepared.new.bundle)
        told: Told = {
            "network": self.name,
            "file": str(file),
            **changes_json(prepared, False),
            "moves": list(prepared.moves()),
            "entries": list(islice(words, _MOST_CHANGES)),
            "new": contents_json(prepared.new.bundle),
            "old": prepared.old and contents_json(prepared.old.bundle),
        }
        if isinstance(source, ServiceGraph):
            tell("explaining", 0, 0)
            alone = compile_graph(CompileRequest(source, self.live.topology))
            told["synthesis"] = list(alone.cuts.changes)
        return told

    def deploy(self, asked: Planned, tell: Tell) -> Told:
        """By a session of its own: while it leads, others go on reading."""
        tell("compiling", 0, 0)
        source, warnings = to_deploy(file_of(self.files, asked.file))
        counted, total = 0, 0

        def expected(count: int) -> None:
            nonlocal total
            total = count

        def progress(_: str, count: int) -> None:
            nonlocal counted
            counted += count
            tell("installing changes", counted, total)

        notes: list[str] = []
        done = deploy_graph(
            source,
            self._find(),
            allow_interruption=asked.allow_interruption,
            warnings=warnings,
            expected=expected,
            progress=progress,
            note=notes.append,
        )
        delays = delays_of(done)
        entries = sum(done.applied.entries.values())
        with suppress(OSError):  # it is deployed all the same
            record_deployment(state_directory(), self.name, done.bundle.graph, delays, entries)
        return {**done_json(done, self.name), **delays, "notes": notes}

    def whatif(self, asked: Supposed, tell: Tell) -> Told:
        """Placed anew as a repair would, or a file's graph beside what is deployed of it."""
        if asked.file is None:
            if not asked.fail and not asked.fail_each:
                raise InputError("say what fails; for all else choose a graph file")
            tell("placing anew", 0, 0)
            return foreseen_json(self.live, foreseen(self.live, asked.fail, asked.fail_each))
        source, _ = to_deploy(file_of(self.files, asked.file))
        if isinstance(source, Packed):
            raise InputError(
                "a bundle is not placed anew: choose the graph.json that it is made of"
            )
        tell("measuring", 0, 0)
        return outcomes(live_case((source,), self.live, MEASURED_S), asked, tell)

    def _read(self, device: str) -> EntriesReading:
        names = list(self.live.topology.switches) if device == ALL else [device]
        parts = at_once(self._read_one, names)
        return stamped(
            [row for part in parts for row in part.rows],
            {name: part.schemas[name] for name, part in zip(names, parts, strict=True)},
            {name: part.ports[name] for name, part in zip(names, parts, strict=True)},
        )

    def _read_one(self, name: str) -> EntriesReading:
        target = target_in(self.live, name)
        with ExitStack() as stack:
            stack.enter_context(target.client)
            schema = schema_of(target)
            rows = read_rows(target.client, None, target.placing)
        return stamped(rows, {name: schema}, {name: target.ports})

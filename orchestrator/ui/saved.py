"""A saved bundle as the page's source: what it would make of its network; nothing need run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.bundle.codec import Packed, read
from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.sources import to_deploy
from orchestrator.errors import InputError, unknown
from orchestrator.model.devices import devices_of
from orchestrator.observation.ports import port_names
from orchestrator.observation.rows import Row
from orchestrator.observation.views import see_bundle
from orchestrator.presenters.bundles import bundle_json
from orchestrator.presenters.compiled import compiled_json, plan_json
from orchestrator.presenters.packets import explained
from orchestrator.presenters.status import attached_json
from orchestrator.presenters.tables import coverage_json
from orchestrator.presenters.whatif import planned_case
from orchestrator.targets.pipelines import build_for, p4info
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


class BundleSource:
    """A bundle, and the topology that it brings or that is named."""

    kind = "bundle"

    def __init__(self, path: Path, topology: str, files: Sequence[Path]) -> None:
        self._packed = read(path)
        self._seen = see_bundle(path, topology)
        self.name = self._packed.bundle.graph
        self.files = files
        self._pages = Pages(self._read)

    def network(self) -> Told:
        """Its topology; of nothing it is known whether it answers."""
        topology = self._seen.topology
        devices = devices_of(topology)
        document = bundle_json(self._packed, [], False)
        return {
            "network": topology.name,
            "devices": document["devices"],
            **attached_json(topology, devices),
            "conditions": [],
            "graphs": [{key: document[key] for key in ("graph_id", "owner")} | {"name": self.name}],
            "workers": {},
            "lacking": [],
            "cordoned": [],
        }

    def graphs(self) -> Told:
        """It."""
        return {"graphs": [bundle_json(self._packed, [], False)]}

    def rules(self) -> Told:
        """Its rules, which nothing has hit."""
        covered = coverage_json(self._pages.reading(ALL, fresh=False).rows, ())
        return {**covered, "not_installed": bundle_json(self._packed, [], False)["removed"]}

    def entries(self, asked: EntriesQuestion) -> Told:
        """A page of what it would install."""
        return self._pages.page(asked)

    def explain(self, asked: PacketQuestion) -> Told:
        """On a copy of the network that it would make."""
        return explained(self._seen, **asked.model_dump())

    def trace(self, asked: TraceQuestion) -> Told:
        """There is nothing to send to."""
        self._needs_network("trace")

    def samples(self, asked: SamplesQuestion) -> Told:
        """Nobody reports anything."""
        self._needs_network("samples")

    def events(self) -> Told:
        """No packet came, none was dropped."""
        return {"events": [], "silent": {}}

    def synthesis(self, graph: str) -> Told:
        """A bundle does not say what it was made of."""
        raise InputError(
            f"{graph}: a bundle does not hold its graph; name it: orchestrator ui --graph FILE"
        )

    def plan(self, asked: Planned, tell: Tell) -> Told:
        """The file compiled for the bundle's topology."""
        tell("compiling", 0, 0)
        file = file_of(self.files, asked.file)
        source, warnings = to_deploy(file)
        if isinstance(source, Packed):
            return {"file": str(file), "new": bundle_json(source, [], False)}
        request = CompileRequest(source, self._seen.topology, warnings=warnings)
        result = compile_graph(request)
        return {"file": str(file), "new": {**plan_json(result), **compiled_json(result)}}

    def deploy(self, asked: Planned, tell: Tell) -> Told:
        """There is nothing to deploy to."""
        self._needs_network("deploy")

    def whatif(self, asked: Supposed, tell: Tell) -> Told:
        """A file's graph on the bundle's topology."""
        if asked.file is None:
            raise InputError(
                "a bundle is not placed anew: name the graph.json: orchestrator ui --graph FILE"
            )
        source, _ = to_deploy(file_of(self.files, asked.file))
        if isinstance(source, Packed):
            raise InputError(
                "a bundle is not placed anew: choose the graph.json that it is made of"
            )
        return outcomes(planned_case((source,), self._seen.topology), asked, tell)

    def _needs_network(self, what: str) -> NoReturn:
        raise InputError(f"{what} needs a network that runs, and this is a bundle")

    def _read(self, device: str) -> EntriesReading:
        bundle = self._packed.bundle
        if device not in (ALL, *bundle.programs):
            raise InputError(unknown("device with a pipeline", device, tuple(bundle.programs)))
        names = list(bundle.programs) if device == ALL else [device]
        schemas = {name: Schema.of(p4info(build_for(bundle, name))) for name in names}
        rows = [
            Row(name, InstalledEntry(bundle.graph, entry, None, None))
            for name in names
            for entry in (*bundle.programs[name].entries, *bundle.programs[name].activation)
        ]
        ports = {name: port_names(self._seen.topology, name) for name in names}
        return stamped(rows, schemas, ports)

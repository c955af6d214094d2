"""graph.json to a checked `ServiceGraph`: every problem of the file is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from orchestrator.errors import InputError, unknown
from orchestrator.graph.functions import function_of
from orchestrator.graph.paths import check_paths
from orchestrator.graph.schema import GraphFile, NfFile
from orchestrator.graph.unintended import unintended
from orchestrator.model.graph import (
    Edge,
    Endpoint,
    NfInstance,
    PlacementRules,
    Port,
    ServiceGraph,
    StandbyRule,
    Traffic,
    Verification,
)
from orchestrator.nfs.base import NetworkFunction, known_types, lookup
from orchestrator.nfs.files import (
    Files,
    Readings,
    bounded,
    explain,
    located,
    parse_json,
    unchanged,
)


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A checked graph, its NFs, and what is legal in it but probably not meant."""

    graph: ServiceGraph
    functions: Mapping[str, NetworkFunction[Any]]
    warnings: tuple[str, ...]


def load_graph(path: str | Path, readings: Readings | None = None) -> LoadedGraph:
    """The graph of a file; InputError with all its problems.

    `readings` are of the last time that it was read, and become those of this time.
    """
    file, name = Path(path), str(path)
    files = Files(file.parent, readings)
    files.readings.files = files.read
    raw = parse_json(files.text_of(file, name), name)
    loader = _Loader(name, files)
    try:
        parsed = GraphFile.model_validate(raw)
    except ValidationError as error:
        problems = [located(name, problem) for problem in explain(error, GraphFile)]
        # The configs of NFs are independent of the rest: their problems belong to the same report.
        raise InputError([*problems, *loader.config_problems(raw)]) from None
    return loader.load(parsed)


class _Loader:
    def __init__(self, name: str, files: Files) -> None:
        self.name = name
        self.files = files
        self.problems: list[str] = []
        self.functions: dict[str, NetworkFunction[Any]] = {}
        """NFs whose type and config are right; what depends on the others' ports is not checked."""

    def problem(self, path: str, text: str) -> None:
        self.problems.append(f"{self.name}: {path}: {text}")

    def config_problems(self, raw: Any) -> list[str]:
        """Problems of those NFs that are well-formed in a file that as a whole is not."""
        nfs = cast("dict[str, Any]", raw).get("nfs") if isinstance(raw, dict) else None
        for name, item in cast("dict[str, Any]", nfs).items() if isinstance(nfs, dict) else ():
            try:
                self._function(name, NfFile.model_validate(item))
            except ValidationError:
                continue  # told by the whole file's validation
        return self.problems

    def load(self, file: GraphFile) -> LoadedGraph:
        for name, item in file.nfs.items():
            self._function(name, item)
        self._endpoints(file)
        edges = self._edges(file)
        self._traffic(file)
        self._placement(file)
        graph = self._graph(file, edges)
        warnings: list[str] = []
        if len(self.functions) == len(file.nfs):
            paths = check_paths(graph, self.functions)
            self.problems += [f"{self.name}: {problem}" for problem in paths.problems]
            told = (*paths.warnings, *unintended(graph, self.functions))
            warnings = [f"{self.name}: {warning}" for warning in told]
        if self.problems:
            raise InputError(self.problems)
        return LoadedGraph(graph, self.functions, tuple(warnings))

    def _function(self, name: str, item: NfFile) -> None:
        where = f"nfs.{name}"
        if item.type not in known_types():
            self.problem(f"{where}.type", unknown("NF type", item.type, known_types()))
            return
        cls = lookup(item.type)
        if not cls.replicable and item.workers.min > 1:
            text = f"{item.type} cannot be replicated, but {item.workers.min} workers are asked for"
            self.problem(f"{where}.workers.min", text)
        if item.state is not None and not cls.has_state():
            self.problem(f"{where}.state", f"{item.type} has no state that could be doubled")
        try:
            self.functions[name] = self._read(name, item)
        except ValidationError as error:
            texts = [f"{self.name}: {where}.config{text}" for text in explain(error, cls.Config)]
            self.problems += bounded(texts, f"{self.name}: {where}.config")
        except InputError as error:
            self.problems += [f"{self.name}: {where}.config: {text}" for text in error.problems]

    def _read(self, name: str, item: NfFile) -> NetworkFunction[Any]:
        """An NF, with its files; that of the last reading if nothing of it has changed."""
        files = Files(self.files.base, self.files.readings)
        remembered, what = files.readings.functions, (files.base, item.type, name)
        if what in remembered:
            raw, read, function = remembered[what]
            if raw == item.config and unchanged(read):
                self.files.read.update(read)
                return function
        try:
            config = lookup(item.type).Config.model_validate(item.config).with_files(files)
        finally:
            self.files.read.update(files.read)
        function = function_of(config, item.type, name)
        remembered[what] = item.config, files.read, function
        return function

    def _endpoints(self, file: GraphFile) -> None:
        seen: dict[str, str] = {}
        for name, endpoint in file.endpoints.items():
            if name in file.nfs:
                self.problem(f"endpoints.{name}", "an NF has the same name")
            for index, host in enumerate(endpoint.hosts):
                if host in seen:
                    text = f"host '{host}' is already in endpoint '{seen[host]}'"
                    self.problem(f"endpoints.{name}.hosts[{index}]", text)
                seen.setdefault(host, name)

    def _edges(self, file: GraphFile) -> tuple[Edge, ...]:
        edges: list[Edge] = []
        taken: dict[Port, int] = {}
        for index, item in enumerate(file.edges):
            source = self._port(file, f"edges[{index}].from", item.source)
            target = self._port(file, f"edges[{index}].to", item.target)
            if source is None:
                continue
            if source in taken:
                first = taken[source]
                text = (
                    f"'{source}' already leads to '{file.edges[first].target}' (edges[{first}]); "
                    "an output has one edge"
                )
                self.problem(f"edges[{index}].from", text)
                continue
            taken[source] = index
            if target is not None:
                edges.append(Edge(source, target))
        return tuple(edges)

    def _port(self, file: GraphFile, path: str, text: str) -> Port | None:
        node, dot, port = text.partition(".")
        if node in file.endpoints:
            if dot:
                self.problem(path, f"'{node}' is an endpoint: it has no ports, write '{node}'")
                return None
            return Port(node)
        if node not in file.nfs:
            self.problem(path, unknown("endpoint or NF", node, (*file.endpoints, *file.nfs)))
            return None
        function = self.functions.get(node)
        if function is None:
            return Port(node, port) if port else None
        if not dot:
            choices = " or ".join(f"'{node}.{p}'" for p in function.ports)
            self.problem(path, f"'{node}' is an NF: name its port, {choices}")
            return None
        if port not in function.ports:
            self.problem(path, unknown(f"port of '{node}'", port, function.ports))
            return None
        return Port(node, port)

    def _traffic(self, file: GraphFile) -> None:
        names: dict[str, int] = {}
        for index, item in enumerate(file.traffic):
            where = f"traffic[{index}]"
            if item.name in names:
                text = f"'{item.name}' is already the name of traffic[{names[item.name]}]"
                self.problem(f"{where}.name", text)
            names.setdefault(item.name, index)
            for side, endpoint in (("from", item.source), ("to", item.target)):
                if endpoint not in file.endpoints:
                    text = unknown("endpoint", endpoint, list(file.endpoints))
                    self.problem(f"{where}.{side}", text)
            if item.rate == 0:
                self.problem(f"{where}.rate", "must be above 0")

    def _placement(self, file: GraphFile) -> None:
        """Rules name NFs of the graph; what they ask together is placement's to judge."""
        rules = file.placement
        named = [(f"pin.{nf}", nf) for nf in rules.pin]
        for kind, sets in (("together", rules.together), ("apart", rules.apart)):
            for index, names in enumerate(sets):
                named += [(f"{kind}[{index}]", nf) for nf in names]
                if len(set(names)) < len(names):
                    self.problem(f"placement.{kind}[{index}]", "an NF is named twice")
        for where, nf in named:
            if nf not in file.nfs:
                self.problem(f"placement.{where}", unknown("NF", nf, list(file.nfs)))

    def _graph(self, file: GraphFile, edges: tuple[Edge, ...]) -> ServiceGraph:
        return ServiceGraph(
            name=file.name,
            owner=file.owner,
            endpoints={
                name: Endpoint(name, e.hosts, e.prefixes, e.source_guard)
                for name, e in file.endpoints.items()
            },
            nfs={
                name: NfInstance(
                    name,
                    nf.type,
                    self.functions[name].config,
                    min_workers=nf.workers.min,
                    max_workers=nf.workers.max,
                    standby=StandbyRule(nf.state.standby, nf.state.on) if nf.state else None,
                )
                for name, nf in file.nfs.items()
                if name in self.functions
            },
            edges=edges,
            traffic=tuple(
                Traffic(
                    name=t.name,
                    ingress=t.source,
                    egress=t.target,
                    match=t.match.to_match(),
                    rate=t.rate,
                    packet_bytes=t.packet_size,
                    min_rate=t.slo.min_rate,
                    max_latency_us=t.slo.max_latency,
                    new_flows=t.new_flows,
                )
                for t in file.traffic
            ),
            verification=Verification(file.verification.sampling_rate),
            placement=PlacementRules(
                file.placement.pin, file.placement.together, file.placement.apart
            ),
            source=self.name,
        )

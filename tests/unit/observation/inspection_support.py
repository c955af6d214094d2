"""The campus edge, compiled once; switches of this process behind real P4Runtime servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from finsy.proto import p4i, p4r
from google.protobuf import text_format

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.deployment.desired import Deployment, desired_entries
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.topology import Topology
from orchestrator.observation.journey import NetworkModel
from orchestrator.observation.snapshot import bundle_snapshots
from orchestrator.simulation.memory import MemoryNetwork
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.pipelines import SHIPPED, p4info

ROOT = Path(__file__).resolve().parents[3]
CAMPUS = ROOT / "examples" / "campus_edge"
PROGRAMS = ROOT / "tests" / "p4" / "softswitch"
MANIFEST = SamplingSecret(1, 1 << 31, 0xDEADBEEF, 0x0BADCAFE)
"""Sampling keys that must never be seen in any output."""


@cache
def topology() -> Topology:
    return load_topology("leaf-spine")


@cache
def campus() -> Bundle:
    """The campus edge on leaf-spine."""
    graph = load_graph(CAMPUS / "graph.json").graph
    return compile_graph(CompileRequest(graph, topology())).bundle


def model() -> NetworkModel:
    """The network that the campus edge's bundle would make."""
    return NetworkModel(topology(), bundle_snapshots([campus()], "bundle"), [campus()])


@cache
def the_model() -> NetworkModel:
    """One for tests that do not mind what the others have sent."""
    return model()


def deployed_network() -> MemoryNetwork:
    """The same in memory, deployed, with sampling keys."""
    network = MemoryNetwork(topology())
    apply_bundle(campus(), network, MANIFEST, first=True)
    return network


@contextmanager
def served(soft: SoftSwitch) -> Iterator[P4RuntimeServer]:
    """A P4Runtime server over a switch."""
    server = P4RuntimeServer(PythonEngine(soft), "127.0.0.1:0")
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


@contextmanager
def served_leaf1() -> Iterator[str]:
    """leaf1 of the campus edge, deployed by a controller over P4Runtime; its address."""
    bundle = campus()
    with served(SoftSwitch(1, 510, name="leaf1")) as server:
        pipeline = SHIPPED.build(*bundle.pipeline_of["leaf1"])
        with SwitchClient("leaf1", server.address, 1) as client:
            client.set_pipeline(p4info(pipeline), pipeline.device_config, pipeline.cookie)
            client.use(p4info(pipeline))
            schema = client.schema
            assert schema is not None
            client.write(
                p4r.Update(
                    type=p4r.Update.INSERT,
                    entity=p4r.Entity(table_entry=schema.encode(entry, graph)),
                )
                for graph, entry in desired_entries([Deployment(bundle, None)], "leaf1")
            )
        yield server.address


def foreign(name: str) -> tuple[SoftSwitch, p4i.P4Info]:
    """A switch with a program that is none of ours."""
    info = text_format.Parse((PROGRAMS / f"{name}.p4info.txtpb").read_text(), p4i.P4Info())
    soft = SoftSwitch(7, 510, name=name)
    soft.load(json.loads((PROGRAMS / f"{name}.json").read_text()), info)
    return soft, info

"""Access lists as trees on real BMv2: packet for packet the reference's verdict.

Oracle: first match, NF by NF (orchestrator.nfs). Blind spot: sizes beyond a few hundred rules, which
tests/verification/test_trees.py has in memory and tests/bench/filters.py on BMv2.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from finsy.proto import p4r

sys.path.insert(0, str(Path(__file__).with_name("fuzz")))
sys.path.insert(0, str(Path(__file__).parents[1] / "verification"))

from fuzz_bmv2 import BMV2, oracle
from test_trees import AT_ANY_PRICE, decided, graph_of, random_rules

from orchestrator.clients.p4info import Schema
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.graph import functions_of, load_topology
from orchestrator.model.packet import Packet
from orchestrator.nfs.acl import Acl
from orchestrator.nfs.matching import first_output
from orchestrator.nfs.router import is_martian
from orchestrator.oracle.driver import NamedConversation
from orchestrator.oracle.packets import corner_scenarios
from orchestrator.targets.pipelines import SHIPPED, p4info

pytestmark = [
    pytest.mark.skipif(BMV2 is None, reason="BMv2: not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="veth interfaces need root"),
]


def _sent(scenario: NamedConversation) -> list[tuple[str, bytes]]:
    """What a conversation of single frames sends."""
    conversation = scenario.begin()
    return [next(conversation)]


def _is_refused(packet: Packet | None) -> bool:
    """Whether the router behind the list drops it for its addresses."""
    if packet is None or packet.version not in (4, 6):
        return False
    return any(is_martian(packet.version, address) for address in (packet.src, packet.dst))


def test_verdicts_are_the_first_matchs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.compile.filter_costs", lambda targets: AT_ANY_PRICE)
    topology = load_topology("single")
    graph = graph_of(tmp_path, {"rules": random_rules(3, 40), "default": "permit"})
    compiled = compile_graph(CompileRequest(graph, topology))
    (tree,) = decided(compiled)
    assert tree.diagram.weighed
    pipeline = SHIPPED.build("edge", "bmv2")
    schema = Schema(p4info(pipeline))
    (name,) = compiled.bundle.programs
    parts = compiled.bundle.fabric[name], compiled.bundle.programs[name]
    updates: list[p4r.Update] = []
    for part in parts:
        for entry in (*part.entries, *part.activation):
            update = p4r.Update(type=p4r.Update.INSERT)
            update.entity.table_entry.CopyFrom(schema.encode(entry, "trees"))
            updates.append(update)
    frames = [
        frame
        for scenario in corner_scenarios(graph, topology, 1)
        if scenario.name.endswith("list.inside.rules")
        for host, frame in _sent(scenario)
        if host == "h1" and not _is_refused(Packet.parse(frame))
    ]
    random.Random(1).shuffle(frames)
    function = functions_of(graph)["list"]
    assert isinstance(function, Acl)
    program = function.elements("inside").elements["rules"].program
    verdicts = [first_output(program, Packet.parse(f))[0] for f in frames[:1500]]  # type: ignore[arg-type]
    assert len(set(verdicts)) == 2
    with oracle() as switch:
        switch.load(pipeline.device_config, p4info(pipeline))
        assert not any(switch.write(updates))
        for frame, verdict in zip(frames, verdicts, strict=False):
            wanted = int(verdict != "drop")
            got = switch.exchange(1, [frame], wanted, 0 if wanted else 0.01)
            assert sum(map(len, got.values())) == wanted, frame.hex()

"""`explain`: the rule by which a server's NF drops, what it alerts of, and the way of a mirror's copy.

Oracle: the rules as they are written, and where the edges of the graph lead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from inspection_support import topology
from networks import Spec, compiled, ids, make_graph, one_way

from orchestrator.graph import load_graph
from orchestrator.model.bundle import Bundle
from orchestrator.observation.explain import Visit
from orchestrator.observation.frames import between_hosts
from orchestrator.observation.journey import Journey, NetworkModel, WorkerVisit, journey_json
from orchestrator.observation.snapshot import bundle_snapshots
from orchestrator.observation.whynot import why_not

pytestmark = pytest.mark.slow

HOSTS = {"inside": ("h1",), "outside": ("h3",), "monitor": ("h4",)}
COPY_LOST = "leaf1: the copy is dropped: deliver.ipv4: no entry matches, so deliver.no_host"


def model_of(bundle: Bundle) -> NetworkModel:
    return NetworkModel(topology(), bundle_snapshots([bundle], "bundle"), [bundle])


def sent(model: NetworkModel, to: str = "h3:53/udp", payload: bytes = b"") -> Journey:
    frame = between_hosts(topology(), "h1", to)
    return model.send("h1", frame[: len(frame) - len(payload)] + payload)


def tapped(nfs: dict[str, Spec], edges: Sequence[str]) -> NetworkModel:
    return model_of(compiled(make_graph(nfs, edges, endpoints=HOSTS)).bundle)


MIRROR: dict[str, Spec] = {"tap": ("mirror", {"rules": [{}]})}
VXLAN = {"local": "10.0.1.11", "remote": "198.51.100.14", "vni": 7}


def test_a_copy_that_is_dropped_is_told() -> None:
    edges = [*one_way("inside", "tap", "outside"), "tap.mirror monitor"]
    model = tapped(MIRROR, edges)
    journey = sent(model)
    assert [a.host for a in journey.deliveries] == ["h3"]
    assert journey.verdict.endswith(COPY_LOST)
    visit = journey.hops[0].stop
    assert isinstance(visit, Visit)
    assert any("(the copy, pass 2)" in step.text for step in visit.steps)
    told: Any = journey_json(journey)
    assert told["hops"][0]["copies_lost"] == (
        COPY_LOST.removeprefix("leaf1: the copy is dropped: "),
    )
    answer = why_not(model, model.bundles, journey, "h4")
    assert (answer.reached, answer.where) == (False, "hop 1, leaf1")
    assert answer.why.startswith("the copy is dropped")


def test_a_copy_is_followed_to_where_it_comes() -> None:
    nfs: dict[str, Spec] = {**MIRROR, "out": ("vxlan_encap", VXLAN)}
    edges = [*one_way("inside", "tap", "outside"), "tap.mirror out.inside", "out.outside monitor"]
    journey = sent(tapped(nfs, edges))
    assert {a.host for a in journey.deliveries} == {"h3", "h4"}
    assert "copy" not in journey.verdict


def test_a_packet_that_is_dropped_while_its_copy_goes_on_is_told() -> None:
    shut: Spec = ("acl", {"rules": [], "default": "deny"})
    nfs: dict[str, Spec] = {**MIRROR, "out": ("vxlan_encap", VXLAN), "shut": shut}
    edges = [
        *one_way("inside", "tap", "shut", "outside"), "tap.mirror out.inside", "out.outside monitor",
    ]  # fmt: skip
    journey = sent(tapped(nfs, edges))
    assert {a.host for a in journey.deliveries} == {"h4"}


def test_the_line_by_which_a_server_drops(tmp_path: Path) -> None:
    rules = [{"protocol": "udp", "action": "deny"}, {"protocol": "tcp", "action": "permit"}]
    (tmp_path / "fw.json").write_text("[\n\n" + ",\n".join(map(json.dumps, rules)) + "]")
    graph = {
        "name": "red",
        "endpoints": {"in": {"hosts": ["h1"]}, "out": {"hosts": ["h3"]}},
        "nfs": {"fw": {"type": "stateful_firewall", "config": {"rules_file": "fw.json"}}},
        "edges": [{"from": "in", "to": "fw.inside"}, {"from": "fw.outside", "to": "out"}],
        "traffic": [{"name": "t", "from": "in", "to": "out", "rate": "1Mbit/s"}],
    }
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    model = model_of(compiled(load_graph(tmp_path / "graph.json").graph).bundle)
    assert "fw drops it (denied, fw.json:3)" in sent(model).verdict


def test_an_alert_is_told_with_the_call() -> None:
    signature = {"id": 7, "content": "evil", "protocol": "udp", "msg": "it is evil"}
    nfs: dict[str, Spec] = {"ids": ids(action="alert", signatures=[signature])}
    edges = one_way("inside", "ids", "outside")
    model = model_of(compiled(make_graph(nfs, edges, endpoints=HOSTS)).bundle)
    calls = [
        call
        for payload in (b"good", b"evil")
        for hop in sent(model, payload=payload).hops
        if isinstance(hop.stop, WorkerVisit)
        for call in hop.stop.calls
    ]
    assert [(call.nf, call.left, call.alerts) for call in calls] == [
        ("ids", "outside", ()),
        ("ids", "outside", ("signature 7 (it is evil)",)),
    ]

"""`explain`: journeys through copies of the network.

Oracles: the example's own expectations (expected.json), and the frames that the deployed network in
memory delivers. Blind spot: both run our softswitch; the emulated tests put BMv2 beside it.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest
from finsy.proto import p4i
from inspection_support import (
    CAMPUS,
    MANIFEST,
    campus,
    deployed_network,
    foreign,
    model,
    served,
    served_leaf1,
    the_model,
    topology,
)

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import InputError, SwitchError
from orchestrator.observation.explain import Explainer, Visit, visit_json
from orchestrator.observation.frames import answer_to, between_hosts, make_frame, parse_packet
from orchestrator.observation.journey import Journey, NetworkModel, journey_json
from orchestrator.observation.ports import port_names
from orchestrator.observation.snapshot import Snapshot, bundle_snapshots, read_snapshot
from orchestrator.observation.whynot import why_not
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

EXPECTED = json.loads((CAMPUS / "expected.json").read_text())
FLOWS = {flow["name"]: flow for flow in EXPECTED["flows"]}


def frame_of(flow: dict[str, Any]) -> bytes:
    source = topology().hosts[flow["from"]]
    version = flow.get("version", 4)
    if "address" in flow:
        target = ipaddress.ip_address(flow["address"])
    else:
        target = next(a.ip for a in topology().hosts[flow["to"]].addresses if a.version == version)
    return make_frame(
        flow["protocol"],
        next(a.ip for a in source.addresses if a.version == target.version),
        target,
        target_port=flow.get("dst_port"),
        source_mac=mac_text(source.mac),
        target_mac=mac_text(GATEWAY_MAC),
    )


def droppers(journey: Journey) -> set[str]:
    """The NFs that explanations blame for a drop."""
    nfs: set[str] = set()
    for hop in journey.hops:
        if isinstance(hop.stop, Visit):
            nfs |= {s.nf for s in hop.stop.steps if s.nf and s.action.endswith("deny")}
        elif (calls := getattr(hop.stop, "calls", ())) and not calls[-1].left:
            nfs.add(calls[-1].nf)
    return nfs


@pytest.fixture(scope="module")
def both() -> tuple[NetworkModel, MemoryNetwork]:
    """The model, and the deployed network; they are sent the same frames in the same order."""
    return model(), deployed_network()


@pytest.mark.parametrize("name", FLOWS)
def test_journeys_end_as_the_example_expects(
    both: tuple[NetworkModel, MemoryNetwork], name: str
) -> None:
    flow = FLOWS[name]
    frame = frame_of(flow)
    journey = both[0].send(flow["from"], frame)
    delivered = [a.frame for a in journey.deliveries]
    assert delivered == [d.frame for d in both[1].send(flow["from"], frame)]
    assert bool(delivered) is flow["passes"]
    if not flow["passes"]:
        assert flow["dropped_by"] in droppers(journey)


def test_the_answer_finds_its_way_back_through_the_napt() -> None:
    network = model()
    there = network.send("h1", frame_of(FLOWS["web download"]))
    answer = answer_to(there.deliveries[0].frame)
    assert answer is not None
    back = network.send("h3", answer)
    assert [a.host for a in back.deliveries] == ["h1"]
    assert "10.0.1.11:40000" in back.verdict
    assert [call.nf for hop in back.hops for call in getattr(hop.stop, "calls", ())] == [
        "edge_nat",
        "edge_ids",
    ]


def test_a_denied_packet_is_told_with_the_rules_line() -> None:
    visit = the_model().explainer("leaf1").explain(1, frame_of(FLOWS["telnet"]))
    line = next(
        i
        for i, text in enumerate((CAMPUS / "access.json").read_text().splitlines(), 1)
        if '"dst_port": 23}' in text
    )
    assert visit.verdict == (
        f"dropped: acl.ipv4: access.json:{line} of edge_acl (campus_edge) says acl.ipv4.deny"
    )


@pytest.mark.parametrize(
    ("port", "packet", "verdict"),
    [
        (1, "tcp 10.0.1.11:1 > 198.51.100.13:80 dmac=06:00:00:00:00:01", "leaves by port"),
        (99, "tcp 10.0.1.11:1 > 198.51.100.13:80", "port.ports: no entry matches"),
        (1, "00" * 15, "classify.other: no entry matches"),
        (1, "ff" * 12 + "0800" + "45" * 10, "malformed"),
    ],
)
def test_verdicts(port: int, packet: str, verdict: str) -> None:
    assert verdict in the_model().explainer("leaf1").explain(port, parse_packet(packet)).verdict


def test_a_condition_that_drops_is_told_by_its_source_text() -> None:
    flow = FLOWS["web over IPv6"] | {"dst_port": 5000, "protocol": "udp"}
    frame = bytearray(frame_of(flow))
    frame[14 + 7] = 1  # hop limit
    journey = the_model().send("h1", bytes(frame))
    assert "because refused == 1 && told == 0 (route.p4:" in journey.verdict


def test_an_explanation_is_the_same_from_a_switch_and_from_the_bundle() -> None:
    offline = bundle_snapshots([campus()], "bundle")["leaf1"]
    with served_leaf1() as address, SwitchClient("leaf1", address, 1, primary=False) as client:
        live = read_snapshot(client)
    ports = port_names(topology(), "leaf1")
    explainers = [Explainer(snapshot, ports) for snapshot in (offline, live)]
    for name, flow in FLOWS.items():
        if flow["from"] not in ("h1", "h2"):
            continue
        at = 1 if flow["from"] == "h1" else 2
        told = [visit_json(explainer.explain(at, frame_of(flow))) for explainer in explainers]
        assert told[0] == told[1], name


def test_no_sampling_key_is_in_a_snapshot_or_an_explanation() -> None:
    soft = deployed_network().switches["leaf1"].soft
    bundle = bundle_snapshots([campus()], "bundle")["leaf1"]
    with served(soft) as server:
        server.preload(bundle.device_config, bundle.p4info)
        schema = bundle.schema
        with SwitchClient("leaf1", server.address, 1) as client:
            client.use(bundle.p4info)
            from finsy.proto import p4r

            from orchestrator.model.manifest import manifest_entries

            client.write(
                schema.updates(manifest_entries(MANIFEST), "campus_edge", p4r.Update.INSERT)
            )
            assert list(client.entries("trajectory_sample.manifests"))
            snapshot = read_snapshot(client)
    everything = str(snapshot.entities) + json.dumps(
        visit_json(Explainer(snapshot).explain(1, frame_of(FLOWS["telnet"])))
    )
    for key in (MANIFEST.key0, MANIFEST.key1):
        assert str(key) not in everything
        assert key.to_bytes(4, "big") not in snapshot.entities.__repr__().encode("latin1", "ignore")


# -- why not -----------------------------------------------------------------------------------


def asked(flow: str, goal: str) -> tuple[bool, str, str]:
    network = the_model()
    journey = network.send(FLOWS[flow]["from"], frame_of(FLOWS[flow]))
    answer = why_not(network, [campus()], journey, goal)
    return answer.reached, answer.where, answer.why


@pytest.mark.parametrize(
    ("flow", "goal", "reached", "told"),
    [
        ("web download", "edge_ids", True, "entered by port inside"),
        ("web download", "edge_router", True, "edge_router"),
        ("web download", "h3", True, "left by port"),
        ("web download", "h4", False, "host h3"),
        ("telnet", "edge_ids", False, "edge_acl (campus_edge) says acl.ipv4.deny"),
        ("telnet", "edge_acl", True, "says acl.ipv4.deny"),
        ("udp", "edge_ids", False, "default of edge_ids"),
        ("web over IPv6", "edge_ids", True, "entered by port inside"),
        ("web over IPv6", "edge_nat", False, "edge_nat"),
        ("unsolicited from outside", "h1", False, "edge_nat drops it"),
    ],
)
def test_why_not(flow: str, goal: str, reached: bool, told: str) -> None:
    is_reached, where, why = asked(flow, goal)
    assert is_reached is reached
    assert told in why
    assert where.startswith("hop ")


def test_why_not_of_an_unknown_goal_names_what_there_is() -> None:
    with pytest.raises(InputError, match="did you mean 'edge_nat'"):
        asked("telnet", "edge_nta")
    with pytest.raises(InputError, match="leaf1:1"):
        asked("telnet", "leaf1:77")


# -- other people's switches ---------------------------------------------------------------------


def test_a_switch_with_a_foreign_program_is_explained() -> None:
    soft, info = foreign("router")
    with served(soft) as server:
        from inspection_support import PROGRAMS

        server.preload((PROGRAMS / "router.json").read_bytes(), info)
        with SwitchClient("r", server.address, 7, primary=False) as client:
            explainer = Explainer(read_snapshot(client))
    visit = explainer.explain(1, parse_packet("tcp 10.0.1.11:1 > 198.51.100.13:80"))
    assert [s.table for s in visit.steps if s.table][:1] == ["ig.vlan_edit"]
    assert visit.steps[0].text.startswith("parsed ")


@pytest.mark.parametrize("origin", ["127.0.0.1:9559", "evil.bundle"])
def test_a_program_that_is_no_data_is_told_in_one_line(origin: str) -> None:
    """What a switch or a bundle gives as its program is a stranger's."""
    info = p4i.P4Info()
    payload = "0''''\nraise SystemExit('ran')\n'''"
    for section, item in (("errors", ["x", payload]), ("field_lists", {"id": payload})):
        raw = json.loads(the_model().snapshots["leaf1"].device_config)
        raw[section].append(item)
        snapshot = Snapshot("leaf1", origin, info, json.dumps(raw).encode(), ())
        with pytest.raises(SwitchError) as e:
            Explainer(snapshot)
        told = str(e.value)
        assert told.startswith(f"leaf1: the program of {origin}: BMv2 JSON: {section}[")
        assert "\n" not in told
        assert "is not an integer" in told


def test_a_switch_without_a_pipeline_says_so() -> None:
    from orchestrator.softswitch.switch import SoftSwitch

    with (
        served(SoftSwitch(3, 510)) as server,
        SwitchClient("empty", server.address, 3, primary=False) as client,
        pytest.raises(SwitchError, match="no pipeline is loaded"),
    ):
        read_snapshot(client)


def test_an_entry_of_no_graph_has_no_provenance_but_is_shown() -> None:
    snapshot = bundle_snapshots([campus()], "bundle")["leaf1"]
    bare: list[Any] = []
    for entity in snapshot.entities:
        copy = type(entity)()
        copy.CopyFrom(entity)
        if copy.HasField("table_entry"):
            copy.table_entry.metadata = b""
        bare.append(copy)
    stripped = Snapshot("leaf1", "", snapshot.p4info, snapshot.device_config, tuple(bare))
    visit = Explainer(stripped).explain(1, frame_of(FLOWS["telnet"]))
    assert visit.dropped
    assert next(s for s in visit.steps if s.table == "acl.ipv4").hit


def test_journeys_are_json() -> None:
    told = journey_json(the_model().send("h1", between_hosts(topology(), "h1", "h3:80")))
    assert json.loads(json.dumps(told))["delivered"] == ["h3"]

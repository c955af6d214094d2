"""`deploy --specialise` on live switches: loaded, announced, refused, and the other graphs go on.

Oracle: real pings, tables read back, reconcile's comparison with the journal. Needs p4c.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from commands import orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, Live, network

from orchestrator.targets.v1model import COMPILER

pytestmark = [
    NEEDS_EMULATION,
    pytest.mark.skipif(not shutil.which(COMPILER), reason=f"{COMPILER} is not installed"),
]
SECOND = {
    "name": "second",
    "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
    "nfs": {
        "lldp_only": {
            "type": "acl",
            "config": {"rules": [{"ether_type": "0x88cc", "action": "permit"}]},
        }
    },
    "edges": [
        {"from": "inside", "to": "lldp_only.inside"},
        {"from": "lldp_only.outside", "to": "outside"},
    ],
    "traffic": [
        {
            "name": "lldp",
            "from": "inside",
            "to": "outside",
            "match": {"ether_type": "0x88cc"},
            "rate": "1Mbit/s",
        }
    ],
}


@pytest.fixture(params=SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, "special") as started:
        yield started


def test_another_graph_moves_to_the_new_pipeline(live: Live) -> None:
    campus = str(CAMPUS_EDGE)
    first = orchestrator_json("deploy", campus, "-n", live.name, "--specialise")
    assert first["entries"]["leaf1"]["edge_acl.ipv4"] > 200
    live.comes_to_ping("h1", "198.51.100.13")

    second = live.folder / "second.json"
    second.write_text(json.dumps(SECOND))
    before = live.tables("leaf1", "edge_acl.ipv4")
    refused = orchestrator("deploy", str(second), "-n", live.name, "--specialise", expect=8)
    assert "interrupts campus_edge; nothing was changed" in refused.stderr
    assert "--allow-pipeline-change" in refused.stderr
    assert live.pings("h1", "198.51.100.13")

    change = ("--specialise", "--allow-pipeline-change")
    done = orchestrator("deploy", str(second), "-n", live.name, *change)
    assert "interrupts campus_edge" in done.stderr
    live.comes_to_ping("h1", "198.51.100.13")
    after = live.tables("leaf1", "edge_acl.ipv4")
    assert [row["rule"] for row in after] == [row["rule"] for row in before]
    assert {row["rule"] for row in live.tables("leaf1", "lldp_only.other")} == {
        "rules[0]",
        "default",
    }
    assert "is as its journal says" in orchestrator("reconcile", live.name, "--dry-run").stdout

    # Without --specialise what runs serves: an update, and the removal of the other graph.
    assert orchestrator_json("deploy", campus, "-n", live.name)["updated"]
    orchestrator("undeploy", "second", "-n", live.name)
    assert live.pings("h1", "198.51.100.13")

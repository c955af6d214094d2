"""`deploy BUNDLE` on live switches, after graph.json and its rule files have gone.

Oracle: real pings, and the tables that deploying graph.json fills.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from commands import orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, Live, network

pytestmark = NEEDS_EMULATION
OUTSIDE = "198.51.100.13"
SECRETS = "trajectory_sample.manifests"


@pytest.fixture(params=SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, "packed") as started:
        yield started


def tables(live: Live) -> dict[str, list[Any]]:
    """Entries by switch, without their counters."""

    def said(row: dict[str, Any]) -> str:
        kept = ("table", "match", "priority", "action", "graph", "nf", "rule")
        return str([row[name] for name in kept])

    return {
        switch: sorted(said(row) for row in live.tables(switch) if row["table"] != SECRETS)
        for switch in live.state.switches
    }


def test_packets_pass_as_the_graph_says(live: Live) -> None:
    source = shutil.copytree(CAMPUS_EDGE.parent, live.folder / "source")
    bundle = str(live.folder / "campus")
    orchestrator("compile", str(source / "graph.json"), "-t", "leaf-spine", "-o", bundle)
    shutil.rmtree(source)

    orchestrator("deploy", bundle, "-n", live.name)
    live.comes_to_ping("h1", OUTSIDE)
    live.comes_to_ping("h2", OUTSIDE)
    assert not live.pings("h3", "10.0.1.11", 1, wait=0.5), "the NAPT lets nobody begin outside"
    packed = tables(live)

    again = orchestrator_json("deploy", bundle, "-n", live.name)
    assert again["updated"]
    assert again["changes"] == {"add": 0, "change": 0, "delete": 0}
    assert live.pings("h1", OUTSIDE)

    orchestrator("undeploy", "campus_edge", "-n", live.name)
    assert not live.pings("h1", OUTSIDE, 1, wait=0.5)
    orchestrator("deploy", str(CAMPUS_EDGE), "-n", live.name)
    assert tables(live) == packed

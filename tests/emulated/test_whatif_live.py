"""`whatif --live` against a network with traffic: what it measures, where it starts, what it leaves.

Oracle: the packets that a ping sent, the journal's plan, the switches' entries before and after.
Blind spot: rates that a link or core cannot carry (nothing here is fast enough).
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from commands import orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, Live, network

from orchestrator.emulation import host_argv

pytestmark = NEEDS_EMULATION

NAME = "wiflive"
PAYLOAD, INTERVAL_S = 1000, 0.02
FRAME = PAYLOAD + 8 + 20 + 14


@pytest.fixture(scope="module", params=SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, NAME) as running:
        folder = running.folder / "campus"
        shutil.copytree(CAMPUS_EDGE.parent, folder)
        routes = (folder / "routes.txt").read_text().splitlines(keepends=True)
        (folder / "routes.txt").write_text("".join(routes[:12]))
        orchestrator("deploy", str(folder / "graph.json"), "--network", NAME)
        yield running


@contextmanager
def pinging(live: Live, source: str, target: str) -> Iterator[list[str]]:
    """Echo requests at a steady rate for as long as that takes; at the end, what ping said."""
    said: list[str] = []
    words = ["ping", "-q", "-i", str(INTERVAL_S), "-s", str(PAYLOAD), target]
    argv = host_argv(live.state, source, words)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as ping:
        try:
            yield said
        finally:
            ping.send_signal(signal.SIGINT)
        said.append(ping.communicate()[0])


def lost(said: str) -> int:
    """Of ping's requests those without an answer."""
    match = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert match is not None, said
    return int(match[1]) - int(match[2])


def whatif(live: Live, *words: str):  # type: ignore[no-untyped-def]
    graph = str(live.folder / "campus" / "graph.json")
    return orchestrator_json("whatif", graph, "--live", NAME, *words)


def test_it_starts_from_what_is_deployed_and_measured(live: Live) -> None:
    live.comes_to_ping("h1", "198.51.100.13")
    entries = len(live.tables("leaf1"))
    with pinging(live, "h1", "198.51.100.13") as said:
        answer = whatif(live, "--interval", "4", "--scale", "traffic=3x", "--fail", "node:spine1")
    assert lost(said[0]) <= 1  # the last one was on its way when ping was ended
    # 50 packets/s on an idle machine; a busy one sends fewer, never more.
    other = answer["measured"]["other"]
    assert 0.3 * FRAME * 8 / INTERVAL_S <= other <= 1.1 * FRAME * 8 / INTERVAL_S
    now, changed = answer["scenarios"]
    assert now["rate_of"]["other"] == other
    assert changed["rate_of"]["other"] == pytest.approx(3 * other, abs=2000)
    assert now["slo_met"]
    assert now["moved"] == []
    assert sum(now["core_load"].values()) > 0
    workers = live.status()
    deployed = {c["core"] for c in workers["cores"] if c["graphs"]} if "cores" in workers else None
    if deployed is not None:
        assert len(deployed) == now["cores"]
    assert all("spine1" not in node for way in changed["paths"]["other"] for node in way)
    assert len(live.tables("leaf1")) == entries, "nothing live is touched"


def test_planned_rates_and_wrong_words(live: Live) -> None:
    planned = whatif(live, "--planned-rates")
    assert planned["measured"] == {}
    graph = str(live.folder / "campus" / "graph.json")
    wrong = orchestrator("whatif", graph, "--live", NAME, "--interval", "0", expect=2)
    assert "--interval 0: must be above 0" in wrong.stderr
    wrong = orchestrator("whatif", graph, "--live", NAME, "-t", "single", expect=2)
    assert "leave --topology out" in wrong.stderr
    other = CAMPUS_EDGE.parents[1] / "web_service" / "graph.json"
    wrong = orchestrator("whatif", str(other), "--live", NAME, expect=2)
    assert f"is not deployed on {NAME}" in wrong.stderr


def test_status_tells_how_busy_switches_and_cores_are(live: Live) -> None:
    live.comes_to_ping("h1", "198.51.100.13")
    with pinging(live, "h1", "198.51.100.13"):
        load = orchestrator_json("status", "--load", "2", "-n", NAME)["load"]
        shown = orchestrator("status", "--load", "1", "-n", NAME).stdout
    leaf = next(one for one in load["switches"] if one["name"] == "leaf1")
    # 50 requests a second, and as many answers, on an idle machine.
    assert leaf["packets_per_second"] >= 0.3 / INTERVAL_S
    assert sum(leaf["by_port"].values()) == pytest.approx(leaf["packets_per_second"])
    busy = [core for core in load["cores"] if core["frames_per_second"] > 0.3 / INTERVAL_S]
    assert busy
    assert all(0 < core["busy"] < 1 for core in busy)
    assert {"edge_nat", "edge_ids"} <= {nf["nf"] for core in busy for nf in core["nfs"]}
    assert "Switches over " in shown
    assert "NFs over " in shown

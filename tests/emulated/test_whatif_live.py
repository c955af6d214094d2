"""`whatif --live` against a network with traffic: what it measures, where it starts, what it leaves.

Oracle: the packets that a ping sent, the journal's plan, the switches' entries before and after.
Blind spot: rates that a link or core cannot carry (nothing here is fast enough).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from live import (
    CAMPUS_EDGE,
    NEEDS_EMULATION,
    SWITCHES,
    Live,
    network,
    orchestrator,
    orchestrator_json,
)

from orchestrator.emulation import run_in_host

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
    """Echo requests at a steady rate; at the end, what ping said."""
    said: list[str] = []
    words = ["ping", "-q", "-i", str(INTERVAL_S), "-s", str(PAYLOAD), "-c", "500", target]
    thread = threading.Thread(
        target=lambda: said.append(run_in_host(live.state, source, words, check=False).stdout)
    )
    thread.start()
    yield said
    thread.join()


def whatif(live: Live, *words: str):  # type: ignore[no-untyped-def]
    graph = str(live.folder / "campus" / "graph.json")
    return orchestrator_json("whatif", graph, "--live", NAME, *words)


def test_it_starts_from_what_is_deployed_and_measured(live: Live) -> None:
    live.comes_to_ping("h1", "198.51.100.13")
    entries = len(live.tables("leaf1"))
    with pinging(live, "h1", "198.51.100.13") as said:
        found = whatif(live, "--interval", "4", "--scale", "traffic=3x", "--fail", "node:spine1")
    assert " 0% packet loss" in said[0]
    # 50 packets/s on an idle machine; a busy one sends fewer, never more.
    other = found["measured"]["other"]
    assert 0.3 * FRAME * 8 / INTERVAL_S <= other <= 1.1 * FRAME * 8 / INTERVAL_S
    now, changed = found["scenarios"]
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

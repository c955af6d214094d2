"""Devices of real processes die under the page's eyes.

Oracle: `status`. Blind spot: links that break (nobody here knows of them).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, orchestrator, orchestrator_json
from networks import topology
from page_support import NEEDS_CHROMIUM, Screen, chromium, folders, served
from playwright.sync_api import expect
from processes import ProcessNetwork, processes
from support import eventually

from orchestrator.network.inventory import save_inventory
from orchestrator.ui.feed import Feed

pytestmark = pytest.mark.slow

GRAPH = ROOT / "examples" / "branch_office" / "graph.json"


@pytest.fixture(scope="module")
def network() -> Iterator[ProcessNetwork]:
    with folders() as folder, processes(topology("single"), "softswitch", folder) as made:
        save_inventory(made.inventory)
        yield made


@NEEDS_CHROMIUM
def test_a_switch_that_dies_is_shown_and_its_graph_deployed(network: ProcessNetwork) -> None:
    name, (switch,) = network.live.name, network.switches.values()
    words = ("-n", name, "--graph", str(GRAPH), "--write")
    with served(*words) as address, chromium() as browser:
        screen = Screen(browser, address)
        page = screen.show("graph")
        page.locator("#deploy").click()
        page.get_by_text("branch_office is deployed on").wait_for()
        assert [g["name"] for g in orchestrator_json("status", "-n", name)["graphs"]] == [
            "branch_office"
        ]
        page = screen.show("network")
        expect(page.locator("#news")).to_contain_text("graph branch_office is deployed")
        page.get_by_text("devices up").wait_for()
        page.wait_for_function(
            "() => document.querySelector('#health').innerText.startsWith('● up') || "
            "document.querySelector('#health .state').classList.contains('up')"
        )
        switch.kill()
        page.wait_for_selector("#health .state.down")
        expect(page.locator("#news")).to_contain_text("switch switch1 is down")
        (state,) = screen.drawn("node.switch", "label")
        assert state == "✕ switch1\ndown"
        down = orchestrator_json("status", "-n", name)
        assert not next(d for d in down["devices"] if d["name"] == "switch1")["answers"]
        switch.process = switch._start()
        page.wait_for_selector("#health .state.up")
        page = screen.show("packet")
        page.click("#explain")
        expect(page.locator("#result .notice.bad")).to_be_visible()  # it has forgotten its program
        screen.page.context.close()


def test_conditions_come_as_the_status_has_them(network: ProcessNetwork) -> None:
    """Not later than a second behind what `status` sees: told by the feed's own clock."""
    orchestrator("undeploy", "branch_office", "-n", network.live.name) if orchestrator_json(
        "status", "-n", network.live.name
    )["graphs"] else None
    said: list[tuple[float, str]] = []
    feed = Feed(network.live, ())

    class Listener:
        def put(self, what: str, document: str) -> None:
            said.append((time.monotonic(), f"{what} {document}"))

    feed.start()
    feed.subscribe(Listener())  # type: ignore[arg-type]
    try:
        eventually(lambda: any('"up"' in text for _, text in said), what="conditions")
        (switch,) = network.switches.values()
        switch.kill()
        eventually(lambda: any("is down" in text for _, text in said), what="the news")
        switch.process = switch._start()
        eventually(lambda: said[-1][1] and any("is up" in t for _, t in said), what="up again")
    finally:
        feed.unsubscribe(next(iter(feed._subscribers)))
        feed.stop()
    eventually(
        lambda: not any(thread.name == "feed" for thread in threading.enumerate()),
        what="the feed's threads to end",
    )


def test_files_that_are_saved_are_told_of(tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_text("{}")
    feed = Feed(None, (file,))
    said: list[str] = []

    class Listener:
        def put(self, what: str, document: str) -> None:
            said.append(f"{what} {document}")

    feed.start()
    feed.subscribe(Listener())  # type: ignore[arg-type]
    try:
        time.sleep(0.5)
        file.write_text("{ }")
        eventually(lambda: any(text.startswith("file") for text in said), what="the file")
        assert str(file) in said[-1]
    finally:
        feed.stop()

"""The page of a bundle, in Chromium: what it would make of its network; nothing runs.

Oracle: `bundle show`, `explain --bundle`, `compile`, `whatif`. Blind spot: foreign bundles (their
reading has tests of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, orchestrator, orchestrator_json
from page_support import NEEDS_CHROMIUM, Screen, chromium, folders, served
from playwright.sync_api import expect

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

GRAPH = ROOT / "examples" / "campus_edge" / "graph.json"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "campus.bundle"
    orchestrator("compile", str(GRAPH), "-o", str(path))
    return path


@pytest.fixture(scope="module")
def screen(bundle: Path) -> Iterator[Screen]:
    words = ("--bundle", str(bundle), "--graph", str(GRAPH))
    with folders(), served(*words) as address, chromium() as browser:
        opened = Screen(browser, address)
        yield opened
        opened.close()


def test_network(screen: Screen, bundle: Path) -> None:
    page, shown = screen.show("network"), orchestrator_json("bundle", "show", str(bundle))
    assert screen.drawn(".device") == [d["name"] for d in shown["devices"]]
    expect(page.locator("#health")).to_contain_text("as the bundle knows them")
    assert screen.rows() == [[n, str(us)] for n, us in shown["latency_us"].items()]
    entries = [[d, f"{sum(t.values()):,}"] for d, t in shown["entries"].items()]
    assert screen.rows(nth=2) == entries


def test_graph_and_the_plan_of_a_file(screen: Screen, bundle: Path) -> None:
    page, shown = screen.show("graph"), orchestrator_json("bundle", "show", str(bundle))
    page.wait_for_selector("h3:has-text('The cut')")
    units = [story["unit"] for story in shown["stories"]]
    assert screen.drawn("node.switch, node.server") == units
    assert len(screen.drawn("edge")) == len(shown["arcs"])
    early = page.locator("h3", has_text="Discarded early")
    expect(early).to_contain_text(f"{len(shown['removed'])} rules")
    page.click("#synthesis")
    page.get_by_text("does not hold its graph").wait_for()
    page.select_option("#graph", "file 0")
    page.locator("h2", has_text=f"Plan of {GRAPH}").wait_for()
    assert screen.drawn("node.switch, node.server") == units


def test_tables(screen: Screen, bundle: Path) -> None:
    page = screen.show("tables?device=leaf1")
    page.wait_for_selector(".tabulator-row")
    rows = orchestrator_json("bundle", "show", str(bundle), "--entries", "leaf1")["rows"]
    expect(page.locator("#total")).to_contain_text(f"{len(rows):,} entries, as the bundle has them")
    page.select_option("#nf", "edge_acl")
    acl = [row for row in rows if row["nf"] == "edge_acl"]
    expect(page.locator("#total")).to_contain_text(f"{len(acl):,} of {len(rows):,}")
    rules = page.locator(".tabulator-cell[tabulator-field=rule]").all_inner_texts()
    assert set(rules) <= {row["rule"] for row in acl}


def test_packet(screen: Screen, bundle: Path) -> None:
    page = screen.show("packet")
    page.fill("#frame", "tcp 10.0.1.11:40000 > 198.51.100.13:23")
    page.select_option("#source", "")
    page.click("#explain")
    words = ("--packet", "tcp 10.0.1.11:40000 > 198.51.100.13:23", "--network-wide")
    said = orchestrator_json("explain", "--bundle", str(bundle), *words)
    expect(page.locator("#verdict")).to_have_text(said["verdict"])
    assert not said["delivered"]
    expect(page.locator("#trace")).to_be_disabled()
    expect(page.locator("#samples")).to_be_disabled()


def test_what_if(screen: Screen) -> None:
    page = screen.show("whatif")
    page.fill("#fail", "server1")
    page.click("#run")
    said = orchestrator_json("whatif", str(GRAPH), "-t", "leaf-spine", "--fail", "node:server1")
    now, then = said["scenarios"]
    page.locator("td", has_text=then["scenario"]).first.wait_for()
    assert [row[0] for row in screen.rows()] == [now["scenario"], then["scenario"]]
    assert screen.rows()[1][2] == str(then["cores"])
    assert [row[0] for row in screen.rows(nth=1)] == then["moved"]

"""The page of a network in memory, in Chromium: each view shows what the command says.

Oracle: the commands' JSON. Blind spots: real packets and dying devices (test_page_live.py), looks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import orchestrator, orchestrator_json
from page_support import NEEDS_CHROMIUM, Screen, chromium, folders, served
from playwright.sync_api import Browser, expect

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]

NAME = "memory"
EVIL = "<img src=x onerror=pwned=1>.json"
"""A file's name, and so the origin of its rules."""


@dataclass(frozen=True)
class Served:
    """A page, and the graph file that it may plan."""

    address: str
    graph: Path


def graph_of(folder: Path, *ports: int) -> Path:
    """An access list, whose file has an evil name, before a NAPT."""
    rules = [{"protocol": "tcp", "dst_port": port, "action": "deny"} for port in ports]
    (folder / EVIL).write_text("[" + ",\n".join(map(json.dumps, rules)) + "]")
    chain = ["inside", "fw.inside", "fw.outside", "nat.inside", "nat.outside", "outside"]
    edges = [*zip(chain[::2], chain[1::2], strict=True)]
    edges += [(b, a) for a, b in edges]
    file = folder / "graph.json"
    file.write_text(
        json.dumps(
            {
                "name": "office",
                "owner": "me",
                "endpoints": {
                    "inside": {"hosts": ["h1", "h2"]},
                    "outside": {"hosts": ["h3", "h4"]},
                },
                "nfs": {
                    "fw": {"type": "acl", "config": {"rules_file": EVIL, "default": "permit"}},
                    "nat": {"type": "napt", "config": {"addresses": ["203.0.113.1"]}},
                },
                "edges": [{"from": a, "to": b} for a, b in edges],
                "traffic": [
                    {"name": "out", "from": "inside", "to": "outside", "rate": "1Gbit/s"},
                    {"name": "back", "from": "outside", "to": "inside", "rate": "1Gbit/s"},
                ],
                "verification": {"sampling_rate": 0.25},
            }
        )
    )
    return file


@pytest.fixture(scope="module")
def page() -> Iterator[Served]:
    with folders() as folder:
        graph = graph_of(folder, 23, 25, 99)
        orchestrator("deploy", str(graph), "-n", NAME)
        with served("-n", NAME, "--graph", str(graph)) as address:
            yield Served(address, graph)
        orchestrator("net", "down", "-n", NAME)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def screen(page: Served, browser: Browser) -> Iterator[Screen]:
    opened = Screen(browser, page.address)
    yield opened
    opened.close()


def numbers(text: str) -> list[int]:
    return [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", text)]


def test_the_token_leaves_the_address(screen: Screen) -> None:
    assert "token" not in screen.page.url
    screen.page.reload()
    screen.page.wait_for_selector("#view-network")


def test_without_the_token_nothing_is_shown(page: Served, browser: Browser) -> None:
    for address in (page.address.partition("#")[0], page.address[:-5] + "wrong"):
        shown = browser.new_page()
        shown.goto(address)
        shown.get_by_text("token is missing").wait_for()
        assert "office" not in shown.content()
        assert "leaf1" not in shown.content()
        shown.close()


def test_network_shows_status_and_top(screen: Screen) -> None:
    status = orchestrator_json("status", "-n", NAME)
    page = screen.show("network")
    expect(page.locator("#health")).to_contain_text("6 of 6 devices up")
    assert screen.drawn(".device") == [d["name"] for d in status["devices"]]
    assert screen.drawn(".host") == [x["name"] for x in status["hosts"]]
    assert screen.drawn(".link") == [f"link {x['a']}-{x['b']}" for x in status["links"]]
    shown = page.locator("aside")
    expect(shown.locator("table").first.locator("tbody tr")).to_have_count(2)
    top = orchestrator_json("top", "-n", NAME, "--count", "1")
    assert [row[0] for row in screen.rows()] == [t["traffic"] for t in top["traffic"]]
    (office,) = status["graphs"]
    expect(shown).to_contain_text(office["owner"])
    entries = {d["name"]: d["entries"] for d in top["devices"]}
    labels = screen.drawn(".device", "label")
    assert f"leaf1\n{entries['leaf1']:,} entries" in labels
    assert {"fw", "nat"} <= set(screen.drawn(".chip", "label"))
    page.fill("#find", "leaf1")
    page.keyboard.press("Enter")
    expect(shown.locator("h2")).to_have_text("leaf1 up")
    uses = [t for t in top["tables"] if t["device"] == "leaf1"]
    assert [row[0] for row in screen.rows()] == [t["table"] for t in uses]
    link = top["links"][0]["link"]
    page.fill("#find", link)
    page.keyboard.press("Enter")
    expect(shown.locator("h2")).to_have_text(f"{link.replace('-', ' – ')} up")
    loads = [x for x in top["links"] if x["link"] == link]
    assert [row[0] for row in screen.rows()] == [f"{x['source']} → {x['target']}" for x in loads]
    rates = page.locator("table.plain").first.locator("tbody td:nth-child(2)")
    expect(rates).to_have_text(["≤ 0 bit/s" for _ in loads])  # known by the second look
    assert [row[:2] for row in screen.rows(nth=1)] == [
        [c["graph"], f"{c['source']} → {c['target']}"] for x in loads for c in x["crossings"]
    ]


def test_graph_shows_the_cut_its_rules_and_why(screen: Screen) -> None:
    page = screen.show("graph")
    compiled = orchestrator_json("compile", str(page_graph(screen)))
    page.wait_for_selector("h3:has-text('The cut')")
    units = [story["unit"] for story in compiled["stories"]]
    assert screen.drawn("node.switch, node.server") == units
    coverage = orchestrator_json("tables", "all", "-n", NAME, "--coverage")
    page.locator("td", has_text="fw").first.wait_for()
    sums = [
        [s["nf"], *map(str, (s["rules"], s["rules"] - s["never_hit"], s["never_hit"]))]
        for s in coverage["nfs"]
    ]
    expect(page.locator("aside")).to_contain_text("never hit")
    assert screen.rows() == sums
    page.click("#synthesis")
    told_lines = compiled["synthesis"] or ["Nothing could be merged, moved or discarded."]
    for line in told_lines:
        page.locator("aside p", has_text=line).wait_for()
    story = next(s for s in compiled["stories"] if s["unit"].startswith("fw."))
    page.get_by_role("button", name=story["unit"], exact=True).click()
    expect(page.locator("aside")).to_contain_text(story["why"])
    rules = [r for r in coverage["rules"] if r["nf"] == "fw"]
    assert sorted(row[0] for row in screen.rows()) == sorted(r["rule"] for r in rules)
    assert EVIL in page.locator("aside").inner_text()


def page_graph(screen: Screen) -> str:
    """The file that the page was told of."""
    return screen.page.locator("#graph option").last.inner_text().removeprefix("plan of ")


def test_a_changed_file_is_planned_as_a_dry_run(screen: Screen, page: Served) -> None:
    shown = screen.show("graph")
    graph_of(page.graph.parent, 23, 25, 99, 110)
    try:
        shown.select_option("#graph", "file 0")
        shown.locator("h2", has_text="Plan of").wait_for()
        plan = orchestrator_json("deploy", str(page.graph), "-n", NAME, "--dry-run", expect=1)
        changes = {k: n for k, n in plan["changes"].items() if n}
        facts = shown.locator("aside dl.facts").first
        assert numbers(facts.inner_text()) == list(changes.values())
        heads = shown.locator("h3", has_text="Changes")
        expect(heads).to_be_visible()
        rows = [[d, t] for d, tables in plan["devices"].items() for t in tables]
        assert [row[:2] for row in screen.rows()] == rows
        expect(shown.locator("aside")).to_contain_text(f"{EVIL}:4")
        assert shown.locator("#deploy").count() == 0
        expect(shown.locator("aside")).to_contain_text("Read-only")
        graph_of(page.graph.parent, 23, 25, 99)  # saved again: planned again
        shown.get_by_text("Up to date").wait_for()
    finally:
        graph_of(page.graph.parent, 23, 25, 99)


def grid(screen: Screen, column: str) -> list[str]:
    return screen.page.locator(f".tabulator-cell[tabulator-field={column}]").all_inner_texts()


def test_tables_shows_tables(screen: Screen) -> None:
    page = screen.show("tables?device=leaf1")
    page.wait_for_selector(".tabulator-row")
    rows = orchestrator_json("tables", "leaf1", "-n", NAME)
    expect(page.locator("#total")).to_contain_text(f"{len(rows):,} entries")
    for field in ("table", "match", "action", "rule"):
        shown = grid(screen, field)
        assert shown == [row[field] for row in rows[: len(shown)]], field
    assert grid(screen, "packets")[0] == f"{rows[0]['packets']:,}"
    page.fill("#match", "dst=198.51.100.13 dst_port=23")
    words = ("--match", "dst=198.51.100.13", "--match", "dst_port=23")
    chosen = orchestrator_json("tables", "leaf1", "-n", NAME, *words, "--sort", "packets")
    expect(page.locator("#total")).to_contain_text(f"{len(chosen)} of {len(rows)} entries")
    page.fill("#match", "dts=1")
    expect(page.locator(".notice.bad")).to_contain_text("dts")
    page.fill("#match", "")
    page.wait_for_selector(".tabulator-row")
    page.select_option("#nf", "fw")
    fw = orchestrator_json("tables", "leaf1", "-n", NAME, "--nf", "fw")
    expect(page.locator("#total")).to_contain_text(f"{len(fw)} of {len(rows)} entries")
    expect(page.locator(".tabulator-row")).to_have_count(len(fw))
    assert grid(screen, "rule") == [row["rule"] for row in fw]
    page.check("#follow")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.tabulator-cell[tabulator-field=rate]')]"
        ".some((cell) => cell.innerText === '0.0')"
    )
    page.click("#coverage")
    never = orchestrator_json("tables", "all", "-n", NAME, "--coverage")["never_hit"]
    page.get_by_text(f"{len(never)} rules never hit").wait_for()
    assert [row[2] for row in screen.rows(nth=1)] == [r["rule"] for r in never]


def test_a_packet_s_way_is_what_explain_says(screen: Screen) -> None:
    page = screen.show("packet")
    words = ("-n", NAME, "--from", "h1", "--network-wide")
    for port, target in (("80", "h3:80"), ("23", "h3:23")):
        page.select_option("#source", "h1")
        page.select_option("#target", "h3")
        page.fill("#port", port)
        page.fill("#why-not", "h3")
        page.click("#explain")
        said = orchestrator_json("explain", *words, "--to", target, "--why-not", "h3")
        expect(page.locator("#verdict")).to_have_text(said["verdict"])
        heads = page.locator("#hops .head b").all_inner_texts()
        assert heads == [hop["device"] for hop in said["hops"]]
        assert screen.drawn(".way", "label") == [str(hop["hop"]) for hop in said["hops"]]
        expect(page.locator("#result .notice").first).to_contain_text(said["why_not"]["why"])
    page.locator("#hops .head").first.click()
    expect(page.locator("#hops")).to_contain_text(f"{EVIL}:1")
    page.fill("#frame", "udp 10.0.1.11:1 > 198.51.100.13:53 ttl=x")
    page.click("#explain")
    expect(page.locator("#result .notice.bad")).to_contain_text("ttl")
    expect(page.locator("#trace")).to_be_disabled()


def test_what_if_shows_what_a_repair_would_do(screen: Screen, page: Served) -> None:
    shown = screen.show("whatif")
    cores = orchestrator_json("top", "-n", NAME, "--count", "1")["cores"]
    server = next(core["name"] for core in cores if core["graphs"]).partition(".")[0]
    shown.fill("#fail", server)
    shown.click("#run")
    said = orchestrator_json("whatif", "--live", NAME, "--fail", f"node:{server}")
    moves = said["scenarios"][0]["graphs"]["office"]["moves"]
    assert moves
    shown.locator("td", has_text=moves[0]).first.wait_for()
    assert [row[0] for row in screen.rows(nth=1)] == moves
    assert "→ nat" in screen.drawn(".chip.changed", "label", canvas=1)
    assert "→ nat" not in screen.drawn(".chip", "label", canvas=0)
    shown.select_option("#of", "0")
    shown.fill("#fail", "")
    shown.fill("#scale", "traffic=2x")
    shown.fill("#sweep", "rate=1G..4G:3")
    shown.click("#run")
    words = ("--scale", "traffic=2x", "--sweep", "rate=1G..4G:3", "--live", NAME)
    names = [
        s["scenario"] for s in orchestrator_json("whatif", str(page.graph), *words)["scenarios"]
    ]
    shown.locator("td", has_text=names[-1]).first.wait_for()
    expect(shown.locator(".uplot")).to_have_count(1)
    assert [row[0] for row in screen.rows()] == names
    shown.fill("#sweep", "nonsense")
    shown.click("#run")
    expect(shown.locator("#result .notice.bad")).to_contain_text("nonsense")


def test_what_is_hostile_stays_text(screen: Screen) -> None:
    """Names of files, frames and messages: none of them becomes an element."""
    for view in ("network", "graph", "tables?device=leaf1&nf=fw", "packet", "whatif"):
        page = screen.show(view)
        if view == "packet":
            page.fill("#frame", EVIL)
            page.click("#explain")
            expect(page.locator("#result .notice.bad")).to_contain_text(EVIL.split()[0])
        elif view == "whatif":
            page.fill("#fail", "<img/src=x/onerror=pwned=1>")
            page.click("#run")
            expect(page.locator("#result .notice.bad")).to_contain_text("<img")
        elif view.startswith("tables"):
            page.locator(".tabulator-cell", has_text=EVIL).first.wait_for()
            page.fill("#match", "<img/src=x/onerror=pwned=1>")
            expect(page.locator(".notice.bad")).to_contain_text("<img")
        assert page.locator("img").count() == 0
        assert page.evaluate("typeof pwned") == "undefined"


def test_evil_answers_stay_text(page: Served, browser: Browser) -> None:
    """Whatever the server may say, in all fields that are text."""
    opened = Screen(browser, page.address)

    def spoilt(value: object) -> object:
        if isinstance(value, dict):
            return {key: spoilt(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [spoilt(inner) for inner in value]
        return f"{value}{EVIL}" if isinstance(value, str) else value

    def answer(route: object) -> None:
        response = route.fetch()  # type: ignore[attr-defined]
        route.fulfill(response=response, json=spoilt(response.json()))  # type: ignore[attr-defined]

    for path in ("network", "graphs", "rules", "entries", "events", "explain"):
        opened.page.route(f"**/api/{path}", answer)
    opened.page.reload()
    for view in ("network", "graph", "tables", "packet", "whatif"):
        shown = opened.show(view)
        if view == "packet":
            shown.click("#explain")
            shown.wait_for_selector("#verdict, #result .notice")
        shown.wait_for_timeout(700)
        assert shown.locator("img").count() == 0
        assert shown.evaluate("typeof pwned") == "undefined"
    opened.said.clear()
    opened.close()


def test_keys_and_themes(page: Served, browser: Browser) -> None:
    for scheme in ("dark", "light"):
        screen = Screen(browser, page.address, color_scheme=scheme)
        shown = screen.page
        root = shown.locator("html")
        assert ("dark" in (root.get_attribute("class") or "")) == (scheme == "dark")
        for number, view in enumerate(("network", "graph", "tables", "packet", "whatif"), start=1):
            shown.keyboard.press(str(number))
            shown.wait_for_selector(f"#view-{view}")
        shown.keyboard.press("d")
        assert ("dark" in (root.get_attribute("class") or "")) == (scheme == "light")
        shown.keyboard.press("?")
        expect(shown.locator("dialog#keys")).to_be_visible()
        shown.keyboard.press("Escape")
        shown.keyboard.press("4")
        shown.wait_for_selector("#view-packet")
        shown.keyboard.press("/")
        assert shown.evaluate("document.activeElement.id") == "source"
        shown.keyboard.press("Escape")
        shown.click("#explain")
        shown.wait_for_selector("#verdict")
        shown.evaluate("document.activeElement.blur()")
        shown.keyboard.press("ArrowDown")
        expect(shown.locator("#hops li.chosen b").first).to_have_text("leaf1")
        screen.close()

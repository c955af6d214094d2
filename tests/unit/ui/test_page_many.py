"""A thousand devices and a hundred thousand entries in Chromium: what is not seen is not drawn.

Oracle: the numbers themselves. Blind spot: how long the devices take to be read (decision 0074).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from networks import compiled, long_acl, make_graph, one_way
from page_support import NEEDS_CHROMIUM, Screen, chromium
from playwright.sync_api import expect

from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.observation.rows import Row
from orchestrator.targets.pipelines import build_for, p4info
from orchestrator.ui.app import make_app
from orchestrator.ui.entries import EntriesReading, Pages, stamped
from orchestrator.ui.feed import Feed
from orchestrator.ui.guard import Guard, hosts_of
from orchestrator.ui.questions import EntriesQuestion
from orchestrator.ui.server import _listener as listener
from orchestrator.ui.server import place

SWITCHES, ENTRIES = 1000, 100_000
TOKEN = "token"


class Many:
    """A source whose network has a thousand switches; one has all the entries."""

    kind, name = "live", "many"
    files: tuple[Path, ...] = ()

    def __init__(self) -> None:
        bundle = compiled(
            make_graph({"acl": long_acl(2)}, one_way("inside", "acl", "outside"))
        ).bundle
        schema = Schema.of(p4info(build_for(bundle, "leaf1")))
        entry = next(e for e in bundle.programs["leaf1"].entries if e.table == "acl.ipv4")
        rows = [
            Row(
                "s0",
                InstalledEntry("g", entry._replace(origin=f"acl: rules[{i}]", priority=i), i, 0),
            )
            for i in range(ENTRIES)
        ]
        self._pages = Pages(lambda _: stamped(rows, {"s0": schema}, {"s0": {}}))

    def network(self) -> dict[str, object]:
        links = [(f"s{i}", f"s{i // 30}") for i in range(30, SWITCHES)]
        links += [(f"s{i}", f"h{i}") for i in range(900, SWITCHES)]
        return {
            "network": "many",
            "devices": [{"name": f"s{i}", "kind": "switch"} for i in range(SWITCHES)],
            "hosts": [{"name": f"h{i}", "addresses": []} for i in range(900, SWITCHES)],
            "links": [
                {"a": a, "b": b, "a_port": 1, "b_port": 1, "capacity": 10**9, "latency_us": 5}
                for a, b in links
            ],
            "conditions": [
                {"kind": "switch", "name": f"s{i}", "state": "up", "since": 0, "why": ""}
                for i in range(SWITCHES)
            ],
            "lacking": [],
            "cordoned": [],
        }

    def graphs(self) -> dict[str, object]:
        return {"graphs": []}

    def events(self) -> dict[str, object]:
        return {"events": [], "silent": {}}

    def entries(self, asked: EntriesQuestion) -> dict[str, object]:
        return self._pages.page(asked)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: {}


@contextmanager
def serving(source: Any) -> Iterator[str]:
    """In a thread of this process."""
    socket = listener(place(":0", None, None))
    port = socket.getsockname()[1]
    app = Guard(
        make_app(source, Feed(None, ()), writes=False),
        hosts=hosts_of(["127.0.0.1"], port),
        token=TOKEN,
    )
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="on")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/#token={TOKEN}"
    finally:
        server.should_exit = True
        thread.join()


@NEEDS_CHROMIUM
@pytest.mark.slow
def test_a_thousand_devices_and_a_hundred_thousand_entries() -> None:
    with serving(Many()) as address, chromium() as browser:
        screen = Screen(browser, address)
        page = screen.show("network")
        expect(page.locator("#health")).to_contain_text(f"{SWITCHES} of {SWITCHES} devices up")
        assert len(screen.drawn(".device")) == SWITCHES
        page.fill("#find", "s777")
        page.keyboard.press("Enter")
        expect(page.locator("aside h2")).to_have_text("s777 up")
        page = screen.show("tables?device=s0")
        page.wait_for_selector(".tabulator-row")
        expect(page.locator("#total")).to_contain_text(f"{ENTRIES:,} entries")
        assert page.locator(".tabulator-row").count() < 200
        rules = page.locator(".tabulator-cell[tabulator-field=rule]")
        expect(rules.first).to_have_text(f"rules[{ENTRIES - 1}]")
        for _ in range(4):  # as far as four pages, which are asked for as they are needed
            page.locator(".tabulator-tableholder").evaluate("it => it.scrollTo(0, it.scrollHeight)")
            page.wait_for_timeout(300)
        assert page.locator(".tabulator-row").count() < 200
        page.fill("#rule", "rules[4242]")
        expect(page.locator("#total")).to_contain_text(f"1 of {ENTRIES:,} entries")
        expect(rules).to_have_text(["rules[4242]"])
        screen.close()


def test_pages_ask_no_device_again() -> None:
    reads: list[str] = []

    def read(device: str) -> EntriesReading:
        reads.append(device)
        return stamped([], {device: Schema.of(p4info(build_for(BUNDLE, "leaf1")))}, {device: {}})

    pages = Pages(read)
    for asked in ({"offset": 0}, {"offset": 200}, {"sort": "rule"}, {"unhit": True}):
        pages.page(EntriesQuestion(device="leaf1", **asked))
    assert reads == ["leaf1"]
    pages.page(EntriesQuestion(device="leaf1", fresh=True))
    assert reads == ["leaf1", "leaf1"]
    for i in range(8):
        pages.page(EntriesQuestion(device=f"d{i}"))
    pages.page(EntriesQuestion(device="leaf1"))
    assert reads[-1] == "leaf1"  # only so many readings are kept


BUNDLE = compiled(make_graph({"acl": long_acl(2)}, one_way("inside", "acl", "outside"))).bundle

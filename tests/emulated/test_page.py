"""The page of a live network: a packet that is sent, and a worker that dies.

Oracle: `trace` itself (test_inspection.py), the process that was killed. Blind spot: BMv2.
"""

from __future__ import annotations

import os
import re
import signal

import pytest
from commands import orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, network
from page_support import NEEDS_CHROMIUM, Screen, chromium, served
from playwright.sync_api import expect

pytestmark = [NEEDS_EMULATION, NEEDS_CHROMIUM, pytest.mark.slow]
NAME = "paged"


def test_trace_beside_explain_and_a_worker_that_dies() -> None:
    with network("leaf-spine", "softswitch", NAME):
        orchestrator("deploy", str(CAMPUS_EDGE), "-n", NAME)
        with served("-n", NAME, "--write") as address, chromium() as browser:
            screen = Screen(browser, address)
            page = screen.show("packet")
            page.select_option("#source", "h1")
            page.select_option("#target", "h3")
            page.click("#trace")
            expect(page.locator("#result .notice").first).to_have_text(
                "The network does what explain predicts."
            )
            seen = {row[2].removeprefix("● ") for row in screen.rows()}
            assert seen == {"reported"}
            expect(page.locator("#result")).to_contain_text("Happened: h3 receives tcp")
            expect(page.locator("#events")).to_contain_text("nat")  # its mapping is told
            core = page.locator("#hops .head b", has_text=re.compile(r"server\d\.\d")).first
            worker = core.inner_text()
            (status,) = orchestrator_json("net", "status", "-n", NAME)
            process = next(c["pid"] for c in status["components"] if c["name"] == worker)
            page = screen.show("network")
            os.kill(process, signal.SIGKILL)
            page.wait_for_selector("#health .state.down")
            expect(page.locator("#news")).to_contain_text(f"worker {worker} is down")
            assert screen.drawn("node.down") == [worker.partition(".")[0]]
            screen.close()

"""The page as a user has it: `orchestrator ui` in a process, and Debian's Chromium in front of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, command_line
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="chromium: not installed")
WAIT_MS = 60_000
"""Only a failure takes so long."""
expect.set_options(timeout=WAIT_MS)


@contextmanager
def folders() -> Iterator[Path]:
    """State and sockets of these tests alone, under a short path."""
    base = Path(tempfile.mkdtemp(prefix="page-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        patch.setenv("XDG_RUNTIME_DIR", str(base))
        try:
            yield base
        finally:
            shutil.rmtree(base)


@contextmanager
def served(*words: str) -> Iterator[str]:
    """The address that `orchestrator ui WORDS` tells; Ctrl-C must end it."""
    process = subprocess.Popen(
        command_line("ui", *words, "--listen", "127.0.0.1:0", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert process.stderr
    try:
        lines = iter(process.stdout.readline, "")
        text = ""
        for line in lines:
            text += line
            if line.startswith("}"):
                break
        assert text, process.stderr.read()
        yield json.loads(text)["address"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
        assert "Traceback" not in said, said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        assert CHROMIUM
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Screen:
    """A page, what its console said, and whom it asked."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        context = browser.new_context(viewport={"width": 1440, "height": 860}, **options)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.address = address
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.said.append(f"uncaught: {error}"))
        self.page.on("request", self._asked)
        self.page.goto(address)
        self.page.wait_for_selector("#tabs button")

    def _said(self, message: ConsoleMessage) -> None:
        # Chromium tells of every refused question, which the page tells, too.
        if message.type in ("error", "warning") and "status of 400" not in message.text:
            self.said.append(message.text)

    def _asked(self, request: Request) -> None:
        self.asked.append(request.url)

    def show(self, view: str) -> Page:
        """A view, opened anew."""
        self.page.evaluate("view => { location.hash = '#/'; location.hash = `#/${view}`; }", view)
        name = view.partition("?")[0]
        self.page.wait_for_selector(f"#view-{name}")
        return self.page

    def drawn(self, selector: str, of: str = "id()", canvas: int = 0) -> list[str]:
        """What Cytoscape.js draws."""
        return self.page.evaluate(
            "([selector, n, of]) => [...document.querySelectorAll('.canvas')][n]._cyreg.cy"
            ".elements(selector).map((e) => of === 'id()' ? e.id() : e.data(of))",
            [selector, canvas, of],
        )

    def rows(self, selector: str = "table.plain", nth: int = 0) -> list[list[str]]:
        """The cells of a table."""
        return (
            self.page.locator(selector)
            .nth(nth)
            .locator("tbody tr")
            .evaluate_all("rows => rows.map((row) => [...row.cells].map((cell) => cell.innerText))")
        )

    def close(self) -> None:
        """Nothing was wrong, and nobody else was asked."""
        origin = self.address.partition("/#")[0]
        assert not self.said, self.said
        assert [url for url in self.asked if not url.startswith((origin, "data:"))] == []
        self.page.context.close()

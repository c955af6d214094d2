"""NFs that look into streams or change payloads, between real hosts: real HTTP, real TCP, real resets.

Oracle: what clients see, what a host's interface receives, the workers' counters. Blind spot: time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from live import NEEDS_EMULATION, SWITCHES, TRAFFIC, Live, network, orchestrator

from orchestrator.emulation import run_in_host, start_in_host

pytestmark = NEEDS_EMULATION
H3, HTTP, BYTES = "198.51.100.13", 8000, 300_000
NFS: dict[str, dict[str, Any]] = {
    "shaper": {
        "type": "traffic_shaper",
        "config": {"rate": "20Mbit/s", "burst": 15_140, "queue": 1_000_000},
    },
    "urls": {
        "type": "url_filter",
        "config": {
            "rules": [{"path": "/secret/*", "action": "deny"}],
            "ports": [str(HTTP)],
            "reset": True,
        },
    },
    "seal": {"type": "aes_encrypt", "config": {"key_file": "link.key", "spi": 4097, "mtu": 1600}},
    "open": {"type": "aes_decrypt", "config": {"key_file": "link.key", "spi": 4097, "mtu": 1600}},
}
CLIENT = """
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
        print(json.dumps({"bytes": len(answer.read())}))
except (urllib.error.URLError, OSError) as error:
    print(json.dumps({"error": type(getattr(error, "reason", error)).__name__}))
"""


def graph() -> dict[str, Any]:
    """inside - shaper - urls - seal - open - outside, and back the same way."""
    there = ["inside", *NFS, "outside"]

    def port(node: str, side: str) -> str:
        return f"{node}.{side}" if node in NFS else node

    edges = [{"from": port(a, "outside"), "to": port(b, "inside")} for a, b in pairwise(there)]
    edges += [{"from": port(b, "inside"), "to": port(a, "outside")} for a, b in pairwise(there)]
    ends = {"inside": ["h1", "h2"], "outside": ["h3", "h4"]}
    return {
        "name": "streams",
        "endpoints": {name: {"hosts": hosts} for name, hosts in ends.items()},
        "nfs": NFS,
        "edges": edges,
        "traffic": [
            {"name": a, "from": a, "to": b, "rate": "10Mbit/s"}
            for a, b in (("inside", "outside"), ("outside", "inside"))
        ],
    }


@pytest.fixture(scope="module", params=SWITCHES)
def streams(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "graph.json").write_text(json.dumps(graph()))
    (folder / "link.key").write_text(bytes(range(64)).hex())
    with network("single", request.param, f"sf-{request.param}") as live:
        orchestrator("deploy", str(folder / "graph.json"), "--network", live.name)
        server = start_in_host(
            live.state,
            "h3",
            [sys.executable, str(TRAFFIC), "serve", str(HTTP), "--bytes", str(BYTES)],
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield live


def fetch(live: Live, path: str) -> dict[str, Any]:
    url = f"http://{H3}:{HTTP}{path}"
    done = run_in_host(live.state, "h1", [sys.executable, "-c", CLIENT, url], timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_permitted_page_comes_whole_through_shaper_and_encryption(streams: Live) -> None:
    assert fetch(streams, "/page") == {"bytes": BYTES}
    assert streams.counted("streams/urls.requests") >= 1
    assert streams.counted("streams/shaper.delayed") > 0
    assert streams.counted("streams/seal.sequence") > 0
    assert streams.counted("streams/open.drop.not_authentic") == 0
    assert streams.pings("h1", H3), "and other protocols"


def test_a_denied_page_is_reset_at_once(streams: Live) -> None:
    before = streams.counted("streams/urls.denied")
    assert fetch(streams, "/secret/plan") == {"error": "ConnectionResetError"}
    assert streams.counted("streams/urls.denied") == before + 1
    assert fetch(streams, "/page") == {"bytes": BYTES}


def test_the_key_is_in_no_file_of_the_deployment(streams: Live, tmp_path: Path) -> None:
    key = bytes(range(64)).hex().encode()
    kept = [path for path in streams.folder.rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if key in path.read_bytes()]

"""traceroute, ping and path MTU discovery of real hosts through firewall, NAPT and a router that tells.

Oracle: what iputils' ping and traceroute print. Blind spot: rates, and what a host never sends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from commands import orchestrator
from live import NEEDS_EMULATION, SWITCHES, Live, chain_graph, network

from orchestrator.emulation import run_in_host

pytestmark = NEEDS_EMULATION
H3, GATEWAY, GATEWAY6 = "198.51.100.13", "10.0.1.1", "2001:db8:1::1"
ROUTER = "192.0.2.1"
NEEDS_TRACEROUTE = pytest.mark.skipif(
    not shutil.which("traceroute"), reason="traceroute (Debian package traceroute): not installed"
)
NFS: dict[str, dict[str, Any]] = {
    "fw": {"type": "stateful_firewall", "config": {"default": "permit"}},
    "nat": {"type": "napt", "config": {"addresses": ["203.0.113.1"]}, "workers": {"max": 1}},
    "edge": {
        "type": "router",
        "config": {
            "routes": [
                {"prefix": "198.51.100.0/24"},
                {"prefix": "10.0.1.0/24", "port": "inside"},
                {"prefix": "203.0.113.0/24", "port": "inside"},
            ],
            "errors": {"addresses": [ROUTER], "mtu": 1300},
        },
    },
}


@pytest.fixture(scope="module", params=SWITCHES)
def routed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Live]:
    file = tmp_path_factory.mktemp("routed") / "graph.json"
    file.write_text(json.dumps(chain_graph("routed", NFS)))
    with network("single", request.param, f"rt-{request.param}") as live:
        orchestrator("deploy", str(file), "--network", live.name)
        live.comes_to_ping("h1", H3)
        yield live


def says(live: Live, *words: str) -> str:
    return run_in_host(live.state, "h1", list(words), timeout=60).stdout


@NEEDS_TRACEROUTE
@pytest.mark.parametrize("method", ["-U", "-I", "-T"])
def test_traceroute(routed: Live, method: str) -> None:
    shown = says(routed, "traceroute", "-n", method, "-q", "2", "-w", "3", "-m", "4", H3)
    hops = [line.split()[1] for line in shown.splitlines()[1:]]
    assert hops == [ROUTER, H3], shown


def test_ping_is_told_why_it_got_no_answer(routed: Live) -> None:
    assert f"From {ROUTER}" in (shown := says(routed, "ping", "-c1", "-W3", "-t1", H3)), shown
    assert "Time to live exceeded" in shown
    shown = says(routed, "ping", "-c1", "-W3", "192.0.2.77")
    assert f"From {ROUTER}" in shown, shown
    assert "Net Unreachable" in shown


def test_path_mtu_discovery(routed: Live) -> None:
    shown = says(routed, "ping", "-c1", "-W3", "-M", "do", "-s", "1400", H3)
    assert "mtu = 1300" in shown or "mtu=1300" in shown, shown
    assert "mtu 1300" in says(routed, "ip", "route", "get", H3)


@pytest.mark.parametrize("gateway", [GATEWAY, GATEWAY6])
def test_gateways_answer_ping(routed: Live, gateway: str) -> None:
    assert routed.pings("h1", gateway)

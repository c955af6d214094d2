"""SmartNICs in a live network: an access list that no switch holds stands there, a core is a port of it.

Oracle: the hosts' kernels and the counters that devices tell. Blind spot: NICs that are hardware.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, network
from networks import with_nics

from orchestrator.targets import lookup

pytestmark = [NEEDS_EMULATION, pytest.mark.slow]

_DPDK = lookup("dpdk").engine


@pytest.mark.parametrize(
    "target",
    [
        "softswitch",
        pytest.param(
            "dpdk",
            marks=pytest.mark.skipif(
                bool(_DPDK is None or _DPDK.missing()), reason="DPDK is not installed"
            ),
        ),
    ],
)
def test_the_access_list_is_on_the_nic(target: str, tmp_path: Path) -> None:
    topology = with_nics(tmp_path, 100, target=target)
    with network(str(topology), "softswitch", f"nic-{target}") as live:
        orchestrator("deploy", str(CAMPUS_EDGE), "--network", live.name)
        kinds = {
            d["name"]: (d["kind"], d.get("target"))
            for d in orchestrator_json("status", "--network", live.name)["devices"]
        }
        assert kinds["server1-nic"] == ("nic", target)
        assert kinds["leaf1"] == ("switch", "softswitch")

        def told() -> int:
            return sum(row["packets"] or 0 for row in live.tables("server1-nic", "acl.ipv4"))

        before = told()
        assert live.pings("h1", "198.51.100.13", 5)
        assert told() >= before + 5
        text = orchestrator(
            "explain", "--from", "h1", "--to", "h3:23", "--network", live.name
        ).stdout
        assert "=> server1-nic: dropped: acl.ipv4" in text
        orchestrator("net", "restart", "server1-nic", "--network", live.name)
        orchestrator("reconcile", live.name)
        live.comes_to_ping("h1", "198.51.100.13")

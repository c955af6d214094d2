"""A worker of runtime dpdk is killed under load while one of either runtime follows it.

Oracle: every datagram has a number and each flow one NAPT port, the TCP transfer a digest. Blind spot:
as test_standbys.py, and a C process that ends while its worker lives: its state is gone then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import NEEDS_DPDK, NEEDS_EMULATION, Live
from test_standbys import doubled, kill_the_primary

pytestmark = [NEEDS_EMULATION, NEEDS_DPDK, pytest.mark.slow]

TOPOLOGY = Path(__file__).parents[2] / "topologies" / "leaf-spine.json"


@pytest.fixture(params=["python", "dpdk"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    """`server1` is of runtime dpdk, the standbys' server of the one that is asked for."""
    topology = json.loads(TOPOLOGY.read_text())
    topology["servers"]["server1"]["runtime"] = "dpdk"
    topology["servers"]["server2"]["runtime"] = request.param
    file = tmp_path / "topology.json"
    file.write_text(json.dumps(topology))
    with doubled(str(file), "doubled-c") as started:
        yield started


def test_what_was_open_outlives_a_killed_worker(live: Live) -> None:
    kill_the_primary(live)

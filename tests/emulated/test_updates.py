"""Updates of a live graph under load: nothing lost, nothing astray, connections stay.

Oracle: every datagram has a number, the TCP transfer a digest. The load's TCP connection and its
UDP from outside need the state of a firewall on a server core, and in one graph that of a NAPT, too:
had it moved or been lost, they end. The configurations of both change meanwhile.
Blind spot: rates near what the switches can do (tests/bench/updates.py has 1,000 a second).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from commands import orchestrator, orchestrator_json
from live import NEEDS_EMULATION, SWITCHES, Live, network
from update_load import POOL, Load, translating, write_version

pytestmark = NEEDS_EMULATION

UPDATES = range(1, 7)
RATE = 250


@pytest.fixture(scope="module", params=SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, "updates") as started:
        yield started


def test_nothing_is_lost(live: Live) -> None:
    graph = str(write_version(live.folder, 0))
    assert not orchestrator_json("deploy", graph, "-n", live.name)["updated"]
    changed = 0
    with Load(live.state, RATE) as load:
        for number in UPDATES:
            write_version(live.folder, number)
            done = orchestrator_json("deploy", graph, "-n", live.name)
            assert done["updated"]
            assert not any("firewall" in lost for lost in done["state_lost"]), done
            changed += sum(done["changes"].values())
    report = load.report
    assert report is not None
    assert changed > 100, "the updates were hardly any"
    assert report.sent > len(UPDATES) * RATE, report
    assert (report.lost, report.misrouted, report.repeated) == (0, 0, 0), report
    assert report.tcp_intact, report
    assert report.tcp_bytes > 100_000, report
    counted = max(
        value
        for metrics in live.worker_metrics().values()
        for name, value in metrics.items()
        if name.startswith("updated/firewall") and name.endswith(".packets")
    )
    assert counted > report.sent / 2, "a changed firewall goes on with its counters"
    orchestrator("undeploy", "updated", "-n", live.name)


def test_state_outlives_other_configurations(live: Live) -> None:
    """The last rules deny the very transfer, had it not begun before them."""
    graph = str(write_version(live.folder, 0, translating))
    orchestrator("deploy", graph, "-n", live.name)
    with Load(live.state, RATE, POOL) as load:
        for number in (1, 2, 3):
            write_version(live.folder, number, translating)
            done = orchestrator_json("deploy", graph, "-n", live.name)
            assert done["updated"]
            assert done["state_lost"] == []
    report = load.report
    assert report is not None
    assert report.sent > 3 * RATE, report
    assert (report.lost, report.misrouted, report.repeated) == (0, 0, 0), report
    assert report.tcp_intact, report
    assert report.tcp_bytes > 100_000, report
    orchestrator("undeploy", "updated", "-n", live.name)


def test_a_plan_says_what_would_change(live: Live) -> None:
    graph = str(write_version(live.folder, 0))
    orchestrator("deploy", graph, "-n", live.name)
    assert (
        "nothing would change" in orchestrator("deploy", graph, "-n", live.name, "--dry-run").stdout
    )
    write_version(live.folder, 3)
    planned = orchestrator("deploy", graph, "-n", live.name, "--dry-run", "--verbose", expect=1)
    assert "leaf1" in planned.stdout
    assert "plan:" in planned.stdout
    still = orchestrator("deploy", graph, "-n", live.name, "--dry-run", "--json", expect=1)
    assert '"updates": true' in still.stdout
    write_version(live.folder, 0)
    orchestrator("deploy", graph, "-n", live.name, "--dry-run", expect=0)
    orchestrator("undeploy", "updated", "-n", live.name)

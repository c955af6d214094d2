"""A live network's switches and workers are nobody: not root, no capabilities, and all goes on working.

Oracle: the kernel's word on every thread (/proc/PID/task/*/status), and traffic between hosts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import orchestrator
from live import NEEDS_EMULATION, SWITCHES, Live, network

from orchestrator.emulation.commands import engine_of

pytestmark = NEEDS_EMULATION
H3 = "198.51.100.13"
CAP_NET_RAW = f"{1 << 13:016x}"
NOTHING = f"{0:016x}"


def graph(key: str) -> dict[str, Any]:
    """inside - seal - open - outside, and back."""
    ends = {name: {"key_file": key, "spi": 4097, "mtu": 1600} for name in ("seal", "open")}
    there = ("inside", "seal.inside"), ("seal.outside", "open.inside"), ("open.outside", "outside")
    return {
        "name": "sealed",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
        "nfs": {
            "seal": {"type": "aes_encrypt", "config": ends["seal"]},
            "open": {"type": "aes_decrypt", "config": ends["open"]},
        },
        "edges": [
            *({"from": a, "to": b} for a, b in there),
            *({"from": b, "to": a} for a, b in there),
        ],
        "traffic": [
            {"name": a, "from": a, "to": b, "rate": "10Mbit/s"}
            for a, b in (("inside", "outside"), ("outside", "inside"))
        ],
    }


def statuses(pid: int) -> list[dict[str, list[str]]]:
    """What the kernel says of each of a process's threads."""
    threads: list[dict[str, list[str]]] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        threads.append({n: rest.split() for n, _, rest in (line.partition(":") for line in lines)})
    return threads


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module", params=SWITCHES)
def live(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Live, Path]]:
    folder = tmp_path_factory.mktemp("sealed")
    for name, number in (("one", 1), ("two", 2)):
        (folder / f"{name}.key").write_text((bytes([number]) * 64).hex())
        (folder / f"{name}.key").chmod(0o600)
    (folder / "secret.key").write_text("password=s3cr3t\n")
    (folder / "secret.key").chmod(0o600)
    for name in ("one", "two", "secret"):
        (folder / f"{name}.json").write_text(json.dumps(graph(f"{name}.key")))
    with network("single", request.param, f"pr-{request.param}") as running:
        yield running, folder


def test_they_are_nobody_and_traffic_goes_on(live: tuple[Live, Path]) -> None:
    running, folder = live
    orchestrator("deploy", str(folder / "one.json"), "--network", running.name)
    users: set[str] = set()
    for worker in running.state.workers:
        users |= nobody(worker.pid)
        (opener,) = children(worker.pid)
        for thread in statuses(opener):
            assert thread["Uid"][0] != "0"
            assert thread["CapEff"] == [f"{1 << 2:016x}"], "reads key files, and no more"
    for switch in running.state.switches.values():
        if engine_of(switch.target).leaves_root:
            users |= nobody(switch.pid)
            for child in children(switch.pid):  # it verifies programs, or moves packets
                users |= nobody(child)
        else:
            for thread in statuses(switch.pid):
                assert thread["CapEff"] == thread["CapBnd"] == [CAP_NET_RAW]
                assert thread["NoNewPrivs"] == ["1"]
    assert len(users) == 1
    assert running.pings("h1", H3)
    assert running.counted("sealed/seal.sequence") > 0
    # The keys are read again, by workers that could not any more.
    orchestrator("deploy", str(folder / "two.json"), "--network", running.name)
    assert running.pings("h1", H3)
    assert running.counted("sealed/open.drop.not_authentic") == 0
    orchestrator("reconcile", running.name)
    assert running.pings("h1", H3)
    orchestrator("undeploy", "sealed", "--network", running.name)
    orchestrator("deploy", str(folder / "one.json"), "--network", running.name)
    assert running.pings("h1", H3)


def nobody(pid: int) -> set[str]:
    """A process whose threads are all another user's and have nothing; that user."""
    threads = statuses(pid)
    for thread in threads:
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert thread[name] == [NOTHING], (thread["Name"], name)
        assert thread["NoNewPrivs"] == ["1"]
        assert thread["Groups"] == []
    users = {user for thread in threads for user in (*thread["Uid"], *thread["Gid"])}
    assert "0" not in users
    return users


def test_no_worker_gets_at_another_file(live: tuple[Live, Path]) -> None:
    running, folder = live
    refused = orchestrator(
        "deploy", str(folder / "secret.json"), "--network", running.name, expect=8
    )
    shown = refused.stdout + refused.stderr
    assert "secret.key holds no key:" in shown
    assert "s3cr3t" not in shown

"""A controller killed (-9) while it changes a network in memory, whose devices live on.

Oracle: packets, before and after, and the journal. At any step a packet meets one version, and who comes
next makes it the one that the journal says.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from networks import make_graph, one_way, topology
from recovery_controller import Job, run
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.live import LiveNetwork, new_journal
from orchestrator.linker.sharing import share
from orchestrator.model.bundle import Bundle
from orchestrator.network.inventory import Inventory
from orchestrator.simulation.control import start, stop
from orchestrator.simulation.hosts import Hosts
from servernf.wire.addresses import GATEWAY_MAC, mac_text

WHERE = "leaf-spine"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    made = start(topology(WHERE), "mem")
    new_journal("mem", made.folder)
    yield made
    stop("mem")
    patch.undo()


@cache
def version(port: int) -> Bundle:
    rules = [{"protocol": "udp", "dst_port": p, "action": "deny"} for p in (port, NEVER)]
    nfs = {"fw": ("acl", {"rules": rules, "default": "permit"})}
    graph = make_graph(nfs, one_way("inside", "fw", "outside"), name="fw")
    return compile_graph(CompileRequest(graph, topology(WHERE))).bundle


OLD, NEW = 23, 24
"""What the versions deny, each for itself."""
NEVER, ALWAYS = 7, 53
"""What both deny, and what both let pass."""


def denied(hosts: Hosts) -> set[int]:
    """Which ports the versions deny that packets meet."""
    ether = Ether(src=mac_text(topology(WHERE).hosts["h1"].mac), dst=mac_text(GATEWAY_MAC))
    frames = {
        port: bytes(
            ether / IP(src="10.0.1.11", dst="198.51.100.13") / UDP(dport=port) / b"12345678"
        )
        for port in (OLD, NEW, NEVER, ALWAYS)
    }
    return {port for port, frame in frames.items() if not hosts.send("h1", frame)}


def test_who_comes_after_a_killed_controller_finds_one_version(inventory: Inventory) -> None:
    hosts, network = Hosts(inventory.hosts), LiveNetwork(inventory)

    def change(port: int, kill_at: int = 0) -> int | None:
        deployed = network.journal.deployed().get("fw")
        bundle = version(port)
        beside = bundle if deployed is None else share(bundle, deployed.bundle)
        return run(Job.change(inventory, "fw", beside), kill_at=kill_at)

    change(OLD)
    steps = change(NEW)
    assert steps is not None
    outcomes: set[int] = set()
    for kill_at in (steps // 2, steps - 1):
        change(OLD)
        assert denied(hosts) == {OLD, NEVER}
        assert change(NEW, kill_at) is None
        # Each packet meets one version; rules that are replaced in place are so one after the other.
        assert {NEVER} <= denied(hosts) <= {OLD, NEW, NEVER}
        run(Job(inventory))
        assert network.journal.intent() is None
        (met,) = denied(hosts) - {NEVER}
        outcomes.add(met)
        assert change(met) is not None
        assert denied(hosts) == {met, NEVER}, "the journal knows what it is"
    assert NEW in outcomes, "the last step is behind the switch-over"
    hosts.close()

"""Markers behind the last packets of a version: transfers end once they have come, and else by time.

Oracle: by hand: which switches dispatch to the core that state leaves, and how long packets waited by
virtual time. Blind spot: that what carries markers does not reorder (tests/emulated/test_moves.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from networks import both_ways, make_graph, permits, topology
from test_state_across_updates import WHERE, Site, napt
from test_state_moves import DATAGRAM, HOSTS, on
from update_support import update

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.execution import QUIET_S, Executor
from orchestrator.deployment.handover import Moved
from orchestrator.deployment.moves import StateMove
from orchestrator.deployment.origins import of_core, origins_of
from orchestrator.deployment.planning import MARK
from orchestrator.errors import SwitchError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import PlacementRules
from orchestrator.model.plan import Core
from orchestrator.placement.running import running_of
from orchestrator.simulation.devices import MemorySwitch
from servernf.wire import nsh
from servernf.wire.addresses import device_mac

pytestmark = pytest.mark.slow


def moved() -> tuple[Site, list[Moved]]:
    """A NAPT that goes from one core to two, with packets in between."""
    site = Site(nat=on(napt(), 1))
    for host in HOSTS[:8]:
        site.out(DATAGRAM, source=host)

    def talk() -> None:
        if site.network.holds_back:
            for host in HOSTS[:8]:
                site.out(DATAGRAM, source=host)

    site.network.after = talk
    new = site.next(nat=on(napt(), 2))
    transaction = update(site.running, new)
    assert MARK in [stage.title for stage in transaction.stages]
    done = Executor(site.network).run(transaction)  # type: ignore[arg-type]
    site.network.after = lambda: None
    return site, done.moved


def test_packets_wait_no_longer_than_markers_take() -> None:
    _, (told,) = moved()
    assert (told.markers, told.paths) == (2, 2), "both leaves dispatch to the NAPT's core"
    assert told.held > 0
    assert told.waited_us < QUIET_S * 1e6 / 4
    assert "drained by time" not in str(told)


@pytest.mark.parametrize("how", ["lost", "refused"])
def test_a_marker_that_does_not_come_costs_time_and_is_told(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MemorySwitch.packet_out

    def packet_out(self: MemorySwitch, frame: bytes, egress_port: int) -> None:
        if self.name != "leaf2":
            real(self, frame, egress_port)
        elif how == "refused":
            raise SwitchError("leaf2: does not answer")

    monkeypatch.setattr(MemorySwitch, "packet_out", packet_out)
    site, (told,) = moved()
    assert (told.markers, told.paths, told.lost) == (1, 2, "")
    assert told.waited_us >= QUIET_S * 1e6
    assert str(told).endswith("; drained by time (1 of 2 markers came)")
    assert site.out(DATAGRAM, source=HOSTS[0])


def origins(bundle: Bundle, nf: str) -> tuple[Any, ...]:
    (core,) = running_of(bundle).cores_of[nf]
    move = StateMove(bundle.graph, core, Core(core.server, 2), (nf,))
    return of_core(origins_of(bundle, move), topology(WHERE), core)


def test_those_are_marked_that_dispatch_to_the_core() -> None:
    site = Site(nat=on(napt(), 1))
    (core,) = running_of(site.running).cores_of["nat"]
    marked = origins(site.running, "nat")
    assert {origin.device for origin in marked} == {"leaf1", "leaf2"}
    server = topology(WHERE).servers[core.server].id
    for origin in marked:
        assert origin.mac & ~(0xFF << 32) == device_mac(server, core=core.index + 1)


def test_nobody_marks_what_comes_over_another_switch() -> None:
    rules = {"rules": [{"dst": "192.0.2.0/24", "action": "deny"}], "default": "permit"}
    nfs = {"filter": ("acl", rules), "nat": napt(), "end": permits()}
    graph = make_graph(nfs, both_ways("inside", "filter", "nat", "outside"))
    graph = replace(graph, placement=PlacementRules({"filter": "spine1"}))
    bundle = compile_graph(CompileRequest(graph, topology(WHERE))).bundle
    assert origins(bundle, "nat") == ()


def test_a_marker_is_no_packet() -> None:
    frame = nsh.marker(0x020000020001, 0x020000010000, 0xDEADBEEF, 7)
    assert len(frame) == 60, "the least that Ethernet sends"
    assert frame[14] & 0x20, "the O bit"
    assert frame[22:30].hex() == "deadbeef00000007"

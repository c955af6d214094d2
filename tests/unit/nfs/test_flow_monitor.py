"""flow_monitor: what it counts, and that it passes everything."""

from __future__ import annotations

from typing import Any

from nf_bench import Bench
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP
from scapy.packet import Raw

from orchestrator.model.elements import FilterProgram
from orchestrator.nfs.flow_monitor import Flow, FlowMonitorReference

IN, OUT = "10.0.1.11", "198.51.100.13"
INSIDE, OUTSIDE = 0x0A00010B, 0xC633640D


def query(sport: int = 1000) -> Any:
    return IP(src=IN, dst=OUT) / UDP(sport=sport, dport=53) / Raw(bytes(18))


def answer(sport: int = 1000) -> Any:
    return IP(src=OUT, dst=IN) / UDP(sport=53, dport=sport) / Raw(bytes(58))


def counts(bench: Bench) -> dict[int, tuple[int, int]]:
    """Packets and bytes by the inside's port."""
    assert isinstance(bench.reference, FlowMonitorReference)
    return {f.inside[1]: (c.packets, c.bytes) for f, c in bench.reference.flows.items()}


def test_both_directions_count_for_one_flow() -> None:
    bench = Bench("flow_monitor", {})
    assert bench.passes("inside", query())
    assert bench.passes("outside", answer())
    assert counts(bench) == {1000: (2, 160)}
    assert isinstance(bench.reference, FlowMonitorReference)
    assert {f for f, _ in bench.reference.flows.items()} == {
        Flow(4, 17, (INSIDE, 1000), (OUTSIDE, 53))
    }
    assert bench.passes("inside", ARP())
    assert bench.passes("inside", IP(src=IN, dst=OUT, proto=17, frag=4) / Raw(bytes(8)))
    assert set(counts(bench)) == {1000, 0}


def test_idle_and_bounded() -> None:
    bench = Bench("flow_monitor", {"max_flows": 2})
    bench.send("inside", query())
    bench.wait(59.9)
    bench.send("inside", query())
    assert counts(bench)[1000][0] == 2
    bench.wait(60)
    bench.send("inside", query())
    assert counts(bench)[1000][0] == 1
    bench.send("inside", query(1))
    bench.send("outside", answer())
    bench.send("inside", query(2))
    assert set(counts(bench)) == {1000, 2}


def test_elements() -> None:
    elements = Bench("flow_monitor", {}).function.elements("inside")
    select = elements.elements["select"].program
    assert isinstance(select, FilterProgram)
    assert select.default == "pass"
    assert elements.elements["count"].stateful

"""The flow monitor of server workers."""

from __future__ import annotations

import random
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import UDP, IPv6
from scapy.layers.l2 import ARP
from scapy.packet import Raw
from servernf_support import SECOND, call, ether, make, tcp, udp

from orchestrator.model.packet import Packet
from orchestrator.nfs.base import SimpleEnvironment, lookup
from orchestrator.nfs.flow_monitor import FlowMonitorReference

IN, OUT = "10.0.1.11", "198.51.100.13"


def test_top_flows_and_totals() -> None:
    nf = make("flow_monitor", top=1)
    small, big = tcp(IN, 1, OUT, 80, "S"), udp(OUT, 53, IN, 2, bytes(500))
    assert call(nf, small, "inside")[0] == "outside"
    for _ in range(2):
        left, packet = call(nf, big, "outside")
        assert (left, bytes(packet)) == ("inside", big)
    assert call(nf, ether(ARP()), "inside")[0] == "outside"
    six = ether(IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=1, dport=2))
    assert call(nf, six, "inside")[0] == "outside"
    assert nf.metrics() == {
        "flows": 3,
        "packets": 4,
        "bytes": len(small) + 2 * len(big) + len(six),
        "flow.17.10.0.1.11.2-198.51.100.13.53.packets": 2,
        "flow.17.10.0.1.11.2-198.51.100.13.53.bytes": 2 * len(big),
    }
    assert nf.drops == {}


@pytest.mark.slow
def test_it_counts_as_the_reference_does() -> None:
    rng = random.Random(3)
    cls = lookup("flow_monitor")
    config: dict[str, Any] = {"max_flows": 5, "idle_timeout_s": 10}
    function = cls("nf", cls.Config.model_validate(config))
    reference, env = function.reference(), SimpleEnvironment()
    assert isinstance(reference, FlowMonitorReference)
    nf = make("flow_monitor", **function.runtime_config())
    for _ in range(2000):
        env.now_us += rng.choice((0, SECOND, 4 * SECOND))
        src, dst = rng.sample((IN, OUT), 2)
        frame = udp(src, rng.randrange(3), dst, rng.randrange(3), rng.randbytes(rng.randrange(99)))
        if rng.random() < 0.2:
            frame = ether(IP(src=src, dst=dst, frag=1, proto=17) / Raw(bytes(8)))
        port = rng.choice(("inside", "outside"))
        reference.process(Packet.parse(frame), port, env)
        call(nf, frame, port, env.now_us)
        counted = sorted((c.packets, c.bytes) for _, c in reference.flows.items())
        metrics = nf.metrics()
        told = [k[: -len(".packets")] for k in metrics if k.endswith(".packets")]
        assert sorted((metrics[f"{k}.packets"], metrics[f"{k}.bytes"]) for k in told) == counted

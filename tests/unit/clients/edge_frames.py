"""A frame and the entries by which the edge pipeline samples it."""

from __future__ import annotations

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from orchestrator.model.entries import Exact, TableEntry

HOST_PORT = 1
FRAME = bytes(
    Ether(src="0a:00:00:00:00:01", dst="06:00:00:00:00:01")
    / IP(src="10.0.1.11", dst="198.51.100.13")
    / UDP(sport=1, dport=2)
    / b"0123456789"
)


def sampling(graph: int = 5) -> list[TableEntry]:
    """All that enters by the host's port, every packet sampled."""
    return [
        TableEntry(
            "classify.ipv4",
            (("ingress_port", Exact(HOST_PORT)),),
            "classify.ipv4.admit",
            (("graph", graph),),
            1,
            "all",
        ),
        TableEntry(
            "classify.epoch", (("graph", Exact(graph)),), "classify.run", (("epoch", 0),), 0, "all"
        ),
        TableEntry(
            "classify.sources_ipv4",
            (("graph", Exact(graph)), ("epoch", Exact(0)), ("ingress_port", Exact(HOST_PORT))),
            "classify.sources_ipv4.allow",
            (),
            0,
            "all",
        ),
        TableEntry(
            "classify.first_ipv4",
            (("graph", Exact(graph)), ("epoch", Exact(0)), ("ingress_port", Exact(HOST_PORT))),
            "classify.first_ipv4.enter",
            (("segment", graph << 14 | 1),),
            1,
            "all",
        ),
        TableEntry(
            "trajectory_sample.manifests",
            (("graph", Exact(graph)),),
            "trajectory_sample.watch",
            (("key0", 1), ("key1", 2), ("below", (1 << 32) - 1)),
            0,
            "manifest",
        ),
    ]

"""What a graph probably does not mean, beside what the reference does with its packets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from networks import Spec, compiled, ids, make_graph, one_way, permits, small, topology

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.graph import functions_of
from orchestrator.graph.unintended import unintended
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.headers import UDP
from orchestrator.oracle import ReferenceNetwork, frames
from servernf.wire.addresses import GATEWAY_MAC

LEAF_SPINE = topology("leaf-spine")
MONITORED = {"inside": ("h1",), "outside": ("h3",), "monitor": ("h4",)}
ENCAP: Spec = "vxlan_encap", {"vni": 7, "local": "203.0.113.1", "remote": "198.51.100.14"}


def tapped(*behind: str, **nfs: Spec) -> ServiceGraph:
    """A tap between two endpoints, whose copies go on through NFs to a third."""
    edges = [*one_way("inside", "tap", "outside")]
    copies = ["tap.mirror", *(f"{nf}.{side}" for nf in behind for side in ("inside", "outside"))]
    edges += [f"{a} {b}" for a, b in zip(copies[::2], [*copies[1::2], "monitor"], strict=True)]
    return make_graph({"tap": ("mirror", {}), **nfs}, edges, endpoints=MONITORED)


def told(graph: ServiceGraph) -> list[str]:
    return list(unintended(graph, functions_of(graph)))


def receivers(graph: ServiceGraph, to: str) -> list[str]:
    """Who receives a packet from h1 for a host."""
    src, dst = (int(LEAF_SPINE.hosts[h].addresses[0].ip) for h in ("h1", to))
    l4 = frames.with_checksum(4, src, dst, UDP, frames.udp(40000, 53, b"x"))
    packet = frames.ip(4, src, dst, UDP, l4)
    frame = frames.ethernet(
        packet, frames.ether_type_of(4), src=LEAF_SPINE.hosts["h1"].mac, dst=GATEWAY_MAC
    )
    return [host for host, _ in ReferenceNetwork(graph, LEAF_SPINE).send("h1", frame)]


@pytest.mark.parametrize(
    "graph",
    [tapped(), tapped("a", a=permits()), tapped("i", i=ids())],
    ids=["at once", "an acl between", "an ids between"],
)
def test_copies_that_keep_their_destination_are_told(graph: ServiceGraph) -> None:
    (text,) = told(graph)
    assert text.startswith("edges: copies of 'tap' come to 'monitor' for whom they were")
    assert "vxlan_encap" in text
    assert receivers(graph, "h3") == ["h3"]
    assert "h4" in receivers(graph, "h4")


def test_copies_in_a_tunnel_are_as_they_should_be() -> None:
    graph = tapped("t", t=ENCAP)
    assert not told(graph)
    assert sorted(receivers(graph, "h3")) == ["h3", "h4"]


def vpn(far: str) -> ServiceGraph:
    """An encrypted way, entered at the far end at a port."""
    ends = {
        name: (kind, {"key_file": "key.hex", "spi": 1000})
        for name, kind in (("enc", "aes_encrypt"), ("dec", "aes_decrypt"))
    }
    left = {"inside": "outside", "outside": "inside"}[far]
    edges = [
        "inside enc.inside",
        "enc.outside a.inside",
        f"a.outside dec.{far}",
        f"dec.{left} outside",
    ]
    return make_graph({**ends, "a": permits()}, edges)


def test_what_is_encrypted_twice_is_told() -> None:
    assert told(vpn("outside")) == [
        "nfs.dec: what enc has encrypted enters it at 'outside', where it encrypts: connect it to "
        "'inside', where it decrypts"
    ]
    assert not told(vpn("inside"))


def test_what_one_server_encrypts_and_decrypts_is_told() -> None:
    (text,) = (w for w in compiled(vpn("inside")).bundle.warnings if "link is protected" in w)
    assert "nfs.enc: is on one server with dec" in text


def test_a_function_without_state_on_a_server_for_want_of_room_is_told() -> None:
    graph = make_graph({"a": permits()}, one_way("inside", "a", "outside"))
    request = CompileRequest(graph, LEAF_SPINE)
    assert not compile_graph(request).bundle.warnings
    full = compile_graph(replace(request, topology=small(LEAF_SPINE, acl_ipv4=1)))
    (text,) = full.bundle.warnings
    assert text.startswith("g: nfs.a: runs on a server: no switch holds it: ")

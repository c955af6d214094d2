"""How state is written down and read again, and what is refused.

Oracle: vectors by hand (`servernf.conformance.state`). Blind spot: fields whose values mean nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

import pytest
from servernf_support import call, make, tcp, udp

from servernf.conformance import state as vectors
from servernf.conformance.state import HOSTILE, VECTORS, Hostile, StateVector
from servernf.python.network_function import NetworkFunction
from servernf.python.scope import EVERYTHING, StateScope
from servernf.wire.errors import InputError
from servernf.wire.state import Batch, RecordLayout, StateRecord, decode, encode

IN, OUT, POOL = "10.0.1.11", "198.51.100.13", "203.0.113.1"


def only(layout: RecordLayout) -> Callable[[str], Mapping[str, RecordLayout]]:
    return lambda _nf_type: {layout.table: layout}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v.nf} {len(v.records)}")
def test_batches_are_the_vectors(vector: StateVector) -> None:
    layout = vector.layout
    records = [StateRecord(layout.pack_key(k), layout.pack(v)) for k, v in vector.records]
    assert encode(vector.nf, layout, records) == vector.batch
    batch = decode(vector.batch, only(layout))
    assert (batch.nf_type, batch.table, batch.version) == (vector.nf, layout.table, layout.version)
    read = [(layout.unpack_key(r.key), layout.unpack(r.body)) for r in batch.records]
    assert tuple(read) == vector.records


def test_the_vectors_are_of_what_nfs_write() -> None:
    assert make("flow_monitor").state.layouts["flows"] == vectors.FLOWS
    assert make("napt", addresses=[POOL]).state.layouts["mappings"] == vectors.MAPPINGS


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda h: h.why)
def test_what_is_no_batch_is_refused(hostile: Hostile) -> None:
    with pytest.raises(InputError, match=hostile.says):
        decode(hostile.batch, only(vectors.FLOWS))


def test_any_damage_is_refused_or_another_record() -> None:
    rng = random.Random(1)
    for vector in VECTORS:
        for _ in range(300):
            bent = bytearray(vector.batch)
            if rng.random() < 0.5:
                bent[rng.randrange(len(bent))] ^= 1 << rng.randrange(8)
            else:
                del bent[rng.randrange(len(bent)) :]
            try:
                batch = decode(bytes(bent), only(vector.layout))
            except InputError:
                continue
            again = encode(batch.nf_type, vector.layout, batch.records)
            assert again == bytes(bent)


def written(nf: NetworkFunction, now_us: int = 0) -> list[Batch]:
    return [decode(raw, lambda _: nf.state.layouts) for raw in nf.state.export(EVERYTHING, now_us)]


def refused(nf: NetworkFunction, batches: list[Batch], *words: str) -> None:
    before = nf.state.snapshot(EVERYTHING, 0), nf.metrics(), dict(nf.drops)
    with pytest.raises(InputError) as told:
        nf.state.enter(batches, 0)
    assert all(word in str(told.value) for word in words), told.value
    assert (nf.state.snapshot(EVERYTHING, 0), nf.metrics(), dict(nf.drops)) == before


def napt(**config: Any) -> NetworkFunction:
    return make("napt", **{"addresses": [POOL], "ports": [1024, 2047], **config})


class TestRefused:
    """One clear error, and nothing changed."""

    def test_another_nf(self) -> None:
        nf = napt()
        call(nf, udp(IN, 1500, OUT, 53), "inside")
        refused(make("flow_monitor"), written(nf), "'napt'", "flow_monitor")

    def test_ports_that_are_not_their_buckets_or_taken(self) -> None:
        nf = napt()
        call(nf, udp(IN, 1500, OUT, 53), "inside")
        refused(napt(ports=[1024, 1499]), written(nf), "port 1500", "not what its bucket has")
        other = napt()
        call(other, udp("10.0.1.12", 1500, OUT, 53), "inside")
        refused(other, written(nf), "port 1500", "taken")

    def test_the_same_again(self) -> None:
        nf = make("flow_monitor")
        call(nf, udp(IN, 1, OUT, 53), "inside")
        refused(nf, written(nf), "flows[0]", "there already")

    def test_no_room(self) -> None:
        nf = make("flow_monitor")
        for port in range(1, 6):
            call(nf, udp(IN, port, OUT, 53), "inside")
        refused(make("flow_monitor", max_flows=3), written(nf), "5 records", "room for 3")

    def test_connections_of_no_backend(self) -> None:
        web = {"address": OUT, "protocol": "tcp", "port": 80}
        ends = [{"address": IN, "port": 8080}], [{"address": IN, "port": 8081}]
        nf, other = (make("l4_load_balancer", virtual=[{**web, "backends": e}]) for e in ends)
        call(nf, tcp("192.0.2.1", 7, OUT, 80, "S"), "outside")
        refused(other, written(nf)[:1], "no backend")

    def test_sessions_without_their_mapping_and_counts_that_are_wrong(self) -> None:
        nf = napt()
        call(nf, tcp(IN, 1500, OUT, 80, "S"), "inside")
        call(nf, tcp(OUT, 80, POOL, 1500, "SA", ack=1), "outside")
        call(nf, tcp(IN, 1500, OUT, 80, "A", seq=1, ack=1), "inside")
        mappings, sessions, *_ = written(nf)
        assert (mappings.table, sessions.table) == ("mappings", "sessions")
        refused(napt(), [sessions], "no mapping")
        refused(napt(), [mappings], "1 connections established, 0 come along")

    def test_numbers_that_no_segment_has(self) -> None:
        nf = make("stateful_firewall", rules=[{"action": "permit"}])
        call(nf, tcp(IN, 1500, OUT, 80, "S"), "inside")
        batch, *_ = written(nf)
        layout = nf.state.layouts["connections"]
        names = [field.name for field in layout.fields]
        for name, wrong in (("inside.scale", 1 << 40), ("inside.isn", -2), ("kind", 5)):
            values = list(layout.unpack(batch.records[0].body))
            values[names.index(name)] = wrong
            bent = StateRecord(batch.records[0].key, layout.pack(values))
            other = Batch(batch.nf_type, batch.table, batch.version, (bent,))
            refused(make("stateful_firewall", rules=[]), [other], str(wrong))


class TestScopes:
    def test_a_flow_space(self) -> None:
        nf = make("flow_monitor")
        for host in ("10.0.1.1", "10.0.1.2", "10.0.2.1"):
            call(nf, udp(host, 7, OUT, 53), "inside")
        scope = StateScope(inside=ip_network("10.0.1.0/24"), outside_ports=(53, 53), protocol=17)
        assert len(nf.state.snapshot(scope, 0)["flows"]) == 2
        assert nf.state.delete(scope) == 2
        assert nf.state.size()[0] == 1
        assert not nf.state.snapshot(StateScope(outside_ports=(54, 99)), 0)["flows"]

    def test_what_cannot_be_divided_says_so(self) -> None:
        one = StateScope(buckets=frozenset((1,)))
        policer = make("policer", rules=[{"rate": 8000, "burst": 100}])
        for call_it in (policer.state.snapshot, policer.state.export):
            with pytest.raises(InputError, match="'buckets' is of all flows together"):
                call_it(one, 0)
        with pytest.raises(InputError, match="not kept by outside_port"):
            napt().state.delete(StateScope(outside_ports=(1, 2)))
        with pytest.raises(InputError, match="no buckets here"):
            napt().state.export(one, 0)

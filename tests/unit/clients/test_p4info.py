"""Names to P4Runtime messages and back. Oracle: what is decoded again, and the spec's rules."""

from __future__ import annotations

from typing import Any

import pytest
from finsy.proto import p4i, p4r
from networks import campus, compiled

from orchestrator.clients.encoding import canonical
from orchestrator.clients.p4info import (
    Schema,
    clone_session_update,
    flood_update,
    short,
)
from orchestrator.errors import SwitchError
from orchestrator.model.entries import Between, Exact, FloodGroup, Lpm, TableEntry, Ternary
from orchestrator.model.manifest import SamplingSecret, manifest_entries
from orchestrator.model.provenance import told
from orchestrator.targets.pipelines import SHIPPED, p4info


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema(p4info(SHIPPED.build("edge", "softswitch")))


ACL = TableEntry(
    "acl.ipv4",
    (
        ("segment", Exact(0x14001)),
        ("src", Ternary(0x0A000000, 0xFF000000)),
        ("l4", Ternary(1, 3)),
        ("dst_port", Between(80, 443)),
    ),
    "acl.ipv4.go_to",
    (("segment", 0x14002),),
    17,
    "fw: rules[3]",
)
ROUTE = TableEntry(
    "route.ipv6",
    (("segment", Exact(5)), ("dst", Lpm(0x20010DB8 << 96, 32))),
    "route.ipv4.next_hop",
    (("mac", 1), ("gateway_mac", 0x060000000001), ("segment", 0)),
    0,
    "r: routes[0]",
)


@pytest.mark.parametrize("entry", [ACL, ROUTE], ids=["ternary and range", "lpm"])
def test_round_trip(schema: Schema, entry: TableEntry) -> None:
    as_told = entry._replace(origin=told(entry.origin))
    assert schema.decode(schema.encode(entry, "campus")) == ("campus", as_told)


def test_every_entry_that_lowering_makes_round_trips(schema: Schema) -> None:
    result = compiled(campus())
    programs = [*result.bundle.programs.values(), *result.bundle.fabric.values()]
    entries = [e for p in programs for e in (*p.entries, *p.activation)]
    entries += manifest_entries(SamplingSecret(1, 2, 3, 0xFFFFFFFF))
    kinds = set()
    for entry in entries:
        graph, decoded = schema.decode(schema.encode(entry, "g"))
        assert (graph, decoded) == ("g", entry._replace(origin=told(entry.origin)))
        assert [type(k) for _, k in decoded.keys] == [type(k) for _, k in entry.keys]
        kinds |= {type(key) for _, key in entry.keys}
    assert kinds == {Exact, Lpm, Ternary, Between}


def test_an_exact_key_of_a_ternary_or_prefix_field_asks_for_all_bits(schema: Schema) -> None:
    keys = (("segment", Exact(1)), ("src", Exact(5)))
    message = schema.encode(ACL._replace(keys=keys), "g")
    assert message.match[1].ternary.mask == b"\xff\xff\xff\xff"
    message = schema.encode(ROUTE._replace(keys=(("segment", Exact(1)), ("dst", Exact(5)))), "g")
    assert message.match[1].lpm.prefix_len == 128


def test_priority_only_where_the_spec_wants_one(schema: Schema) -> None:
    assert schema.encode(ACL, "g").priority == 17
    assert schema.encode(ROUTE._replace(priority=9), "g").priority == 0
    for table in schema.tables.values():
        ternary = any(f.kind in ("TERNARY", "RANGE", "OPTIONAL") for f in table.keys.values())
        assert table.needs_priority is ternary


@pytest.mark.parametrize(
    ("value", "data"), [(0, b"\0"), (1, b"\1"), (255, b"\xff"), (256, b"\1\0"), (1 << 127, None)]
)
def test_numbers_are_canonical(value: int, data: bytes | None) -> None:
    """P4Runtime 8.4: as few bytes as hold the value, one at least."""
    got = canonical(value)
    assert got == (data or b"\x80" + bytes(15))
    assert int.from_bytes(got, "big") == value


def test_provenance_is_metadata_without_its_place(schema: Schema) -> None:
    assert ACL.origin == "fw: rules[3]"
    assert schema.encode(ACL, "campus").metadata == b"campus|fw: rules"


@pytest.mark.parametrize("metadata", [b"", b"someone else's", b"\xff\xfe"])
def test_entries_of_others_are_read_too(schema: Schema, metadata: bytes) -> None:
    message = schema.encode(ACL, "g")
    message.metadata = metadata
    graph, entry = schema.decode(message)
    assert entry.table == "acl.ipv4"
    assert "campus" not in graph


def test_an_unknown_table_suggests_the_nearest(schema: Schema) -> None:
    with pytest.raises(SwitchError, match=r"unknown table 'acl\.ipv5'; did you mean 'acl\.ipv"):
        schema.table("acl.ipv5")


def test_updates_are_of_one_kind(schema: Schema) -> None:
    made = list(schema.updates([ACL, ROUTE], "g", p4r.Update.DELETE))
    assert [u.kind for u in made] == [p4r.Update.DELETE] * 2


def test_flood_groups_and_clone_sessions() -> None:
    group = flood_update(FloodGroup(70, (3, 1, 2), "x"), p4r.Update.INSERT)
    entry = group.entity.packet_replication_engine_entry.multicast_group_entry
    assert entry.multicast_group_id == 70
    replicas: Any = [(r.egress_port, r.instance) for r in entry.replicas]
    assert [port for port, _ in replicas] == [3, 1, 2]
    assert len(set(replicas)) == 3, "(port, instance) must be unique"
    session = clone_session_update(100, 510, (1, 2), p4r.Update.DELETE)
    assert session.type == p4r.Update.DELETE
    assert session.entity.packet_replication_engine_entry.clone_session_entry.session_id == 100


def test_names_are_without_the_control() -> None:
    assert short("ingress.acl.ipv4") == "acl.ipv4"
    assert short("ingressive.x") == "ingressive.x"


def test_from_text_and_from_message_agree(schema: Schema) -> None:
    text = SHIPPED.build("edge", "softswitch").p4info_text.decode()
    assert Schema.from_text(text).tables == schema.tables
    assert isinstance(schema.p4info, p4i.P4Info)

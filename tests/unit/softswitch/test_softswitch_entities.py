"""P4Runtime entities in process: what is accepted, what is refused and in which words."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest
from finsy.proto import p4d, p4r, rpc_code
from google.protobuf.message import DecodeError
from softswitch_support import DELETE, INSERT, MODIFY, Names, clone_session, group, loaded, p4info

from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.switch import SoftSwitch


@pytest.fixture
def names() -> Names:
    return Names(p4info("router"))


@pytest.fixture
def switch() -> SoftSwitch:
    return loaded("router")


def refusal(switch: SoftSwitch, update: p4r.Update) -> EntityError:
    with pytest.raises(WriteError) as e:
        switch.write([update])
    (error,) = e.value.errors
    assert error is not None
    return error


def read(switch: SoftSwitch, **request: object) -> list[p4r.TableEntry]:
    entity = p4r.Entity(table_entry=p4r.TableEntry(**request))  # type: ignore[arg-type]
    return [e.table_entry for e in switch.read(entity)]


def acl(names: Names, match: dict[str, object] | None = None, priority: int = 5) -> p4r.Update:
    return names.entry("ig.acl", {"port": 1, **(match or {})}, "ig.deny", (), priority)


def route(names: Names, value: int = 0x0A000000, length: int = 8) -> p4r.Update:
    return names.entry("ig.ipv4_lpm", {"dst": (value, length)}, "ig.route", (2, 3))


def with_value(update: p4r.Update, raw: bytes) -> p4r.Update:
    update.entity.table_entry.match[-1].exact.value = raw
    return update


def double(update: p4r.Update) -> p4r.Update:
    e = update.entity.table_entry
    e.match.add().CopyFrom(e.match[0])
    return update


def changed(update: p4r.Update, change: Callable[[p4r.TableEntry], object]) -> p4r.Update:
    change(update.entity.table_entry)
    return update


BAD: dict[str, tuple[Callable[[Names], p4r.Update], int, str]] = {
    "no priority": (
        lambda n: acl(n, priority=0),
        rpc_code.INVALID_ARGUMENT,
        "table ig.acl: priority 0 given, but an entry needs a priority > 0 because of "
        "src (ternary), proto (optional), dport (range); the highest number wins",
    ),
    "priority on lpm": (
        lambda n: changed(route(n), lambda e: setattr(e, "priority", 3)),
        rpc_code.INVALID_ARGUMENT,
        "table ig.ipv4_lpm: priority 3 given, but the table has only exact and lpm fields",
    ),
    "exact field missing": (
        lambda n: names_entry(n, {}, 5),
        rpc_code.INVALID_ARGUMENT,
        "table ig.acl: exact match field 'port' is missing",
    ),
    "zero mask": (
        lambda n: acl(n, {"src": (0, 0)}),
        rpc_code.INVALID_ARGUMENT,
        "field 'src': mask 0 means 'any'; leave the field out",
    ),
    "value outside mask": (
        lambda n: acl(n, {"src": (0x0A000001, 0xFF000000)}),
        rpc_code.INVALID_ARGUMENT,
        "field 'src': value 0xa000001 has bits outside mask 0xff000000",
    ),
    "prefix 0": (
        lambda n: route(n, 0, 0),
        rpc_code.INVALID_ARGUMENT,
        "field 'dst': prefix length 0 means 'any'",
    ),
    "prefix 33": (
        lambda n: route(n, 0, 33),
        rpc_code.INVALID_ARGUMENT,
        "field 'dst': prefix length 33 is not in 1..32",
    ),
    "bits beyond prefix": (
        lambda n: route(n, 0x0A000001, 8),
        rpc_code.INVALID_ARGUMENT,
        "has bits beyond prefix length 8; the prefix is 0xa000000/8",
    ),
    "range upside down": (
        lambda n: acl(n, {"dport": (9, 8)}),
        rpc_code.INVALID_ARGUMENT,
        "field 'dport': low 9 is above high 8",
    ),
    "whole range": (
        lambda n: acl(n, {"dport": (0, 65535)}),
        rpc_code.INVALID_ARGUMENT,
        "field 'dport': the whole range means 'any'",
    ),
    "too wide": (
        lambda n: with_value(acl(n), b"\x02\x00"),
        rpc_code.INVALID_ARGUMENT,
        "field 'port': value 0x200 does not fit 9 bits (largest: 0x1ff)",
    ),
    "empty bytes": (
        lambda n: with_value(acl(n), b""),
        rpc_code.INVALID_ARGUMENT,
        "field 'port': value is an empty byte string; zero is b'\\x00'",
    ),
    "wrong kind": (
        lambda n: changed(acl(n), lambda e: setattr(e.match[-1].ternary, "value", b"\1")),
        rpc_code.INVALID_ARGUMENT,
        "field 'port' is an exact match, not ternary; set FieldMatch.exact",
    ),
    "given twice": (
        lambda n: double(acl(n)),
        rpc_code.INVALID_ARGUMENT,
        "match field 'port' is given twice",
    ),
    "unknown field": (
        lambda n: changed(acl(n), lambda e: setattr(e.match[-1], "field_id", 77)),
        rpc_code.INVALID_ARGUMENT,
        "unknown match field id 77 (valid: 1 (src), 2 (dst), 3 (proto), 4 (dport), 5 (port))",
    ),
    "unknown table": (
        lambda n: changed(acl(n), lambda e: setattr(e, "table_id", 7)),
        rpc_code.INVALID_ARGUMENT,
        "unknown table id 7 (valid: ",
    ),
    "action of another table": (
        lambda n: names_entry(n, {"port": 1}, 5, "ig.forward", (1,)),
        rpc_code.INVALID_ARGUMENT,
        "action 'ig.forward' is not an action of this table "
        "(valid: ig.deny, ig.permit, ig.mark, ig.to_cpu, ig.mirror)",
    ),
    "default-only action": (
        lambda n: n.entry("ig.ipv4_lpm", {"dst": (0, 1)}, "NoAction"),
        rpc_code.PERMISSION_DENIED,
        "action 'NoAction' is @defaultonly, not usable in an entry "
        "(valid: ig.route, ig.flood, ig.drop)",
    ),
    "no action": (
        lambda n: n.entry("ig.ipv4_lpm", {"dst": (0, 1)}),
        rpc_code.INVALID_ARGUMENT,
        "an entry needs an action (valid: ig.route, ig.flood, ig.drop, NoAction)",
    ),
    "missing parameter": (
        lambda n: changed(route(n), lambda e: e.action.action.params.pop()),
        rpc_code.INVALID_ARGUMENT,
        "action 'ig.route' got parameter ids [1], it takes: 1 (port, 9 bits), 2 (dst, 48 bits)",
    ),
    "parameter too wide": (
        lambda n: n.entry("ig.ipv4_lpm", {"dst": (0, 1)}, "ig.route", (512, 1)),
        rpc_code.INVALID_ARGUMENT,
        "action 'ig.route': parameter 'port' value 0x200: it must fit 9 bits",
    ),
    "const entries": (
        lambda n: n.entry("ig.proto_class", {"proto": (1, 255)}, "ig.mark_class", (1,), 1),
        rpc_code.PERMISSION_DENIED,
        "table ig.proto_class: its entries are const",
    ),
    "const default": (
        lambda n: n.entry("ig.acl", {}, "ig.deny", kind=MODIFY, is_default_action=True),
        rpc_code.PERMISSION_DENIED,
        "table ig.acl: its default action is const",
    ),
    "insert default": (
        lambda n: n.entry("ig.l2", {}, "ig.drop", is_default_action=True),
        rpc_code.INVALID_ARGUMENT,
        "only MODIFY changes it",
    ),
    "default with match": (
        lambda n: n.entry("ig.l2", {"vid": 1}, "ig.drop", kind=MODIFY, is_default_action=True),
        rpc_code.INVALID_ARGUMENT,
        "the default entry has no match fields",
    ),
    "delete nothing": (
        lambda n: n.entry("ig.l2", {"vid": 1, "dst": 1}, kind=DELETE),
        rpc_code.NOT_FOUND,
        "table ig.l2: no entry with this match among its 0",
    ),
    "modify nothing": (
        lambda n: n.entry("ig.l2", {"vid": 1, "dst": 1}, "ig.drop", kind=MODIFY),
        rpc_code.NOT_FOUND,
        "table ig.l2: no entry with this match",
    ),
    "no type": (
        lambda n: n.entry("ig.l2", {"vid": 1, "dst": 1}, "ig.drop", kind=0),
        rpc_code.INVALID_ARGUMENT,
        "update type is not set (valid: INSERT, MODIFY, DELETE)",
    ),
    "idle timeout": (
        lambda n: changed(route(n), lambda e: setattr(e, "idle_timeout_ns", 5)),
        rpc_code.INVALID_ARGUMENT,
        "the table does not support idle timeouts",
    ),
    "counter without counter": (
        lambda n: changed(route(n), lambda e: e.counter_data.SetInParent()),
        rpc_code.INVALID_ARGUMENT,
        "counter_data is set, but it has no direct counter",
    ),
    "meter": (
        lambda n: changed(route(n), lambda e: e.meter_config.SetInParent()),
        rpc_code.INVALID_ARGUMENT,
        "meter_config is set, but it has no direct meter",
    ),
    "empty update": (
        lambda n: p4r.Update(type=INSERT),
        rpc_code.INVALID_ARGUMENT,
        "update has no entity",
    ),
    "meter entry": (
        lambda n: p4r.Update(type=INSERT, entity=p4r.Entity(meter_entry=p4r.MeterEntry())),
        rpc_code.INVALID_ARGUMENT,
        "unknown meter id 0 (valid: none)",
    ),
    "group 0": (lambda n: group(0), rpc_code.INVALID_ARGUMENT, "valid: 1..32767"),
    "group too high": (lambda n: group(32768), rpc_code.OUT_OF_RANGE, "the id is too high"),
    "replica twice": (
        lambda n: group(1, (1, 0), (1, 0)),
        rpc_code.INVALID_ARGUMENT,
        "multicast group 1: replica (port 1, instance 0) is given twice",
    ),
    "no such group": (
        lambda n: group(4, kind=DELETE),
        rpc_code.NOT_FOUND,
        "multicast group 4 does not exist (existing: none)",
    ),
    "session 0": (lambda n: clone_session(0), rpc_code.INVALID_ARGUMENT, "not in 1..32767"),
}


def names_entry(
    n: Names,
    match: dict[str, object],
    priority: int,
    action: str = "ig.deny",
    params: tuple[int, ...] = (),
) -> p4r.Update:
    return n.entry("ig.acl", match, action, params, priority)


@pytest.mark.parametrize("case", BAD)
def test_refusals_say_table_field_and_valid_choice(
    case: str, switch: SoftSwitch, names: Names
) -> None:
    make, code, text = BAD[case]
    error = refusal(switch, make(names))
    assert (error.code, text in error.message) == (code, True), error.message


def test_insert_twice_already_exists(switch: SoftSwitch, names: Names) -> None:
    switch.write([acl(names, {"dport": (5, 6)})])
    error = refusal(switch, acl(names, {"dport": (5, 6)}))
    assert error.code == rpc_code.ALREADY_EXISTS
    assert "(dport=5..6, port=0x1, priority=5)" in error.message
    switch.write([acl(names, {"dport": (5, 6)}, priority=6)])  # another priority, another entry


def test_full_table_is_resource_exhausted(switch: SoftSwitch, names: Names) -> None:
    updates = [
        names.entry("ig.vlan_edit", {"port": (i, 0x1FF), "tagged": 1}, "NoAction", (), 1)
        for i in range(65)
    ]
    with pytest.raises(WriteError) as e:
        switch.write(updates)
    assert [x is None for x in e.value.errors] == [True] * 64 + [False]
    last = e.value.errors[-1]
    assert last is not None
    assert last.code == rpc_code.RESOURCE_EXHAUSTED
    assert "it is full: 64 of 64 entries" in last.message


def test_the_good_updates_of_a_batch_are_applied(switch: SoftSwitch, names: Names) -> None:
    with pytest.raises(WriteError, match="1 of 3 updates failed: update 1: "):
        switch.write([route(names), route(names, 5, 8), route(names, 0x0B000000)])
    assert len(read(switch, table_id=names.id("ig.ipv4_lpm"))) == 2


def test_reads_give_back_what_was_written(switch: SoftSwitch, names: Names) -> None:
    written = [
        changed(
            acl(names, {"src": (0x0A000000, 0xFF000000), "dst": (0x0B000000, 8), "proto": 6}),
            lambda e: setattr(e, "metadata", b"graph campus, NF acl, rule 7"),
        ),
        acl(names, {"dport": (80, 90)}, 9),
        acl(names, {}, 1),
        changed(route(names), lambda e: setattr(e, "controller_metadata", 5)),
        names.entry("ig.l2", {"dst": 0x020000000001, "vid": 0}, "ig.forward", (4,)),
        names.entry("ig.vlan_edit", {"port": (1, 1), "tagged": 0}, "ig.push_vlan", (7,), 2),
    ]
    switch.write(written)
    entries = [u.entity.table_entry for u in written]
    got = [e for e in read(switch) if e.table_id != names.id("ig.proto_class")]
    assert sorted(e.SerializeToString() for e in got) == sorted(
        e.SerializeToString() for e in entries
    )
    for e in entries:
        query = p4r.TableEntry(table_id=e.table_id, match=e.match, priority=e.priority)
        assert [x.table_entry for x in switch.read(p4r.Entity(table_entry=query))] == [e]
    assert [e.metadata for e in read(switch, metadata=entries[0].metadata)] == [entries[0].metadata]
    assert len(read(switch, table_id=names.id("ig.acl"), priority=9)) == 1


def test_byte_strings_need_not_be_canonical_but_reads_are(switch: SoftSwitch, names: Names) -> None:
    switch.write([with_value(acl(names), b"\0\0\x01")])
    (entry,) = read(switch, table_id=names.id("ig.acl"))
    assert entry.match[0].exact.value == b"\x01"


def test_const_entries_are_readable_highest_first(switch: SoftSwitch, names: Names) -> None:
    entries = read(switch, table_id=names.id("ig.proto_class"))
    by_priority = sorted(entries, key=lambda e: -e.priority)
    assert [e.action.action.params[0].value for e in by_priority] == [b"\1", b"\2", b"\3", b"\4"]


def test_default_entries_are_readable(switch: SoftSwitch, names: Names) -> None:
    entries = read(switch, is_default_action=True)
    by_table = {e.table_id: e for e in entries}
    assert by_table[names.id("ig.acl")].action.action.action_id == (
        names.actions["ig.permit"].preamble.id
    )
    assert all(e.is_default_action for e in entries)
    assert len(entries) == len(names.tables)


def test_reading_a_match_that_is_not_there_gives_nothing(switch: SoftSwitch, names: Names) -> None:
    query = route(names).entity.table_entry
    query.ClearField("action")
    assert list(switch.read(p4r.Entity(table_entry=query))) == []


def test_indirect_counters(switch: SoftSwitch) -> None:
    ident = p4info("router").counters[0].preamble.id
    entry = p4r.CounterEntry(counter_id=ident, index=p4r.Index(index=7))
    entry.data.packet_count, entry.data.byte_count = 3, 4
    switch.write([p4r.Update(type=MODIFY, entity=p4r.Entity(counter_entry=entry))])
    entry.ClearField("data")
    (got,) = switch.read(p4r.Entity(counter_entry=entry))
    data = got.counter_entry.data
    assert (data.packet_count, data.byte_count) == (3, 4)
    assert len(list(switch.read(p4r.Entity(counter_entry=p4r.CounterEntry())))) == 512
    entry.index.index = 512
    with pytest.raises(EntityError, match=r"index 512 is not in 0..511"):
        list(switch.read(p4r.Entity(counter_entry=entry)))


def test_direct_counters_can_be_cleared(switch: SoftSwitch, names: Names) -> None:
    update = changed(acl(names), lambda e: setattr(e.counter_data, "packet_count", 9))
    switch.write([update])
    ask = p4r.Entity(direct_counter_entry=p4r.DirectCounterEntry(
        table_entry=p4r.TableEntry(table_id=names.id("ig.acl"))))  # fmt: skip
    (got,) = switch.read(ask)
    assert got.direct_counter_entry.data.packet_count == 9
    clear = p4r.Update(type=MODIFY)
    clear.entity.direct_counter_entry.table_entry.CopyFrom(update.entity.table_entry)
    switch.write([clear])
    (got,) = switch.read(ask)
    assert got.direct_counter_entry.data.packet_count == 0


def test_registers(switch: SoftSwitch) -> None:
    ident = p4info("router").registers[0].preamble.id
    entry = p4r.RegisterEntry(
        register_id=ident, index=p4r.Index(index=3), data=p4d.P4Data(bitstring=b"\x12\x34")
    )
    switch.write([p4r.Update(type=MODIFY, entity=p4r.Entity(register_entry=entry))])
    got = list(switch.read(p4r.Entity(register_entry=p4r.RegisterEntry(register_id=ident))))
    assert len(got) == 1024
    assert got[3].register_entry.data.bitstring == b"\x12\x34"
    entry.data.bitstring = b"\x01\0\0\0\0"
    assert (
        "at most 32 bits"
        in refusal(switch, p4r.Update(type=MODIFY, entity=p4r.Entity(register_entry=entry))).message
    )


def test_replication_entities(switch: SoftSwitch) -> None:
    switch.write([group(3, (1, 0)), clone_session(4, (2, 1))])
    switch.write([group(3, (5, 0), kind=MODIFY)])
    ask = p4r.Entity()
    ask.packet_replication_engine_entry.multicast_group_entry.SetInParent()
    (got,) = switch.read(ask)
    entry = got.packet_replication_engine_entry.multicast_group_entry
    assert entry.multicast_group_id == 3
    assert entry.replicas[0].egress_port == 5  # pyright: ignore[reportDeprecated]
    ask.packet_replication_engine_entry.clone_session_entry.session_id = 4
    assert len(list(switch.read(ask))) == 1
    switch.write([group(3, kind=DELETE), clone_session(4, kind=DELETE)])
    assert list(switch.read(ask)) == []
    assert switch.pipeline is not None
    assert not switch.pipeline.state.groups


def test_load_empties_everything(switch: SoftSwitch, names: Names) -> None:
    from softswitch_support import program

    switch.write([route(names), group(3, (1, 0))])
    switch.load(program("router"), p4info("router"))
    assert read(switch, table_id=names.id("ig.ipv4_lpm")) == []


def test_mutated_messages_are_refused_or_applied_never_crash(
    switch: SoftSwitch, names: Names
) -> None:
    rng = random.Random(4)
    seeds = [
        acl(names, {"src": (0x0A000000, 0xFF000000), "dport": (3, 9), "proto": 6}),
        route(names),
        names.entry("ig.l2", {"dst": 5, "vid": 6}, "ig.forward", (4,)),
        names.entry("ig.l2", {}, "ig.drop", kind=MODIFY, is_default_action=True),
        group(3, (1, 0), (2, 0)),
        clone_session(4, (2, 1)),
    ]
    raw = [u.SerializeToString() for u in seeds]
    applied = 0
    for _ in range(5_000):
        data = bytearray(rng.choice(raw))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            update = p4r.Update.FromString(bytes(data))
        except DecodeError:
            continue
        try:
            switch.write([update])
            applied += 1
        except WriteError:
            pass
        with contextlib.suppress(EntityError):
            list(switch.read(update.entity))
    assert applied > 50
    assert len(read(switch)) > 4

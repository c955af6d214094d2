"""Unions, value sets, profiles, meters, digests and idle timeouts, on externs.p4.

Oracle: v1model's and P4Runtime's words; tests/p4/softswitch compares with BMv2 itself.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from finsy.proto import p4r
from softswitch_support import DELETE, INSERT, MODIFY, Names, Profiles, p4info, program

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entity_errors import WriteError
from orchestrator.softswitch.hashes import ALGORITHMS, STATEFUL, xxh64
from orchestrator.softswitch.state.meters import MeterConfig, RunningMeter
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.softswitch.trace import Digest, GroupPick, MemberRun, Metered, StackShift

INFO = p4info("externs")
NAMES, PROFILES = Names(INFO), Profiles(INFO)
SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def switch(clock: Clock) -> SoftSwitch:
    made = SoftSwitch(clock=clock)
    made.load(program("externs"), INFO)
    return made


def frame(op: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, tail: bytes = b"") -> bytes:
    return struct.pack(">BBHIQ", op, a, b, c, d) + tail


def result(switch: SoftSwitch, sent: bytes) -> tuple[int, int, int, int, bytes]:
    """(a, b, c, d, rest) of the one frame that came out."""
    ((_, out),) = switch.process(1, sent)
    _, a, b, c, d = struct.unpack_from(">BBHIQ", out)
    return a, b, c, d, out[16:]


def target(table: str, a: int, kind: Any = INSERT, **action: int) -> p4r.Update:
    update = NAMES.entry(table, {"hdr.op.a": a}, kind=kind)
    for name, value in action.items():
        setattr(update.entity.table_entry.action, name, value)
    return update


def read(switch: SoftSwitch, **entity: Any) -> list[p4r.Entity]:
    return list(switch.read(p4r.Entity(**entity)))


# ---- unions and stacks


@pytest.mark.parametrize(
    ("a", "tail", "out"),
    [
        (0, b"\x0b\x0c\1\2\xff", b"\x0b\x0c\1\2\xff"),
        (3, b"\x0c\1\2\xff", b"\x0c\1\2\x0c\1\2\xff"),
        (4, b"\x0b\xff", b"\0\x12\x34\xff"),  # setValid of one member ends the other
        (5, b"\x0b\xff", b"\xff"),
    ],
)
def test_at_most_one_header_of_a_union_is_valid(
    switch: SoftSwitch, a: int, tail: bytes, out: bytes
) -> None:
    assert result(switch, frame(1, a, tail=tail))[4] == out


def test_a_full_union_stack_ends_the_parser(switch: SoftSwitch) -> None:
    assert result(switch, frame(1, tail=b"\x0b" * 4))[4] == b"\x0b" * 4


def test_headers_picked_at_run_time(switch: SoftSwitch) -> None:
    words = b"\1\0\1\1\0\2\0\0\3"
    assert result(switch, frame(4, 1, 1, tail=words))[4] == b"\1\0\1\0\0\3"
    assert result(switch, frame(4, 1, 3, tail=words))[4] == b"\1\0\1\1\xbe\xef\0\0\3"
    assert result(switch, frame(4, 2, 4, tail=words))[4] == b"\0\0\3\1\0\2\0\0\3"
    assert result(switch, frame(4, 3, 2, tail=words))[4] == words + b"\5\0\6"
    assert result(switch, frame(4, 9, 1, tail=words))[4] == words  # beyond the stack: nothing


# ---- value sets


def value_set(name: str, *members: tuple[int, ...]) -> p4r.Update:
    info = next(v for v in INFO.value_sets if v.preamble.name == name)
    update = p4r.Update(type=MODIFY)
    update.entity.value_set_entry.value_set_id = info.preamble.id
    for values in members:
        member = update.entity.value_set_entry.members.add()
        for f, value in zip(info.match, values, strict=True):
            member.match.add(field_id=f.id).exact.value = bytes([value])
    return update


def test_value_sets_steer_the_parser(switch: SoftSwitch) -> None:
    assert result(switch, frame(2, 7))[2] == 0
    switch.write([value_set("p.bytes", (7,)), value_set("p.pairs", (8, 9))])
    assert [result(switch, frame(2, a, b))[2] for a, b in ((7, 0), (8, 9), (8, 1))] == [1, 2, 0]
    stored = read(switch, value_set_entry=p4r.ValueSetEntry())
    assert [len(e.value_set_entry.members) for e in stored] == [1, 1]
    switch.write([value_set("p.bytes")])
    assert result(switch, frame(2, 7))[2] == 0


# ---- action profiles


def test_members_are_shared_by_entries_and_changed_in_one_place(switch: SoftSwitch) -> None:
    switch.write(
        [
            PROFILES.member("ig.nexthops", 1, "ig.tag", 5),
            target("ig.profiled", 1, action_profile_member_id=1),
            target("ig.profiled", 2, action_profile_member_id=1),
        ]
    )
    assert [result(switch, frame(5, a))[2] for a in (1, 2, 3)] == [5, 5, 0]
    switch.write([PROFILES.member("ig.nexthops", 1, "ig.tag", 6, kind=MODIFY)])
    assert [result(switch, frame(5, a))[2] for a in (1, 2)] == [6, 6]
    ((entity),) = read(switch, table_entry=p4r.TableEntry(table_id=NAMES.id("ig.profiled")))[:1]
    assert entity.table_entry.action.action_profile_member_id == 1
    with pytest.raises(WriteError, match="in use by 2 entries"):
        switch.write([PROFILES.member("ig.nexthops", 1, "", kind=DELETE)])
    switch.write([target("ig.profiled", a, kind=DELETE) for a in (1, 2)])
    switch.write([PROFILES.member("ig.nexthops", 1, "", kind=DELETE)])
    assert read(switch, action_profile_member=p4r.ActionProfileMember()) == []


def test_a_group_spreads_by_weight_and_passes_over_ports_that_are_down(switch: SoftSwitch) -> None:
    group = PROFILES.group("ig.ecmp", 1, (1, 1), (2, 3))
    group.entity.action_profile_group.members[1].watch_port = b"\x04"
    switch.write(
        [
            PROFILES.member("ig.ecmp", 1, "ig.tag", 100),
            PROFILES.member("ig.ecmp", 2, "ig.tag", 200),
            group,
            target("ig.balanced", 1, action_profile_group_id=1),
        ]
    )

    def spread() -> list[int]:
        keys = random.Random(1)
        values = [(keys.getrandbits(16), keys.getrandbits(32)) for _ in range(400)]
        return [result(switch, frame(6, 1, b, c))[2] for b, c in values]

    assert set(spread()) == {100, 200}
    assert 240 < spread().count(200) < 360
    switch.set_port_up(4, False)
    assert set(spread()) == {100}
    switch.set_port_up(4, True)
    assert 240 < spread().count(200) < 360
    _, events = switch.trace(1, frame(6, 1, 5))
    assert next(e for e in events if isinstance(e, GroupPick)).size == 4
    assert next(e for e in events if isinstance(e, MemberRun)).member in (1, 2)
    ((stored),) = read(switch, action_profile_group=p4r.ActionProfileGroup())
    assert stored == group.entity


def test_one_shot_lives_and_dies_with_its_entry(switch: SoftSwitch) -> None:
    def entry(kind: Any, value: int) -> p4r.Update:
        made = NAMES.entry("ig.balanced", {"hdr.op.a": 1}, kind=kind)
        return PROFILES.one_shot(made, (2, "ig.tag", (value,)), (1, "ig.tag", (value,)))

    for value in range(20):  # more than the selector's size if anything were left behind
        switch.write([entry(INSERT, value)])
        assert result(switch, frame(6, 1))[2:4] == (value, 1)
        switch.write([entry(MODIFY, value + 1)])
        assert result(switch, frame(6, 1))[2] == value + 1
        ((stored),) = read(switch, table_entry=p4r.TableEntry(table_id=NAMES.id("ig.balanced")))
        assert stored.table_entry.action == entry(MODIFY, value + 1).entity.table_entry.action
        switch.write([target("ig.balanced", 1, kind=DELETE)])
    assert result(switch, frame(6, 1))[2:4] == (0, 0)


# ---- meters


def test_meter_is_rfc_2698(clock: Clock) -> None:
    meter = RunningMeter(True, lambda: clock.now // 1000)
    assert meter.execute(60) == 0
    meter.configure(MeterConfig(cir=1, cburst=2, pir=2, pburst=3))
    assert [meter.execute(60) for _ in range(5)] == [0, 0, 1, 2, 2]
    clock.now += SECOND  # one committed token, two peak ones
    assert [meter.execute(60) for _ in range(3)] == [0, 1, 2]
    clock.now += 100 * SECOND
    assert [meter.execute(60) for _ in range(4)] == [0, 0, 1, 2]


def test_byte_meters_count_bytes(clock: Clock) -> None:
    meter = RunningMeter(False, lambda: clock.now // 1000)
    meter.configure(MeterConfig(cir=0, cburst=100, pir=0, pburst=150))
    assert [meter.execute(n) for n in (60, 60, 30, 1)] == [0, 1, 0, 2]


def test_direct_meters_belong_to_entries(switch: SoftSwitch) -> None:
    metered = NAMES.entry("ig.flows", {"hdr.op.a": 1}, "ig.metered")
    config = metered.entity.table_entry.meter_config
    config.cir, config.cburst, config.pir, config.pburst = 1, 1, 1, 2
    switch.write([metered, NAMES.entry("ig.flows", {"hdr.op.a": 2}, "ig.metered")])
    assert [result(switch, frame(7, 1))[2] for _ in range(3)] == [0, 1, 2]
    assert [result(switch, frame(7, 2))[2] for _ in range(3)] == [0, 0, 0]
    asked = p4r.TableEntry(table_id=NAMES.id("ig.flows"))
    asked.meter_config.SetInParent()
    entries = {
        e.table_entry.match[0].exact.value: e.table_entry for e in read(switch, table_entry=asked)
    }
    assert entries[b"\1"].meter_config == config
    assert not entries[b"\2"].HasField("meter_config")
    direct = p4r.Update(type=MODIFY)
    direct.entity.direct_meter_entry.table_entry.CopyFrom(metered.entity.table_entry)
    switch.write([direct])
    assert [result(switch, frame(7, 1))[2] for _ in range(3)] == [0, 0, 0]
    _, events = switch.trace(1, frame(7, 1))
    assert Metered("ig.flow_meter", None, 0) in events


# ---- digests


def digest(kind: Any, *, size: int = 2, wait: int = 0, ack: int = 0) -> p4r.Update:
    update = p4r.Update(type=kind)
    e = update.entity.digest_entry
    e.digest_id = INFO.digests[0].preamble.id
    e.config.max_list_size, e.config.max_timeout_ns, e.config.ack_timeout_ns = size, wait, ack
    return update


def samples(switch: SoftSwitch) -> list[list[tuple[int, ...]]]:
    """What was sent since the last call, list by list."""
    lists = [
        [tuple(int.from_bytes(m.bitstring, "big") for m in d.struct.members) for d in x.data]
        for x in switch.digest_lists
    ]
    switch.digest_lists.clear()
    return lists


def test_digests_wait_for_a_full_list_or_the_timeout(switch: SoftSwitch, clock: Clock) -> None:
    switch.process(1, frame(10, 1, 1))
    assert samples(switch) == []  # nobody asked
    switch.write([digest(INSERT, wait=SECOND)])
    switch.process(1, frame(10, 1, 1))
    switch.tick()
    assert samples(switch) == []
    switch.process(1, frame(10, 2, 770))
    assert samples(switch) == [[(1, 1), (2, 770)]]
    _, events = switch.trace(1, frame(10, 3, 3))
    assert Digest("sample_t", (3, 3)) in events
    clock.now += SECOND
    switch.tick()
    assert samples(switch) == [[(3, 3)]]
    switch.write([digest(DELETE)])
    switch.process(1, frame(10, 4, 4))
    switch.tick()
    assert samples(switch) == []


def test_a_sample_is_not_sent_again_before_its_ack(switch: SoftSwitch, clock: Clock) -> None:
    switch.write([digest(INSERT, size=1, ack=5 * SECOND)])
    for _ in range(3):
        switch.process(1, frame(10, 1, 1))
    ident = switch.digest_lists[0].list_id
    assert samples(switch) == [[(1, 1)]]
    switch.ack_digest(p4r.DigestListAck(digest_id=INFO.digests[0].preamble.id, list_id=ident))
    switch.process(1, frame(10, 1, 1))
    assert samples(switch) == [[(1, 1)]]
    clock.now += 5 * SECOND
    switch.tick()  # nobody acknowledged: forgotten
    switch.process(1, frame(10, 1, 1))
    assert samples(switch) == [[(1, 1)]]


# ---- idle timeouts


def test_an_idle_entry_is_told_once_until_it_is_hit(switch: SoftSwitch, clock: Clock) -> None:
    aging = NAMES.entry("ig.aging", {"hdr.op.a": 1}, "ig.tag", (9,), metadata=b"mine")
    aging.entity.table_entry.idle_timeout_ns = 3 * SECOND
    switch.write([aging, NAMES.entry("ig.aging", {"hdr.op.a": 2}, "NoAction")])

    def told() -> int:
        switch.tick()
        count = sum(len(n.table_entry) for n in switch.idle_timeouts)
        switch.idle_timeouts.clear()
        return count

    clock.now += 2 * SECOND
    assert told() == 0
    assert result(switch, frame(11, 1))[2] == 9
    clock.now += 2 * SECOND
    assert told() == 0
    asked = p4r.TableEntry(table_id=NAMES.id("ig.aging"))
    asked.time_since_last_hit.SetInParent()
    asked.match.append(aging.entity.table_entry.match[0])
    ((stored),) = read(switch, table_entry=asked)
    assert stored.table_entry.time_since_last_hit.elapsed_ns == 2 * SECOND
    assert stored.table_entry.idle_timeout_ns == 3 * SECOND
    clock.now += SECOND
    switch.tick()
    assert switch.idle_timeouts[0].table_entry[0].metadata == b"mine"
    assert told() == 1
    assert told() == 0
    result(switch, frame(11, 1))
    clock.now += 3 * SECOND
    assert told() == 1


# ---- the rest


def test_saturating_arithmetic(switch: SoftSwitch) -> None:
    assert result(switch, frame(17, 200, 50, 0x7FFFFFF8))[:3] == (255, 0, 0x7FFFFFFF)


def test_random_log_and_assert(switch: SoftSwitch) -> None:
    assert {result(switch, frame(18))[1] for _ in range(300)} == set(range(10, 21))
    assert switch.pipeline is not None
    assert switch.pipeline.state.messages[-1].startswith("a is 0 and b 1")


def test_xxh64_vectors() -> None:
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crc16", 0xBB3D),
        ("crcCCITT", 0x29B1),
        ("crc32_custom", 0xCBF43926),
        ("crc8_custom", 0xF4),
        ("xor32", 0x31323334 ^ 0x35363738 ^ 0x39000000),
    ],
)
def test_hashes_by_their_check_values(name: str, value: int) -> None:
    assert ALGORITHMS[name](b"123456789") == value


def test_round_robin_hashes_have_a_state_of_their_own() -> None:
    one, other = STATEFUL["round_robin"](), STATEFUL["round_robin"]()
    assert [one(b""), one(b""), other(b"")] == [0, 1, 0]
    consistent = STATEFUL["round_robin_consistent"]()
    assert [consistent(b"a"), consistent(b"b"), consistent(b"a")] == [0, 1, 0]


def test_a_priority_without_a_queue_is_dropped() -> None:
    raw = program("externs")
    priority = {"type": "field", "value": ["standard_metadata", "priority"]}
    for action in raw["actions"]:
        if action["name"] == "ig.tag":
            value = {"type": "hexstr", "value": "0x03"}
            action["primitives"].append({"op": "assign", "parameters": [priority, value]})
    for queues, out in ((1, 0), (3, 0), (4, 1)):
        switch = SoftSwitch(queues=queues)
        switch.load(raw, INFO)
        switch.write([NAMES.entry("ig.aging", {"hdr.op.a": 1}, "ig.tag", (9,))])
        assert len(switch.process(1, frame(11, 1))) == out
        assert len(switch.process(1, frame(11, 2))) == 1


def test_push_front_is_traced(switch: SoftSwitch) -> None:
    _, events = switch.trace(1, frame(1, 1, tail=b"\x0b\xff"))
    assert StackShift("options", 1, True) in events


def test_reconcile_keeps_what_still_fits(switch: SoftSwitch) -> None:
    switch.write(
        [
            PROFILES.member("ig.ecmp", 1, "ig.tag", 100),
            PROFILES.group("ig.ecmp", 1, (1, 1)),
            target("ig.balanced", 1, action_profile_group_id=1),
            value_set("p.bytes", (7,)),
            digest(INSERT),
            NAMES.entry("ig.aging", {"hdr.op.a": 1}, "ig.tag", (9,)),
        ]
    )
    switch.reconcile(switch.build(program("externs")), INFO)
    assert result(switch, frame(6, 1))[2] == 100
    assert result(switch, frame(2, 7))[2] == 1
    assert result(switch, frame(11, 1))[2] == 9
    assert len(read(switch, digest_entry=p4r.DigestEntry())) == 1
    with pytest.raises(SwitchError, match="does not fit the new pipeline: unknown"):
        switch.reconcile(switch.build(program("router")), p4info("router"))
    assert result(switch, frame(11, 1))[2] == 9

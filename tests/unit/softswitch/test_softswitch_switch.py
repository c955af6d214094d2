"""What a packet meets in the switch: parser, tables, replication, loops, checksums.

Expected values follow BMv2; tests/p4/softswitch compares with BMv2 itself.
"""

from __future__ import annotations

import copy
import random
import struct
from typing import Any

import pytest
from finsy.proto import p4i, p4r
from softswitch_support import (
    MODIFY,
    Names,
    clone_session,
    group,
    internet_checksum,
    loaded,
    op_frame,
    op_result,
    p4info,
    program,
    udp_frame,
)

from orchestrator.errors import SwitchError, UnsupportedFeature
from orchestrator.softswitch.switch import MAX_PASSES, SoftSwitch
from orchestrator.softswitch.trace import (
    ActionRun,
    KeyMatch,
    NamedValue,
    ParserStep,
    Received,
    Send,
    TableApplied,
)

PAYLOAD = b"payload."


@pytest.fixture
def features() -> SoftSwitch:
    switch = loaded("features")
    switch.write([clone_session(9, (7, 3)), group(5, (1, 0), (4, 7), (3, 0))])
    return switch


@pytest.fixture
def names() -> Names:
    return Names(p4info("router"))


@pytest.fixture
def router(names: Names) -> SoftSwitch:
    switch = loaded("router")
    switch.write(
        [
            names.entry("ig.ipv4_lpm", {"dst": (0x0A000000, 8)}, "ig.route", (2, 0x020000000002)),
            names.entry("ig.ipv4_lpm", {"dst": (0x0A010000, 16)}, "ig.route", (3, 0x020000000003)),
            names.entry("ig.l2", {"dst": 0x020000000001, "vid": 0}, "ig.forward", (4,)),
        ]
    )
    return switch


# ---- replication and loops


def test_ingress_clone_carries_the_packet_as_received(features: SoftSwitch) -> None:
    out = features.process(1, op_frame(1, 0, 0, PAYLOAD))
    assert [port for port, _ in out] == [7, 2]
    # Egress wrote the kept field; the unkept one and what ingress wrote are gone; b is the rid.
    assert op_result(out[0][1]) == (0, 3, 0x1234, 0)
    assert op_result(out[1][1]) == (0, 0, 77, 0)
    assert all(frame.endswith(PAYLOAD) for _, frame in out)


def test_egress_clone_carries_the_packet_as_it_left(features: SoftSwitch) -> None:
    out = features.process(1, op_frame(2))
    assert [port for port, _ in out] == [2, 7]
    assert op_result(out[0][1]) == (0, 0xBEEF, 0, 0)
    assert op_result(out[1][1]) == (0, 0xBEEF, 0x5678, 0)


def test_clone_to_an_unknown_session_is_no_clone() -> None:
    assert [p for p, _ in loaded("features").process(1, op_frame(1))] == [2]


def test_resubmit_restarts_from_the_received_bytes(features: SoftSwitch) -> None:
    ((port, frame),) = features.process(1, op_frame(3, 1, 2))
    # `a` written before resubmission is lost, ingress_port is 0 as on BMv2.
    assert (port, op_result(frame)) == (2, (1, 0, 0xABCD, 99))


def test_recirculation_keeps_its_field_list(features: SoftSwitch) -> None:
    ((_, frame),) = features.process(1, op_frame(4, 3))
    assert op_result(frame)[2] == 30


def test_recirculation_is_bounded(features: SoftSwitch) -> None:
    assert features.process(1, op_frame(16)) == []
    assert features.counters.loops_cut == 1
    assert MAX_PASSES < 1000
    assert features.process(1, op_frame(99))


def test_multicast_replicates_by_instance_then_port(features: SoftSwitch) -> None:
    out = features.process(1, op_frame(5, 0, 5))
    assert [(port, op_result(f)[2:]) for port, f in out] == [(1, (1, 0)), (3, (3, 0)), (4, (4, 7))]
    assert features.process(1, op_frame(5, 0, 6)) == []


def test_drop_in_egress(features: SoftSwitch) -> None:
    assert features.process(1, op_frame(17)) == []


# ---- parser


@pytest.mark.parametrize(
    ("a", "tail", "result", "expected"),
    [
        (0, b"\x02\x05rest", 1, b"\x02\x05rest"),
        (1, b"\x02\x05rest", 5, b"\x0a\x02\x05rest"),
        (2, b"\x02\x05rest", 2, b"\x05rest"),
        (0, b"\x02\x02\x02\x02", 3, b"\x02\x02\x02\x02"),
        (0, b"\x02", 1, b"\x02"),
    ],
    ids=["extract", "push", "pop", "stack full", "too short"],
)
def test_header_stacks(
    features: SoftSwitch, a: int, tail: bytes, result: int, expected: bytes
) -> None:
    ((_, frame),) = features.process(1, op_frame(6, a, 0, tail))
    assert (op_result(frame)[2], frame[12:]) == (result, expected)


def test_stack_element_chosen_at_run_time(features: SoftSwitch) -> None:
    ((_, frame),) = features.process(1, op_frame(6, 3, 1, b"\x02\x05"))
    assert frame[12:] == b"\x02\x13"


@pytest.mark.parametrize(
    ("tail", "result"),
    [(b"\x03abcT", 0), (b"\x00T", 0), (b"\x09abcdefghiT", 4), (b"\x03a", 1), (b"", 1)],
)
def test_varbit(features: SoftSwitch, tail: bytes, result: int) -> None:
    ((_, frame),) = features.process(1, op_frame(8, 0, 0, tail))
    assert (op_result(frame)[2], frame[12:]) == (result, tail)


@pytest.mark.parametrize(
    ("frame", "result", "rest"),
    [
        (op_frame(12, 0, 0, b"\x01\x00"), (1, 1), b"\x01\x00"),
        (op_frame(12, 0, 0, b"\x02\x00"), (2, 0), b"\x02\x00"),
        (op_frame(12, 0, 0, b"\x01"), (1, 0), b"\x01"),
        (op_frame(13, 11), (2, 0), b""),
        (op_frame(13, 9), (0, 0), b""),
        (op_frame(14, 2, 0, b"abcd"), (0, 0), b"cd"),
        (op_frame(14, 9, 0, b"abcd"), (1, 0), b"abcd"),
    ],
    ids=["lookahead", "masked select", "lookahead too short", "verify", "verified", "advance",
         "advance too far"],
)  # fmt: skip
def test_parser_operations(
    features: SoftSwitch, frame: bytes, result: tuple[int, int], rest: bytes
) -> None:
    ((_, out),) = features.process(1, frame)
    assert (op_result(out)[2:], out[12:]) == (result, rest)


# ---- arithmetic, hashes, registers


@pytest.mark.parametrize(
    ("x", "y", "saturated", "total", "half", "less"),
    [(127, 1, 127, 128, 63, 0), (-128, -1, -128, -129, -64, 1), (-3, 5, 2, 2, -2, 1)],
)
def test_signed_arithmetic(
    features: SoftSwitch, x: int, y: int, saturated: int, total: int, half: int, less: int
) -> None:
    ((_, frame),) = features.process(1, op_frame(7, 0, 0, struct.pack(">bbh", x, y, 0)))
    assert op_result(frame)[2:] == (half & 0xFFFFFFFF, less)
    assert struct.unpack(">bbh", frame[12:16]) == (saturated, y, total)


def test_shift_and_saturation(features: SoftSwitch) -> None:
    assert op_result(features.process(1, op_frame(18, 4, 7))[0][1])[2:] == (0x70, 0xFFFFFFFF)
    assert op_result(features.process(1, op_frame(18, 40, 107))[0][1])[2:] == (0, 6)


def test_hashes(features: SoftSwitch) -> None:
    import zlib

    ((_, frame),) = features.process(1, op_frame(9, 0x56, 0x1234))
    _, _, result, extra = op_result(frame)
    assert result == zlib.crc32(b"\x12\x34\x56") % 0xFFFFFFFF
    assert extra & 0xFFFF == 10 + (0x1234 ^ 0x5600) % 1000
    assert extra >> 16 == crc16_arc(b"\x12\x34\x56\x30")


def crc16_arc(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def test_registers_persist_and_out_of_bounds_do_nothing(features: SoftSwitch) -> None:
    assert op_result(features.process(1, op_frame(10, 1, 5))[0][1])[2] == 0
    assert op_result(features.process(1, op_frame(10, 1, 5))[0][1])[2] == 5
    assert op_result(features.process(1, op_frame(10, 9, 5))[0][1])[2] == 0
    assert features.pipeline is not None
    assert features.pipeline.state.registers["ig.cells"] == [0, 10, 0, 0]


def test_truncate_and_packet_length(features: SoftSwitch) -> None:
    assert features.process(1, op_frame(11, 0, 5, b"abc"))[0][1] == op_frame(11, 0, 5)[:5]
    assert op_result(features.process(1, op_frame(15, 0, 0, b"abc"))[0][1])[2:] == (15, 16)


# ---- the router


def addresses(frame: bytes) -> tuple[bytes, bytes]:
    return frame[:6], frame[6:12]


def checksums_right(frame: bytes) -> bool:
    ihl = (frame[14] & 15) * 4
    return internet_checksum(frame[14 : 14 + ihl]) == 0


@pytest.mark.parametrize(("dst", "port"), [("10.1.2.3", 3), ("10.2.0.1", 2)])
def test_longest_prefix_routes(router: SoftSwitch, dst: str, port: int) -> None:
    ((out, frame),) = router.process(1, udp_frame(dst=dst))
    assert out == port
    assert addresses(frame)[0][-1] == port
    assert frame[22] == 63
    assert checksums_right(frame)
    udp = frame[34:]
    pseudo = frame[26:34] + struct.pack(">BBH", 0, 17, len(udp))
    assert internet_checksum(pseudo + udp) == 0


def test_options_go_into_the_checksum(router: SoftSwitch) -> None:
    ((_, frame),) = router.process(1, udp_frame(options=b"\x94\x04\x00\x00"))
    assert checksums_right(frame)
    assert frame[34:38] == b"\x94\x04\x00\x00"


def test_bad_checksum_drops(router: SoftSwitch) -> None:
    frame = bytearray(udp_frame())
    frame[24] ^= 1
    assert router.process(1, bytes(frame)) == []


def test_vlan_tag_survives_and_is_edited(router: SoftSwitch, names: Names) -> None:
    tagged = udp_frame(vlan=5)
    ((_, out),) = router.process(1, tagged)
    assert out[12:18] == b"\x81\x00\x00\x05\x08\x00"
    router.write([names.entry("ig.vlan_edit", {"port": (1, 0x1FF), "tagged": 1},
                              "ig.pop_vlan", (), 1)])  # fmt: skip
    ((_, out),) = router.process(1, tagged)
    assert out[12:14] == b"\x08\x00"
    assert len(out) == len(tagged) - 4


def test_unknown_ethertype_is_switched_unchanged(router: SoftSwitch) -> None:
    frame = bytes.fromhex("0200000000010200000000091234") + bytes(range(46))
    assert router.process(1, frame) == [(4, frame)]


def test_higher_priority_wins_and_direct_counters_count(router: SoftSwitch, names: Names) -> None:
    router.write(
        [
            names.entry("ig.acl", {"port": 1, "dport": (80, 90)}, "ig.deny", (), 10),
            names.entry("ig.acl", {"port": 1, "dport": (85, 95)}, "ig.permit", (), 11),
        ]
    )
    assert router.process(1, udp_frame(dport=84)) == []
    assert router.process(1, udp_frame(dport=85))
    counted = {
        e.table_entry.priority: (
            e.table_entry.counter_data.packet_count,
            e.table_entry.counter_data.byte_count,
        )
        for e in router.read(
            p4r.Entity(
                table_entry=p4r.TableEntry(
                    table_id=names.id("ig.acl"), counter_data=p4r.CounterData()
                )
            )
        )
    }
    size = len(udp_frame())
    assert counted == {10: (1, size), 11: (1, size)}


def test_a_write_is_seen_by_the_next_packet(router: SoftSwitch, names: Names) -> None:
    frame = udp_frame(dst="10.3.0.1")
    assert router.process(1, frame)[0][0] == 2
    match = {"dst": (0x0A030000, 16)}
    router.write([names.entry("ig.ipv4_lpm", match, "ig.route", (5, 1))])
    assert router.process(1, frame)[0][0] == 5
    router.write([names.entry("ig.ipv4_lpm", match, "ig.route", (6, 1), kind=MODIFY)])
    assert router.process(1, frame)[0][0] == 6
    router.write([names.entry("ig.ipv4_lpm", match, kind=p4r.Update.DELETE)])
    assert router.process(1, frame)[0][0] == 2


def test_default_action_changes_and_resets(router: SoftSwitch, names: Names) -> None:
    frame = udp_frame(dst="11.0.0.1")
    assert router.process(1, frame) == []
    router.write([names.entry("ig.ipv4_lpm", {}, "ig.route", (4, 1), kind=MODIFY,
                              is_default_action=True)])  # fmt: skip
    assert router.process(1, frame)[0][0] == 4
    router.write([names.entry("ig.ipv4_lpm", {}, kind=MODIFY, is_default_action=True)])
    assert router.process(1, frame) == []


def test_packet_in_and_packet_out(router: SoftSwitch, names: Names) -> None:
    router.write([names.entry("ig.acl", {"port": 1, "dport": (53, 53)}, "ig.to_cpu", (), 1)])
    frame = udp_frame(dport=53)
    assert router.process(1, frame) == []
    (packet,) = router.packet_ins
    assert packet.payload == frame
    assert [(m.metadata_id, m.value) for m in packet.metadata] == [(1, b"\1"), (2, b"\0")]
    out = p4r.PacketOut(payload=frame)
    out.metadata.add(metadata_id=1, value=b"\x06")
    assert router.packet_out(out) == [(6, frame)]
    out.metadata[0].metadata_id = 9
    with pytest.raises(SwitchError, match=r"metadata id 9 .*1 \(egress_port\)"):
        router.packet_out(out)


# ---- loading


def test_refuses_by_name_and_place() -> None:
    raw: Any = copy.deepcopy(program("router"))
    raw["extern_instances"] = [{"name": "ig.police", "type": "policer"}]
    raw["calculations"][0]["algo"] = "sha1"
    raw["actions"][3]["primitives"].append({"op": "encrypt", "parameters": []})
    with pytest.raises(UnsupportedFeature) as e:
        SoftSwitch().load(raw, p4info("router"))
    text = str(e.value)
    for part in ("ig.police: extern 'policer'", "'sha1'", "'encrypt'"):
        assert part in text


def test_refuses_an_unknown_operator() -> None:
    raw: Any = copy.deepcopy(program("router"))
    raw["pipelines"][0]["conditionals"][3]["expression"]["value"]["op"] = "<=>"
    with pytest.raises(
        UnsupportedFeature, match=r"conditionals\[3\].expression.value: operator '<=>'"
    ):
        SoftSwitch().load(raw, p4info("router"))


def test_refuses_another_programs_p4info() -> None:
    with pytest.raises(SwitchError, match=r"table ig\.acl is not in the BMv2 JSON"):
        SoftSwitch().load(program("features"), p4info("router"))


def test_without_a_program_packets_vanish() -> None:
    switch = SoftSwitch(name="leaf1")
    assert switch.process(1, b"x" * 60) == []
    with pytest.raises(SwitchError, match="leaf1: no forwarding pipeline"):
        switch.write([])


def test_p4info_may_lack_hidden_tables() -> None:
    SoftSwitch().load(program("features"), p4i.P4Info())


# ---- trace


def test_trace_names_states_tables_and_actions(router: SoftSwitch) -> None:
    plain = router.process(1, udp_frame())
    out, events = router.trace(1, udp_frame())
    assert out == plain
    assert events[0] == Received(1, "port", udp_frame())
    assert ParserStep("ipv4") in events
    hit = next(e for e in events if isinstance(e, TableApplied) and e.table == "ig.ipv4_lpm")
    assert hit.keys == (NamedValue("dst", 0x0A010001),)
    assert hit.entry is not None
    assert hit.entry.matches == (KeyMatch("dst", "lpm", 0x0A010000, 16),)
    arguments = (NamedValue("port", 3), NamedValue("dst", 0x020000000003))
    assert events[events.index(hit) + 1] == ActionRun("ig.route", arguments)
    assert events[-1] == Send(*out[0])
    assert events[-1].to_json() == {"kind": "send", "port": 3, "frame": out[0][1].hex()}


# ---- malformed input


@pytest.mark.parametrize("name", ["router", "features"])
def test_no_input_makes_a_fault(name: str) -> None:
    switch = loaded(name)
    rng = random.Random(3)
    seeds = [udp_frame(), udp_frame(vlan=9, options=b"\1" * 8)]
    seeds += [op_frame(op, 2, 3, bytes(range(20))) for op in range(20)]
    frames = [seed[:n] for seed in seeds for n in range(len(seed) + 1)]
    for _ in range(5_000):
        frame = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            frame[rng.randrange(len(frame))] = rng.randrange(256)
        frames.append(bytes(frame))
        frames.append(rng.randbytes(rng.randrange(80)))
    for i, frame in enumerate(frames):
        switch.process((0, 1, 2, 510, 511)[i % 5], frame)
    assert switch.counters.faults == 0, switch.counters.last_fault
    assert switch.counters.received == len(frames)

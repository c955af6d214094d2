"""Every refusal that a P4Runtime client can meet, as text, through real gRPC.

Oracle: review of golden_errors/*.txt (status, offender, valid choices). Rewrite them with
`GOLDEN=rewrite pytest tests/p4/softswitch/test_softswitch_golden_errors.py` and read the diff.
"""

from __future__ import annotations

import os
import queue
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4r, p4r_grpc, rpc_code, rpc_status
from google.protobuf import text_format

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "softswitch"))

from softswitch_support import (
    DELETE,
    INSERT,
    MODIFY,
    PROGRAMS,
    Names,
    Profiles,
    clone_session,
    group,
    p4info,
)

from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer
from orchestrator.softswitch.switch import SoftSwitch

GOLDEN = Path(__file__).parent / "golden_errors"
REWRITE = os.environ.get("GOLDEN") == "rewrite"

ROUTER, EXTERNS = Names(p4info("router")), Names(p4info("externs"))
PROFILES = Profiles(p4info("externs"))
INFO = p4info("externs")
METERS = {m.preamble.name: m.preamble.id for m in INFO.meters}
SETS = {v.preamble.name: v.preamble.id for v in INFO.value_sets}
DIGEST = INFO.digests[0].preamble.id
REGISTERS = {r.preamble.name: r.preamble.id for r in p4info("features").registers}

Case = tuple[str, Any]
ENTRY = ROUTER.entry


def changed(update: p4r.Update, change: Callable[[Any], object]) -> p4r.Update:
    change(update.entity)
    return update


def acl(**match: Any) -> p4r.Update:
    return ENTRY("ig.acl", match, "ig.deny", (), 5)


def lpm(value: int, length: int) -> p4r.Update:
    return ENTRY("ig.ipv4_lpm", {"dst": (value, length)}, "ig.route", (1, 2))


def flow(name: str = "ig.flows", a: int = 1, **fields: Any) -> p4r.Update:
    action = {"ig.flows": "ig.metered", "ig.aging": "NoAction"}.get(name)
    update = EXTERNS.entry(name, {"hdr.op.a": a}, action)
    for key, value in fields.items():
        setattr(update.entity.table_entry.action, key, value)
    return update


def meter(name: str = "ig.packet_meter", index: int = 0, kind: Any = MODIFY, **config: int) -> Any:
    update = p4r.Update(type=kind)
    e = update.entity.meter_entry
    e.meter_id, e.index.index = METERS[name], index
    for key, value in config.items():
        setattr(e.config, key, value)
    return update


def value_set(name: str, *members: tuple[tuple[int, int], ...], kind: Any = MODIFY) -> p4r.Update:
    update = p4r.Update(type=kind)
    e = update.entity.value_set_entry
    e.value_set_id = SETS[name]
    for fields in members:
        member = e.members.add()
        for ident, value in fields:
            member.match.add(field_id=ident).exact.value = value.to_bytes(2, "big")
    return update


def digest(kind: Any, ident: int = DIGEST, **config: int) -> p4r.Update:
    update = p4r.Update(type=kind)
    update.entity.digest_entry.digest_id = ident
    for key, value in config.items():
        setattr(update.entity.digest_entry.config, key, value)
    return update


def register(index: int, data: bytes, ident: int | None = None, kind: Any = MODIFY) -> p4r.Update:
    update = p4r.Update(type=kind)
    e = update.entity.register_entry
    e.register_id = next(iter(REGISTERS.values())) if ident is None else ident
    e.index.index, e.data.bitstring = index, data
    return update


def ternary(value: int, mask: int) -> tuple[int, int]:
    return value, mask


M10 = PROFILES.member("ig.ecmp", 10, "ig.tag", 1)
G1 = PROFILES.group("ig.ecmp", 1, (10, 1))

# name -> (program, updates; the last one is refused)
WRITES: dict[str, tuple[str, list[p4r.Update]]] = {
    "table_unknown": ("router", [changed(acl(), lambda e: setattr(e.table_entry, "table_id", 7))]),
    "table_full": (
        "externs",
        [EXTERNS.entry("ig.aging", {"hdr.op.a": i}, "NoAction") for i in range(17)],
    ),
    "entry_exists": ("router", [lpm(0x0A000000, 8), lpm(0x0A000000, 8)]),
    "entry_missing_modify": (
        "router",
        [ENTRY("ig.ipv4_lpm", {"dst": (0x0A000000, 8)}, "ig.route", (1, 2), kind=MODIFY)],
    ),
    "entry_missing_delete": ("router", [ENTRY("ig.ipv4_lpm", {"dst": (1 << 31, 1)}, kind=DELETE)]),
    "entry_without_action": ("router", [ENTRY("ig.ipv4_lpm", {"dst": (1 << 31, 1)})]),
    "entry_update_type_unset": (
        "router",
        [ENTRY("ig.ipv4_lpm", {"dst": (1 << 31, 1)}, "ig.route", (1, 2), kind=0)],
    ),
    "entry_sets_time_since_last_hit": (
        "router",
        [changed(acl(), lambda e: e.table_entry.time_since_last_hit.SetInParent())],
    ),
    "match_exact_missing": ("router", [ENTRY("ig.l2", {"dst": 1}, "ig.forward", (1,))]),
    "match_field_unknown": (
        "router",
        [changed(acl(), lambda e: e.table_entry.match.add(field_id=99))],
    ),
    "match_field_twice": (
        "router",
        [
            changed(
                lpm(1 << 31, 1),
                lambda e: e.table_entry.match.append(e.table_entry.match[0]),
            )
        ],
    ),
    "match_kind_wrong": (
        "router",
        [
            changed(
                lpm(1 << 31, 1),
                lambda e: setattr(e.table_entry.match[0].exact, "value", b"\1"),
            )
        ],
    ),
    "match_value_empty": (
        "router",
        [changed(lpm(1 << 31, 1), lambda e: setattr(e.table_entry.match[0].lpm, "value", b""))],
    ),
    "match_value_too_wide": ("router", [lpm(1 << 40, 8)]),
    "lpm_length_0": ("router", [lpm(0, 0)]),
    "lpm_length_too_long": ("router", [lpm(0, 33)]),
    "lpm_bits_beyond_prefix": ("router", [lpm(0x0A000001, 8)]),
    "ternary_mask_0": ("router", [acl(port=1, src=ternary(0, 0))]),
    "ternary_value_beyond_mask": ("router", [acl(port=1, src=ternary(3, 1))]),
    "range_low_above_high": ("router", [acl(port=1, dport=(9, 8))]),
    "range_is_everything": ("router", [acl(port=1, dport=(0, 0xFFFF))]),
    "priority_missing": ("router", [ENTRY("ig.acl", {"port": 1}, "ig.deny")]),
    "priority_not_wanted": (
        "router",
        [ENTRY("ig.ipv4_lpm", {"dst": (1 << 31, 1)}, "ig.route", (1, 2), priority=3)],
    ),
    "action_of_another_table": (
        "router",
        [ENTRY("ig.ipv4_lpm", {"dst": (1 << 31, 1)}, "ig.deny")],
    ),
    "action_unknown": (
        "router",
        [
            changed(
                lpm(1 << 31, 1),
                lambda e: setattr(e.table_entry.action.action, "action_id", 0x1234),
            )
        ],
    ),
    "action_param_missing": (
        "router",
        [changed(lpm(1 << 31, 1), lambda e: e.table_entry.action.action.params.pop())],
    ),
    "action_param_too_wide": (
        "router",
        [ENTRY("ig.ipv4_lpm", {"dst": (1 << 31, 1)}, "ig.route", (512, 2))],
    ),
    "action_param_empty": (
        "router",
        [
            changed(
                lpm(1 << 31, 1),
                lambda e: setattr(e.table_entry.action.action.params[0], "value", b""),
            )
        ],
    ),
    "action_is_a_member_id": (
        "router",
        [
            changed(
                lpm(1 << 31, 1),
                lambda e: setattr(e.table_entry.action, "action_profile_member_id", 1),
            )
        ],
    ),
    "default_insert": (
        "router",
        [ENTRY("ig.ipv4_lpm", {}, "ig.route", (1, 2), is_default_action=True)],
    ),
    "default_with_match": (
        "router",
        [
            ENTRY(
                "ig.ipv4_lpm",
                {"dst": (1 << 31, 1)},
                "ig.route",
                (1, 2),
                kind=MODIFY,
                is_default_action=True,
            )
        ],
    ),
    "idle_timeout_not_supported": (
        "router",
        [changed(acl(), lambda e: setattr(e.table_entry, "idle_timeout_ns", 5))],
    ),
    "idle_timeout_negative": (
        "externs",
        [changed(flow("ig.aging"), lambda e: setattr(e.table_entry, "idle_timeout_ns", -5))],
    ),
    "meter_config_without_meter": (
        "router",
        [changed(acl(), lambda e: e.table_entry.meter_config.SetInParent())],
    ),
    "counter_data_without_counter": (
        "externs",
        [changed(flow("ig.aging"), lambda e: e.table_entry.counter_data.SetInParent())],
    ),
    "meter_unknown": (
        "externs",
        [changed(meter(cir=1, pir=1), lambda e: setattr(e.meter_entry, "meter_id", 5))],
    ),
    "meter_insert": ("externs", [meter(kind=INSERT)]),
    "meter_index_out_of_range": ("externs", [meter(index=4, cir=1, pir=1)]),
    "meter_negative_rate": ("externs", [meter(cir=-2, pir=1)]),
    "meter_peak_below_committed": ("externs", [meter(cir=5, pir=4)]),
    "meter_burst_too_large": ("externs", [meter(cir=5, pir=5, pburst=1 << 33)]),
    "meter_eburst": ("externs", [meter(cir=5, pir=5, eburst=1)]),
    "direct_meter_of_table_without": (
        "externs",
        [
            p4r.Update(
                type=MODIFY,
                entity=p4r.Entity(
                    direct_meter_entry=p4r.DirectMeterEntry(
                        table_entry=flow("ig.aging").entity.table_entry
                    )
                ),
            )
        ],
    ),
    "direct_meter_of_absent_entry": (
        "externs",
        [
            p4r.Update(
                type=MODIFY,
                entity=p4r.Entity(
                    direct_meter_entry=p4r.DirectMeterEntry(table_entry=flow().entity.table_entry)
                ),
            )
        ],
    ),
    "profile_unknown": (
        "externs",
        [
            changed(
                PROFILES.member("ig.ecmp", 1, "ig.drop"),
                lambda e: setattr(e.action_profile_member, "action_profile_id", 5),
            )
        ],
    ),
    "profile_full": (
        "externs",
        [PROFILES.member("ig.nexthops", i, "ig.drop") for i in range(1, 10)],
    ),
    "member_exists": ("externs", [M10, M10]),
    "member_missing": ("externs", [PROFILES.member("ig.ecmp", 3, "ig.drop", kind=MODIFY)]),
    "member_without_action": ("externs", [PROFILES.member("ig.ecmp", 3, "")]),
    "member_action_wrong": ("externs", [PROFILES.member("ig.ecmp", 3, "ig.metered")]),
    "member_in_use": ("externs", [M10, G1, PROFILES.member("ig.ecmp", 10, "", kind=DELETE)]),
    "group_exists": ("externs", [M10, G1, G1]),
    "group_missing": ("externs", [PROFILES.group("ig.ecmp", 4, kind=MODIFY)]),
    "group_member_missing": ("externs", [G1]),
    "group_member_twice": ("externs", [M10, PROFILES.group("ig.ecmp", 1, (10, 1), (10, 1))]),
    "group_weight_0": ("externs", [M10, PROFILES.group("ig.ecmp", 1, (10, 0))]),
    "group_max_size_exceeded": ("externs", [M10, PROFILES.group("ig.ecmp", 1, (10, 3), size=2)]),
    "group_max_size_changed": (
        "externs",
        [M10, G1, PROFILES.group("ig.ecmp", 1, (10, 1), kind=MODIFY, size=9)],
    ),
    "group_in_use": (
        "externs",
        [
            M10,
            G1,
            flow("ig.balanced", action_profile_group_id=1),
            PROFILES.group("ig.ecmp", 1, kind=DELETE),
        ],
    ),
    "group_without_selector": ("externs", [PROFILES.group("ig.nexthops", 1)]),
    "entry_group_without_selector": ("externs", [flow("ig.profiled", action_profile_group_id=1)]),
    "entry_member_missing": ("externs", [flow("ig.balanced", action_profile_member_id=4)]),
    "entry_action_in_profile_table": (
        "externs",
        [EXTERNS.entry("ig.profiled", {"hdr.op.a": 1}, "ig.drop")],
    ),
    "one_shot_empty": (
        "externs",
        [
            changed(
                EXTERNS.entry("ig.balanced", {"hdr.op.a": 4}),
                lambda e: e.table_entry.action.action_profile_action_set.SetInParent(),
            )
        ],
    ),
    "one_shot_mixed_with_members": (
        "externs",
        [M10, PROFILES.one_shot(EXTERNS.entry("ig.balanced", {"hdr.op.a": 1}), (1, "ig.drop", ()))],
    ),
    "one_shot_weight_0": (
        "externs",
        [PROFILES.one_shot(EXTERNS.entry("ig.balanced", {"hdr.op.a": 2}), (0, "ig.drop", ()))],
    ),
    "members_mixed_with_one_shot": (
        "externs",
        [
            PROFILES.one_shot(EXTERNS.entry("ig.balanced", {"hdr.op.a": 3}), (1, "ig.drop", ())),
            M10,
        ],
    ),
    "value_set_insert": ("externs", [value_set("p.bytes", kind=INSERT)]),
    "value_set_too_many": ("externs", [value_set("p.bytes", *[((1, i),) for i in range(5)])]),
    "value_set_field_missing": ("externs", [value_set("p.pairs", ((1, 1),))]),
    "value_set_field_unknown": ("externs", [value_set("p.pairs", ((1, 1), (2, 1), (3, 1)))]),
    "value_set_value_too_wide": ("externs", [value_set("p.bytes", ((1, 256),))]),
    "digest_unknown": ("externs", [digest(INSERT, 5)]),
    "digest_configured_twice": ("externs", [digest(INSERT), digest(INSERT)]),
    "digest_not_configured": ("externs", [digest(MODIFY)]),
    "digest_negative": ("externs", [digest(INSERT, max_list_size=-1)]),
    "register_insert": ("features", [register(0, b"\1", kind=INSERT)]),
    "register_unknown": ("features", [register(0, b"\1", 5)]),
    "register_index_out_of_range": ("features", [register(1 << 20, b"\1")]),
    "register_value_too_wide": ("features", [register(0, b"\1" * 40)]),
    "group_id_0": ("router", [group(0)]),
    "multicast_group_exists": ("router", [group(5), group(5)]),
    "multicast_group_missing": ("router", [group(5, kind=DELETE)]),
    "replica_twice": ("router", [group(5, (1, 0), (1, 0))]),
    "clone_session_out_of_range": ("router", [clone_session(40000)]),
    "entity_missing": ("router", [p4r.Update(type=INSERT)]),
}


PRIMARY = p4r.Uint128(low=1)


def signed(request: Any) -> Any:
    """A changing call as the primary makes it, if it says no election id itself."""
    if isinstance(request, p4r.ReadRequest) or request.HasField("election_id"):
        return request
    sent = type(request)()
    sent.CopyFrom(request)
    sent.election_id.CopyFrom(PRIMARY)
    return sent


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[SoftSwitch, p4r_grpc.P4RuntimeStub]]:
    switch = SoftSwitch(1)
    server = P4RuntimeServer(PythonEngine(switch), "127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(server.address)
    stub = p4r_grpc.P4RuntimeStub(channel)
    requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
    stream: Any = stub.StreamChannel(iter(requests.get, None))
    arbitration = p4r.MasterArbitrationUpdate(device_id=1, election_id=PRIMARY)
    requests.put(p4r.StreamMessageRequest(arbitration=arbitration))
    assert next(stream).arbitration.status.message == "Is primary"
    yield switch, stub
    requests.put(None)
    channel.close()
    server.stop()


def load(switch: SoftSwitch, name: str) -> None:
    import json

    switch.load(json.loads((PROGRAMS / f"{name}.json").read_text()), p4info(name))


def told(request: Any, error: Any) -> str:
    """A refusal as text: what was asked, the RPC's status, the update's p4.v1.Error."""
    lines = [text_format.MessageToString(request).rstrip(), "---"]
    lines.append(f"rpc: {error.code().name}: {error.details()}")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for i, packed in enumerate(rpc_status.Status.FromString(value).details):
                detail = p4r.Error()
                packed.Unpack(detail)
                name = rpc_code.Code.Name(detail.canonical_code)
                lines.append(f"update {i}: {name}: {detail.message}")
    return re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", "\n".join(lines)) + "\n"


def check(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if REWRITE:
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path.name} is missing: run with GOLDEN=rewrite and review it"
    assert text == path.read_text(), f"{path.name} differs: run with GOLDEN=rewrite, read the diff"


@pytest.mark.parametrize("name", WRITES)
def test_write_refusals(name: str, served: tuple[SoftSwitch, Any]) -> None:
    switch, stub = served
    program, updates = WRITES[name]
    load(switch, program)
    switch.write(updates[:-1])
    request = p4r.WriteRequest(device_id=1, updates=updates[-1:])
    with pytest.raises(grpc.RpcError) as e:
        stub.Write(signed(request), timeout=120)
    check(name, told(request, e.value))


REQUESTS: dict[str, tuple[str, Any]] = {
    "rpc_write_other_device": ("Write", p4r.WriteRequest(device_id=2)),
    "rpc_write_not_primary": (
        "Write",
        p4r.WriteRequest(device_id=1, election_id=p4r.Uint128(low=3)),
    ),
    "rpc_write_without_election_id": ("Write", p4r.WriteRequest(device_id=1)),
    "rpc_write_unknown_role": ("Write", p4r.WriteRequest(device_id=1, role="guest")),
    "rpc_write_rollback": (
        "Write",
        p4r.WriteRequest(device_id=1, atomicity=p4r.WriteRequest.ROLLBACK_ON_ERROR),
    ),
    "rpc_config_action_unset": (
        "SetForwardingPipelineConfig",
        p4r.SetForwardingPipelineConfigRequest(device_id=1),
    ),
    "rpc_config_not_json": (
        "SetForwardingPipelineConfig",
        p4r.SetForwardingPipelineConfigRequest(
            device_id=1,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY,
            config=p4r.ForwardingPipelineConfig(p4_device_config=b"{"),
        ),
    ),
    "rpc_config_not_bmv2": (
        "SetForwardingPipelineConfig",
        p4r.SetForwardingPipelineConfigRequest(
            device_id=1,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY,
            config=p4r.ForwardingPipelineConfig(p4_device_config=b"{}"),
        ),
    ),
    "rpc_config_other_p4info": (
        "SetForwardingPipelineConfig",
        p4r.SetForwardingPipelineConfigRequest(
            device_id=1,
            action=p4r.SetForwardingPipelineConfigRequest.VERIFY,
        ),
    ),
    "rpc_config_commit_without_save": (
        "SetForwardingPipelineConfig",
        p4r.SetForwardingPipelineConfigRequest(
            device_id=1, action=p4r.SetForwardingPipelineConfigRequest.COMMIT
        ),
    ),
    "rpc_read_unknown_table": (
        "Read",
        p4r.ReadRequest(device_id=1, entities=[p4r.Entity(table_entry=p4r.TableEntry(table_id=5))]),
    ),
    "rpc_read_extern": (
        "Read",
        p4r.ReadRequest(device_id=1, entities=[p4r.Entity(extern_entry=p4r.ExternEntry())]),
    ),
    "rpc_read_time_since_last_hit": (
        "Read",
        p4r.ReadRequest(
            device_id=1,
            entities=[
                p4r.Entity(
                    table_entry=p4r.TableEntry(
                        table_id=ROUTER.id("ig.acl"),
                        time_since_last_hit=p4r.TableEntry.IdleTimeout(),
                    )
                )
            ],
        ),
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_rpc_refusals(name: str, served: tuple[SoftSwitch, Any]) -> None:
    switch, stub = served
    load(switch, "router")
    method, request = REQUESTS[name]
    sent = request if name == "rpc_write_without_election_id" else signed(request)
    if name == "rpc_config_other_p4info":
        sent.config.p4_device_config = (PROGRAMS / "features.json").read_bytes()
        sent.config.p4info.CopyFrom(p4info("router"))
    call = getattr(stub, method)
    with pytest.raises(grpc.RpcError) as e:
        list(call(sent, timeout=120)) if method == "Read" else call(sent, timeout=10)
    check(name, told(request, e.value))


def test_there_are_enough_and_none_is_left_over() -> None:
    files = {p.stem for p in GOLDEN.glob("*.txt")}
    assert files == {*WRITES, *REQUESTS}
    assert len(files) >= 50

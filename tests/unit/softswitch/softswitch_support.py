"""Programs, entries by name and frames for the softswitch tests."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from finsy.proto import p4i, p4r
from google.protobuf import text_format

from orchestrator.softswitch.ir import program_of
from orchestrator.softswitch.packetmeta import canonical
from orchestrator.softswitch.switch import SoftSwitch

PROGRAMS = Path(__file__).parents[2] / "p4" / "softswitch"

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


def program(name: str) -> Any:
    return json.loads((PROGRAMS / f"{name}.json").read_text())


def p4info(name: str) -> p4i.P4Info:
    return text_format.Parse((PROGRAMS / f"{name}.p4info.txtpb").read_text(), p4i.P4Info())


def loaded(name: str, **options: Any) -> SoftSwitch:
    """A switch with one of the test programs and a clock that stands still at 5 us."""
    ticks = iter([0])
    switch = SoftSwitch(clock=lambda: next(ticks, 5_000), **options)
    switch.load(program_of((PROGRAMS / f"{name}.json").read_bytes()), p4info(name))
    return switch


class Names:
    """Builds updates from names instead of ids."""

    def __init__(self, info: p4i.P4Info) -> None:
        self.tables = {t.preamble.name: t for t in info.tables}
        self.actions = {a.preamble.name: a for a in info.actions}

    def id(self, table: str) -> int:
        return self.tables[table].preamble.id

    def entry(
        self,
        table: str,
        match: dict[str, Any],
        action: str | None = None,
        params: tuple[int, ...] = (),
        priority: int = 0,
        kind: Any = INSERT,
        **fields: Any,
    ) -> p4r.Update:
        update = p4r.Update(type=kind)
        e = update.entity.table_entry
        e.table_id = self.id(table)
        e.priority = priority
        for f in self.tables[table].match_fields:
            if f.name not in match:
                continue
            m = e.match.add(field_id=f.id)
            value = match[f.name]
            if f.match_type == p4i.MatchField.EXACT:
                m.exact.value = canonical(value)
            elif f.match_type == p4i.MatchField.LPM:
                m.lpm.value, m.lpm.prefix_len = canonical(value[0]), value[1]
            elif f.match_type == p4i.MatchField.TERNARY:
                m.ternary.value, m.ternary.mask = map(canonical, value)
            elif f.match_type == p4i.MatchField.RANGE:
                m.range.low, m.range.high = map(canonical, value)
            else:
                m.optional.value = canonical(value)
        if action is not None:
            declared = self.actions[action]
            e.action.action.action_id = declared.preamble.id
            for p, v in zip(declared.params, params, strict=True):
                e.action.action.params.add(param_id=p.id, value=canonical(v))
        for name, value in fields.items():
            setattr(e, name, value)
        return update


def group(ident: int, *replicas: tuple[int, int], kind: Any = INSERT) -> p4r.Update:
    update = p4r.Update(type=kind)
    e = update.entity.packet_replication_engine_entry.multicast_group_entry
    e.multicast_group_id = ident
    for port, instance in replicas:
        e.replicas.add(egress_port=port, instance=instance)
    return update


def clone_session(ident: int, *replicas: tuple[int, int], kind: Any = INSERT) -> p4r.Update:
    update = p4r.Update(type=kind)
    e = update.entity.packet_replication_engine_entry.clone_session_entry
    e.session_id = ident
    for port, instance in replicas:
        e.replicas.add(egress_port=port, instance=instance)
    return update


class Profiles:
    """Updates of action profiles by name."""

    def __init__(self, info: p4i.P4Info) -> None:
        self.ids = {p.preamble.name: p.preamble.id for p in info.action_profiles}
        self.actions = {a.preamble.name: a for a in info.actions}

    def action(self, out: p4r.Action, name: str, *params: int) -> None:
        declared = self.actions[name]
        out.action_id = declared.preamble.id
        for p, v in zip(declared.params, params, strict=True):
            out.params.add(param_id=p.id, value=canonical(v))

    def member(
        self, profile: str, ident: int, action: str, *params: int, kind: Any = INSERT
    ) -> p4r.Update:
        update = p4r.Update(type=kind)
        m = update.entity.action_profile_member
        m.action_profile_id, m.member_id = self.ids[profile], ident
        if action:
            self.action(m.action, action, *params)
        return update

    def group(
        self, profile: str, ident: int, *members: tuple[int, int], kind: Any = INSERT, size: int = 0
    ) -> p4r.Update:
        update = p4r.Update(type=kind)
        g = update.entity.action_profile_group
        g.action_profile_id, g.group_id, g.max_size = self.ids[profile], ident, size
        for member, weight in members:
            g.members.add(member_id=member, weight=weight)
        return update

    def one_shot(
        self, update: p4r.Update, *actions: tuple[int, str, tuple[int, ...]]
    ) -> p4r.Update:
        """Gives a table entry an action set of (weight, action, parameters)."""
        out = update.entity.table_entry.action.action_profile_action_set
        for weight, name, params in actions:
            self.action(out.action_profile_actions.add(weight=weight).action, name, *params)
        return update


def internet_checksum(data: bytes) -> int:
    """RFC 1071, written apart from the implementation's arithmetic."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_frame(
    src: str = "192.168.0.1",
    dst: str = "10.1.0.1",
    sport: int = 1234,
    dport: int = 99,
    *,
    ttl: int = 64,
    payload: bytes = b"x" * 18,
    vlan: int | None = None,
    options: bytes = b"",
) -> bytes:
    def address(text: str) -> bytes:
        return bytes(int(part) for part in text.split("."))

    length = 8 + len(payload)
    udp = struct.pack(">HHHH", sport, dport, length, 0) + payload
    pseudo = address(src) + address(dst) + struct.pack(">BBH", 0, 17, length)
    udp = udp[:6] + struct.pack(">H", internet_checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    ihl = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH", 0x40 | ihl, 0, ihl * 4 + length, 7, 0, ttl, 17, 0)
    head += address(src) + address(dst) + options
    head = head[:10] + struct.pack(">H", internet_checksum(head)) + head[12:]
    ethernet = bytes.fromhex("020000000001020000000009")
    tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
    return ethernet + tag + b"\x08\x00" + head + udp


def op_frame(op: int, a: int = 0, b: int = 0, tail: bytes = b"") -> bytes:
    """A frame of features.p4."""
    return struct.pack(">BBHII", op, a, b, 0, 0) + tail


def op_result(frame: bytes) -> tuple[int, int, int, int]:
    """(a, b, result, extra) of a features.p4 frame."""
    _, a, b, result, extra = struct.unpack_from(">BBHII", frame)
    return a, b, result, extra

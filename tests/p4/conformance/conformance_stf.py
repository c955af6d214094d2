"""Packet tests in p4c's .stf language, and their table entries as P4Runtime updates.

Names in .stf files are the loose ones of BMv2's command line (`pipe_t`, a
field without its header, wildcards as `0x0*`); here they are matched against
P4Info. Where nothing fits, `StfError` says what was looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finsy.proto import p4i, p4r

IGNORED = frozenset({"wait", "register_read", "mirroring_get", "meter_get_rates", "counter_read"})


class StfError(Exception):
    """A test that this harness cannot express."""


@dataclass(frozen=True, slots=True)
class Packet:
    port: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Expect:
    """Hex digits with `*` for any; `exact` ends with `$` in the file; None: nothing comes."""

    port: int
    digits: str | None
    exact: bool

    def accepts(self, frame: bytes) -> bool:
        got = frame.hex()
        if self.digits is None or len(got) < len(self.digits):
            return False
        if self.exact and len(got) != len(self.digits):
            return False
        return all(a in ("*", b) for a, b in zip(self.digits, got, strict=False))


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    text: str


Step = Packet | Expect | Command


def parse(path: Path) -> list[Step]:
    steps: list[Step] = []
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("packet", "expect"):
            port, _, data = rest.partition(" ")
            digits = re.sub(r"\s", "", data).lower()
            if word == "packet":
                steps.append(Packet(int(port), bytes.fromhex(digits)))
            else:
                exact = digits.endswith("$")
                steps.append(Expect(int(port), digits.rstrip("$") or None, exact))
        elif word not in IGNORED:
            steps.append(Command(word, rest))
    return steps


def verdict(steps: Sequence[Step], got: dict[int, list[bytes]]) -> str:
    """'' when what came out is what the test expects, else the first difference."""
    wanted: dict[int, list[Expect]] = {}
    for step in steps:
        if isinstance(step, Expect):
            wanted.setdefault(step.port, []).append(step)
    for port, expects in wanted.items():
        frames = got.get(port, [])
        if any(e.digits is None for e in expects):
            if not frames:
                return f"port {port}: a packet is expected, none came"
            continue
        if len(frames) != len(expects):
            return f"port {port}: {len(expects)} packets expected, {len(frames)} came"
        for e, frame in zip(expects, frames, strict=True):
            if not e.accepts(frame):
                return f"port {port}: {e.digits} expected, {frame.hex()} came"
    extra = {port: len(frames) for port, frames in got.items() if frames and port not in wanted}
    return f"unexpected packets on ports {extra}" if extra else ""


def number(text: str) -> int:
    text = text.strip()
    return int(text, 2) if text.startswith("0b") else int(text, 0)


def masked(text: str, width: int) -> tuple[int, int, int | None]:
    """(value, mask, prefix length) of `v`, `v/length`, `v&&&m` or a number with wildcards."""
    ones = (1 << width) - 1
    if "&&&" in text:
        value, mask = text.split("&&&")
        return number(value), number(mask), None
    if "/" in text:
        value, length = text.split("/")
        n = int(length)
        return number(value), ones >> (width - n) << (width - n), n
    if "*" in text:
        bits = 4 if text.startswith("0x") else 1
        value = mask = 0
        for digit in text[2:]:
            value, mask = value << bits, mask << bits
            if digit != "*":
                value |= int(digit, 16)
                mask |= (1 << bits) - 1
        return value & ones, mask & ones, None
    return number(text), ones, None


def closest(what: str, name: str, names: Iterable[str]) -> str:
    """The P4Info name that a loose one means."""
    listed = list(names)
    loose = name.replace("$", "")

    def flat(text: str) -> str:
        return re.sub(r"\W", "_", text.replace("$", ""))

    for test in (
        lambda n: n == name,
        lambda n: n.endswith("." + name),
        lambda n: flat(n) == flat(loose) or flat(n).endswith("_" + flat(loose)),
        lambda n: n.split(".")[-1] == name.split(".")[-1],
        lambda n: flat(loose).endswith("_" + flat(n.split(".")[-1])),
    ):
        matching = [n for n in listed if test(n)]
        if matching:
            return matching[0]
    raise StfError(f"no {what} '{name}' (known: {', '.join(listed)})")


def canonical(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


class Translator:
    """Turns commands into P4Runtime updates by P4Info."""

    def __init__(self, info: p4i.P4Info) -> None:
        self.info = info
        self.tables = {t.preamble.name: t for t in info.tables}
        self.actions = {a.preamble.name: a for a in info.actions}
        self.nodes: list[tuple[tuple[int, int], ...]] = []
        self.groups: dict[int, list[tuple[int, int]]] = {}
        self.session_of_group: dict[int, list[int]] = {}
        self.entries = 0

    def updates(self, command: Command) -> list[p4r.Update]:
        handler = getattr(self, "_" + command.name, None)
        if handler is None:
            raise StfError(f"command '{command.name}' is not known to this harness")
        return handler(command.text)

    def _action(self, table: p4i.Table, text: str, out: p4r.Action) -> None:
        name, _, arguments = text.partition("(")
        allowed = [
            a.preamble.name
            for a in self.info.actions
            if a.preamble.id in {r.id for r in table.action_refs}
        ]
        action = self.actions[closest("action", name.strip(), allowed)]
        out.action_id = action.preamble.id
        pairs = [a.split(":") for a in arguments.rstrip(")").split(",") if a.strip()]
        given = {k.strip(): number(v) for k, v in pairs}
        for p in action.params:
            value = given[closest("parameter", p.name, given)]
            out.params.add(param_id=p.id, value=canonical(value & ((1 << p.bitwidth) - 1)))

    def _add(self, text: str) -> list[p4r.Update]:
        match = re.match(r"(\S+)\s+(.*?)\s*([\w.$]+\s*\([^()]*\))(\s*=.*)?$", text)
        if match is None:
            raise StfError(f"add {text}: not understood")
        table = self.tables[closest("table", match[1], self.tables)]
        update = p4r.Update(type=p4r.Update.INSERT)
        e = update.entity.table_entry
        e.table_id = table.preamble.id
        self.entries += 1
        priority = self.entries
        given: dict[str, str] = {}
        for token in match[2].split():
            key, colon, value = token.partition(":")
            if colon:
                given[key] = value
            else:
                priority = int(token)
        needs_priority = False
        for position, f in enumerate(table.match_fields):
            needs_priority |= f.match_type not in (p4i.MatchField.EXACT, p4i.MatchField.LPM)
            try:
                key = closest("field", f.name, given) if given else ""
            except StfError:
                if len(given) != len(table.match_fields):
                    continue
                key = list(given)[position]
            if key:
                self._match(f, given[key], e)
        if needs_priority:
            e.priority = priority + 1
        self._action(table, match[3], e.action.action)
        return [update]

    @staticmethod
    def _match(f: p4i.MatchField, text: str, e: p4r.TableEntry) -> None:
        value, mask, length = masked(text, f.bitwidth)
        value &= (1 << f.bitwidth) - 1
        kind = p4i.MatchField
        if f.match_type == kind.EXACT:
            e.match.add(field_id=f.id).exact.value = canonical(value)
        elif f.match_type == kind.LPM:
            n = mask.bit_count() if length is None else length
            if n:
                m = e.match.add(field_id=f.id)
                m.lpm.value, m.lpm.prefix_len = canonical(value & mask), n
        elif f.match_type == kind.RANGE:
            low, _, high = text.partition("->")
            m = e.match.add(field_id=f.id)
            m.range.low, m.range.high = canonical(number(low)), canonical(number(high or low))
        elif f.match_type == kind.OPTIONAL:
            e.match.add(field_id=f.id).optional.value = canonical(value)
        elif mask:
            m = e.match.add(field_id=f.id)
            m.ternary.value, m.ternary.mask = canonical(value & mask), canonical(mask)

    def _setdefault(self, text: str) -> list[p4r.Update]:
        name, _, action = text.partition(" ")
        table = self.tables[closest("table", name, self.tables)]
        update = p4r.Update(type=p4r.Update.MODIFY)
        e = update.entity.table_entry
        e.table_id, e.is_default_action = table.preamble.id, True
        self._action(table, action.strip(), e.action.action)
        return [update]

    def _session(self, ident: int, replicas: Sequence[tuple[int, int]]) -> p4r.Update:
        update = p4r.Update(type=p4r.Update.INSERT)
        e = update.entity.packet_replication_engine_entry.clone_session_entry
        e.session_id = ident
        for port, instance in replicas:
            e.replicas.add(egress_port=port, instance=instance)
        return update

    def _mirroring_add(self, text: str) -> list[p4r.Update]:
        ident, port = map(int, text.split())
        return [self._session(ident, [(port, 0)])]

    def _mirroring_add_mc(self, text: str) -> list[p4r.Update]:
        ident, group = map(int, text.split())
        self.session_of_group.setdefault(group, []).append(ident)
        if not self.groups.get(group):
            return []
        return [self._session(ident, self.groups[group])]

    def _mc_mgrp_create(self, text: str) -> list[p4r.Update]:
        self.groups[int(text)] = []
        return []

    def _mc_node_create(self, text: str) -> list[p4r.Update]:
        instance, *ports = map(int, text.split())
        self.nodes.append(tuple((p, instance) for p in ports))
        return []

    def _mc_node_associate(self, text: str) -> list[p4r.Update]:
        group, node = map(int, text.split())
        fresh = not self.groups[group]
        self.groups[group] += self.nodes[node]
        update = p4r.Update(type=p4r.Update.INSERT if fresh else p4r.Update.MODIFY)
        e = update.entity.packet_replication_engine_entry.multicast_group_entry
        e.multicast_group_id = group
        for port, instance in self.groups[group]:
            e.replicas.add(egress_port=port, instance=instance)
        sessions = [
            self._session(ident, self.groups[group])
            for ident in self.session_of_group.get(group, [])
        ]
        for session in sessions:
            session.type = update.type
        return [update, *sessions]

    def _register_write(self, text: str) -> list[p4r.Update]:
        name, index, value = text.split()
        registers = {r.preamble.name: r for r in self.info.registers}
        register = registers[closest("register", name, registers)]
        update = p4r.Update(type=p4r.Update.MODIFY)
        e = update.entity.register_entry
        e.register_id = register.preamble.id
        e.index.index = int(index)
        e.data.bitstring = canonical(number(value))
        return [update]

    def _register_reset(self, text: str) -> list[p4r.Update]:
        update = self._register_write(f"{text} 0 0")[0]
        update.entity.register_entry.ClearField("index")
        return [update]

    def _meter_rates(self, name: str, index: int | None, rates: Sequence[str]) -> p4r.Update:
        meters = {m.preamble.name: m for m in self.info.meters}
        update = p4r.Update(type=p4r.Update.MODIFY)
        e = update.entity.meter_entry
        e.meter_id = meters[closest("meter", name, meters)].preamble.id
        if index is not None:
            e.index.index = index
        (cir, cburst), (pir, pburst) = (r.split(":") for r in rates)
        # The command line counts per microsecond.
        e.config.cir, e.config.cburst = round(float(cir) * 1e6), int(cburst)
        e.config.pir, e.config.pburst = round(float(pir) * 1e6), int(pburst)
        return update

    def _meter_set_rates(self, text: str) -> list[p4r.Update]:
        name, index, *rates = text.split()
        return [self._meter_rates(name, int(index), rates)]

    def _meter_array_set_rates(self, text: str) -> list[p4r.Update]:
        name, *rates = text.split()
        meter = self._meter_rates(name, 0, rates)
        size = next(
            m.size for m in self.info.meters if m.preamble.id == meter.entity.meter_entry.meter_id
        )
        return [self._meter_rates(name, i, rates) for i in range(size)]

"""Names of a pipeline (its P4Info) to P4Runtime messages and back; ids are this package's alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from finsy.proto import p4i, p4r
from google.protobuf import text_format

from orchestrator.clients import encoding
from orchestrator.clients.encoding import Inserts, RawUpdate, inserted
from orchestrator.errors import SwitchError, unknown
from orchestrator.model.entries import (
    FIRST_REMOTE_COPY,
    Between,
    Exact,
    FloodGroup,
    Key,
    Lpm,
    Meter,
    TableEntry,
    Ternary,
)
from orchestrator.model.provenance import told

CONTROL_PREFIXES = ("ingress.", "egress.")
_SEPARATOR = "|"
_PIPELINES = 16
"""Schemas that are kept: devices of one network run few pipelines."""
_KEPT = 1 << 14
"""Encoded actions that are kept: entries of one NF share most of them."""


class _Field(NamedTuple):
    id: int
    kind: str
    bits: int


@dataclass(frozen=True, slots=True)
class _Action:
    id: int
    name: str
    params: dict[str, _Field]
    by_id: dict[int, str]


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table of the pipeline: `size` in entries; `keys` in order of the P4 program.

    `metered`: each entry has a meter, which a read must ask for.
    """

    id: int
    name: str
    size: int
    keys: dict[str, _Field]
    actions: tuple[str, ...]
    needs_priority: bool
    metered: bool = False


PORTS = "port.ports"
"""The table that a frame meets first, by the port that it came in by."""


class Counted(NamedTuple):
    """What hit an entry, as its direct counter says (0 where the table has none)."""

    table: str
    graph: str
    origin: str
    action: str
    packets: int
    bytes: int
    port: int | None = None
    """Of an entry of the table that counts what comes in by each port."""


def short(name: str) -> str:
    """`ingress.acl.ipv4` -> `acl.ipv4`, `egress.flood.copies` -> `flood.copies`."""
    for prefix in CONTROL_PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


class Schema:
    """The tables and actions of a P4Info."""

    def __init__(self, p4info: p4i.P4Info) -> None:
        self.p4info = p4info
        self.actions = {
            short(a.preamble.name): _Action(
                a.preamble.id,
                short(a.preamble.name),
                {p.name: _Field(p.id, "param", p.bitwidth) for p in a.params},
                {p.id: p.name for p in a.params},
            )
            for a in p4info.actions
        }
        self._action_by_id = {action.id: action for action in self.actions.values()}
        self.tables: dict[str, TableInfo] = {}
        metered = {meter.direct_table_id for meter in p4info.direct_meters}
        for t in p4info.tables:
            keys = {
                f.name: _Field(f.id, p4i.MatchField.MatchType.Name(f.match_type), f.bitwidth)
                for f in t.match_fields
            }
            self.tables[short(t.preamble.name)] = TableInfo(
                t.preamble.id,
                short(t.preamble.name),
                t.size,
                keys,
                tuple(self._action_by_id[ref.id].name for ref in t.action_refs),
                any(f.kind in ("TERNARY", "RANGE", "OPTIONAL") for f in keys.values()),
                t.preamble.id in metered,
            )
        self._table_by_id = {table.id: table for table in self.tables.values()}
        self._key_names = {
            table.id: {field.id: name for name, field in table.keys.items()}
            for table in self.tables.values()
        }
        self._decoded: dict[bytes, tuple[str, tuple[tuple[str, int], ...]]] = {}
        self._fields: dict[str, encoding.TableFields] = {}
        self._doings: dict[tuple[str, tuple[tuple[str, int], ...]], bytes] = {}
        self._identified: dict[int, tuple[TableEntry, str, tuple[bytes, bytes]]] = {}
        """By id of the very entry, which is kept, so that its id is nobody else's: devices that have the
        same access list share its entries."""

    @classmethod
    def of(cls, p4info: p4i.P4Info) -> Schema:
        """The one of a P4Info: devices that run the same share it, and what it knows of entries."""
        return _shared(p4info.SerializeToString(deterministic=True))

    @classmethod
    def from_text(cls, text: str) -> Schema:
        """From P4Info in protobuf text form."""
        return cls(text_format.Parse(text, p4i.P4Info()))

    def table(self, name: str) -> TableInfo:
        """A table by name; SwitchError with the nearest name."""
        if name not in self.tables:
            raise SwitchError(unknown("table", name, tuple(self.tables)))
        return self.tables[name]

    def table_by_id(self, ident: int) -> TableInfo | None:
        """A table by its id; None when the pipeline has none such."""
        return self._table_by_id.get(ident)

    def action_by_id(self, ident: int) -> str:
        """An action's name by its id; empty when the pipeline has none such."""
        action = self._action_by_id.get(ident)
        return action.name if action else ""

    def identified(self, entry: TableEntry, graph: str) -> tuple[bytes, bytes]:
        """(identity, serialised Entity) of an entry, in `metadata` its graph and what is `told` of its
        origin.

        Equal entries give equal bytes; see `clients.identity` for what a switch returns.
        """
        remembered = self._identified.get(id(entry))
        if remembered is not None and remembered[1] == graph:
            return remembered[2]
        if len(self._identified) >= _KEPT:
            self._identified.clear()
        encoded = self._encoded(entry, graph)
        self._identified[id(entry)] = entry, graph, encoded
        return encoded

    def _encoded(self, entry: TableEntry, graph: str) -> tuple[bytes, bytes]:
        name, keys, action, params, priority, origin, meter = entry
        fields = self._fields.get(name)
        if fields is None:
            table = self.table(name)
            fields = encoding.TableFields(table.id, table.keys, table.needs_priority)
            self._fields[name] = fields
        doing = self._doings.get((action, params))
        if doing is None:
            if len(self._doings) >= _KEPT:
                self._doings.clear()
            schema = self.actions[action]
            by_id = [(schema.params[param].id, value) for param, value in params]
            doing = self._doings[action, params] = encoding.action_part(schema.id, by_id)
        return encoding.identified(
            fields.encode(keys),
            doing,
            priority if fields.needs_priority else 0,
            f"{graph}{_SEPARATOR}{told(origin)}".encode(),
            _meter_bytes(meter) if meter else b"",
        )

    def encode(self, entry: TableEntry, graph: str) -> p4r.TableEntry:
        """The P4Runtime message of an entry."""
        return p4r.Entity.FromString(self.identified(entry, graph)[1]).table_entry

    def decode(self, message: p4r.TableEntry) -> tuple[str, TableEntry]:
        """(graph, entry) of a message that a switch returned; graph empty when it is not ours.

        Its origin is as far as devices are told (model/provenance.py).
        """
        ident = message.table_id
        table = self._table_by_id[ident]
        names = self._key_names[ident]
        keys = tuple([(names[match.field_id], _decode_key(match)) for match in message.match])
        action, params = self._decode_action(message.action)
        graph, origin = _provenance(message.metadata)
        meter = _meter(message.meter_config) if message.HasField("meter_config") else None
        entry = TableEntry(table.name, keys, action, params, message.priority, origin, meter)
        return graph, entry

    def counted(self, message: p4r.TableEntry) -> Counted:
        """What an entry has counted, by names; keys are not looked into, but for ports."""
        graph, origin = _provenance(message.metadata)
        table = self._table_by_id[message.table_id].name
        return Counted(
            table,
            graph,
            origin,
            self._decode_action(message.action)[0],
            message.counter_data.packet_count,
            message.counter_data.byte_count,
            int.from_bytes(message.match[0].exact.value) if table == PORTS else None,
        )

    def _decode_action(self, message: p4r.TableAction) -> tuple[str, tuple[tuple[str, int], ...]]:
        """Name and parameters, the same objects for equal ones: entries share most of them."""
        data = message.SerializeToString()
        decoded = self._decoded.get(data)
        if decoded is None:
            action = self._action_by_id.get(message.action.action_id)
            params = tuple(
                (action.by_id.get(p.param_id, "?") if action else "?", int.from_bytes(p.value))
                for p in message.action.params
            )
            if len(self._decoded) >= _KEPT:
                self._decoded.clear()
            decoded = self._decoded[data] = (action.name if action else _indirect(message), params)
        return decoded

    def updates(
        self, entries: Iterable[TableEntry], graph: str, kind: p4r.Update.Type.ValueType
    ) -> Iterator[RawUpdate]:
        """Updates of one kind (INSERT, MODIFY, DELETE) for entries."""
        for entry in entries:
            yield RawUpdate(kind, self.identified(entry, graph)[1])

    def inserts(self, entries: Sequence[TableEntry], graph: str) -> Inserts:
        """Inserts of entries, all serialised."""
        return Inserts(entries, [self.inserted(entries, graph)])

    def inserted(self, entries: Iterable[TableEntry], graph: str) -> bytearray:
        """Inserts of entries, one behind the other."""
        return inserted(self.identified(entry, graph)[1] for entry in entries)


@lru_cache(_PIPELINES)
def _shared(p4info: bytes) -> Schema:
    return Schema(p4i.P4Info.FromString(p4info))


@lru_cache(_KEPT)
def _provenance(metadata: bytes) -> tuple[str, str]:
    """(graph, origin); the graph is empty when the entry is not ours."""
    graph, _, origin = metadata.decode(errors="replace").partition(_SEPARATOR)
    return graph, origin


def _meter_bytes(meter: Meter) -> bytes:
    config = p4r.MeterConfig(
        cir=meter.rate, cburst=meter.burst, pir=meter.peak_rate, pburst=meter.peak_burst
    )
    return config.SerializeToString(deterministic=True)


def _meter(config: p4r.MeterConfig) -> Meter:
    return Meter(config.cir, config.cburst, config.pir, config.pburst)


def flood_update(flood: FloodGroup, kind: p4r.Update.Type.ValueType) -> p4r.Update:
    """Update of a multicast group."""
    group = p4r.MulticastGroupEntry(multicast_group_id=flood.group)
    for instance, port in enumerate(flood.ports, start=1):
        group.replicas.add(egress_port=port, instance=instance)
    for instance, port in enumerate(flood.remote, start=FIRST_REMOTE_COPY):
        group.replicas.add(egress_port=port, instance=instance)
    entity = p4r.Entity(
        packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(
            multicast_group_entry=group
        )
    )
    return p4r.Update(type=kind, entity=entity)


def clone_session_update(
    session: int, port: int, copies: Iterable[int], kind: p4r.Update.Type.ValueType
) -> p4r.Update:
    """Update of a clone session with copies of these numbers to a port."""
    clone = p4r.CloneSessionEntry(session_id=session)
    for instance in copies:
        clone.replicas.add(egress_port=port, instance=instance)
    entity = p4r.Entity(
        packet_replication_engine_entry=p4r.PacketReplicationEngineEntry(clone_session_entry=clone)
    )
    return p4r.Update(type=kind, entity=entity)


def _indirect(action: p4r.TableAction) -> str:
    """An action of an action profile in words."""
    kind = action.WhichOneof("type")
    if kind == "action_profile_member_id":
        return f"member {action.action_profile_member_id}"
    if kind == "action_profile_group_id":
        return f"group {action.action_profile_group_id}"
    return "action set" if kind == "action_profile_action_set" else "?"


def _decode_key(match: p4r.FieldMatch) -> Key:
    kind = match.WhichOneof("field_match_type")
    number = int.from_bytes
    if kind == "exact":
        return Exact(number(match.exact.value))
    if kind == "lpm":
        lpm = match.lpm
        return Lpm(number(lpm.value), lpm.prefix_len)
    if kind == "ternary":
        ternary = match.ternary
        return Ternary(number(ternary.value), number(ternary.mask))
    if kind == "range":
        between = match.range
        return Between(number(between.low), number(between.high))
    return Exact(number(match.optional.value))

"""The entries of one table: an update checked, applied, and an entry as a message."""

from __future__ import annotations

from typing import Any

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entities.actions import ActionCodec
from orchestrator.softswitch.entities.base import DELETE, INSERT, MODIFY, Operation
from orchestrator.softswitch.entities.counters import Count, decode_count, encode_count
from orchestrator.softswitch.entities.matches import MatchCodec
from orchestrator.softswitch.entity_errors import Named, listed
from orchestrator.softswitch.ir.program import P4Table
from orchestrator.softswitch.state.profiles import ProfileStore
from orchestrator.softswitch.state.tables import MatchTable, StoredEntry

Provenance = tuple[bytes, int, int]
"""What a controller attached to an entry: metadata, its older form, idle timeout."""

PLAIN = p4r.TableEntry()
"""A read that asks for neither counters nor meters nor times."""


def provenance(e: p4r.TableEntry) -> Provenance | None:
    metadata = e.metadata
    cookie = e.controller_metadata  # pyright: ignore[reportDeprecated]
    timeout = e.idle_timeout_ns
    return (metadata, cookie, timeout) if metadata or cookie or timeout else None


class TableEntries(Named):
    """`table` with its P4Info; `touched` collects the tables that a batch changes."""

    word = "table"

    def __init__(
        self,
        info: p4i.Table,
        p4info: p4i.P4Info,
        program: P4Table,
        table: MatchTable,
        touched: set[MatchTable],
        profile: ProfileStore | None = None,
    ) -> None:
        super().__init__(info.preamble)
        self.program = program
        self.table = table
        self.touched = touched
        self.profile = profile
        self.match = MatchCodec(info, program, table)
        self.actions = ActionCodec(info, program, p4info)
        self.immutable = info.is_const_table or bool(program.entries)
        self.const_default = info.const_default_action_id != 0 or program.const_default
        self.size = int(info.size) or program.size
        self.default = (table.miss.a, table.miss.args)
        self.ages = program.ages
        units = {c.preamble.id: c.spec.unit for c in p4info.direct_counters}
        meters = {m.preamble.id for m in p4info.direct_meters}
        self.counter_id = next((i for i in info.direct_resource_ids if i in units), 0)
        self.unit = units.get(self.counter_id, 0)
        self.meter_id = next((i for i in info.direct_resource_ids if i in meters), 0)

    # ---------------------------------------------------------------- decoding

    def decode(self, kind: int, e: p4r.TableEntry) -> Operation:
        if e.HasField("time_since_last_hit"):
            raise self.invalid("time_since_last_hit must not be set in a write")
        if not self.meter_id and e.HasField("meter_config"):
            raise self.invalid("meter_config is set, but it has no direct meter")
        if e.idle_timeout_ns and not self.ages:
            raise self.invalid(
                "idle_timeout_ns is set, but the table does not support idle timeouts"
            )
        if e.idle_timeout_ns < 0:
            raise self.invalid(
                f"idle_timeout_ns {e.idle_timeout_ns} is negative; 0 means no timeout"
            )
        if e.is_default_action:
            return self.decode_default(kind, e)
        if kind not in (INSERT, MODIFY, DELETE):
            raise self.invalid("update type is not set (valid: INSERT, MODIFY, DELETE)")
        if self.immutable:
            raise self.error(
                rpc_code.PERMISSION_DENIED,
                "its entries are const in the P4 program and cannot be changed",
            )
        if not self.match.fields:
            raise self.invalid(
                "it has no key, so only its default entry exists: set is_default_action"
            )
        if kind == DELETE:
            return self.delete, (self.match.decode(e),)
        if not e.HasField("action"):
            raise self.invalid(f"an entry needs an action (valid: {listed(self.actions.names())})")
        return self.decode_entry(kind, e)

    def decode_entry(self, kind: int, e: p4r.TableEntry) -> Operation:
        """An INSERT or MODIFY whose match and action remain to be checked."""
        match = self.match.decode(e)
        index, args = self.actions.decode(e.action, False)
        function = self.insert if kind == INSERT else self.modify
        return function, (match, index, args, provenance(e), self.decode_counter(e))

    def decode_default(self, kind: int, e: p4r.TableEntry) -> Operation:
        if kind != MODIFY:
            raise self.invalid("the default entry always exists; only MODIFY changes it")
        if e.match:
            raise self.invalid("the default entry has no match fields")
        if e.priority:
            raise self.invalid("the default entry has no priority")
        if self.profile is not None:
            raise self.invalid("a table with an action profile has no default action to set")
        if self.const_default:
            raise self.error(
                rpc_code.PERMISSION_DENIED, "its default action is const in the P4 program"
            )
        if e.HasField("meter_config") or e.idle_timeout_ns:
            raise self.invalid("the default entry has neither a meter nor an idle timeout")
        count = self.decode_counter(e)
        if not e.HasField("action"):
            return self.modify_default, (*self.default, None, count)
        index, args = self.actions.decode(e.action, True)
        return self.modify_default, (index, args, provenance(e), count)

    def decode_counter(self, e: p4r.TableEntry) -> Count | None:
        if not e.HasField("counter_data"):
            return None
        if not self.counter_id:
            raise self.invalid("counter_data is set, but it has no direct counter")
        return decode_count(e.counter_data)

    # ---------------------------------------------------------------- applying

    def check_room(self, match: Any) -> None:
        """A new entry with this match can be added."""
        table = self.table
        same = table.find(match)
        if same is not None:
            raise self.error(
                rpc_code.ALREADY_EXISTS,
                f"an entry with this match exists ({self.match.describe(same)}); "
                "use MODIFY to change its action",
            )
        if table.count >= self.size:
            raise self.error(
                rpc_code.RESOURCE_EXHAUSTED, f"it is full: {table.count} of {self.size} entries"
            )

    def existing(self, match: Any) -> StoredEntry:
        entry = self.table.find(match)
        if entry is None:
            hint = "match fields and priority must be those of the INSERT"
            raise self.error(
                rpc_code.NOT_FOUND,
                f"no entry with this match among its {self.table.count} ({hint})",
            )
        return entry

    def insert(
        self,
        match: Any,
        index: int,
        args: tuple[int, ...],
        extra: Provenance | None,
        count: Count | None,
    ) -> None:
        self.check_room(match)
        table = self.table
        entry = table.make(index, args)
        entry.extra = extra
        if count is not None:
            entry.n, entry.b = count
        table.add(match, entry)
        self.touched.add(table)

    def modify(
        self,
        match: Any,
        index: int,
        args: tuple[int, ...],
        extra: Provenance | None,
        count: Count | None,
    ) -> None:
        self.change(self.existing(match), index, args, extra, count)

    def modify_default(
        self,
        index: int,
        args: tuple[int, ...],
        extra: Provenance | None,
        count: Count | None,
    ) -> None:
        self.change(self.table.miss, index, args, extra, count)

    def change(
        self,
        entry: StoredEntry,
        index: int,
        args: tuple[int, ...],
        extra: Provenance | None,
        count: Count | None,
    ) -> None:
        entry.a, entry.args, entry.extra = index, args, extra
        if count is not None:
            entry.n, entry.b = count
        self.table.changed(entry, counted=count is not None)

    def delete(self, match: Any) -> None:
        self.table.remove(self.existing(match))
        self.touched.add(self.table)

    def set_count(self, match: Any, count: Count) -> None:
        """The direct counter of an entry; no match means the default entry."""
        entry = self.table.miss if match is None else self.existing(match)
        entry.n, entry.b = count
        self.table.changed(entry, counted=True)

    # ----------------------------------------------------------------- reading

    def select(self, e: p4r.TableEntry) -> list[StoredEntry]:
        """The entries that a read's table entry means."""
        if e.is_default_action:
            return [self.table.miss]
        if e.match:
            entry = self.table.find(self.match.decode(e))
            return [] if entry is None else [entry]
        entries = list(self.table)
        if e.priority:
            entries = [x for x in entries if x.priority == e.priority]
        if e.metadata:
            entries = [x for x in entries if x.extra is not None and x.extra[0] == e.metadata]
        cookie = e.controller_metadata  # pyright: ignore[reportDeprecated]
        if cookie:
            entries = [x for x in entries if x.extra is not None and x.extra[1] == cookie]
        if e.HasField("action") and self.profile is None:
            spec = self.actions.by_id.get(e.action.action.action_id)
            entries = [x for x in entries if spec is not None and x.a == spec.index]
        return entries

    def encode(self, entry: StoredEntry, asked: p4r.TableEntry = PLAIN) -> p4r.Entity:
        """An entry with those of its counter, meter and time that `asked` sets."""
        entity = p4r.Entity()
        out = entity.table_entry
        self.encode_identity(entry, out)
        self.encode_action(entry, out)
        if entry.extra is not None:
            metadata, cookie, timeout = entry.extra
            out.metadata, out.idle_timeout_ns = metadata, timeout
            out.controller_metadata = cookie  # pyright: ignore[reportDeprecated]
        if self.counter_id and asked.HasField("counter_data"):
            self.encode_counter(entry, out.counter_data)
        return entity

    def encode_identity(self, entry: StoredEntry, out: p4r.TableEntry) -> None:
        """Which entry of which table it is."""
        out.table_id = self.id
        if entry is self.table.miss:
            out.is_default_action = True
        else:
            self.match.encode(entry, out)

    def encode_action(self, entry: StoredEntry, out: p4r.TableEntry) -> None:
        self.actions.encode(entry, out.action)

    def encode_counter(self, entry: StoredEntry, data: p4r.CounterData) -> None:
        encode_count(self.unit, entry.n, entry.b, data)

"""Why a switch refused updates, in words: table, key, action, graph, NF, rule, and the likely reason.

BMv2 answers UNKNOWN without a word for most of what it refuses. What it then most likely means is told
by looking: at what the table holds, and at the P4Info.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import grpc
from finsy.proto import p4r, rpc_code, rpc_status

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.identity import identify
from orchestrator.clients.p4info import Schema, TableInfo
from orchestrator.clients.words import Placing, as_told, entity_words
from orchestrator.clients.writing import RefusedWrite
from orchestrator.errors import WriteRefused

_SHOWN = 5
_RETRIED = 16
"""Updates per Write when looking for the offenders of a batch: any metadata limit holds so many."""

_CODES = {status.value[0]: status.name for status in grpc.StatusCode}
_VAGUE = frozenset({rpc_code.UNKNOWN, rpc_code.INTERNAL})


@dataclass(frozen=True, slots=True)
class Failure:
    """One update that a switch refused; `code` as google.rpc numbers it."""

    update: RawUpdate
    code: int
    reason: str


@dataclass(slots=True)
class Inquiry:
    """Finds out what was refused and why. `read` reads entities, `write` sends a small batch."""

    schema: Schema | None
    read: Callable[[p4r.Entity], Iterable[p4r.Entity]]
    write: Callable[[Sequence[RawUpdate]], Sequence[RefusedWrite]]
    _present: dict[int, dict[bytes, bytes]] = field(default_factory=dict[int, dict[bytes, bytes]])

    def failures(self, refused: Iterable[RefusedWrite]) -> list[Failure]:
        """Each update that was refused; empty if none can be told from the others."""
        failures: list[Failure] = []
        for refusal in refused:
            told = _told(refusal)
            if not told and _says_nothing(refusal.error):
                told = self._search(refusal) if len(refusal.updates) > 1 else _plain(refusal)
            failures += [self._explained(failure) for failure in told]
        return failures

    def _search(self, refusal: RefusedWrite) -> list[Failure]:
        """Whatever of a batch has not been done is tried again in small pieces."""
        left = [update for update in refusal.updates if not self._done(update)]
        self._present.clear()
        failures: list[Failure] = []
        size = min(_RETRIED, max(1, len(left) // 2))
        for start in range(0, len(left), size):
            for again in self.write(left[start : start + size]):
                told = _told(again)
                if told or len(again.updates) == 1 or not _says_nothing(again.error):
                    failures += told or _plain(again)
                else:
                    failures += self._search(again)
        return failures

    def _done(self, update: RawUpdate) -> bool:
        entity = p4r.Entity.FromString(update.entity)
        if entity.WhichOneof("entity") != "table_entry":
            return False
        identity, data = identify(entity)
        there = self._table(entity.table_entry.table_id)
        if update.kind == p4r.Update.DELETE:
            return identity not in there
        return there.get(identity) == data

    def _table(self, table: int) -> dict[bytes, bytes]:
        if table not in self._present:
            wanted = p4r.Entity(table_entry=p4r.TableEntry(table_id=table))
            self._present[table] = dict(identify(entity) for entity in self.read(wanted))
        return self._present[table]

    def _explained(self, failure: Failure) -> Failure:
        """A reason for one that the switch gave none for."""
        if failure.code not in _VAGUE:
            return failure
        told = f"the switch says '{failure.reason}'" if failure.reason else "no reason given"
        return replace(failure, reason=f"{told}; {self._likely(failure.update)}")

    def _likely(self, update: RawUpdate) -> str:
        entity = p4r.Entity.FromString(update.entity)
        if entity.WhichOneof("entity") != "table_entry":
            return _likely_of_group(update.kind)
        entry = entity.table_entry
        table = self.schema.table_by_id(entry.table_id) if self.schema else None
        if table is None or self.schema is None:
            return f"the pipeline has no table with id {entry.table_id}"
        there = self._table(entry.table_id)
        is_there = identify(entity)[0] in there
        if update.kind == p4r.Update.DELETE:
            return "there is no such entry" if not is_there else "it is there all the same"
        return (
            _wrong_form(self.schema, table, entry)
            or _wrong_time(update.kind, is_there)
            or _room(len(there), table.size)
        )


def _wrong_form(schema: Schema, table: TableInfo, entry: p4r.TableEntry) -> str:
    """What the P4Info says against an entry."""
    action = schema.action_by_id(entry.action.action.action_id)
    if entry.action.HasField("action") and action not in table.actions:
        return (
            f"the table has no action {action or 'of this id'} (it has: {', '.join(table.actions)})"
        )
    if table.needs_priority and entry.priority <= 0:
        return "entries of this table need a priority above 0"
    given = {match.field_id for match in entry.match}
    missing = [n for n, f in table.keys.items() if f.kind == "EXACT" and f.id not in given]
    return f"the exact key {missing[0]} is missing" if missing else ""


def _wrong_time(kind: int, is_there: bool) -> str:
    """What the table's entries say against an insert or a modification."""
    if kind == p4r.Update.INSERT:
        return "an entry with this match and priority is there already" if is_there else ""
    return "" if is_there else "there is no such entry"


def _room(used: int, size: int) -> str:
    if used >= size:
        return f"the table is full: {used} of {size} entries"
    return f"the table is not full: {used} of {size} entries"


class RefusedUpdates(WriteRefused):
    """Updates that a switch refused; of the places of rules it says what the switch was told, none."""

    def __init__(self, device: str, failures: Sequence[Failure], schema: Schema | None) -> None:
        super().__init__(f"{device}: {words_of(failures, schema)}")
        self._device, self._failures, self._schema = device, failures, schema

    def placed(self, placing: Placing) -> WriteRefused:
        """The same with the places of rules."""
        return WriteRefused(f"{self._device}: {words_of(self._failures, self._schema, placing)}")


def words_of(failures: Sequence[Failure], schema: Schema | None, placing: Placing = as_told) -> str:
    """The first ones in full, then how many more there are."""
    shown = [_words(failure, schema, placing) for failure in failures[:_SHOWN]]
    more = len(failures) - len(shown)
    return "; ".join(shown) + (f"; and {more} more updates failed" if more else "")


def _words(failure: Failure, schema: Schema | None, placing: Placing) -> str:
    kind = p4r.Update.Type.Name(p4r.Update.Type.ValueType(failure.update.kind)).lower()
    entity = p4r.Entity.FromString(failure.update.entity)
    what = (
        entity_words(schema, entity, placing=placing) if schema else " ".join(str(entity).split())
    )
    return f"{kind} {what}: {code_name(failure.code)}: {failure.reason or 'no reason given'}"


def code_name(code: int) -> str:
    """`ALREADY_EXISTS` for 6."""
    return _CODES.get(code, str(code))


def _told(refusal: RefusedWrite) -> list[Failure]:
    """What the error's details say of each update (P4Runtime, 12.3)."""
    details = _details(refusal.error)
    return [
        Failure(update, detail.canonical_code, detail.message)
        for update, detail in zip(refusal.updates, details, strict=False)
        if detail.canonical_code
    ]


def _details(error: grpc.RpcError) -> list[p4r.Error]:
    unpacked: list[p4r.Error] = []
    for key, value in error.trailing_metadata() or ():  # type: ignore[attr-defined]
        if key == "grpc-status-details-bin":
            for detail in rpc_status.Status.FromString(value).details:
                item = p4r.Error()
                if detail.Unpack(item):
                    unpacked.append(item)
    return unpacked


def _says_nothing(error: grpc.RpcError) -> bool:
    """Whether the details were lost (too large for gRPC), or never there."""
    code = error.code()  # type: ignore[attr-defined]
    lost = code == grpc.StatusCode.RESOURCE_EXHAUSTED and "metadata" in str(error.details())  # type: ignore[attr-defined]
    return lost or code == grpc.StatusCode.UNKNOWN


def _plain(refusal: RefusedWrite) -> list[Failure]:
    """The same for each, as the error has no details."""
    code, told = refusal.error.code().value[0], str(refusal.error.details() or "")  # type: ignore[attr-defined]
    return [Failure(update, code, told) for update in refusal.updates]


def _likely_of_group(kind: int) -> str:
    if kind == p4r.Update.INSERT:
        return "most likely a group or session with this number is there already"
    return "most likely there is no group or session with this number"

"""A step's changes as P4Runtime updates, and which of them a device still needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from finsy.proto import p4r

from orchestrator.clients.encoding import InsertRun, Inserts, RawUpdate
from orchestrator.clients.identity import identify
from orchestrator.clients.p4info import Schema, clone_session_update, flood_update
from orchestrator.deployment.drivers import PipelineDriver
from orchestrator.deployment.transaction import Change, CloneSession, Item, WriteEntries
from orchestrator.errors import SwitchError
from orchestrator.model.entries import TableEntry
from orchestrator.model.provenance import told

_WORTH_LOOKING = 0.01
"""Share of a device's entries from which on serialised ones are looked for."""
_KIND = p4r.Update


def identity(schema: Schema, entry: TableEntry) -> bytes:
    """What tells an entry from the others of a switch (P4Runtime, 9.1): table, priority, match."""
    return schema.identified(entry, "")[0]


def update_of(schema: Schema, change: Change, owner: str) -> RawUpdate:
    """The P4Runtime update that makes a change."""
    if change.before is None:
        return _update(schema, change.item, owner, _KIND.INSERT)
    kind = _KIND.DELETE if change.after is None else _KIND.MODIFY
    return _update(schema, change.item, owner, kind)


def updates_of(
    schema: Schema, changes: Iterable[Change], owner: str, ready: Inserts | None = None
) -> Iterator[RawUpdate | InsertRun]:
    """The updates that make changes, in their order; what is `ready` is not serialised again.

    It is looked for in its own order: what comes in another one is only serialised once more.
    """
    changes = tuple(changes)
    if ready is None or len(changes) < len(ready.entries) * _WORTH_LOOKING:
        yield from (update_of(schema, change, owner) for change in changes)
        return
    entries, end = ready.listed, len(ready.listed)
    first = at = 0  # the run so far
    for change in changes:
        item = change.after if change.before is None else None
        if at < end and item is entries[at]:
            at += 1
            continue
        if first < at:
            yield InsertRun(ready, first, at)
        first = at
        if isinstance(item, TableEntry):
            first = next((i for i in range(at, end) if entries[i] is item), end)
            at = first + 1
            if first < end:
                continue
            first = at = end
        yield update_of(schema, change, owner)
    if first < at:
        yield InsertRun(ready, first, at)


def _update(schema: Schema, item: Item, owner: str, kind: p4r.Update.Type.ValueType) -> RawUpdate:
    if isinstance(item, TableEntry):
        return RawUpdate(kind, schema.identified(item, owner)[1])
    if isinstance(item, CloneSession):
        return RawUpdate.of(clone_session_update(*item, kind))
    return RawUpdate.of(flood_update(item, kind))


def needed(driver: PipelineDriver, schema: Schema, step: WriteEntries) -> Iterator[Change]:
    """The changes of a step that the switch still needs, given what it has from this owner.

    Groups and sessions cannot be read everywhere: their changes are all kept. Entries are compared as
    bytes; one that differs is decoded.
    """
    present: dict[bytes, bytes] = {}
    for table in {c.item.table for c in step.changes if isinstance(c.item, TableEntry)}:
        wanted = p4r.Entity()
        wanted.table_entry.table_id = schema.table(table).id
        present.update(identify(entity) for entity in driver.read_entities(wanted))
    for change in step.changes:
        if not isinstance(change.item, TableEntry):
            yield change
            continue
        key, ours = schema.identified(change.item, step.owner)
        present_change = present.get(key)
        if present_change is None:
            if change.after is not None:
                yield Change(None, change.after)
            continue
        same = present_change == ours
        graph, entry = (step.owner, change.item) if same else _decoded(schema, present_change)
        if change.after is None:
            if graph == step.owner:
                yield Change(change.item, None)
        elif graph != step.owner:
            yield Change(None, change.after)  # the switch will say whose it is
        elif not same and not _alike(entry, change.item):
            yield Change(entry, change.after)


def _decoded(schema: Schema, entity: bytes) -> tuple[str, TableEntry]:
    return schema.decode(p4r.Entity.FromString(entity).table_entry)


def _alike(one: TableEntry, other: TableEntry) -> bool:
    """Whether two entries with one match are the same, their provenance included."""
    ours, theirs = (one.action, told(one.origin)), (other.action, told(other.origin))
    return ours == theirs and sorted(one.params) == sorted(other.params)


def replicate_carefully(driver: PipelineDriver, change: Change) -> None:
    """A group or session is made as it shall be, or is gone, whatever was there."""
    assert driver.schema is not None
    if change.after is None:
        with suppress(SwitchError):
            driver.write([_update(driver.schema, change.item, "", _KIND.DELETE)])
        return
    try:
        driver.write([_update(driver.schema, change.after, "", _KIND.INSERT)])
    except SwitchError:
        driver.write([_update(driver.schema, change.after, "", _KIND.MODIFY)])

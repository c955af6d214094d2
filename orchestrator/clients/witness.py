"""Tells a switch what a witness watches: over P4Runtime, in the CLE's name, beside its controller.

What is written are two entries a graph: the keys of the epochs (`witness.epochs`), and whom records go
to and by what key they are known (`record.collectors`). Nobody else writes them, and no deployment knows
them. The second one says of itself which boot and which epoch's key it has, since parameters are shown
to nobody: so whoever comes later, in another process, changes the key and leaves the boot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from finsy.proto import p4r

from orchestrator.clients.p4info import Schema
from orchestrator.clients.writing import Writable
from orchestrator.errors import InputError
from orchestrator.model.entries import Exact, Key, TableEntry
from orchestrator.model.manifest import COLLECTORS, EPOCHS
from servernf.wire.witness import Epoch, Witness

OWNER = "witness"
"""What entries say whose they are."""
ROLE = "cle"
"""The P4Runtime role (5) in which they are written, a graph's with its name, beside the controller's."""
_KEYED = re.compile(r"boot (\d{1,10}) epoch (\d{1,10})")


class SwitchSession(Protocol):
    """What is asked of a session with a switch (`SwitchClient`)."""

    @property
    def schema(self) -> Schema | None: ...
    def pipeline_cookie(self) -> int | None: ...
    def read_entities(self, *wanted: p4r.Entity) -> Iterator[p4r.Entity]: ...
    def write(self, updates: Iterable[Writable], *, batch: int = ...) -> int: ...


class SwitchWitness:
    """A switch, as one that takes epochs, while the context is open.

    `collector` is the MAC that records go to. `key` is that of the switch's records by boot and epoch: a
    boot is the time (`clock`, s since 1970) when the switch was found without the entry, since it, or
    its pipeline, had started; the epoch is the newest one that is told.
    """

    def __init__(
        self,
        name: str,
        session: AbstractContextManager[SwitchSession],
        graph_id: int,
        collector: int,
        key: Callable[[int, int], tuple[int, int]],
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._session = session
        self._keys: tuple[tuple[str, Key], ...] = (("graph", Exact(graph_id)),)
        self._collector, self._key, self._clock = collector, key, clock
        self._switch: SwitchSession | None = None

    def __enter__(self) -> SwitchWitness:
        self._switch = self._session.__enter__()
        return self

    def __exit__(self, *why: object) -> None:
        self._switch = None
        self._session.__exit__(None, None, None)

    def set_witness(self, graph: str, witness: Witness | None) -> None:
        """Say which packets of a graph it tells the CLE of; InputError where its pipeline cannot."""
        switch = self._switch
        assert switch is not None, "the session is not open"
        if switch.pipeline_cookie() is None or (schema := switch.schema) is None:
            raise InputError(f"{self.name}: runs no pipeline, so '{graph}' has nothing there")
        if EPOCHS not in schema.tables:
            raise InputError(f"{self.name}: its pipeline makes no records (it has no {EPOCHS})")
        there = {table: self._found(switch, schema, table) for table in (EPOCHS, COLLECTORS)}
        updates: list[p4r.Update] = []
        if witness is None:
            for entity in filter(None, there.values()):
                updates.append(p4r.Update(type=p4r.Update.DELETE, entity=entity))
        else:
            action, params = _watch(witness.epochs)
            old = there[EPOCHS]
            updates.append(self._update(schema, EPOCHS, action, params, change=old is not None))
            if (entry := self._keyed(schema, there[COLLECTORS], witness)) is not None:
                # Whom to tell is known before anything is watched; a key follows its epoch.
                updates.insert(len(updates) if there[COLLECTORS] else 0, entry)
        switch.write(updates, batch=1)

    def _keyed(self, schema: Schema, old: p4r.Entity | None, witness: Witness) -> p4r.Update | None:
        """Whom to tell, by the newest epoch's key; None: the switch knows."""
        epoch = witness.epochs[-1].number
        said = None if old is None else _KEYED.fullmatch(schema.decode(old.table_entry)[1].origin)
        boot = int(self._clock()) if said is None else int(said[1])
        if said is not None and int(said[2]) == epoch:
            return None
        key0, key1 = self._key(boot, epoch)
        told = {"collector": self._collector, "boot": boot, "key0": key0, "key1": key1}
        origin = f"boot {boot} epoch {epoch}"
        return self._update(
            schema, COLLECTORS, "record.tell", told, change=old is not None, origin=origin
        )

    def _found(self, switch: SwitchSession, schema: Schema, table: str) -> p4r.Entity | None:
        wanted = p4r.Entity()
        wanted.table_entry.table_id = schema.table(table).id
        for entity in switch.read_entities(wanted):
            if schema.decode(entity.table_entry)[1].keys == self._keys:
                return entity
        return None

    def _update(
        self,
        schema: Schema,
        table: str,
        action: str,
        params: Mapping[str, int],
        *,
        change: bool = False,
        origin: str = "",
    ) -> p4r.Update:
        entry = TableEntry(table, self._keys, action, tuple(params.items()), 0, origin)
        return p4r.Update(
            type=p4r.Update.MODIFY if change else p4r.Update.INSERT,
            entity=p4r.Entity(table_entry=schema.encode(entry, OWNER)),
        )


def _watch(epochs: tuple[Epoch, ...]) -> tuple[str, dict[str, int]]:
    """The action that watches by the newest epochs, two at most."""
    first, *second = epochs[-2:]
    if not second:
        return "witness.watch", _params(first)
    return "witness.watch_both", {**_params(first), **_params(second[0], "next_")}


def _params(epoch: Epoch, lead: str = "") -> dict[str, int]:
    return {
        f"{lead}number": epoch.number,
        f"{lead}key0": epoch.key0,
        f"{lead}key1": epoch.key1,
        f"{lead}packets": epoch.threshold,
        f"{lead}flows": epoch.flows,
    }

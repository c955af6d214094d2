"""What separates the state that a switch is in from the one that it should be in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from finsy.proto import p4r

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.p4info import Schema
from orchestrator.clients.words import NO_PORTS, EntityWords, Placing, Ports, as_told, entity_words

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


@dataclass(frozen=True, slots=True)
class Difference:
    """Entities, serialised, in the order of writing: inserts, then modifies, then deletes.

    `modified` holds (as it is, as it should be). What entities refer to is inserted before them and
    deleted after them.
    """

    inserted: tuple[bytes, ...]
    modified: tuple[tuple[bytes, bytes], ...]
    deleted: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.inserted) + len(self.modified) + len(self.deleted)

    def updates(self) -> Iterator[RawUpdate]:
        """All of it as updates of Writes."""
        for entity in self.inserted:
            yield RawUpdate(INSERT, entity)
        for _, entity in self.modified:
            yield RawUpdate(MODIFY, entity)
        for entity in self.deleted:
            yield RawUpdate(DELETE, entity)

    def words(
        self, schema: Schema, ports: Ports = NO_PORTS, placing: Placing = as_told
    ) -> Iterator[ChangeWords]:
        """The same in words, in the same order."""

        def words(entity: bytes) -> EntityWords:
            return entity_words(schema, entity, ports, placing)

        for entity in self.inserted:
            yield ChangeWords("add", words(entity), None)
        for before, after in self.modified:
            yield ChangeWords("change", words(after), words(before))
        for entity in self.deleted:
            yield ChangeWords("delete", words(entity), None)


@dataclass(frozen=True, slots=True)
class ChangeWords:
    """One change in words: `kind` is add, change or delete; `before` is what a change replaces."""

    kind: str
    entity: EntityWords
    before: EntityWords | None


def difference(wanted: Mapping[bytes, bytes], there: Mapping[bytes, bytes]) -> Difference:
    """What makes the state `there` the wanted one (states: see `deployment.desired`)."""
    inserted: list[bytes] = []
    modified: list[tuple[bytes, bytes]] = []
    for identity, entity in wanted.items():
        present = there.get(identity)
        if present is None:
            inserted.append(entity)
        elif present != entity:
            modified.append((present, entity))
    deleted = [entity for identity, entity in there.items() if identity not in wanted]
    return Difference(tuple(inserted), tuple(modified), tuple(reversed(deleted)))

"""What every kind of entity has: objects by id, updates decoded, reads walked in one way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from finsy.proto import p4i, p4r, rpc_code

from orchestrator.softswitch.entity_errors import EntityError, Named, listed

INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE

Operation = tuple[Callable[..., None], tuple[Any, ...]]
"""(function, arguments) that applies a checked update; it runs under the switch's lock."""

NamedT = TypeVar("NamedT", bound=Named)
MessageT = TypeVar("MessageT")
ObjectT = TypeVar("ObjectT")
ItemT = TypeVar("ItemT")


class ById(dict[int, NamedT]):
    """Objects of one kind by their P4Info id; an unknown id is refused, naming the valid ones."""

    def __init__(
        self, word: str, objects: Iterable[NamedT], code: int = rpc_code.INVALID_ARGUMENT
    ) -> None:
        super().__init__((o.id, o) for o in objects)
        self.word = word
        self.code = code

    def __missing__(self, ident: int) -> NamedT:
        valid = listed(f"{o.name} ({o.id})" for o in self.values())
        raise EntityError(self.code, f"unknown {self.word} id {ident} (valid: {valid})")

    def chosen(self, ident: int) -> list[NamedT]:
        """What the id of a read selects: 0 is the wildcard."""
        return [self[ident]] if ident else list(self.values())


class Entities(ABC, Generic[MessageT, ObjectT, ItemT]):
    """Entities of one kind: items (an entry, a cell, a member) of objects (a table, an array)."""

    @abstractmethod
    def decode(self, kind: int, e: MessageT) -> Operation:
        """Check an update of type `kind` without changing anything."""

    @abstractmethod
    def chosen(self, e: MessageT) -> Iterable[ObjectT]:
        """The objects that a read's message means."""

    @abstractmethod
    def select(self, of: ObjectT, e: MessageT) -> Sequence[ItemT]:
        """The items of an object that a read's message means."""

    @abstractmethod
    def encode(self, of: ObjectT, item: ItemT, e: MessageT) -> p4r.Entity:
        """An item as the answer to the read `e`."""

    def read(self, e: MessageT) -> Iterator[p4r.Entity]:
        """What a read selects. Refusals and the selection come at once, under the switch's
        lock; items are encoded as they are taken, so that 500,000 do not hold it up."""
        selected = [(of, self.select(of, e)) for of in self.chosen(e)]
        return (self.encode(of, item, e) for of, items in selected for item in items)


class _Info(Protocol):
    @property
    def preamble(self) -> p4i.Preamble: ...


InfoT = TypeVar("InfoT", bound=_Info)
LiveT = TypeVar("LiveT")


def in_program(
    word: str, infos: Iterable[InfoT], live: Mapping[str, LiveT], problems: list[str]
) -> Iterator[tuple[InfoT, LiveT]]:
    """Each object of P4Info with what the program has under its name, or a problem."""
    for info in infos:
        name = info.preamble.name
        if name in live:
            yield info, live[name]
        else:
            problems.append(f"{word} {name} is not in the BMv2 JSON")

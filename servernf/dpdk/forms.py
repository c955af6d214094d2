"""How configurations are written for NFs in C: the registry of what the files of `nfs` have."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules

from servernf.dpdk.memory import RecordPlace, SharedMemory
from servernf.dpdk.tables import StateTable, StateTables
from servernf.python.datagrams import MAX_REMEMBERED, MAX_WAITING
from servernf.python.network_function import NetworkFunction
from servernf.python.telling import Alert
from servernf.wire.fields import Fields

_WORD = (1 << 64) - 1


@dataclass(slots=True)
class Making:
    """An instance that is written for the C side. `nf` is Python's of the same configuration, which has
    found it to be good; `places` are those of the records that the instance shares with this side."""

    nf: NetworkFunction
    memory: SharedMemory
    state: StateTables
    places: list[RecordPlace] = field(default_factory=list[RecordPlace])
    tables: list[StateTable] = field(default_factory=list[StateTable])
    stats: Callable[[bytes], bytes] = field(default=lambda _asked: b"")
    """Asks the instance, once it is made, what its NF has more to tell."""
    compile: Callable[[bytes], bytes] = field(default=lambda _signatures: b"")
    """Has a process beside make a database of signatures (c/signatures.h)."""
    rules: Sequence[str] = ()
    """The rules that ask for drops, by the numbers by which the C side tells them."""
    alert: Callable[[int], Alert] = field(default=lambda _number: Alert(0, "", "", False))
    """What is told of a signature of a number."""
    metrics: Callable[[], dict[str, int]] | None = None
    """The NF's own indicators, where its state is C's."""

    def place(self, record: object, fields: tuple[str, ...], *, key: object = None) -> int:
        """Where a record's words lie."""
        record_place = self.memory.place(record, fields, key=key)
        self.places.append(record_place)
        return record_place.at

    def counted(self, name: str) -> int:
        """Where a counter of the NF's own lies."""
        counts = self.nf.state.counts
        return self.place(Items(counts), (name,), key=counts)

    def table(self, name: str, kind: str, bound: int, more: bytes = b"") -> StateTable:
        """The C side's of a table that the NF has declared; `more`: what its kind asks for."""
        state_table = self.state.take(self.nf.state.tables[name], kind, bound, more)
        self.tables.append(state_table)
        return state_table


class Items:
    """A dictionary's items, as attributes."""

    __slots__ = ("_of",)

    def __init__(self, of: dict[str, int]) -> None:
        object.__setattr__(self, "_of", of)

    def __getattr__(self, name: str) -> int:
        return self._of[name]

    def __setattr__(self, name: str, value: int) -> None:
        self._of[name] = value


Form = Callable[[Fields, Making], bytes]
_registry: dict[str, Form] = {}


def form(type_name: str) -> Callable[[Form], Form]:
    """Register what writes the configurations of a type; a duplicate name raises."""

    def register(made: Form) -> Form:
        if type_name in _registry:
            raise ValueError(f"two NFs are named '{type_name}'")
        _registry[type_name] = made
        return made

    return register


def forms() -> dict[str, Form]:
    """All of them by type; imports every file of `servernf.dpdk.nfs`."""
    package = import_module("servernf.dpdk.nfs")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return _registry


def words(value: int) -> bytes:
    """128 bits, the low word first."""
    return struct.pack("=2Q", value & _WORD, value >> 64)


def addresses(numbers: Iterable[tuple[int, int]]) -> bytes:
    """Addresses that say a number each (c/addresses.h)."""
    rising: Sequence[tuple[int, int]] = sorted(numbers)
    said = (words(address) + struct.pack("=I", number) for address, number in rising)
    return struct.pack("=I", len(rising)) + b"".join(said)


def datagrams(
    making: Making, kind: str = "fragments"
) -> tuple[bytes, Callable[[], dict[str, int]]]:
    """The tables of fragments (c/datagrams.h), and what is told of them."""
    firsts = making.table("fragments", kind, MAX_REMEMBERED)
    waiting = making.table("waiting_fragments", "waiting_fragments", MAX_WAITING)

    def told() -> dict[str, int]:
        return {"fragments": firsts.counts.count, "fragments_waiting": waiting.counts.waiting}

    return struct.pack("=II", firsts.number, waiting.number), told

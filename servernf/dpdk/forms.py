"""How configurations are written for NFs in C: the registry of what the files of `nfs` have."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pkgutil import iter_modules

from servernf.dpdk.memory import Memory, Place
from servernf.python.network_function import NetworkFunction
from servernf.wire.fields import Fields

_WORD = (1 << 64) - 1


@dataclass(slots=True)
class Making:
    """An instance that is written for the C side. `nf` is Python's of the same configuration, which has
    found it to be good; `places` are those of the records that the instance shares with this side."""

    nf: NetworkFunction
    memory: Memory
    places: list[Place] = field(default_factory=list[Place])

    def place(self, record: object, fields: tuple[str, ...]) -> int:
        """Where a record's words lie."""
        found = self.memory.place(record, fields)
        self.places.append(found)
        return found.at


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

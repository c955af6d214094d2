"""What an NF is to the runtime, and the registry that NF files enter themselves into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, NamedTuple, TypeVar

from servernf.python.packet import PacketView
from servernf.python.state import NfState
from servernf.python.telling import DROP as DROPPED
from servernf.python.telling import NOBODY, ToldDrop
from servernf.wire.errors import InputError, unknown
from servernf.wire.fields import Fields

INSIDE, OUTSIDE = "inside", "outside"
OTHER = {INSIDE: OUTSIDE, OUTSIDE: INSIDE}
DROP = None
"""What `process` answers instead of a port."""

_registry: dict[str, type[NetworkFunction]] = {}
_F = TypeVar("_F", bound="type[NetworkFunction]")


class Emitted(NamedTuple):
    """A frame that an NF sends beside the packet that it was called with."""

    port: str
    frame: bytes
    at_us: int = 0
    """When it is sent, by the clock of `process`; the past: at once."""


class NetworkFunction(ABC):
    """An NF instance: made from its configuration, and called by one thread.

    A subclass reads its configuration in `setup`; problems are raised together (InputError). There it
    also declares its state, tables and counters, which are the runtime's (`servernf.python.state`).
    """

    type_name: ClassVar[str] = ""

    def __init__(self, where: str, config: object) -> None:
        self.drops: dict[str, int] = {}
        self.last_drop = self.last_rule = ""
        """Of the drop that `process` has answered last: its reason, and the rule that asked for it."""
        self.events = NOBODY
        """By which it tells people what has happened (`servernf.python.telling`)."""
        self.emitted: list[Emitted] = []
        """Sent behind the packet by the caller, who empties it."""
        self.state = NfState(self)
        fields = Fields(where, config)
        self.setup(fields)
        fields.check()
        self.bound()

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of its ports."""
        return (INSIDE, OUTSIDE)

    @abstractmethod
    def setup(self, config: Fields) -> None:
        """Read the configuration; `Fields` collects what is wrong with it."""

    @abstractmethod
    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        """Handle a packet that entered `port`; the port it leaves, or DROP.

        `now_us` is a monotonic clock. The packet's bytes may be changed in place.
        """

    def bound(self) -> None:  # noqa: B027
        """Called when the tables are there, and again when others have taken their places."""

    def continue_from(self, before: Any) -> bool:
        """Go on with the state of an instance of this class with another configuration.

        They share it, since both may be called for a while, by one thread, each judging by its own
        configuration. So nothing is copied, and `before` is not changed. False: it says nothing here.
        """
        kept = self.state.follow(before.state)
        self.bound()
        return kept

    def goes_on(self, table: str, key: Any, record: Any) -> bool:
        """Whether this configuration goes on with a record, which may be of an earlier one."""
        return True

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        """Why records of another instance have no place here, by table and key; they may be made ready.

        `whole`: what records say of each other can be asked (a slice has some of them only).
        """
        return ()

    def has_entered(self) -> None:  # noqa: B027
        """Called when records of another instance are there; for what is derived from them."""

    def tidy(self, now_us: int) -> None:  # noqa: B027
        """Called now and then, between packets: forget some of what is over."""

    def hash_of_answer(self, packet: PacketView, port: str) -> int | None:
        """A hash in the bucket that a packet to the NF's pool is for; None: it is for none."""
        return None

    def metrics(self) -> dict[str, int]:
        """The NF's own indicators, beside packets and drops. Called from another thread."""
        return {}

    def count(self, name: str) -> None:
        """One more of a counter of the NF's own."""
        counts = self.state.counts
        counts[name] = counts.get(name, 0) + 1

    def drop(self, reason: str, rule: str = "") -> None:
        """Count a drop and answer DROP; `rule` is its place in the configuration, as `rules[3]`."""
        self.drops[reason] = self.drops.get(reason, 0) + 1
        self.last_drop, self.last_rule = reason, rule

    def tell_drop(self, packet: PacketView) -> None:
        """Tell why `process` has answered DROP; a packet that is only held has not been dropped."""
        if self.last_drop:
            self.events.tell(DROPPED, packet, ToldDrop(self.last_drop, self.last_rule))
            self.last_drop = self.last_rule = ""


def network_function(type_name: str) -> Callable[[_F], _F]:
    """Register a class as the NF of this type; a duplicate name raises."""

    def register(cls: _F) -> _F:
        if type_name in _registry:
            raise ValueError(f"two NFs are named '{type_name}'")
        cls.type_name = type_name
        _registry[type_name] = cls
        return cls

    return register


def known_types() -> list[str]:
    """Names of all NF types; imports every file of `servernf.python.nfs`."""
    package = import_module("servernf.python.nfs")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return sorted(_registry)


def create(type_name: str, where: str, config: object) -> NetworkFunction:
    """An instance of a type; InputError names all problems, each beginning with `where`."""
    types = known_types()
    if type_name not in _registry:
        raise InputError(f"{where}: {unknown('NF type', type_name, types)}")
    return _registry[type_name](where, config)

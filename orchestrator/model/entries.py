"""What devices are given, by name: table entries for switches, configs for workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Exact(NamedTuple):
    """Equal to `value`."""

    value: int


class Lpm(NamedTuple):
    """The first `length` bits are those of `value`."""

    value: int
    length: int


class Ternary(NamedTuple):
    """Equal to `value` under `mask`."""

    value: int
    mask: int


class Between(NamedTuple):
    """From `low` to `high`, both included."""

    low: int
    high: int


Key = Exact | Lpm | Ternary | Between


class Meter(NamedTuple):
    """Bytes a second and bytes: a direct meter of two rates (RFC 2698)."""

    rate: int
    burst: int
    peak_rate: int
    peak_burst: int


class TableEntry(NamedTuple):
    """One entry: keys left out match anything; `origin` is 'NF: rule', kept as P4Runtime metadata.

    A NamedTuple, not a dataclass: half a million of them must fit in memory.
    """

    table: str
    keys: tuple[tuple[str, Key], ...]
    action: str
    params: tuple[tuple[str, int], ...]
    priority: int
    origin: str
    meter: Meter | None = None


FIRST_REMOTE_COPY = 1000
"""Replica ids of copies for hosts are below."""


class FloodGroup(NamedTuple):
    """A multicast group: copies to hosts at `ports`, and towards other switches at `remote`.

    The copy of `remote[i]` has replica id FIRST_REMOTE_COPY + i; table `flood.copies` addresses it.
    """

    group: int
    ports: tuple[int, ...]
    origin: str
    remote: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchProgram:
    """Everything that one graph puts on one switch. `activation` puts it in force: it goes last."""

    entries: tuple[TableEntry, ...]
    activation: tuple[TableEntry, ...]
    floods: tuple[FloodGroup, ...]


@dataclass(frozen=True, slots=True)
class ChainHop:
    """A hop of a server's service chain: an NF of the worker, or out to (MAC, SPI, SI)."""

    nf: str = ""
    port: str = ""
    mac: int = 0
    spi: int = 0
    si: int = 0


@dataclass(frozen=True, slots=True)
class ServerChain:
    """Packets tagged (spi, si) start at `hops[0]`; `outputs[i]` is the port by which they leave it."""

    spi: int
    si: int
    hops: tuple[ChainHop, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerProgram:
    """What one graph puts on one worker: NF name -> (type, config), and the chains."""

    server: str
    core: int
    nfs: Mapping[str, tuple[str, Mapping[str, Any]]]
    chains: tuple[ServerChain, ...]

"""What a worker is to be, read from a message of a controller and checked against the server."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from servernf.agent.machine import Nic
from servernf.wire.addresses import mac_text
from servernf.wire.errors import InputError, quoted, unknown

if TYPE_CHECKING:
    from servernf.proto import agent_pb2

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of servers and workers: names of files, too."""
MIN_MEMORY = 64 << 20
"""Bytes: less is not enough for any runtime to start."""
_DEVICE = 0x02


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker as it was asked for (agent.proto, WorkerSpec).

    Either `macvlan_on` or `interface` is empty. `memory_bytes` 0: no bound; `cpu` None: the agent's
    choice.
    """

    name: str
    core: int
    runtime: str
    mac: int
    macvlan_on: str
    interface: str
    memory_bytes: int
    cpu: int | None

    @property
    def device(self) -> str:
        """The interface that its frames come from."""
        return self.interface or f"core{self.core + 1}"

    @property
    def place(self) -> str:
        """Where its frames come from, in words."""
        return (
            f"interface {self.interface}" if self.interface else f"a macvlan on {self.macvlan_on}"
        )

    def differences(self, other: WorkerSpec) -> list[str]:
        """What another one has that is not so here, in words."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{key} {_told(key, mine[key])}, not {_told(key, theirs[key])}"
            for key in mine
            if mine[key] != theirs[key]
        ]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a specification may ask for."""

    runtimes: Collection[str]
    nics: Collection[Nic]
    cpus: Collection[int]
    most_cores: int
    memory_bytes: int


def spec_of(message: agent_pb2.WorkerSpec, offer: Offer) -> WorkerSpec:
    """The specification in a message; InputError with all that is wrong with it here."""
    spec = WorkerSpec(
        name=message.name,
        core=message.core,
        runtime=message.runtime,
        mac=message.mac,
        macvlan_on=message.macvlan_on,
        interface=message.interface,
        memory_bytes=message.memory_bytes,
        cpu=message.cpu if message.HasField("cpu") else None,
    )
    problems = [*_problems(spec, offer), *_place_problems(spec, offer)]
    if problems:
        raise InputError(problems)
    return spec


def _problems(spec: WorkerSpec, offer: Offer) -> Iterator[str]:
    if not NAME.fullmatch(spec.name):
        yield f"name: {quoted(spec.name)} is no name of a worker ({NAME.pattern})"
    if spec.core >= offer.most_cores:
        yield f"core: {spec.core}: this server has cores 0 to {offer.most_cores - 1} for workers"
    if spec.runtime not in offer.runtimes:
        yield f"runtime: {unknown('runtime', spec.runtime, tuple(offer.runtimes))}"
    if spec.mac >> 40 != _DEVICE or spec.mac >> 16 & 0xFFFF == 0:
        yield (
            f"mac: {quoted(f'{spec.mac:x}')} is no device's MAC "
            "(02:TT:DD:DD:CC:CC: tree, device from 1, core plus one)"
        )
    elif spec.mac & 0xFFFF != spec.core + 1:
        yield f"mac: {mac_text(spec.mac)} is not that of core {spec.core}, which ends in its number + 1"
    if spec.memory_bytes and not MIN_MEMORY <= spec.memory_bytes <= offer.memory_bytes:
        yield (
            f"memory_bytes: {spec.memory_bytes}: give 0 (no bound), or {MIN_MEMORY} to "
            f"{offer.memory_bytes}"
        )
    if spec.cpu is not None and spec.cpu not in offer.cpus:
        listed = ", ".join(map(str, sorted(offer.cpus)))
        yield f"cpu: {spec.cpu} is none that workers may use here ({listed})"


def _place_problems(spec: WorkerSpec, offer: Offer) -> Iterator[str]:
    names = {nic.name: nic for nic in offer.nics}
    if spec.macvlan_on:
        if spec.macvlan_on not in names:
            yield f"macvlan_on: {unknown('interface', spec.macvlan_on, tuple(names))}"
        return
    if not spec.interface:
        yield "give macvlan_on (a NIC that gets a macvlan) or interface (one for this worker alone)"
        return
    nic = names.get(spec.interface)
    if nic is None:
        yield f"interface: {unknown('interface', spec.interface, tuple(names))}"
    elif nic.mac != spec.mac:
        yield (
            f"interface: {nic.name} has MAC {mac_text(nic.mac)}, not {mac_text(spec.mac)}; "
            f"it is used as it is: ip link set {nic.name} address {mac_text(spec.mac)}"
        )
    elif not nic.up:
        yield f"interface: {nic.name} is down; it is used as it is: ip link set {nic.name} up"


def _told(key: str, value: object) -> str:
    if key == "mac" and isinstance(value, int):
        return mac_text(value)
    return quoted(value) if isinstance(value, str) else str(value)

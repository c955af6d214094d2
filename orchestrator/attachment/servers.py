"""One server that runs already: whether its agent is the right one, and can start the workers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.attachment.probes import TAGGED_MTU
from orchestrator.clients.agent import AgentClient, worker_specs
from orchestrator.deployment.access import Access
from orchestrator.errors import InputError, NetworkError, ReportedError, quoted, unknown
from orchestrator.model.topology import Server
from servernf.proto import agent_pb2
from servernf.wire.addresses import mac_text


@dataclass(frozen=True, slots=True)
class ServerFound:
    """A server whose agent answered.

    `workers` are those that it shall run; of these, `new` (names) do not run yet. `notes` are what the
    agent says that the server lacks.
    """

    name: str
    workers: tuple[agent_pb2.WorkerSpec, ...] = ()
    new: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def open_agent(server: Server, access: Access) -> AgentClient:
    """A session with a server's agent; NetworkError where the topology does not say where it is."""
    if server.management is None:
        raise NetworkError(
            f"{server.name}: the topology does not say where its agent is reached "
            f"(servers.{server.name}.address)"
        )
    tls = access.tls_files(server.name, server.tls)
    return AgentClient(server.name, server.management.address, tls=tls)


def look_at(server: Server, access: Access, *, max_clock_offset_s: float) -> ServerFound | str:
    """Ask a server's agent what it is; a text says why it cannot be asked. Nothing is changed."""
    try:
        with open_agent(server, access) as agent:
            asked = time.time()
            described = agent.describe()
            answered = time.time()
    except ReportedError as error:
        return str(error)
    problems = [
        *_identity(server, described),
        *_clock(server, described.time_us / 1e6, asked, answered, max_clock_offset_s),
        *_cores(server, described),
    ]
    workers: tuple[agent_pb2.WorkerSpec, ...] = ()
    try:
        nics = _nics(server, described)
        for nic in nics:
            problems += _unfit(server, nic)
        workers = tuple(worker_specs(server, nics[0].name))
        problems += _wrong_macs(server, workers, nics)
    except InputError as error:
        problems += error.problems
    running = {worker.spec.name: worker.spec for worker in described.workers}
    problems += _taken(server, workers, running)
    return ServerFound(
        server.name,
        workers,
        tuple(spec.name for spec in workers if spec.name not in running),
        tuple(f"{server.name}: {warning}" for warning in described.warnings),
        tuple(problems),
    )


def _identity(server: Server, described: agent_pb2.Description) -> Iterator[str]:
    if described.name != server.name:
        yield (
            f"{server.name}: the agent there is that of {quoted(described.name)}: another address, or "
            "another name in the agent's configuration"
        )
    if server.runtime not in described.runtimes:
        runtimes = ", ".join(map(quoted, described.runtimes)) or "none"
        yield f"{server.name}: its agent has no runtime '{server.runtime}' (it has: {runtimes})"


def _clock(
    server: Server, there: float, asked: float, answered: float, most: float
) -> Iterator[str]:
    """Its clock was read between two readings of ours: so much, at least, is it ahead or behind."""
    offset = max(there - answered, asked - there, 0.0)
    if offset > most:
        way = "ahead of" if there > answered else "behind"
        yield (
            f"{server.name}: its clock is {_duration(offset)} {way} this machine's (at most "
            f"{most:g} s, --max-clock-offset): samples and certificates are dated by it"
        )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, _ = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _cores(server: Server, described: agent_pb2.Description) -> Iterator[str]:
    needed = len(server.worker_cores)
    if len(described.cpus) < needed:
        yield (
            f"{server.name}: workers may use {len(described.cpus)} CPUs, the topology says "
            f"{needed} (cores {server.cores}, reserved_cores {server.reserved_cores})"
        )


def _nics(server: Server, described: agent_pb2.Description) -> list[agent_pb2.Nic]:
    """Those of workers, or the one NIC towards the switches; InputError when one is not there, or it
    could be several."""
    nics = {nic.name: nic for nic in described.nics}
    if server.interfaces:
        missing = [name for name in server.interfaces if name not in nics]
        if missing:
            raise InputError(
                [f"{server.name}: {unknown('interface', name, tuple(nics))}" for name in missing]
            )
        return [nics[name] for name in server.interfaces]
    wanted = server.management.interface if server.management else ""
    if wanted:
        if wanted not in nics:
            raise InputError(f"{server.name}: {unknown('interface', wanted, tuple(nics))}")
        return [nics[wanted]]
    if len(nics) != 1:
        told = ", ".join(map(quoted, nics)) or "none"
        raise InputError(
            f"{server.name}: say which interface leads to the switches "
            f"(servers.{server.name}.interface; it has: {told})"
        )
    return list(nics.values())


def _wrong_macs(
    server: Server, workers: Sequence[agent_pb2.WorkerSpec], nics: Sequence[agent_pb2.Nic]
) -> Iterator[str]:
    """An interface that is given to a worker is used as it is, so it must have the worker's MAC."""
    for worker, nic in zip(workers, nics if server.interfaces else (), strict=False):
        if nic.mac != worker.mac:
            mac = mac_text(worker.mac)
            yield (
                f"{server.name}: {quoted(nic.name)} has MAC {mac_text(nic.mac)}, {worker.name} needs "
                f"{mac}: ip link set {nic.name} address {mac}"
            )


def _unfit(server: Server, nic: agent_pb2.Nic) -> Iterator[str]:
    if nic.mtu < TAGGED_MTU:
        yield (
            f"{server.name}: {quoted(nic.name)} has an MTU of {nic.mtu}, tagged frames need "
            f"{TAGGED_MTU} or more"
        )
    if not nic.carrier:
        yield f"{server.name}: {quoted(nic.name)} has no carrier"


def _taken(
    server: Server,
    workers: tuple[agent_pb2.WorkerSpec, ...],
    running: dict[str, agent_pb2.WorkerSpec],
) -> Iterator[str]:
    """Workers of others where ours are to be."""
    for spec in workers:
        for name, other in running.items():
            if other == spec:
                continue
            shared = [
                what
                for what, same in (
                    ("name", name == spec.name),
                    (f"core {spec.core + 1}", other.core == spec.core),
                    (f"MAC {mac_text(spec.mac)}", other.mac == spec.mac),
                )
                if same
            ]
            if shared:
                yield (
                    f"{server.name}: worker {quoted(name)} of somebody else has the {shared[0]} of "
                    f"{spec.name}"
                )

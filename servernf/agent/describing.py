"""What the server offers, as controllers are told and specifications are checked against."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache

from servernf.agent import machine
from servernf.agent.bounds import Bounds
from servernf.agent.config import Config
from servernf.agent.keeper import RunState, WorkerCondition
from servernf.agent.runtimes import runtimes
from servernf.agent.specs import Offer, WorkerSpec
from servernf.agent.starter import Starter
from servernf.host.devices import lacks
from servernf.host.processes import boot_id
from servernf.host.version import installed_version
from servernf.proto import agent_pb2 as agent
from servernf.wire.agents import API_VERSION

_STATES = {
    RunState.STARTING: agent.WORKER_STARTING,
    RunState.RUNNING: agent.WORKER_RUNNING,
    RunState.RESTARTING: agent.WORKER_RESTARTING,
    RunState.FAILED: agent.WORKER_FAILED,
}
_CGROUPS = {0: agent.CGROUP_NONE, 1: agent.CGROUP_V1, 2: agent.CGROUP_V2}
_version = cache(installed_version)


def offer(config: Config) -> Offer:
    """What a specification may ask for now."""
    return Offer(
        runtimes=tuple(runtimes()),
        nics=machine.nics(),
        cpus=config.workers.cpus,
        most_cores=config.workers.most_cores,
        memory_bytes=machine.memory_bytes(),
    )


def warnings(config: Config, bounds: Bounds) -> list[str]:
    """What an operator should know of this server, in words."""
    exposed = config.exposures()
    if not bounds.version:
        exposed.append(
            "no control groups that this agent may write (with systemd: Delegate=yes): memory is "
            "bounded by RLIMIT_DATA, CPUs by affinity"
        )
    exposed += [f"workers.devices: {why}" for why in map(lacks, config.workers.devices) if why]
    if not runtimes():
        exposed.append("no runtime is installed")
    return exposed


def description(
    config: Config, bounds: Bounds, workers: Iterable[agent.Worker] = ()
) -> agent.Description:
    """The server and its workers."""
    there = offer(config)
    return agent.Description(
        api_version=API_VERSION,
        name=config.name,
        version=_version(),
        time_us=time.time_ns() // 1000,
        boot_id=boot_id(),
        cpus=[
            agent.Cpu(number=cpu.number, numa_node=cpu.numa_node)
            for cpu in machine.cpus(there.cpus)
        ],
        pins=config.workers.pin,
        memory_bytes=there.memory_bytes,
        cgroup=_CGROUPS[bounds.version],
        nics=[_nic(nic) for nic in there.nics],
        runtimes=there.runtimes,
        workers=workers,
        warnings=warnings(config, bounds),
        restarts=config.workers.restart,
    )


def worker(
    spec: WorkerSpec, condition: WorkerCondition, config: Config, starter: Starter
) -> agent.Worker:
    """A worker as it is."""
    cpu = starter.cpu(spec)
    return agent.Worker(
        spec=spec_message(spec),
        state=_STATES[condition.state],
        reason=condition.reason,
        interface=starter.place(spec),
        api=config.workers.api(spec.core),
        pid=condition.pid,
        cpu=-1 if cpu is None else cpu,
        restarts=condition.restarts,
        since_us=condition.since_us,
        log=str(starter.log(spec)),
    )


def spec_message(spec: WorkerSpec) -> agent.WorkerSpec:
    """The message that a specification was read from."""
    message = agent.WorkerSpec(
        name=spec.name,
        core=spec.core,
        runtime=spec.runtime,
        mac=spec.mac,
        memory_bytes=spec.memory_bytes,
        cpu=spec.cpu,
    )
    if spec.interface:
        message.interface = spec.interface
    else:
        message.macvlan_on = spec.macvlan_on
    return message


def _nic(nic: machine.Nic) -> agent.Nic:
    return agent.Nic(
        name=nic.name,
        mac=nic.mac,
        mtu=nic.mtu,
        carrier=nic.carrier,
        bits_per_second=nic.bits_per_second,
        driver=nic.driver,
        numa_node=nic.numa_node,
    )

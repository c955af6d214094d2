"""What placement may use of devices: what is free of them, and what was measured of their kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from orchestrator.network.fabric import Fabric
from orchestrator.placement.problem import MEMORY, SERVER, SWITCH, BlockRoom, TaskDevice
from orchestrator.placement.resources import WAITING, Network
from orchestrator.profiles import SwitchProfile
from orchestrator.runtimes import ESTIMATED_FOR, runtime
from orchestrator.targets import profile_of
from orchestrator.targets.pipelines import Pipeline


def devices_of(fabric: Fabric, network: Network, *, measured: bool = True) -> dict[str, TaskDevice]:
    """Switches with their free entries by 'block.table', servers with their free cores.

    `measured`: with what profiles say of them; else with what the topology says alone.
    """
    topology = fabric.topology
    profiles = {
        target: profile_of(target) if measured else None
        for target in {s.target for s in topology.switches.values()}
    }
    devices: dict[str, TaskDevice] = {}
    tables: dict[int, dict[str, int]] = {}  # of each pipeline: few are many switches'
    for switch in topology.switches.values():
        pipeline = network.pipelines[switch.name]
        if id(pipeline) not in tables:
            tables[id(pipeline)] = _of_functions(pipeline)
        taken = network.used.entries.get(switch.name)
        capacity: dict[str, int] = {}
        for name, size in tables[id(pipeline)].items():
            block, _, table = name.partition(".")
            used = taken[block, table] if taken else 0
            capacity[name] = max(0, min(size, switch.table_sizes.get(name, size)) - used)
        slots = _slots(pipeline, network.used.tables.get(switch.name, Counter()))
        devices[switch.name] = TaskDevice(
            switch.name,
            SWITCH,
            capacity,
            packets_per_second=switch.packets_per_second or _most(profiles[switch.target]),
            pass_us=0 if switch.packets_per_second else _pass_us(profiles[switch.target]),
            spare=bool(switch.server),
            slots=slots,
        )
    held: dict[str, set[int]] = defaultdict(set)
    for core in network.used.cores:
        held[core.server].add(core.index)
    for server in topology.servers.values():
        free = tuple(i for i in server.worker_cores if i not in held[server.name])
        there = runtime(server.runtime)
        profile = there.profile if measured else None
        devices[server.name] = TaskDevice(
            server.name,
            SERVER,
            {MEMORY: max(0, server.memory_bytes - network.used.memory_bytes.get(server.name, 0))},
            len(free),
            server.cycles_per_second or (there.cycles_per_second if measured else ESTIMATED_FOR),
            free,
            runtime=server.runtime,
            alone_ns=round(1000 * profile.alone_us) if profile else 0,
            waiting=WAITING if profile else 0.0,
        )
    return devices


def _most(profile: SwitchProfile | None) -> int:
    return profile.packets_per_second if profile else 0


def _pass_us(profile: SwitchProfile | None) -> int:
    """A pass of a packet that finds others before it, on a switch as busy as a core may be planned."""
    if profile is None:
        return 0
    return round(profile.alone_us + profile.service_us * (1 + WAITING))


def room_of(fabric: Fabric, network: Network) -> dict[str, Mapping[str, int]]:
    """What graphs may still take of devices: entries by 'block.table', a server's memory."""
    return {name: device.capacity for name, device in devices_of(fabric, network).items()}


def _of_functions(pipeline: Pipeline) -> dict[str, int]:
    """Entries by 'block.table' of the blocks that elements ask for."""
    blocks = {slot.block for slot in pipeline.slots}
    return {t: n for t, n in pipeline.tables().items() if t.partition(".")[0] in blocks}


def _slots(pipeline: Pipeline, taken: Counter[str]) -> tuple[BlockRoom, ...]:
    """A pipeline's block instances with what is free of each."""
    free: dict[str, dict[str, int]] = defaultdict(dict)
    blocks = {slot.instance: slot.block for slot in pipeline.slots}
    for name, size in pipeline.table_sizes.items():
        instance, _, table = name.partition(".")
        if instance in blocks:
            free[instance][f"{blocks[instance]}.{table}"] = max(0, size - taken[name])
    return tuple(BlockRoom(s.instance, s.block, free[s.instance], s.nf) for s in pipeline.slots)

"""A compiled bundle as it can be deployed on a network now, with its targets, beside other graphs.

Its placement was made when it was compiled. So the network must be the one it was made for, and what it
takes must still be free; both are checked before anything is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain, pairwise
from typing import Any

from orchestrator.bundle.codec import Packed
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.ownership import check_ownership
from orchestrator.errors import (
    CompileError,
    DeploymentError,
    EnvironmentMissing,
    InfeasibleError,
    InputError,
)
from orchestrator.linker.renumbering import renumbered
from orchestrator.linker.sharing import share
from orchestrator.model.builds import Build
from orchestrator.model.bundle import Bundle
from orchestrator.model.devices import Device, devices_of, pipelined
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.problem import MEMORY
from orchestrator.placement.resources import Used
from orchestrator.targets import lookup, specialised
from orchestrator.targets.pipelines import Pipeline, build_for, capability_for

_SHOWN = 5
_SIGN = "a bundle signed by somebody trusted (compile --sign, deploy --trust) is taken as it is"
_OWN = frozenset({"tls", "target", "pipeline"})
"""What may differ from the topology that a bundle was compiled for; what runs says the pipelines."""


def for_network(packed: Packed, topology: Topology, own_builds: Collection[Build] = ()) -> Bundle:
    """The bundle with the targets of this network; InputError when it was compiled for another one.

    `known` are pipelines that run there.
    """
    bundle, source = packed.bundle, packed.source
    if packed.foreign:
        raise InputError(
            f"{source}: was compiled with another build of pipeline {', '.join(packed.foreign)} than "
            "this version ships: compile graph.json anew"
        )
    if packed.topology is None:
        raise InputError(
            f"{source}: does not say which topology it was compiled for: write it with `compile -o`"
        )
    _check_pipelines_made(packed, own_builds)
    problems = [*_differences(packed.topology, topology), *_strangers(bundle, topology)]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(
            f"{source}: was compiled for another network than {topology.name}: "
            f"{'; '.join(problems[:_SHOWN])}{more}; compile graph.json with -t for this one"
        )
    here = devices_of(topology)
    devices = {
        name: replace(here[name], pipeline=device.pipeline)
        for name, device in bundle.devices.items()
    }
    bundle = replace(bundle, devices=devices)
    check_ownership(bundle, topology, source)
    return bundle


def beside(
    bundle: Bundle, topology: Topology, deployed: Mapping[str, Deployed], used: Used, free_id: int
) -> Bundle:
    """The bundle with numbers that fit what is deployed, where all that it takes is free.

    DeploymentError when another pipeline runs, InfeasibleError that names what is taken. `used` and
    `free_id` are what graphs other than this one hold, and an id that none has.
    """
    _check_pipelines(bundle, deployed)
    old = deployed.get(bundle.graph)
    others = {name: d.bundle for name, d in deployed.items() if name != bundle.graph}
    problems = list(_collisions(bundle, topology, others, used))
    if problems:
        raise InfeasibleError(
            f"{bundle.graph}: the bundle's placement does not fit beside "
            f"{', '.join(others) or 'nothing'}: {'; '.join(problems[:_SHOWN])}; nothing was changed "
            "(deploying graph.json places it anew)"
        )
    taken = {other.graph_id for other in others.values()}
    if old is not None:
        return share(renumbered(bundle, old.bundle.graph_id), old.bundle)
    return renumbered(bundle, free_id if bundle.graph_id in taken else bundle.graph_id)


def _check_pipelines_made(packed: Packed, own_builds: Collection[Build]) -> None:
    """A pipeline that a bundle brings decides over every packet of a switch, so it must be one of ours.

    It is when it runs here already, when p4c makes it again, or when somebody who is trusted signed it.
    """
    targets = dict(packed.bundle.pipeline_of.values())
    for made in packed.bundle.builds:
        if packed.trusted or made in own_builds:
            continue
        name, target = made.name, lookup(targets[made.name])
        try:
            ours = specialised.rebuilt(made, target)
        except EnvironmentMissing as error:
            why = f"brings pipeline {name}, which does not run here and cannot be made again"
            raise InputError(f"{packed.source}: {why}: {error}; or {_SIGN}") from error
        except (CompileError, ValueError):
            ours = False
        if not ours:
            raise InputError(
                f"{packed.source}: brings pipeline {name}, which is not what "
                f"{target.compiler()} makes of the shipped one here; {_SIGN}"
            )


def _differences(made_for: Topology, here: Topology) -> Iterator[str]:
    """What the two topologies do not agree on."""
    for kind in ("switches", "servers", "smartnics", "hosts"):
        ours: dict[str, Any] = getattr(here, kind)
        theirs: dict[str, Any] = getattr(made_for, kind)
        for name in sorted(ours.keys() | theirs.keys()):
            yield from _compare(name, theirs.get(name), ours.get(name))
    ends = [
        {(link.a, link.a_port, link.b, link.b_port): link for link in topology.links}
        for topology in (made_for, here)
    ]
    for key in sorted(ends[0].keys() | ends[1].keys()):
        a, a_port, b, b_port = key
        name = f"link {a} port {a_port} - {b} port {b_port}"
        yield from _compare(name, ends[0].get(key), ends[1].get(key))
    if made_for.trees != here.trees:
        yield f"trees is {here.trees} and was {made_for.trees}"


def _compare(name: str, was: Any, now: Any) -> Iterator[str]:
    if was is None or now is None:
        yield f"{name} is {'new' if was is None else 'missing'}"
        return
    for field in fields(was):
        before, after = getattr(was, field.name), getattr(now, field.name)
        if field.name not in _OWN and before != after:
            yield f"{name}'s {field.name} is {after} and was {before}"


def _strangers(bundle: Bundle, topology: Topology) -> Iterator[str]:
    """Devices of the bundle that the network lacks."""
    here = devices_of(topology)
    for name in sorted({*bundle.devices, *bundle.programs} ^ here.keys()):
        yield f"{name} is a device of only one of them"
    for name in sorted(bundle.devices.keys() & here.keys()):
        mine, its = bundle.devices[name], here[name]
        if (mine.kind, mine.runtime) != (its.kind, its.runtime):
            yield f"{name} is a {_kind(its)} and was a {_kind(mine)}"
    for core in sorted(_cores(bundle), key=lambda core: (core.server, core.index)):
        server = topology.servers.get(core.server)
        if server is None or core.index not in server.worker_cores:
            yield f"there is no worker on {core}"


def _kind(device: Device) -> str:
    return f"{device.kind} ({device.runtime})" if device.runtime else device.kind


def _check_pipelines(bundle: Bundle, deployed: Mapping[str, Deployed]) -> None:
    running = {s: d.bundle for d in deployed.values() for s in d.bundle.pipeline_of}
    other = {
        switch: running[switch].pipeline_of[switch][0]
        for switch in bundle.pipeline_of
        if switch in running
        and build_for(running[switch], switch).cookie != build_for(bundle, switch).cookie
    }
    if other:
        wanted = ", ".join(sorted({bundle.pipeline_of[switch][0] for switch in other}))
        raise DeploymentError(
            f"{bundle.graph}: {', '.join(sorted(other))} run pipeline "
            f"{', '.join(sorted(set(other.values())))} for {', '.join(deployed)}, and the bundle is for "
            f"{wanted}; nothing was changed (undeploy them first, or deploy graph.json)"
        )


def _collisions(
    bundle: Bundle, topology: Topology, others: Mapping[str, Bundle], used: Used
) -> Iterator[str]:
    """What the bundle takes and others have."""
    holders = {core: name for name, other in others.items() for core in _cores(other)}
    for core in sorted(_cores(bundle), key=lambda core: (core.server, core.index)):
        if core in holders:
            yield f"{core} belongs to {holders[core]}"
    for name, server in topology.servers.items():
        need = bundle.block_use.get(name, {}).get(MEMORY, 0)
        free = server.memory_bytes - used.memory_bytes.get(name, 0)
        if need > free:
            yield f"{name} has {max(0, free):,} bytes of memory left, {need:,} are needed"
    for name, program in bundle.programs.items():
        taken = used.tables.get(name, Counter[str]())
        offer = capability_for(bundle, name)
        yield from _full(name, offer, topology, program.entries_by_table(), taken)
    yield from _crowded_links(bundle, Fabric(topology), used)


def _full(
    device: str,
    offer: Pipeline,
    topology: Topology,
    need: Counter[str],
    taken: Counter[str],
) -> Iterator[str]:
    limits = pipelined(topology)[device].table_sizes
    block_of = {slot.instance: slot.block for slot in offer.slots}
    sizes, needs, takens = dict(offer.table_sizes), Counter(need), Counter(taken)
    for counts in (needs, takens):
        blocks: Counter[str] = Counter()  # a topology's limits are of all instances of a block
        for table, count in counts.items():
            instance, _, rest = table.partition(".")
            blocks[f"all {block_of.get(instance, instance)}.{rest}"] += count
        counts.update(blocks)
    sizes |= {f"all {table}": size for table, size in limits.items()}
    for table, count in sorted(needs.items()):
        if table in sizes and count + takens[table] > sizes[table]:
            yield (
                f"{device} {table} holds {sizes[table]} entries, {takens[table]} of them are taken and "
                f"{count} needed"
            )


def _crowded_links(bundle: Bundle, fabric: Fabric, used: Used) -> Iterator[str]:
    rates: Counter[tuple[str, str]] = Counter()
    for hop in bundle.plan.hops:
        for link in pairwise(fabric.path(hop.source, hop.target, hop.tree)):
            rates[link] += hop.rate
    for (a, b), rate in sorted(rates.items()):
        free = fabric.link(a, b).capacity - used.link_rate.get((a, b), 0)
        if rate > free:
            yield f"link {a} -> {b} has {free / 1e9:g} Gbit/s left, {rate / 1e9:g} are needed"


def _cores(bundle: Bundle) -> set[Core]:
    workers = (Core(worker.server, worker.core) for worker in bundle.workers)
    return {*workers, *chain.from_iterable(bundle.plan.cores_of)}

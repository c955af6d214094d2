"""A bundle from a stranger may say what a compiler would have said of the stranger's graph, no more.

Every number that carries a graph id carries the bundle's own (`targets.references` says which do); ports
are those of its hosts; MACs those of switches, of its own cores and hosts; the fabric's entries are the
ones that we make for this network; workers, chains and the plan name what is there. So another graph's
segments, paths and groups cannot be written, entered or left for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from orchestrator.clients.p4info import Schema
from orchestrator.clients.validity import Validity
from orchestrator.compiler.fabric_program import fabric_programs
from orchestrator.errors import InputError, unknown
from orchestrator.linker.epochs import epoch_entry
from orchestrator.linker.graphs import graph_in
from orchestrator.model.builds import Build
from orchestrator.model.bundle import Bundle
from orchestrator.model.devices import pipelined
from orchestrator.model.entries import (
    Exact,
    FloodGroup,
    Lpm,
    PipelineProgram,
    ServerChain,
    TableEntry,
    WorkerProgram,
)
from orchestrator.model.plan import Core
from orchestrator.model.refs import LAYOUTS, Role
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import known_types, lookup
from orchestrator.placement.problem import MEMORY
from orchestrator.runtimes import runtime
from orchestrator.targets.block import EPOCH_TABLE, OWN_INSTANCES
from orchestrator.targets.pipelines import build_for, capability_for, p4info
from orchestrator.targets.references import key_role, param_role
from servernf.wire.addresses import GATEWAY_MAC, device_mac, mac_text

SHOWN = 5
_MOST_PROBLEMS = 1000
"""More are not even counted: half a million entries may all be wrong in the same way."""
_FULL_LENGTH = {"neighbor.arp": 32, "neighbor.nd": 128}
"""Answers are given for single addresses."""


def check_ownership(bundle: Bundle, topology: Topology, source: str) -> None:
    """InputError that names the entry, the field and what would be valid for what is not its own."""
    problems: list[str] = []
    more = ""
    for problem in _Ownership(bundle, topology).problems():
        problems.append(problem)
        if len(problems) == _MOST_PROBLEMS:
            more = " or more"
            break
    if problems:
        told = [f"{source}: {problem}" for problem in problems[:SHOWN]]
        left = len(problems) - SHOWN
        raise InputError([*told, *([f"{source}: and {left}{more} others"] if left > 0 else [])])


class _Ownership:
    def __init__(self, bundle: Bundle, topology: Topology) -> None:
        self.bundle, self.topology = bundle, topology
        self.fabric = Fabric(topology)
        self.programs = fabric_programs(self.fabric)
        self.hosts = tuple(chain.from_iterable(bundle.endpoints.values()))
        self._validity: dict[Build, Validity] = {}
        self.cores = {Core(worker.server, worker.core) for worker in bundle.workers}

    def validity_of(self, device: str) -> Validity:
        """One for all devices of a pipeline: P4Info takes long to parse."""
        build = build_for(self.bundle, device)
        if build not in self._validity:
            self._validity[build] = Validity(Schema.of(p4info(build)))
        return self._validity[build]

    def problems(self) -> Iterator[str]:
        """All of them; those on which others rest come alone."""
        problems = [*self._endpoints(), *self._workers(), *self._plan()]
        yield from problems
        if problems:
            return
        yield from self._fabric()
        for device, program in self.bundle.programs.items():
            yield from _OnDevice(self, device, self.programs[device]).problems(program)
        yield from self._claims()

    def macs(self) -> dict[Role, dict[int, str]]:
        """The MACs of a role, with whose they are."""
        trees = range(self.topology.trees)
        devices = {
            device_mac(switch.id, tree=tree): name
            for name, switch in self.topology.switches.items()
            for tree in trees
        }
        devices |= {
            device_mac(self.topology.servers[core.server].id, core=core.index + 1, tree=tree): str(
                core
            )
            for core in self.cores
            for tree in trees
        }
        hosts = {self.topology.hosts[name].mac: name for name in self.hosts}
        return {Role.DEVICE: devices, Role.HOST: hosts, Role.GATEWAY: {GATEWAY_MAC: "the gateway"}}

    def _endpoints(self) -> Iterator[str]:
        if not self.bundle.endpoints:
            yield "does not say which hosts it is for: compile graph.json anew"
        for name, hosts in self.bundle.endpoints.items():
            for host in hosts:
                if host not in self.topology.hosts:
                    yield f"endpoint {name}: {unknown('host', host, tuple(self.topology.hosts))}"

    def _fabric(self) -> Iterator[str]:
        """Of the network's own entries it may only know; they are installed with the first graph."""
        for device, ours in self.programs.items():
            theirs = self.bundle.fabric.get(device, PipelineProgram((), (), ()))
            valid, given = set(ours.entries), set(theirs.entries)
            for entry in theirs.entries if given != valid else ():
                if entry not in valid:
                    yield (
                        f"{device}: {_named(entry)} is no entry of this network's fabric (valid is "
                        "what `compile -o` writes there)"
                    )
            for entry in ours.entries if given != valid else ():
                if entry not in given:
                    yield f"{device}: the fabric's {_named(entry)} is missing"
            if theirs.floods or theirs.activation or len(theirs.entries) != len(given):
                yield f"{device}: the fabric has each of its table entries once, and nothing else"

    # -- workers and plan ----------------------------------------------------------------------

    def _workers(self) -> Iterator[str]:
        if len(self.cores) < len(self.bundle.workers):
            yield "workers.json: a core is there twice"
        switches = {
            device_mac(switch.id, tree=tree)
            for switch in self.topology.switches.values()
            for tree in range(self.topology.trees)
        }
        for worker in self.bundle.workers:
            where = f"worker {Core(worker.server, worker.core)}"
            server = self.topology.servers.get(worker.server)
            types = runtime(server.runtime).nf_types if server else known_types()
            for name, (kind, _) in worker.nfs.items():
                if kind not in types:
                    yield f"{where}: {name}: {unknown('NF type', kind, types)}"
            doors: set[tuple[int, int, tuple[str, ...]]] = set()
            for served in worker.chains:
                door = (served.spi, served.si, served.outputs)
                if door in doors:
                    yield f"{where}: chain {served.spi}/{served.si} is there twice"
                doors.add(door)
                yield from self._chain(where, worker, served, switches)

    def _chain(
        self, where: str, worker: WorkerProgram, served: ServerChain, switches: set[int]
    ) -> Iterator[str]:
        where = f"{where}: chain {served.spi}/{served.si}"
        yield from self._path(where, served.spi)
        if len(served.outputs) != len(served.hops) - 1:
            yield f"{where}: has {len(served.outputs)} outputs for {len(served.hops)} hops"
        for index, hop in enumerate(served.hops):
            if hop.nf:
                if hop.nf not in worker.nfs:
                    yield f"{where}: {unknown('NF of this worker', hop.nf, tuple(worker.nfs))}"
                if hop.mac or hop.spi or hop.si:
                    yield f"{where}: hop {index} is an NF and a way out at once"
                continue
            if not index or index < len(served.hops) - 1 or hop.port:
                yield f"{where}: hop {index} leaves the server, and is not the last one"
            if hop.mac not in switches:
                yield f"{where}: leaves for {mac_text(hop.mac)}, which is no switch"
            yield from self._path(where, hop.spi)

    def _path(self, where: str, spi: int) -> Iterator[str]:
        if graph_in(Role.PATH, spi) != self.bundle.graph_id:
            yield f"{where}: {self.foreign('SPI', Role.PATH, spi)}"

    def _plan(self) -> Iterator[str]:
        plan = self.bundle.plan
        if any(not cores for cores in plan.cores_of):
            yield "plan.json: cores_of: a group has no core"
        if set(chain.from_iterable(plan.cores_of)) != self.cores:
            yield "plan.json: cores_of: are not the cores of workers.json"
        devices = {*self.topology.switches, *self.topology.servers}
        for hop in plan.hops:
            for name in {hop.source, hop.target} - devices:
                yield f"plan.json: hops: {unknown('device', name, sorted(devices))}"
            if hop.tree >= self.topology.trees:
                yield f"plan.json: hops: tree {hop.tree}, valid are 0 to {self.topology.trees - 1}"
        with_pipeline = pipelined(self.topology)
        for unit, device in plan.device_of.items():
            if device not in with_pipeline:
                yield (
                    f"plan.json: device_of.{unit}: "
                    f"{unknown('device with a pipeline', device, tuple(with_pipeline))}"
                )

    def _claims(self) -> Iterator[str]:
        """What it says that it takes counts when others are placed: no less than what it does take."""
        for device, use in self.bundle.block_use.items():
            exists = device in self.topology.switches or device in self.topology.servers
            for name in use:
                if not exists or (name == MEMORY) != (device in self.topology.servers):
                    yield f"manifest.json: block_use: {device} has no {name}"
                elif name != MEMORY and "." not in name:
                    yield f"manifest.json: block_use.{device}: '{name}' is not 'block.table'"
        for device, program in self.bundle.programs.items():
            slots = capability_for(self.bundle, device).slots
            block_of = {slot.instance: slot.block for slot in slots}
            takes: Counter[str] = Counter()
            for entry in program.entries:
                instance, _, table = entry.table.partition(".")
                if instance in block_of:
                    takes[f"{block_of[instance]}.{table}"] += 1
            yield from self._claim(device, takes)
        memory: Counter[str] = Counter()
        for worker in self.bundle.workers:
            there = runtime(self.topology.servers[worker.server].runtime)
            for kind, _ in worker.nfs.values():
                cost = there.cost(lookup(kind))
                memory[worker.server] += cost.memory_bytes if cost else 0
        for server, least in memory.items():
            yield from self._claim(server, Counter({MEMORY: least}))

    def _claim(self, device: str, takes: Counter[str]) -> Iterator[str]:
        said = self.bundle.block_use.get(device, {})
        for name, count in takes.items():
            if said.get(name, 0) < count:
                yield (
                    f"manifest.json: block_use.{device}.{name} is {said.get(name, 0)}, and it takes "
                    f"{count} at least"
                )

    def foreign(self, what: str, role: Role, number: int) -> str:
        """Whose number it is, and which ones would be the bundle's own."""
        layout, mine = LAYOUTS[role], self.bundle.graph_id
        own = layout.numbers(mine)
        valid = f"{own[0]} to {own[-1]}" if len(own) > 1 else str(mine)
        return (
            f"{what} is {number}, of graph {layout.graph(number)}; valid for this bundle's graph "
            f"{mine}: {valid}"
        )


class _OnDevice:
    """What a bundle puts on one device with a pipeline."""

    def __init__(self, whole: _Ownership, device: str, fabric: PipelineProgram) -> None:
        self.whole, self.device = whole, device
        bundle, topology = whole.bundle, whole.topology
        self.validity = whole.validity_of(device)
        slots = capability_for(bundle, device).slots
        self.instances = OWN_INSTANCES | {slot.instance for slot in slots}
        self.fabric_keys = {(entry.table, entry.keys) for entry in fabric.entries}
        at = whole.fabric.attachments
        self.ports = {at[h].port: h for h in whole.hosts if at[h].switch == device}
        servers = {core.server for core in whole.cores if at[core.server].switch == device}
        self.server_ports = {
            port
            for link in topology.links
            for near, port, far in ((link.a, link.a_port, link.b), (link.b, link.b_port, link.a))
            if near == device and far in servers
        }
        self.ways = {port for port, _ in whole.fabric.neighbors[device].values()}
        self.macs = whole.macs()
        self._known: dict[tuple[str, str, str, int], str] = {}

    def problems(self, program: PipelineProgram) -> Iterator[str]:
        seen: set[tuple[object, ...]] = set()
        for entry in program.entries:
            text = self._entry(entry)
            identity = (entry.table, entry.keys, entry.priority)
            if not text and identity in seen:
                text = "is there twice"
            seen.add(identity)
            if text:
                yield f"{self.device}: {_named(entry)}: {text}"
        yield from self._activation(program)
        yield from self._floods(program.floods)

    def _entry(self, entry: TableEntry) -> str:
        if entry.table == EPOCH_TABLE or entry.table.partition(".")[0] not in self.instances:
            return "a graph has no entries in this table"
        if text := self.validity.problem(entry):
            return text
        for name, key in entry.keys:
            role = key_role(entry.table, name)
            if isinstance(key, Exact) or role is None:
                text = self._number("key", name, role, max(key))
            if text:
                return text
        for name, value in entry.params:
            if text := self._number("parameter", name, param_role(entry.action, name), value):
                return text
        return self._answer(entry) if entry.table in _FULL_LENGTH else ""

    def _answer(self, entry: TableEntry) -> str:
        target = dict(entry.keys).get("target")
        bits = _FULL_LENGTH[entry.table]
        if not isinstance(target, Lpm) or target.length != bits:
            return f"key target must be one address, of {bits} bits"
        if (entry.table, entry.keys) in self.fabric_keys:
            return "the network itself answers for this address: it is a gateway's"
        return ""

    def _number(self, kind: str, name: str, role: Role | None, value: int) -> str:
        """What is wrong with a number; many entries have the same ones."""
        if role is Role.VALUE:
            return ""
        what = (kind, name, role.name if role else "", value)
        problem = self._known.get(what)
        if problem is None:
            problem = self._known[what] = self._judged(f"{kind} {name}", role, value)
        return problem

    def _judged(self, what: str, role: Role | None, value: int) -> str:
        if role is None:
            return f"{what}: this version does not know what it stands for"
        if role in LAYOUTS:
            mine = graph_in(role, value) == self.whole.bundle.graph_id
            return "" if mine else self.whole.foreign(what, role, value)
        if role in (Role.HOST_PORT, Role.SERVER_PORT):
            valid = self.ports if role is Role.HOST_PORT else self.server_ports
            return "" if value in valid else self._no_port(what, value, valid)
        if role in self.macs and value not in self.macs[role]:
            macs = self.macs[role]
            listed = ", ".join(f"{mac_text(mac)} ({macs[mac]})" for mac in list(macs)[:20])
            return f"{what} is {mac_text(value)}; valid are {listed or 'none'}"
        return ""

    @staticmethod
    def _no_port(what: str, value: int, valid: Iterable[int]) -> str:
        listed = ", ".join(map(str, sorted(valid))) or "none"
        return f"{what} is port {value}; valid are the ports of its own hosts and servers: {listed}"

    def _activation(self, program: PipelineProgram) -> Iterator[str]:
        for entry in program.activation:
            epoch = dict(entry.params).get("epoch", 0)
            expected = epoch_entry(self.whole.bundle.graph_id, epoch)
            text = self.validity.problem(entry)
            if not text and entry._replace(origin=expected.origin) != expected:
                text = f"only graph {self.whole.bundle.graph_id} may be put in force"
            if text:
                yield f"{self.device}: {_named(entry)}: {text}"
        if len(program.activation) > 1:
            yield f"{self.device}: a graph is put in force by one entry, not {len(program.activation)}"

    def _floods(self, floods: Iterable[FloodGroup]) -> Iterator[str]:
        seen: set[int] = set()
        checks: tuple[tuple[str, Callable[[FloodGroup], Iterable[int]], Iterable[int]], ...] = (
            ("port", lambda flood: flood.ports, self.ports),
            ("port towards another switch", lambda flood: flood.remote, self.ways),
        )
        for flood in floods:
            where = f"{self.device}: multicast group {flood.group}"
            if graph_in(Role.GROUP, flood.group) != self.whole.bundle.graph_id:
                yield f"{where}: {self.whole.foreign('its number', Role.GROUP, flood.group)}"
            if flood.group in seen:
                yield f"{where}: is there twice"
            seen.add(flood.group)
            for what, ports_of, valid in checks:
                for port in ports_of(flood):
                    if port not in valid:
                        yield f"{where}: {self._no_port(what, port, valid)}"


def _named(entry: TableEntry) -> str:
    """An entry so that its maker finds it."""
    keys = ", ".join(
        f"{name} {'/'.join(map(str, key))}" for name, key in entry.keys if isinstance(key, Exact)
    )
    return f"{entry.table} [{keys}] -> {entry.action} ('{entry.origin}')"

"""Lower a placement: table entries for every switch, chains and configs for every worker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import networkx as nx

from orchestrator.compiler.cuts import Functions
from orchestrator.compiler.layout import EXIT_PREFIX, Layout, Step, lay_out, main_way
from orchestrator.errors import CompileError
from orchestrator.model.cuts import SERVER, SWITCH, Cuts, Unit
from orchestrator.model.elements import DROP, FilterProgram, RewriteProgram, RouteProgram
from orchestrator.model.entries import (
    FIRST_REMOTE_COPY,
    Between,
    ChainHop,
    Exact,
    FloodGroup,
    Key,
    Lpm,
    ServerChain,
    SwitchProgram,
    TableEntry,
    Ternary,
    WorkerProgram,
)
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.match import Match
from orchestrator.model.plan import Core, Plan
from orchestrator.model.topology import Host
from orchestrator.model.versions import versions_of
from orchestrator.nfs.base import NetworkFunction
from orchestrator.placement.fabric import Fabric
from orchestrator.targets.pipeline import VERSION_TABLE, Pipeline
from orchestrator.wire.addresses import GATEWAY_MAC, device_mac, mac_text
from orchestrator.wire.nsh import service_path

_FIRST_SI = 255
_HASH_BITS = 16
_L4_PORTS, _L4_LATER_FRAGMENT = 1, 2  # shared/metadata.p4
_BASE_PRIORITY = 1
_FLOOD_BITS = 6
_SEGMENT_BITS = 12
_TCP = 6


@dataclass(frozen=True, slots=True)
class Lowered:
    """What one graph puts on each switch and worker; `layouts` and `paths` are for explanations."""

    switches: dict[str, SwitchProgram]
    workers: tuple[WorkerProgram, ...]
    layouts: dict[str, Layout]
    paths: dict[tuple[str, str], tuple[int, int]]
    """(device or group, entered unit) -> (SPI, SI)."""


def lower(
    graph: ServiceGraph,
    functions: Functions,
    cuts: Cuts,
    plan: Plan,
    fabric: Fabric,
    pipelines: Mapping[str, Pipeline],
    *,
    graph_id: int,
    epoch: int = 0,
    taken: Mapping[str, Counter[str]] | None = None,
) -> Lowered:
    """Entries and chains of a placed graph, beside the entries that are `taken` by switch and table."""
    lowering = _Lowering(graph, functions, cuts, plan, fabric, pipelines, graph_id, epoch)
    lowering.taken = taken or {}
    return lowering.run()


class _Lowering:
    def __init__(
        self,
        graph: ServiceGraph,
        functions: Functions,
        cuts: Cuts,
        plan: Plan,
        fabric: Fabric,
        pipelines: Mapping[str, Pipeline],
        graph_id: int,
        epoch: int,
    ) -> None:
        self.graph, self.functions, self.cuts, self.plan = graph, functions, cuts, plan
        self.fabric, self.pipelines = fabric, pipelines
        self.topology = fabric.topology
        self.graph_id, self.epoch = graph_id, epoch
        self.group_of = {u: g for g, group in enumerate(cuts.groups) for u in group.units}
        self.units = dict(cuts.units)
        self.arcs = list(cuts.arcs)
        self.switch_of = dict(plan.switch_of)
        self.tree_of = dict(plan.tree_of)
        self.hosts = {
            (address.version, int(address.ip)): host
            for endpoint in graph.endpoints.values()
            for name in endpoint.hosts
            for host in [self.topology.hosts[name]]
            for address in host.addresses
        }
        self.classes = 0
        self.taken: Mapping[str, Counter[str]] = {}

    def run(self) -> Lowered:
        self._add_remote_deliveries()
        self.layouts = self._layouts()
        self.paths = self._service_paths()
        programs = {
            name: self._switch_program(name, layout) for name, layout in self.layouts.items()
        }
        return Lowered(programs, tuple(self._workers()), self.layouts, self.paths)

    # -- structure -----------------------------------------------------------------------------

    def _add_remote_deliveries(self) -> None:
        """A delivery hands frames for hosts of another switch to a delivery on that switch."""
        for unit in list(self.units.values()):
            if unit.element is not None or unit.kind != SWITCH:
                continue
            here = self.switch_of[unit.id]
            for switch in dict.fromkeys(self._host_switches(unit.endpoint)):
                if switch == here:
                    continue
                remote = f"deliver.{unit.endpoint}>{switch}"
                if remote not in self.units:
                    self.units[remote] = Unit(
                        remote,
                        SWITCH,
                        "",
                        "",
                        None,
                        unit.endpoint,
                        "",
                        unit.versions,
                        "the hosts' own switch takes the tag off",
                    )
                    self.switch_of[remote] = switch
                self.tree_of.setdefault((unit.id, remote), 0)

    def _host_switches(self, endpoint: str) -> Iterator[str]:
        for host in self.graph.endpoints[endpoint].hosts:
            yield self.fabric.attachments[host].switch

    def _device(self, unit: str) -> str:
        """A key of the device that executes a unit: a switch's name, or the server group's."""
        return f"group{self.group_of[unit]}" if unit in self.group_of else self.switch_of[unit]

    def _layouts(self) -> dict[str, Layout]:
        layouts: dict[str, Layout] = {}
        entered: dict[str, dict[str, None]] = defaultdict(dict)
        first: dict[str, dict[str, None]] = defaultdict(dict)
        for arc in self.arcs:
            if self._device(arc.source) != self._device(arc.target):
                entered[self._device(arc.target)][arc.target] = None
        for entry in self.cuts.entries:
            first[entry.switch][entry.target] = None
            if self._device(entry.target) != entry.switch:
                entered[self._device(entry.target)][entry.target] = None
        for name, switch in self.switch_of.items():
            if ">" in name:
                entered[switch][name] = None
        for switch in self.topology.switches:
            units = [self.units[u] for u, at in self.switch_of.items() if at == switch]
            if not units and not first[switch]:
                continue
            ids = {unit.id for unit in units}
            layouts[switch] = lay_out(
                switch,
                self.pipelines[switch],
                units,
                [arc for arc in self.arcs if arc.source in ids],
                entered[switch],
                first[switch],
                self.taken.get(switch),
            )
        return layouts

    def _service_paths(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(SPI, SI) of every unit that is entered by a tag.

        SI falls along the way; a path is passed on to one follower of a device, the others of a branch
        get paths of their own, so that (SPI, SI) names one unit.
        """
        order = nx.DiGraph()
        for entry in self.cuts.entries:
            layout = self.layouts[entry.switch]
            start = entry.target if entry.target in layout.steps else EXIT_PREFIX + entry.target
            for target in self._exits(layout, start):
                order.add_edge(("", entry.switch, entry.target), self._door(target))
        for layout in self.layouts.values():
            for name in layout.entered:
                order.add_node((layout.switch, name))
                for target in self._exits(layout, name):
                    order.add_edge((layout.switch, name), self._door(target))
        for unit in self.cuts.units.values():
            if unit.kind == SERVER:
                door = (self._device(unit.id), unit.id)
                for target in self._server_exits(unit.id):
                    order.add_edge(door, (self.switch_of[target], target))
        depth: dict[Any, int] = {}
        path: dict[Any, int] = {}
        passed: set[Any] = set()
        count = 0
        for node in nx.lexicographical_topological_sort(order, key=str):
            before = sorted(order.predecessors(node), key=str)
            depth[node] = max((depth[b] + 1 for b in before), default=0)
            if len(node) == 3:
                continue
            heirs = [b for b in before if len(b) == 2 and b not in passed]
            if heirs:
                passed.add(heirs[0])
                path[node] = path[heirs[0]]
            else:
                path[node] = count
                count += 1
        return {
            node: (service_path(self.graph_id, path[node], self.epoch), _FIRST_SI - depth[node])
            for node in path
        }

    def _door(self, target: str) -> tuple[str, str]:
        return (self._device(target), target)

    def _exits(self, layout: Layout, start: str) -> Iterator[str]:
        yield from layout.exits(start)
        seen: set[str] = set()
        todo = [start]
        while todo:
            step = layout.steps[todo.pop()]
            if step.name in seen:
                continue
            seen.add(step.name)
            todo.extend(step.next.values())
            if step.delivers and step.unit is not None:
                yield from self._remote_of(step.unit, layout.switch)

    def _remote_of(self, unit: Unit, here: str) -> Iterator[str]:
        """Deliveries on other switches that this one hands over to."""
        if ">" in unit.id:
            return
        for switch in dict.fromkeys(self._host_switches(unit.endpoint)):
            if switch != here:
                yield f"deliver.{unit.endpoint}>{switch}"

    def _server_exits(self, start: str) -> Iterator[str]:
        todo, seen = [start], set[str]()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for arc in self.cuts.successors(name):
                if arc.target in self.group_of:
                    todo.append(arc.target)
                else:
                    yield arc.target

    # -- switches ------------------------------------------------------------------------------

    def _segment(self, step: Step) -> int:
        """The 24-bit segment id: graph, epoch, number."""
        if step.segment >= 1 << _SEGMENT_BITS:
            raise CompileError(f"{self.graph.name}: more than 4,095 segments on one switch")
        return self.graph_id << 14 | self.epoch << _SEGMENT_BITS | step.segment

    def _switch_program(self, switch: str, layout: Layout) -> SwitchProgram:
        entries: list[TableEntry] = []
        floods: list[FloodGroup] = []
        for name in layout.entered:
            spi, si = self.paths[switch, name]
            entries.append(
                TableEntry(
                    "flowtag_arrival.paths",
                    (("spi", Exact(spi)), ("si", Exact(si))),
                    "flowtag_arrival.enter",
                    (("segment", self._segment(layout.steps[name])),),
                    0,
                    f"path: {name}",
                )
            )
        for step in layout.steps.values():
            if step.is_exit:
                entries.extend(self._exit(switch, layout, step))
            elif step.delivers:
                entries.extend(self._delivery(switch, step, floods))
            else:
                entries.extend(self._element(layout, step))
        entries.extend(self._owned_addresses(switch))
        return SwitchProgram(tuple(entries), tuple(self._activation(switch, layout)), tuple(floods))

    def _activation(self, switch: str, layout: Layout) -> Iterator[TableEntry]:
        """Which frames of a host-facing port enter the graph."""
        for entry in self.cuts.entries:
            if entry.switch != switch:
                continue
            here = entry.target in layout.steps
            first = layout.steps[entry.target if here else EXIT_PREFIX + entry.target]
            params = (("segment", self._segment(first)), ("graph", self.graph_id))
            ports = [
                self.fabric.attachments[host].port
                for host in self.graph.endpoints[entry.endpoint].hosts
                if self.fabric.attachments[host].switch == switch
            ]
            wanted = [t for t in self.graph.traffic if t.ingress == entry.endpoint]
            for rank, traffic in enumerate(wanted):
                for version in sorted(versions_of(traffic.match)):
                    for port in ports:
                        yield TableEntry(
                            f"classify.{VERSION_TABLE[version]}",
                            (("ingress_port", Exact(port)), *match_keys(traffic.match, version)),
                            "classify.enter",
                            params,
                            len(wanted) - rank + _BASE_PRIORITY,
                            f"traffic {traffic.name}",
                        )

    def _go(self, layout: Layout, step: Step, output: str) -> int | None:
        """Segment behind an output; None when nothing is connected there."""
        following = step.next.get(output)
        return None if following is None else self._segment(layout.steps[following])

    def _element(self, layout: Layout, step: Step) -> Iterator[TableEntry]:
        assert step.unit is not None
        assert step.unit.element is not None
        assert step.slot is not None
        unit, program = step.unit, step.unit.element.program
        segment = ("segment", Exact(self._segment(step)))
        instance = step.slot.instance
        if isinstance(program, FilterProgram):
            yield from self._filter(layout, step, program, segment, instance)
        elif isinstance(program, RewriteProgram):
            for version, old, new in program.pairs:
                if version in unit.versions:
                    yield TableEntry(
                        f"{instance}.{program.field}_ipv{version}",
                        (segment, (program.field, Exact(old))),
                        f"{instance}.set_{program.field}_ipv{version}",
                        (("address", new),),
                        0,
                        f"{unit.nf}: pair",
                    )
        elif isinstance(program, RouteProgram):
            yield from self._routes(layout, step, program, segment, instance)

    def _filter(
        self,
        layout: Layout,
        step: Step,
        program: FilterProgram,
        segment: tuple[str, Key],
        instance: str,
    ) -> Iterator[TableEntry]:
        assert step.unit is not None
        unit = step.unit
        stay = main_way(step)

        def action(output: str) -> tuple[str, tuple[tuple[str, int], ...]]:
            following = None if output == DROP else step.next.get(output)
            if following is None:
                return f"{instance}.deny", ()
            if following == stay and layout.steps[following].segment == step.segment:
                return f"{instance}.permit", ()
            return f"{instance}.go_to", (("segment", self._segment(layout.steps[following])),)

        actions = {output: action(output) for output in (*unit.element.outputs, DROP)}  # type: ignore[union-attr]
        count = len(program.rules)
        for rank, rule in enumerate(program.rules):
            name, params = actions[rule.output]
            for version in sorted(versions_of(rule.match) & unit.versions):
                yield TableEntry(
                    f"{instance}.{VERSION_TABLE[version]}",
                    (segment, *match_keys(rule.match, version)),
                    name,
                    params,
                    count - rank + _BASE_PRIORITY,
                    f"{unit.nf}: {rule.rule}",
                )
        name, params = actions[program.default]
        for version in sorted(unit.versions):
            yield TableEntry(
                f"{instance}.{VERSION_TABLE[version]}",
                (segment,),
                name,
                params,
                _BASE_PRIORITY,
                f"{unit.nf}: default",
            )

    def _routes(
        self,
        layout: Layout,
        step: Step,
        program: RouteProgram,
        segment: tuple[str, Key],
        instance: str,
    ) -> Iterator[TableEntry]:
        assert step.unit is not None
        unit = step.unit
        yield TableEntry(
            f"{instance}.segments_routed", (segment,), f"{instance}.route_here", (), 0, unit.nf
        )
        for route in program.routes:
            prefix = route.prefix
            if prefix.version not in unit.versions:
                continue
            go = None if route.output == DROP else self._go(layout, step, route.output)
            keys: tuple[tuple[str, Key], ...] = (segment,)
            if prefix.length:
                keys = (segment, ("dst", Lpm(prefix.value, prefix.length)))
            params: tuple[tuple[str, int], ...]
            if go is None:
                action, params = "unreachable", ()
            elif route.next_hop is None:
                action, params = "connected", (("segment", go),)
            else:
                host = self.hosts.get(route.next_hop)
                if host is None:  # nobody's address; `graph check` warns
                    action, params = "unreachable", ()
                else:
                    action = "next_hop"
                    params = (("mac", host.mac), ("gateway_mac", GATEWAY_MAC), ("segment", go))
            yield TableEntry(
                f"{instance}.{VERSION_TABLE[prefix.version]}",
                keys,
                f"{instance}.{action}",
                params,
                0,
                f"{unit.nf}: {route.rule}",
            )

    def _exit(self, switch: str, layout: Layout, step: Step) -> Iterator[TableEntry]:
        """Dispatch to the device of another unit: a switch, or the core that owns the class."""
        segment = ("segment", Exact(self._segment(step)))
        target = step.target
        device = self._device(target)
        spi, si = self.paths[device, target]
        tree = self._tree(step, layout)
        if target not in self.group_of:
            mac = device_mac(self.fabric.device_id(device), tree=tree)
            yield self._to_device((segment,), mac, spi, si, "dispatch.next", f"to {target}")
            return
        cores = self.plan.cores_of[self.group_of[target]]
        yield from self._spread(segment, target, cores, tree, spi, si)

    def _tree(self, step: Step, layout: Layout) -> int:
        """The tree chosen for one of the arcs that this exit stands for."""
        for before in layout.steps.values():
            if step.name in before.next.values() and before.unit is not None:
                found = self.tree_of.get((before.unit.id, step.target))
                if found is not None:
                    return found
        return self.tree_of.get((f"@{layout.switch}", step.target), 0)

    def _to_device(
        self,
        keys: tuple[tuple[str, Key], ...],
        mac: int,
        spi: int,
        si: int,
        table: str,
        origin: str,
        priority: int = 0,
    ) -> TableEntry:
        self.classes += 1
        return TableEntry(
            table,
            keys,
            "dispatch.to_device",
            (("mac", mac), ("spi", spi), ("si", si), ("traffic_class", self.classes)),
            priority,
            origin,
        )

    def _spread(
        self,
        segment: tuple[str, Key],
        target: str,
        cores: tuple[Core, ...],
        tree: int,
        spi: int,
        si: int,
    ) -> Iterator[TableEntry]:
        group = self.cuts.groups[self.group_of[target]]
        from_outside = self.units[target].port == "outside"
        by_source = (group.spread == "inside_address") != from_outside
        pool = self._partitioned(target)
        if group.spread == "pair":
            action = "dispatch.by_pair"
        elif pool is not None:
            action = "dispatch.by_owner"
        else:
            action = "dispatch.by_source" if by_source else "dispatch.by_destination"
        yield TableEntry("dispatch.spread", (segment,), action, (), 0, f"to {target}")
        macs = [
            device_mac(self.fabric.device_id(core.server), core=core.index + 1, tree=tree)
            for core in cores
        ]
        shares = self.functions[pool].shares(len(cores)) if pool is not None else None
        for mac, share in zip(macs, shares or (), strict=False):
            for address in share.addresses:
                keys: tuple[tuple[str, Key], ...] = (segment, ("address", Exact(address)))
                if (share.low, share.high) != (0, 65535):
                    ports = ("port", Between(share.low, share.high))
                    keys = (*keys, ("has_port", Ternary(1, 1)), ports)
                origin = f"{pool}: owner of {mac_text(mac)}"
                yield self._to_device(keys, mac, spi, si, "dispatch.owner", origin, 1)
        bounds = [i * (1 << _HASH_BITS) // len(macs) for i in range(len(macs) + 1)]
        for i, mac in enumerate(macs):
            for value, length in _prefixes(bounds[i], bounds[i + 1]):
                keys = (segment,) if not length else (segment, ("hash", Lpm(value, length)))
                origin = f"to {target}: core {cores[i].server}.{cores[i].index}"
                yield self._to_device(keys, mac, spi, si, "dispatch.next", origin)

    def _partitioned(self, start: str) -> str | None:
        """The first NF ahead in this group whose pool address the packets still show."""
        todo, seen = [start], set[str]()
        while todo:
            name = todo.pop(0)
            if name in seen or name not in self.group_of:
                continue
            seen.add(name)
            unit = self.units[name]
            key = self.functions[unit.nf].state_key
            if key is not None and unit.port in key.partitioned:
                return unit.nf
            todo.extend(arc.target for arc in self.cuts.successors(name))
        return None

    def _delivery(self, switch: str, step: Step, floods: list[FloodGroup]) -> Iterator[TableEntry]:
        assert step.unit is not None
        unit = step.unit
        segment = ("segment", Exact(self._segment(step)))
        endpoint = self.graph.endpoints[unit.endpoint]
        local: list[int] = []
        for name in endpoint.hosts:
            host = self.topology.hosts[name]
            at = self.fabric.attachments[name]
            origin = f"host {name}"
            if at.switch == switch:
                local.append(at.port)
                where: tuple[tuple[str, int], ...] = (("port", at.port),)
                plain, rewritten = "to_port", "host_at_port"
            elif ">" in unit.id:
                continue
            else:
                where = self._remote_delivery(unit.endpoint, at.switch)
                plain, rewritten = "to_switch", "host_at_switch"
            yield TableEntry(
                "deliver.mac",
                (segment, ("dst", Exact(host.mac))),
                f"deliver.{plain}",
                where,
                0,
                origin,
            )
            macs = (("host_mac", host.mac), ("gateway_mac", GATEWAY_MAC))
            yield from self._host_addresses(host, segment, rewritten, (*macs, *where))
        yield TableEntry(
            "deliver.mac",
            (segment, ("dst", Exact(GATEWAY_MAC))),
            "deliver.resolve",
            (),
            0,
            "gateway",
        )
        yield from self._flood(switch, step, tuple(local), floods)

    def _flood(
        self, switch: str, step: Step, local: tuple[int, ...], floods: list[FloodGroup]
    ) -> Iterator[TableEntry]:
        """Broadcast: a copy to each host here and, unless this is one, to each remote delivery."""
        assert step.unit is not None
        endpoint = step.unit.endpoint
        origin = f"broadcast to {endpoint}"
        others = () if ">" in step.unit.id else tuple(dict.fromkeys(self._host_switches(endpoint)))
        remote = [name for name in others if name != switch]
        ways = tuple(self._way(switch, name) for name in remote)
        group = self._flood_group(switch, local, ways, endpoint, floods)
        for copy, name in enumerate(remote, start=FIRST_REMOTE_COPY):
            yield TableEntry(
                "flood.copies",
                (("group", Exact(group)), ("replica", Exact(copy))),
                "flood.to_switch",
                self._remote_delivery(endpoint, name),
                0,
                origin,
            )
        yield TableEntry(
            "deliver.floods",
            (("segment", Exact(self._segment(step))),),
            "deliver.flood",
            (("group", group),),
            0,
            origin,
        )

    def _way(self, switch: str, target: str) -> int:
        """The port towards another switch, on tree 0."""
        return self.fabric.neighbors[switch][self.fabric.next_switch(switch, target, 0)][0]

    def _remote_delivery(self, endpoint: str, switch: str) -> tuple[tuple[str, int], ...]:
        """Parameters that send a frame on to the delivery at the hosts' own switch."""
        spi, si = self.paths[switch, f"deliver.{endpoint}>{switch}"]
        return (("mac", device_mac(self.fabric.device_id(switch))), ("spi", spi), ("si", si))

    def _flood_group(
        self,
        switch: str,
        ports: tuple[int, ...],
        remote: tuple[int, ...],
        endpoint: str,
        floods: list[FloodGroup],
    ) -> int:
        """A new multicast group of the switch."""
        number = len(floods) + 1
        if number >= 1 << _FLOOD_BITS:
            raise CompileError(
                f"{self.graph.name}: {switch} would need more than {len(floods)} multicast groups"
            )
        group = self.graph_id << _FLOOD_BITS | number
        floods.append(FloodGroup(group, ports, f"endpoint {endpoint}", remote))
        return group

    def _host_addresses(
        self,
        host: Host,
        segment: tuple[str, Key],
        action: str,
        params: tuple[tuple[str, int], ...],
    ) -> Iterator[TableEntry]:
        for address in host.addresses:
            yield TableEntry(
                f"deliver.ipv{address.version}",
                (segment, ("dst", Exact(int(address.ip)))),
                f"deliver.{action}",
                params,
                0,
                f"host {host.name}",
            )

    def _owned_addresses(self, switch: str) -> Iterator[TableEntry]:
        """ARP and ND answers for NF addresses, at the ports from which they can be asked for."""
        for endpoint in self.graph.endpoints.values():
            entered = self._entered_ports(endpoint.name)
            for name in endpoint.hosts:
                at = self.fabric.attachments[name]
                if at.switch != switch:
                    continue
                own = {(a.version, int(a)) for a in self.topology.hosts[name].gateways}
                for nf, function in self.functions.items():
                    for port, version, address in function.owned_addresses():
                        if (nf, port) in entered and (version, address) not in own:
                            yield neighbor_entry(at.port, version, address, nf)

    def _entered_ports(self, endpoint: str) -> set[tuple[str, str]]:
        """(NF, port) pairs that packets from an endpoint may enter."""
        after = {(e.source.node, e.source.port): e.target for e in self.graph.edges}
        todo = [after[endpoint, ""]] if (endpoint, "") in after else []
        seen: set[tuple[str, str]] = set()
        while todo:
            at = todo.pop()
            if not at.port or (at.node, at.port) in seen:
                continue
            seen.add((at.node, at.port))
            todo.extend(
                after[at.node, out]
                for out in self.functions[at.node].ports
                if (at.node, out) in after and out != at.port
            )
        return seen

    # -- servers -------------------------------------------------------------------------------

    def _workers(self) -> Iterator[WorkerProgram]:
        neighbors = {
            f"{address.ip}": mac_text(host.mac)
            for host in {h.name: h for h in self.hosts.values()}.values()
            for address in host.addresses
        }
        for index, group in enumerate(self.cuts.groups):
            cores = self.plan.cores_of[index]
            chains = tuple(self._chains(group.units))
            for replica, core in enumerate(cores):
                nfs: dict[str, tuple[str, dict[str, Any]]] = {}
                for name in group.nfs:
                    function = self.functions[name]
                    config = dict(function.runtime_config())
                    shares = function.shares(len(cores))
                    if shares is not None:
                        config["share"] = function.share_config(shares[replica])
                    if function.type == "router":
                        # A next hop that is nobody's has MAC 0: no delivery knows it, so it is dropped.
                        nobody = dict.fromkeys(_next_hops(function), mac_text(0))
                        config |= {
                            "neighbors": nobody | neighbors,
                            "gateway_mac": mac_text(GATEWAY_MAC),
                        }
                    nfs[name] = (function.type, config)
                yield WorkerProgram(core.server, core.index, nfs, chains)

    def _chains(self, units: Iterable[str]) -> Iterator[ServerChain]:
        for name in units:
            door = (self._device(name), name)
            if door not in self.paths:
                continue
            spi, si = self.paths[door]
            for hops, outputs in self._walk(name):
                yield ServerChain(spi, si, hops, outputs)

    def _walk(self, name: str) -> Iterator[tuple[tuple[ChainHop, ...], tuple[str, ...]]]:
        """Every way from an NF to where packets leave the server."""
        unit = self.units[name]
        me = ChainHop(nf=unit.nf, port=unit.port)
        following = self.cuts.successors(name)
        if not following:
            yield (me,), ()
        for arc in following:
            if arc.target in self.group_of:
                for hops, outputs in self._walk(arc.target):
                    yield (me, *hops), (arc.output, *outputs)
            else:
                switch = self.switch_of[arc.target]
                spi, si = self.paths[switch, arc.target]
                tree = self.tree_of.get((name, arc.target), 0)
                mac = device_mac(self.fabric.device_id(switch), tree=tree)
                yield (me, ChainHop(mac=mac, spi=spi, si=si)), (arc.output,)


def match_keys(match: Match, version: int) -> Iterator[tuple[str, Key]]:
    """The keys of a match in the table of a kind of packet; what it does not ask is left out."""
    if not version:
        if match.ether_type is not None:
            yield "ether_type", Ternary(match.ether_type, 0xFFFF)
        return
    for name, prefix in (("src", match.src), ("dst", match.dst)):
        if prefix is not None and prefix.length:
            yield name, Ternary(prefix.value, prefix.mask)
    protocol = match.protocol
    if match.tcp_flags is not None and protocol is None:
        protocol = _TCP  # other packets have no flags, not flags of 0
    if protocol is not None:
        yield "protocol", Ternary(protocol, 0xFF)
    ports = match.src_port is not None or match.dst_port is not None
    if ports:
        yield "l4", Ternary(_L4_PORTS, 3)
    elif match.later_fragment is not None:
        yield "l4", Ternary(_L4_LATER_FRAGMENT if match.later_fragment else 0, _L4_LATER_FRAGMENT)
    elif match.tcp_flags is not None:
        yield "l4", Ternary(_L4_PORTS, 3)
    for name, ports_range in (("src_port", match.src_port), ("dst_port", match.dst_port)):
        if ports_range is not None and (ports_range.low, ports_range.high) != (0, 65535):
            yield name, Between(ports_range.low, ports_range.high)
    if match.tcp_flags is not None and match.tcp_flags[1]:
        yield "tcp_flags", Ternary(match.tcp_flags[0] & match.tcp_flags[1], match.tcp_flags[1])


def neighbor_entry(port: int, version: int, address: int, origin: str) -> TableEntry:
    """The answer to ARP or ND for an address that the network owns, asked at a host-facing port."""
    table, action, bits = (
        ("nd", "answer_solicitation", 128) if version == 6 else ("arp", "answer_arp", 32)
    )
    return TableEntry(
        f"neighbor.{table}",
        (("ingress_port", Exact(port)), ("target", Lpm(address, bits))),
        f"neighbor.{action}",
        (("mac", GATEWAY_MAC),),
        0,
        f"{origin}: address",
    )


def footprint_of(program: SwitchProgram) -> Counter[str]:
    """Entries per table that a lowered program really has."""
    return Counter(entry.table for entry in (*program.entries, *program.activation))


def _next_hops(function: NetworkFunction[Any]) -> set[str]:
    """Next hops that a router's routes name."""
    routes = function.runtime_config()["routes"]
    return {route["next_hop"] for route in routes if route.get("next_hop")}


def _prefixes(low: int, high: int) -> Iterator[tuple[int, int]]:
    """(value, length) prefixes of a 16-bit hash that cover low..high-1."""
    while low < high:
        size = low & -low or 1 << _HASH_BITS
        while size > high - low:
            size >>= 1
        yield low, _HASH_BITS - size.bit_length() + 1
        low += size

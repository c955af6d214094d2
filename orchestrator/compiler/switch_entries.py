"""Table entries and multicast groups of a switch, from its layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Registers how trees are lowered.
import orchestrator.compiler.tree_entries  # noqa: F401  # pyright: ignore[reportUnusedImport]
from orchestrator.compiler.admission import admission_entries
from orchestrator.compiler.dispatch_entries import TO_DEVICE, dispatch_entries
from orchestrator.compiler.keys import neighbor_entry
from orchestrator.compiler.layout import Layout, Step
from orchestrator.compiler.program_entries import Site, program_parts
from orchestrator.compiler.wiring import Wiring
from orchestrator.errors import CompileError
from orchestrator.linker.epochs import epoch_entry
from orchestrator.linker.nodes import parts_of
from orchestrator.model import ids
from orchestrator.model.entries import (
    FIRST_REMOTE_COPY,
    Entries,
    Exact,
    FloodGroup,
    Key,
    Part,
    PipelineProgram,
    TableEntry,
)
from orchestrator.model.topology import Host
from servernf.wire.addresses import GATEWAY_MAC, device_mac


class SwitchEntries:
    """Makes the programs of a graph's switches; traffic classes are numbered through all of them."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.classes = 0
        self.class_segments = 0

    def _segment(self, step: Step) -> int:
        """The 24-bit segment id: graph and number."""
        if step.segment >= ids.SEGMENT.size - self.class_segments:
            raise CompileError(
                f"{self.wiring.graph.name}: more than {ids.SEGMENT.size - 1:,} segments on one switch"
            )
        return ids.SEGMENT.pack(self.wiring.graph_id, step.segment)

    def program(self, switch: str, layout: Layout) -> PipelineProgram:
        parts: list[Part] = []
        entries: list[TableEntry] = []
        floods: list[FloodGroup] = []
        self.class_segments = 0
        for name in layout.entered:
            spi, si = self.wiring.paths[switch, name]
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
                parts += self._element(switch, layout, step)
        entries.extend(self._owned_addresses(switch))
        admission = tuple(admission_entries(self.wiring, layout, self._segment))
        activation = (epoch_entry(self.wiring.graph_id, 0),) if admission else ()
        parts += parts_of(switch, (*entries, *admission))
        return PipelineProgram(Entries(parts), activation, tuple(floods))

    def _element(self, switch: str, layout: Layout, step: Step) -> Sequence[Part]:
        assert step.unit is not None
        assert step.unit.element is not None
        assert step.slot is not None
        following = {o: self._segment(layout.steps[name]) for o, name in step.next.items()}
        unit, segment = step.unit, self._segment(step)
        site = Site(
            switch,
            unit.nf,
            unit.versions,
            step.slot.instance,
            segment,
            tuple(sorted(following.items())),
            self.wiring.neighbors,
        )
        return program_parts(step.unit.element.program, site)

    def _exit(self, switch: str, layout: Layout, step: Step) -> Iterator[TableEntry]:
        """Dispatch to the device of another unit: a switch, or the core that owns the class."""
        segment = ("segment", Exact(self._segment(step)))
        target = step.target
        device = self.wiring.device(target)
        spi, si = self.wiring.paths[device, target]
        tree = self._tree(step, layout)
        if target not in self.wiring.group_of:
            mac = device_mac(self.wiring.fabric.device_id(device), tree=tree)
            yield self._to_device((segment,), mac, spi, si, "dispatch.next", f"to {target}")
            return

        def to_core(
            keys: tuple[tuple[str, Key], ...], mac: int, table: str, origin: str, priority: int
        ) -> TableEntry:
            return self._to_device(keys, mac, spi, si, table, origin, priority)

        yield from dispatch_entries(
            self.wiring, segment, target, tree, to_core, self._class_segment
        )

    def _class_segment(self) -> int:
        """A segment id for a class of packets at dispatch: from the top, steps count from below."""
        self.class_segments += 1
        return ids.SEGMENT.pack(self.wiring.graph_id, ids.SEGMENT.size - self.class_segments)

    def _tree(self, step: Step, layout: Layout) -> int:
        """The tree chosen for one of the arcs that this exit stands for."""
        for before in layout.steps.values():
            if step.name in before.next.values() and before.unit is not None:
                found = self.wiring.tree_of.get((before.unit.id, step.target))
                if found is not None:
                    return found
        return self.wiring.tree_of.get((f"@{layout.switch}", step.target), 0)

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
            TO_DEVICE,
            (("mac", mac), ("spi", spi), ("si", si), ("traffic_class", self.classes)),
            priority,
            origin,
        )

    def _delivery(self, switch: str, step: Step, floods: list[FloodGroup]) -> Iterator[TableEntry]:
        assert step.unit is not None
        unit = step.unit
        segment = ("segment", Exact(self._segment(step)))
        endpoint = self.wiring.graph.endpoints[unit.endpoint]
        local: list[int] = []
        for name in endpoint.hosts:
            host = self.wiring.topology.hosts[name]
            at = self.wiring.fabric.attachments[name]
            origin = f"host {name}"
            if at.switch == switch:
                local.append(at.port)
                where: tuple[tuple[str, int], ...] = (("port", at.port),)
                plain, rewritten = "to_port", "host_at_port"
            elif ">" in unit.id:
                continue
            else:
                where = self._remote_delivery(switch, unit.endpoint, at.switch)
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
        others = (
            () if ">" in step.unit.id else tuple(dict.fromkeys(self.wiring.host_switches(endpoint)))
        )
        remote = [name for name in others if name != switch]
        ways = tuple(self._way(switch, name) for name in remote)
        group = self._flood_group(switch, local, ways, endpoint, floods)
        for copy, name in enumerate(remote, start=FIRST_REMOTE_COPY):
            yield TableEntry(
                "flood.copies",
                (("group", Exact(group)), ("replica", Exact(copy))),
                "flood.to_switch",
                self._remote_delivery(switch, endpoint, name),
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
        """The port towards another switch, on the first tree."""
        fabric = self.wiring.fabric
        tree = fabric.first_tree(switch, target)
        return fabric.neighbors[switch][fabric.next_switch(switch, target, tree)][0]

    def _remote_delivery(
        self, here: str, endpoint: str, switch: str
    ) -> tuple[tuple[str, int], ...]:
        """Parameters that send a frame on to the delivery at the hosts' own switch."""
        fabric = self.wiring.fabric
        spi, si = self.wiring.paths[switch, f"deliver.{endpoint}>{switch}"]
        mac = device_mac(fabric.device_id(switch), tree=fabric.first_tree(here, switch))
        return (("mac", mac), ("spi", spi), ("si", si))

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
        if number >= ids.GROUP.size:
            raise CompileError(
                f"{self.wiring.graph.name}: {switch} would need more than {len(floods)} multicast groups"
            )
        group = ids.GROUP.pack(self.wiring.graph_id, number)
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
        for endpoint in self.wiring.graph.endpoints.values():
            entered = self._entered_ports(endpoint.name)
            for name in endpoint.hosts:
                at = self.wiring.fabric.attachments[name]
                if at.switch != switch:
                    continue
                own = {(a.version, int(a)) for a in self.wiring.topology.hosts[name].gateways}
                for nf, function in self.wiring.functions.items():
                    for port, version, address in function.owned_addresses():
                        if (nf, port) in entered and (version, address) not in own:
                            own.add((version, address))  # several NFs may own it
                            yield neighbor_entry(at.port, version, address, nf)

    def _entered_ports(self, endpoint: str) -> set[tuple[str, str]]:
        """(NF, port) pairs that packets from an endpoint may enter."""
        after = {(e.source.node, e.source.port): e.target for e in self.wiring.graph.edges}
        todo = [after[endpoint, ""]] if (endpoint, "") in after else []
        seen: set[tuple[str, str]] = set()
        while todo:
            at = todo.pop()
            if not at.port or (at.node, at.port) in seen:
                continue
            seen.add((at.node, at.port))
            todo.extend(
                after[at.node, out]
                for out in self.wiring.functions[at.node].ports
                if (at.node, out) in after and out != at.port
            )
        return seen

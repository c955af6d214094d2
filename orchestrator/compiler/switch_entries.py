"""Table entries and multicast groups of a switch, from its layout."""

from __future__ import annotations

from collections.abc import Iterator

# Registers how trees are lowered.
import orchestrator.compiler.tree_entries  # noqa: F401  # pyright: ignore[reportUnusedImport]
from orchestrator.compiler.admission import admission_entries
from orchestrator.compiler.dispatch_entries import TO_DEVICE, Keys, dispatch_entries
from orchestrator.compiler.keys import neighbor_entry
from orchestrator.compiler.layout import Layout, LayoutStep
from orchestrator.compiler.program_entries import Site, section
from orchestrator.compiler.wiring import Wiring
from orchestrator.memo import Memo
from orchestrator.model.entries import FIRST_REMOTE_COPY, Exact
from orchestrator.model.refs import ClassRef, GroupRef, PathRef, Ref, SegmentRef
from orchestrator.model.symbolic import Section, SymbolicEntry, SymbolicFlood, SymbolicProgram
from orchestrator.model.topology import Host
from orchestrator.walks import walk
from servernf.wire.addresses import GATEWAY_MAC, device_mac

_Params = tuple[tuple[str, int | Ref], ...]


class SwitchEntries:
    """Makes the programs of a graph's switches."""

    def __init__(self, wiring: Wiring, memo: Memo) -> None:
        self.wiring, self.memo = wiring, memo
        self.classes: list[SegmentRef] = []

    def program(self, switch: str, layout: Layout) -> SymbolicProgram:
        sections: list[Section] = []
        entries: list[SymbolicEntry] = []
        floods: list[SymbolicFlood] = []
        self.classes = []
        for name in layout.entered:
            path = self.wiring.paths[switch, name]
            entries.append(
                SymbolicEntry(
                    "flowtag_arrival.paths",
                    (("spi", path), ("si", path)),
                    "flowtag_arrival.enter",
                    (("segment", layout.steps[name].segment),),
                    0,
                    f"path: {name}",
                )
            )
        for step in layout.steps.values():
            if step.is_exit:
                entries.extend(self._exit(layout, step))
            elif step.delivers:
                entries.extend(self._delivery(switch, step, floods))
            else:
                sections.append(self._element(layout, step))
        entries.extend(self._owned_addresses(switch))
        admission = tuple(admission_entries(self.wiring, layout))
        return SymbolicProgram(
            layout.segments,
            tuple(self.classes),
            tuple(sections),
            (*entries, *admission),
            tuple(floods),
            bool(admission),
        )

    def _element(self, layout: Layout, step: LayoutStep) -> Section:
        assert step.unit is not None
        assert step.unit.element is not None
        assert step.slot is not None
        following = {output: layout.steps[name].segment for output, name in step.next.items()}
        unit = step.unit
        site = Site(
            unit.nf,
            unit.versions,
            step.slot.instance,
            step.segment,
            tuple(sorted(following.items())),
            self.wiring.neighbors,
        )
        return section(step.unit.element.program, site, self.memo)

    def _exit(self, layout: Layout, step: LayoutStep) -> Iterator[SymbolicEntry]:
        """Dispatch to the device of another unit: a switch, or the core that owns the class."""
        target = step.target
        device = self.wiring.device(target)
        path, tree = self.wiring.paths[device, target], self._tree(step, layout)
        if target not in self.wiring.group_of:
            mac = device_mac(self.wiring.fabric.device_id(device), tree=tree)
            keys = (("segment", step.segment),)
            yield _to_device(keys, mac, path, "dispatch.next", f"to {target}")
            return

        def to_core(keys: Keys, mac: int, table: str, origin: str, priority: int) -> SymbolicEntry:
            return _to_device(keys, mac, path, table, origin, priority)

        yield from dispatch_entries(
            self.wiring, step.segment, target, tree, to_core, self._class_segment
        )

    def _class_segment(self, target: str) -> SegmentRef:
        """A segment for a class of packets at dispatch."""
        self.classes.append(SegmentRef(f"class {len(self.classes) + 1}: {target}"))
        return self.classes[-1]

    def _tree(self, step: LayoutStep, layout: Layout) -> int:
        """The tree chosen for one of the arcs that this exit stands for."""
        for before in layout.steps.values():
            if step.name in before.next.values() and before.unit is not None:
                tree = self.wiring.tree_of.get((before.unit.id, step.target))
                if tree is not None:
                    return tree
        return self.wiring.tree_of.get((f"@{layout.switch}", step.target), 0)

    def _delivery(
        self, switch: str, step: LayoutStep, floods: list[SymbolicFlood]
    ) -> Iterator[SymbolicEntry]:
        assert step.unit is not None
        unit = step.unit
        segment = ("segment", step.segment)
        endpoint = self.wiring.graph.endpoints[unit.endpoint]
        local: list[int] = []
        for name in endpoint.hosts:
            host = self.wiring.topology.hosts[name]
            at = self.wiring.fabric.attachments[name]
            origin = f"host {name}"
            if at.switch == switch:
                local.append(at.port)
                where: _Params = (("port", at.port),)
                plain, rewritten = "to_port", "host_at_port"
            elif ">" in unit.id:
                continue
            else:
                where = self._remote_delivery(switch, unit.endpoint, at.switch)
                plain, rewritten = "to_switch", "host_at_switch"
            yield SymbolicEntry(
                "deliver.mac",
                (segment, ("dst", Exact(host.mac))),
                f"deliver.{plain}",
                where,
                0,
                origin,
            )
            macs: _Params = (("host_mac", host.mac), ("gateway_mac", GATEWAY_MAC))
            yield from self._host_addresses(host, segment, rewritten, (*macs, *where))
        yield SymbolicEntry(
            "deliver.mac",
            (segment, ("dst", Exact(GATEWAY_MAC))),
            "deliver.resolve",
            (),
            0,
            "gateway",
        )
        yield from self._flood(switch, step, tuple(local), floods)

    def _flood(
        self, switch: str, step: LayoutStep, local: tuple[int, ...], floods: list[SymbolicFlood]
    ) -> Iterator[SymbolicEntry]:
        """Broadcast: a copy to each host here and, unless this is one, to each remote delivery."""
        assert step.unit is not None
        endpoint = step.unit.endpoint
        origin = f"broadcast to {endpoint}"
        others = (
            () if ">" in step.unit.id else tuple(dict.fromkeys(self.wiring.host_switches(endpoint)))
        )
        remote = [name for name in others if name != switch]
        ways = tuple(self._way(switch, name) for name in remote)
        group = GroupRef(step.name)
        floods.append(SymbolicFlood(group, local, f"endpoint {endpoint}", ways))
        for copy, name in enumerate(remote, start=FIRST_REMOTE_COPY):
            yield SymbolicEntry(
                "flood.copies",
                (("group", group), ("replica", Exact(copy))),
                "flood.to_switch",
                self._remote_delivery(switch, endpoint, name),
                0,
                origin,
            )
        yield SymbolicEntry(
            "deliver.floods",
            (("segment", step.segment),),
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

    def _remote_delivery(self, here: str, endpoint: str, switch: str) -> _Params:
        """Parameters that send a frame on to the delivery at the hosts' own switch."""
        fabric = self.wiring.fabric
        path = self.wiring.paths[switch, f"deliver.{endpoint}>{switch}"]
        mac = device_mac(fabric.device_id(switch), tree=fabric.first_tree(here, switch))
        return (("mac", mac), ("spi", path), ("si", path))

    def _host_addresses(
        self,
        host: Host,
        segment: tuple[str, SegmentRef],
        action: str,
        params: _Params,
    ) -> Iterator[SymbolicEntry]:
        for address in host.addresses:
            yield SymbolicEntry(
                f"deliver.ipv{address.version}",
                (segment, ("dst", Exact(int(address.ip)))),
                f"deliver.ipv{address.version}.{action}",
                params,
                0,
                f"host {host.name}",
            )

    def _owned_addresses(self, switch: str) -> Iterator[SymbolicEntry]:
        """ARP and ND answers for NF addresses, at the ports from which they can be asked for."""
        for endpoint in self.wiring.graph.endpoints.values():
            entered = self._entered_ports(endpoint.name)
            for name in endpoint.hosts:
                at = self.wiring.fabric.attachments[name]
                if at.switch != switch:
                    continue
                own: set[tuple[int, int]] = {
                    (a.version, int(a)) for a in self.wiring.topology.hosts[name].gateways
                }
                for nf, function in self.wiring.functions.items():
                    for port, version, address in function.owned_addresses():
                        if (nf, port) in entered and (version, address) not in own:
                            own.add((version, address))  # several NFs may own it
                            answer = neighbor_entry(at.port, version, address, nf)
                            yield SymbolicEntry(*answer)

    def _entered_ports(self, endpoint: str) -> set[tuple[str, str]]:
        """(NF, port) pairs that packets from an endpoint may enter."""
        after = {(e.source.node, e.source.port): e.target for e in self.wiring.graph.edges}

        def entered(at: tuple[str, str]) -> Iterator[tuple[str, str]]:
            node, port = at
            outs = (
                [out for out in self.wiring.functions[node].ports if out != port] if port else [""]
            )
            targets = (after[node, out] for out in outs if (node, out) in after)
            return ((target.node, target.port) for target in targets if target.port)

        return set(walk(entered((endpoint, "")), entered))


def _to_device(
    keys: Keys, mac: int, path: PathRef, table: str, origin: str, priority: int = 0
) -> SymbolicEntry:
    tag = (("spi", path), ("si", path), ("traffic_class", ClassRef()))
    action = f"{table}.{TO_DEVICE}"
    return SymbolicEntry(table, keys, action, (("mac", mac), *tag), priority, origin)

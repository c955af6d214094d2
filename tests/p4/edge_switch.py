"""The shipped pipeline, block by block: entries by name, frames in, frames out; on both engines.

Ports 1 and 2 face hosts, 7 a server, 8 and 9 the fabric; nothing else is installed, so that a test's
own entries are all that its block has.
"""

from __future__ import annotations

import ipaddress
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from finsy.proto import p4r
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from orchestrator.clients.p4info import Schema, clone_session_update, flood_update
from orchestrator.model.entries import Exact, FloodGroup, Key, Lpm, TableEntry
from orchestrator.softswitch.fast.building import compiler
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.ir import program_of
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.pipelines import SHIPPED, p4info
from servernf.wire.addresses import DEVICE_PREFIX_BITS, GATEWAY_MAC, device_mac, mac_text

HOST_PORT, OTHER_HOST_PORT, SERVER_PORT, FABRIC_PORT, OTHER_FABRIC_PORT = 1, 2, 7, 8, 9
SIDES = {
    HOST_PORT: "host_facing",
    OTHER_HOST_PORT: "host_facing",
    SERVER_PORT: "server_facing",
    FABRIC_PORT: "fabric_facing",
    OTHER_FABRIC_PORT: "fabric_facing",
}
SWITCH_ID = 7
GRAPH = 5
HOST_MAC, PEER_MAC = "0a:00:00:00:00:01", "0a:00:00:00:00:02"
GATEWAY = mac_text(GATEWAY_MAC)
START_US = 1_000


def segment(number: int, graph: int = GRAPH) -> int:
    """A segment id as lowering makes them."""
    return graph << 14 | number


@dataclass(frozen=True)
class _Shipped:
    program: Any
    schema: Schema


@cache
def shipped() -> _Shipped:
    edge = SHIPPED.build("edge", "softswitch")
    return _Shipped(program_of(edge.device_config), Schema(p4info(edge)))


class _Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class EdgeSwitch:
    """A switch with its ports set up, and short ways to give it entries and frames.

    What the Python engine does is what tests look at; where there is a C compiler, C must do the same.
    """

    def __init__(self) -> None:
        self.clock = _Clock()
        self.soft = SoftSwitch(1, clock=self.clock)
        self.schema = shipped().schema
        self.soft.load(shipped().program, self.schema.p4info)
        self.fast: FastSwitch | None = None
        if compiler() is not None:
            self.fast = FastSwitch(1, clock=self.clock)
            weakref.finalize(self, self.fast.close)
            self.fast.load(shipped().program, self.schema.p4info)
        self.now_ns = START_US * 1000
        self.admitted: set[object] = set()
        for port, side in SIDES.items():
            self.add("port.ports", {"ingress_port": port}, side, {"switch_id": SWITCH_ID})
        self.write(clone_session_update(100, 510, (1, 2, 3, 4), p4r.Update.INSERT))

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns

    @now_ns.setter
    def now_ns(self, value: int) -> None:
        self.clock.now_ns = value

    def write(self, update: p4r.Update) -> None:
        self.soft.write([update])
        if self.fast is not None:
            self.fast.write([update])

    def add(
        self,
        table: str,
        keys: Mapping[str, Key | int],
        action: str,
        params: Mapping[str, int] | None = None,
        priority: int = 0,
        *,
        modify: bool = False,
    ) -> None:
        """Insert (or modify) an entry; an integer key is exact; the action is its table's or block's."""
        mine, block = f"{table}.{action}", table.split(".")[0]
        entry = TableEntry(
            table,
            tuple((name, Exact(k) if isinstance(k, int) else k) for name, k in keys.items()),
            mine if mine in self.schema.actions else f"{block}.{action}",
            tuple((params or {}).items()),
            priority,
            "test",
        )
        self.write(
            p4r.Update(
                type=p4r.Update.MODIFY if modify else p4r.Update.INSERT,
                entity=p4r.Entity(table_entry=self.schema.encode(entry, "test")),
            )
        )

    def flood_group(self, group: int, *ports: int) -> None:
        self.write(flood_update(FloodGroup(group, ports, "test"), p4r.Update.INSERT))

    def classify(self, to: int, *, graph: int = GRAPH, port: int = HOST_PORT) -> None:
        """All that enters a host's port goes to a segment."""
        if graph not in self.admitted:
            self.admitted.add(graph)
            self.add("classify.epoch", {"graph": graph}, "run", {"epoch": 0})
        for table in ("ipv4", "ipv6", "other"):
            self.enter(table, to, graph=graph, port=port)

    def enter(
        self,
        table: str,
        to: int,
        keys: Mapping[str, Key | int] | None = None,
        *,
        priority: int = 1,
        epoch: int = 0,
        graph: int = GRAPH,
        port: int = HOST_PORT,
        guarded: bool = False,
    ) -> None:
        """What matches at a host's port enters the graph, and in this epoch goes to a segment.

        From any source address, unless `guarded`.
        """
        match = {"ingress_port": port, **(keys or {})}
        admitted = (frozenset(match.items()), table, graph)
        if admitted not in self.admitted:
            self.admitted.add(admitted)
            self.add(f"classify.{table}", match, "admit", {"graph": graph}, 1)
        version = {"graph": graph, "epoch": epoch}
        open_to_all = (table, graph, epoch, port)
        if table != "other" and not guarded and open_to_all not in self.admitted:
            self.admitted.add(open_to_all)
            self.add(f"classify.sources_{table}", {**version, "ingress_port": port}, "allow")
        self.add(
            f"classify.first_{table}", {**version, **match}, "enter", {"segment": to}, priority
        )

    def deliver_all(self, at: int, port: int = OTHER_HOST_PORT, *, mac: str = GATEWAY) -> None:
        """A segment's frames for a MAC leave by a port as they are."""
        number = int(mac.replace(":", ""), 16)
        self.add("deliver.mac", {"segment": at, "dst": number}, "to_port", {"port": port})

    def send(self, frame: Packet | bytes, port: int = HOST_PORT) -> list[tuple[int, bytes]]:
        before = len(self.soft.packet_ins)
        out = self.soft.process(port, bytes(frame))
        assert self.soft.counters.faults == 0, self.soft.counters.last_fault
        if self.fast is not None:
            assert self.fast.process(port, bytes(frame)) == out, "of the C engine"
            assert list(self.fast.packet_ins) == list(self.soft.packet_ins)[before:]
            self.fast.packet_ins.clear()
        return out

    def one(self, frame: Packet | bytes, port: int = HOST_PORT) -> tuple[int, bytes]:
        """The one frame that leaves."""
        out = self.send(frame, port)
        assert len(out) == 1, f"{len(out)} frames left, expected one"
        return out[0]

    def hits(self, table: str) -> int:
        """Packets that hit the table's entries."""
        wanted = p4r.Entity()
        wanted.table_entry.table_id = self.schema.table(table).id
        wanted.table_entry.counter_data.SetInParent()
        packets = sum(e.table_entry.counter_data.packet_count for e in self.soft.read(wanted))
        if self.fast is not None:
            theirs = self.fast.read(wanted)
            assert sum(e.table_entry.counter_data.packet_count for e in theirs) == packets
        return packets


def forwarding(number: int = 1) -> tuple[EdgeSwitch, int]:
    """A switch on which all that a host sends to the gateway leaves by the other host's port."""
    switch = EdgeSwitch()
    at = segment(number)
    switch.classify(at)
    switch.deliver_all(at)
    return switch, at


def ether(payload: Packet | bytes = b"", *, dst: str = GATEWAY, src: str = HOST_MAC) -> Ether:
    return Ether(bytes(Ether(src=src, dst=dst) / payload))


def summed(frame: bytes) -> bytes:
    """The frame with every checksum computed anew by scapy (where there was one)."""
    packet = Ether(frame)
    for layer in (IP, TCP, UDP, ICMP):
        if packet.haslayer(layer) and not (layer is UDP and packet[UDP].chksum == 0):
            del packet[layer].chksum
    for layer in (ICMPv6EchoRequest, ICMPv6ND_NA):
        if packet.haslayer(layer):
            del packet[layer].cksum
    if packet.haslayer(IPv6):
        del packet[IPv6].plen
    return bytes(packet)


def ip_number(text: str) -> int:
    return int(ipaddress.ip_address(text))


def mac_number(text: str) -> int:
    return int(text.replace(":", ""), 16)


def tagged(switch: EdgeSwitch, at: int, device: int = 9, port: int = FABRIC_PORT) -> None:
    """Frames of a segment leave with a tag for a device behind a fabric port."""
    mac = device_mac(device)
    params = {"mac": mac, "spi": 0x14001, "si": 250, "traffic_class": 3}
    switch.add("dispatch.next", {"segment": at}, "to_device", params)
    switch.add(
        "fabric.devices", {"device": Lpm(mac, DEVICE_PREFIX_BITS)}, "forward", {"port": port}
    )

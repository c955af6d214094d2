"""`trace`: a real packet that every trusted point reports, beside what `explain` predicts.

Nothing on the wire marks it: among packets that differ in their identification only, one is chosen
whose trajectory label the graph's manifest samples. What leaves towards hosts is seen at the switch
ports in front of them, where their interfaces are here; where they are not, the host sends the packet
itself, and only what trusted points report is compared.
"""

from __future__ import annotations

import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError, NetworkError
from orchestrator.model.packet import Packet
from orchestrator.model.plan import Core
from orchestrator.network.facilities import Facilities, Interface
from orchestrator.observation.capture import open_interface, received
from orchestrator.observation.explain import Visit
from orchestrator.observation.frames import changes, frame_text
from orchestrator.observation.journey import Arrival, Journey, WorkerVisit
from orchestrator.observation.ports import port_names
from orchestrator.observation.samples import SeenSample, collect, open_all
from orchestrator.observation.views import see_live
from servernf.wire.prf import sampled

_TRIES = 60_000
"""Identifications to try: enough for sampling rates of about 0.0002 and more."""

_SETTLE_S = 0.5
_LABEL = struct.Struct("!16s16sHBHHIQ")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One report of a packet: a device, and what it saw (`SPI/SI`, or an NF and a direction)."""

    device: str
    what: str


@dataclass(frozen=True, slots=True)
class Traced:
    """What was predicted and what happened. `disagreements` is empty when they agree; `delivered` None:
    nobody looked what came to hosts."""

    frame: bytes
    graph: str
    label: int
    predicted: Journey
    expected: tuple[Sighting, ...]
    points: tuple[SeenSample, ...]
    delivered: tuple[Arrival, ...] | None
    disagreements: tuple[str, ...]
    notes: tuple[str, ...]


def label_of(frame: bytes) -> int:
    """The trajectory label that an ingress switch computes (p4src/blocks/trajectory.p4)."""
    packet = Packet.parse(frame)
    data = packet.to_bytes()
    at = packet.layout
    if packet.version == 4:
        length_and_id = int.from_bytes(data[at.l3 + 2 : at.l3 + 6], "big")
    elif packet.version == 6:
        length_and_id = int.from_bytes(data[at.l3 + 4 : at.l3 + 6], "big") << 16
    else:
        length_and_id = (packet.eth_dst ^ packet.eth_src) & 0xFFFFFFFF
    position = 0
    if packet.has_ports and packet.is_tcp:
        position = (packet.tcp_seq or 0) << 32 | (packet.tcp_ack or 0)
    elif packet.has_ports and len(packet.payload) >= 8:
        position = int.from_bytes(packet.payload[:8], "big")
    elif packet.is_icmp:
        position = int.from_bytes(data[at.l4 + 4 : at.l4 + 8], "big")
    l4 = (packet.src_port or 0, packet.dst_port or 0)
    if packet.is_icmp:
        l4 = (packet.icmp_type or 0, packet.icmp_code or 0)
    return zlib.crc32(
        _LABEL.pack(
            packet.src.to_bytes(16, "big"),
            packet.dst.to_bytes(16, "big"),
            packet.ether_type,
            packet.protocol or 0,
            *l4,
            length_and_id,
            position,
        )
    )


def choose(make: Callable[[int], bytes], deployed: Deployed) -> bytes:
    """The first frame of `make(1), make(2), ...` that the graph's manifest samples."""
    manifest = deployed.manifest
    if manifest is None:
        raise InputError(
            f"graph {deployed.bundle.graph} samples nothing: set verification.sampling_rate above 0 "
            "and deploy it again"
        )
    for identification in range(1, _TRIES):
        frame = make(identification)
        if sampled(manifest.key0, manifest.key1, label_of(frame), manifest.threshold):
            return frame
    raise InputError(
        f"none of {_TRIES} packets would be sampled: {deployed.bundle.graph}'s sampling rate "
        f"({deployed.bundle.sampling_rate:g}) is too low to trace with"
    )


def trace_packet(
    live: LiveNetwork,
    sender: str,
    make: Callable[[int], bytes],
    seconds: float,
    hand_over: Callable[[bytes], None] | None = None,
) -> Traced:
    """Predict, send, listen, compare. `make(n)` gives the packet with identification n.

    With `hand_over` somebody else gets the packet, to send it from the host while it is listened.
    """
    facilities = None
    if hand_over is None:
        instead = "--frame FILE writes the packet instead, for its host to send"
        facilities = live.facilities("tracing a packet of its own", instead)
    deployed = live.journal.deployed()
    model = see_live(live).model()
    graph = _graph_of(model.enter(sender, make(1)), deployed)
    frame = choose(make, deployed[graph])
    predicted = model.send(sender, frame)
    expected = expected_points(predicted, live.worker_name)
    label = label_of(frame)
    cores = {Core(w.server, w.core) for d in deployed.values() for w in d.bundle.workers}
    switches = [live.listener(name) for name in live.inventory.pipelines]
    workers = [live.worker(core) for core in sorted(cores, key=lambda c: (c.server, c.index))]
    with ExitStack() as stack:
        open_all(stack, switches)
        open_all(stack, workers)
        for switch in switches:
            switch.pipeline_cookie()
        ports = {} if facilities is None else _host_ports(live, facilities, stack)
        complete = 0.0

        def enough(seen: dict[int, list[SeenSample]]) -> bool:
            nonlocal complete
            if len(seen.get(label, ())) < len(expected):
                return False
            complete = complete or time.monotonic()
            return time.monotonic() - complete > _SETTLE_S

        def begin() -> None:
            if facilities is not None:
                _send(facilities.host(sender), stack, sender, frame)
            elif hand_over is not None:
                hand_over(frame)

        points = collect(switches, workers, seconds=seconds, enough=enough, begin=begin)
        delivered = tuple(_delivered(ports, frame, predicted)) if facilities else None
    seen = tuple(points.get(label, ()))
    disagreements, notes = compare(predicted, expected, seen, delivered)
    return Traced(frame, graph, label, predicted, expected, seen, delivered, disagreements, notes)


def expected_points(journey: Journey, name_of: Callable[[Core], str]) -> tuple[Sighting, ...]:
    """Who reports a sampled packet on this journey; `name_of` says what a core's worker is called."""
    points: list[Sighting] = []
    for hop in journey.hops:
        stop = hop.stop
        if isinstance(stop, Visit):
            points += [Sighting(stop.switch, _path_text(spi, si)) for spi, si in stop.watched]
        elif isinstance(stop, WorkerVisit):
            device = name_of(Core(stop.server, stop.core))
            for call in stop.calls:
                points.append(Sighting(device, f"{call.nf} in"))
                points.append(Sighting(device, f"{call.nf} {'out' if call.left else 'drop'}"))
    return tuple(points)


def reported(point: SeenSample) -> Sighting:
    """A sample in the words of `expected_points`."""
    if point.what.startswith("port "):
        return Sighting(point.device, _path_text(point.spi, point.si))
    return Sighting(point.device, point.what)


def _path_text(spi: int, si: int) -> str:
    return f"SPI {spi} SI {si}" if si else "from a host"


def compare(
    predicted: Journey,
    expected: Sequence[Sighting],
    points: Sequence[SeenSample],
    delivered: Sequence[Arrival] | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(disagreements, notes): what did not happen as predicted, and what an NF was free to choose."""
    want, have = Counter(expected), Counter(reported(point) for point in points)
    wrong = [f"{seen.device} ({seen.what}) did not report it" for seen in (want - have).elements()]
    wrong += [
        f"{seen.device} ({seen.what}) reported it, which was not predicted"
        for seen in (have - want).elements()
    ]
    notes: list[str] = []
    if delivered is None:
        return tuple(wrong), ("what came to hosts was not looked at",)
    hosts = Counter(a.host for a in predicted.deliveries)
    arrived = Counter(a.host for a in delivered)
    wrong += [f"{host} was predicted to receive it" for host in (hosts - arrived).elements()]
    wrong += [
        f"{host} received it, which was not predicted" for host in (arrived - hosts).elements()
    ]
    for arrival in predicted.deliveries:
        same_host = [a for a in delivered if a.host == arrival.host]
        if same_host and all(a.frame != arrival.frame for a in same_host):
            told = (
                "; ".join(changes(arrival.frame, same_host[0].frame)) or "its checksum or payload"
            )
            notes.append(f"{arrival.host} received it with {told} (an NF with state may choose)")
    return tuple(wrong), tuple(notes)


def _graph_of(visit: Visit, deployed: dict[str, Deployed]) -> str:
    for step in visit.steps:
        if step.graph in deployed:
            return step.graph
    raise InputError(
        f"no deployed graph takes this packet ({visit.verdict}); deployed: "
        f"{', '.join(deployed) or 'none'}"
    )


def _host_ports(
    live: LiveNetwork, facilities: Facilities, stack: ExitStack
) -> dict[str, socket.socket]:
    """A listening socket in front of every host."""
    sockets: dict[str, socket.socket] = {}
    for device in live.inventory.pipelines:
        interfaces = facilities.ports(device)
        for port, behind in port_names(live.topology, device).items():
            if behind in live.topology.hosts:
                sockets[behind] = stack.enter_context(open_interface(interfaces[port]))
    return sockets


def _send(host: Interface, stack: ExitStack, sender: str, frame: bytes) -> None:
    port = stack.enter_context(open_interface(host))
    try:
        port.send(frame)
    except OSError as error:
        raise NetworkError(f"{sender}: sending: {error.strerror}") from error


def _delivered(ports: dict[str, socket.socket], frame: bytes, predicted: Journey) -> list[Arrival]:
    """Frames that left for hosts and are the packet: as predicted, or with its identification."""
    exact = {a.frame for a in predicted.deliveries}
    return [
        Arrival(host, data)
        for host, port in ports.items()
        for _, data, outgoing in received(port)
        if outgoing and (data in exact or _is_same(frame, data))
    ]


def _is_same(sent: bytes, got: bytes) -> bool:
    """Whether a frame is what NFs may have made of another: protocol, identification, payload."""
    try:
        one, other = Packet.parse(sent), Packet.parse(got)
    except ValueError:
        return False
    if not one.version or one.version != other.version or one.protocol != other.protocol:
        return False
    if one.identification != other.identification or one.tcp_seq != other.tcp_seq:
        return False
    if one.payload != other.payload:
        return False
    both = (frame_text(sent).fields, frame_text(got).fields)
    return any(both[0].get(name) == both[1].get(name) for name in ("ip.src", "ip.dst"))

"""Links between switches: probes are sent out of every port, and it is looked where they arrive."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from orchestrator.attachment.probes import TAGGED_MTU, WHOLE, Probe, Probes, SwitchPort
from orchestrator.attachment.sampling import ProbeReports
from orchestrator.model.topology import Topology
from orchestrator.observation.probe_frames import SMALL

_THREADS = 16
_TRIES = 4
"""A busy switch loses frames."""
_WAIT_S = 1.0
"""After the last frame that a probe's answer may take."""
_POLL_S = 0.01


def wrong_links(topology: Topology, samplings: Mapping[str, ProbeReports]) -> Iterator[str]:
    """What is wrong with the links between these switches, in words.

    SwitchError when a switch refuses what the probes need.
    """
    probes = Probes(topology)
    wanted = [
        probe
        for probe in probes
        if {probe.sender.switch, probe.expected.switch} <= samplings.keys()
    ]
    if not wanted:
        return
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        try:
            list(pool.map(ProbeReports.install, samplings.values()))
            seen = _send(probes, wanted, samplings)
        finally:
            list(pool.map(ProbeReports.remove, samplings.values()))
    yield from _judge(wanted, seen, port_words(topology))


Seen = Mapping[Probe, set[SwitchPort]]


def _send(probes: Probes, wanted: list[Probe], samplings: Mapping[str, ProbeReports]) -> Seen:
    """Send all, and again those that nobody has seen; where each was seen."""
    seen: defaultdict[Probe, set[SwitchPort]] = defaultdict(set)
    for _ in range(_TRIES):
        missing = [probe for probe in wanted if probe not in seen]
        for probe in missing:
            session = samplings[probe.sender.switch].session
            session.packet_out(probes.frame(probe), probe.sender.number)
        _listen(samplings, probes, seen, lambda left=missing: all(probe in seen for probe in left))
    return seen


def _listen(
    samplings: Mapping[str, ProbeReports],
    probes: Probes,
    seen: dict[Probe, set[SwitchPort]],
    done: Callable[[], bool],
) -> None:
    quiet_since = time.monotonic()
    while not done() and time.monotonic() - quiet_since < _WAIT_S:
        for name, sampling in samplings.items():
            while (packet := sampling.session.packet_in(0.0)) is not None:
                probe = probes.recognise(packet.payload)
                if probe is not None:
                    seen[probe].add(SwitchPort(name, packet.metadata.get("ingress_port", 0)))
                    quiet_since = time.monotonic()
        time.sleep(_POLL_S)


def _judge(wanted: list[Probe], seen: Seen, words: Callable[[SwitchPort], str]) -> Iterator[str]:
    """One problem a port at most: a wrong wire before its MTU."""
    nowhere: set[SwitchPort] = set()
    whole = {p.sender: seen.get(p, nowhere) for p in wanted if p.size == WHOLE}
    for probe in wanted:
        if probe.size != SMALL:
            continue
        arrived = seen.get(probe, nowhere) | whole[probe.sender]
        sender, right = words(probe.sender), words(probe.expected)
        if not arrived:
            yield (
                f"{sender}: no probe arrived, the topology says at {right}: the link is down, or leads "
                "to a port that the topology does not know"
            )
        elif probe.expected not in arrived:
            elsewhere = " and ".join(sorted(map(words, arrived)))
            yield f"{sender} reaches {elsewhere}, the topology says {right}"
        elif not whole[probe.sender]:
            yield (
                f"{sender} to {right}: frames of {SMALL} bytes pass, those of {WHOLE} do not: tagged "
                f"frames need an MTU of {TAGGED_MTU} or more at both ends"
            )


def port_words(topology: Topology) -> Callable[[SwitchPort], str]:
    """What a port is called: as its switch does, and by its number."""
    names = {
        SwitchPort(switch.name, number): name
        for switch in topology.switches.values()
        if switch.management is not None
        for name, number in switch.management.ports.items()
    }

    def words(port: SwitchPort) -> str:
        number = f"{port.switch} port {port.number}"
        return f"{number} ({names[port]})" if port in names else number

    return words

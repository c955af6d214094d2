"""What limits each traffic now: the NF, core, link or switch, with what says so.

A device is full when packets wait for it: its queue is not emptied, and grows or loses some. How busy
its CPU is says little, as a poll loop is always busy, and one that shares its CPU is late at any share
(vNFO: delays and queues of NFs, not resources). Within a full core the NF limits that takes most of each
packet's time beyond what was measured of it, if it is slower than that; where nothing was measured, the
one that takes most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.model.bundle import Bundle
from orchestrator.observation.link_load import LinkLoad
from orchestrator.observation.load import CoreLoad, NfLoad, SwitchLoad
from orchestrator.profiles import runtime_profile

FULL = 0.5
"""More of the batches than that have not emptied the queue: packets always wait."""
GROWN = 0.02
"""The queue's growth, in its own size, that is no chance; it is nearly empty otherwise."""
NEAR = 0.95
"""So much of what a link or switch carries is all of it."""
SLOWER = 2.0
"""An NF is slow when half of its packets take more than so many times what was measured of it."""
BURST = 64
"""Bytes at which an NF's measured cost is compared: times do not say of which sizes packets were."""


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """`kind` is nf, core, switch or link; `graphs` those whose packets it holds up; why, in words."""

    kind: str
    name: str
    graphs: tuple[str, ...]
    evidence: tuple[str, ...]


def bottlenecks(
    cores: Iterable[CoreLoad],
    switches: Iterable[SwitchLoad],
    links: Iterable[LinkLoad],
    bundles: Sequence[Bundle],
    runtimes: Mapping[str, str],
) -> list[Bottleneck]:
    """What is full; nothing where nothing is. `runtimes`: of each server."""
    types = {
        (bundle.graph, nf): kind
        for bundle in bundles
        for worker in bundle.workers
        for nf, (kind, _) in worker.nfs.items()
    }
    bottlenecks_of = [
        _of_core(core, types, runtimes.get(core.name.rpartition(".")[0], "")) for core in cores
    ]
    bottlenecks_of += [_of_switch(switch, bundles) for switch in switches]
    bottlenecks_of += [_of_link(link) for link in links]
    return [one for one in bottlenecks_of if one is not None]


def _of_core(
    core: CoreLoad, types: Mapping[tuple[str, str], str], runtime: str
) -> Bottleneck | None:
    evidence = list(_waits(core))
    if not evidence:
        return None
    timed = [nf for nf in core.nfs if nf.mean_us is not None and nf.packets_per_second]
    graphs = tuple(dict.fromkeys(nf.graph for nf in core.nfs if nf.packets_per_second))
    if not timed:
        return Bottleneck("core", core.name, graphs, tuple(evidence))
    beyond = {nf: _beyond_us(nf, types, runtime) for nf in timed}
    worst = max(timed, key=lambda nf: beyond[nf] * nf.packets_per_second)
    planned = _planned_us(worst, types, runtime)
    said = f"{worst.mean_us:.1f} us a packet in {worst.nf}"
    said += f" (p50 {worst.p50_us:.1f}, p99 {worst.p99_us:.1f})"
    evidence.append(said + (f", {planned:.1f} when it was measured" if planned else ""))
    if planned and worst.p50_us is not None and worst.p50_us <= SLOWER * planned:
        evidence.append("its NFs take what they should: it has too many packets, or too little CPU")
        return Bottleneck("core", core.name, graphs, tuple(evidence))
    name = f"{worst.graph}/{worst.nf} on {core.name}"
    return Bottleneck("nf", name, graphs, tuple(evidence))


def _waits(core: CoreLoad) -> Iterator[str]:
    """What says that packets wait for a core."""
    if core.lost_per_second:
        yield f"its receive queue loses {core.lost_per_second:,.0f} frames/s"
    elif (
        core.full is None
        or core.full <= (NEAR if core.queue is None else FULL)
        or (core.queue is not None and (core.queue_grown or 0.0) < GROWN)
    ):
        return
    if core.full is not None:
        yield f"{core.full:.0%} of its batches have not emptied its receive queue"
    if core.queue is not None and core.queue_grown is not None:
        yield f"the queue is {core.queue:.0%} full, {core.queue_grown:+.0%} since the reading before"


def _planned_us(nf: NfLoad, types: Mapping[tuple[str, str], str], runtime: str) -> float | None:
    profile = runtime_profile(runtime) if runtime else None
    cost = profile.nfs.get(types.get((nf.graph, nf.nf), "")) if profile else None
    return cost.ns(BURST) / 1000 if cost else None


def _beyond_us(nf: NfLoad, types: Mapping[tuple[str, str], str], runtime: str) -> float:
    return (nf.mean_us or 0.0) - (_planned_us(nf, types, runtime) or 0.0)


def _of_switch(switch: SwitchLoad, bundles: Sequence[Bundle]) -> Bottleneck | None:
    share = switch.share
    if not switch.lost_per_second and (share is None or share < NEAR):
        return None
    evidence = [f"{switch.packets_per_second:,.0f} packets/s come to it"]
    if share is not None:
        evidence[0] += f", {share:.0%} of the {switch.most:,} that it carries"
    if switch.lost_per_second:
        evidence.append(f"its ports' queues lose {switch.lost_per_second:,.0f} frames/s")
    graphs = tuple(b.graph for b in bundles if switch.name in b.programs)
    return Bottleneck("switch", switch.name, graphs, tuple(evidence))


def _of_link(link: LinkLoad) -> Bottleneck | None:
    if link.admitted is None or link.admitted < NEAR * link.capacity:
        return None
    said = f"{link.admitted / 1e6:,.0f} of {link.capacity / 1e6:,.0f} Mbit/s cross it"
    graphs = tuple(dict.fromkeys(crossing.graph for crossing in link.crossings))
    return Bottleneck("link", f"{link.source}->{link.target}", graphs, (said,))

"""Traffic classes that a switch can tell apart when it dispatches packets to cores.

State follows addresses (a NAPT's inside address, a connection's pair), and so does the hash: ICMP
errors count as the flow that they quote, later fragments have no ports. So a class is a region of
those addresses, taken from the traffics' matches; traffics that differ only by ports or protocol share a
class. Any map from regions to cores keeps state on one core, because both directions of a flow are
in the same region. Rates only decide how well the map balances.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from orchestrator.model.cuts import Cuts, Group
from orchestrator.model.elements import FilterProgram, RouteProgram
from orchestrator.model.match import Prefix
from orchestrator.model.plan import EVERYWHERE, Region
from orchestrator.nfs.base import Functions
from orchestrator.placement.resources import Demand

_MOST_CLASSES = 64
"""Of a group; the lightest beyond are not told apart from what surrounds them."""


@dataclass(frozen=True, slots=True)
class StateClass:
    """Packets in `regions` and in no smaller region of another class; none: all other packets.

    `traffics` says which part of each traffic's packets that is, as far as matches and rates tell.
    """

    regions: tuple[Region, ...]
    traffics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Offer:
    """A traffic as a group sees it: from outside or inside, in which region, packets/s."""

    name: str
    outside: bool
    region: Region | None
    """None: its owner is known by a pool address, so it follows the others."""
    rate: float


def state_classes(
    functions: Functions, cuts: Cuts, group: Group, wants: Sequence[Demand]
) -> tuple[StateClass, ...]:
    """The classes of a group's packets; the last one has no regions: whatever is in no other.

    A pool is dealt to buckets, and what comes back shows its bucket, but no region: there is one class.
    """
    offers = [
        _offer(functions, cuts, group, want) for want in wants if want.units & set(group.units)
    ]
    if any(functions[nf].pool_buckets(1) is not None for nf in group.nfs):
        return (StateClass((), {offer.name: 1.0 for offer in offers}),)
    home = _components([o.region for o in offers if o.region is not None])
    parts: dict[tuple[Region, ...], dict[str, float]] = defaultdict(dict)
    weight: dict[tuple[Region, ...], float] = defaultdict(float)
    indirect: list[tuple[_Offer, list[_Offer]]] = []
    for offer in offers:
        others = [o for o in offers if o.outside != offer.outside and o.region is not None]
        if offer.region is None:
            indirect.append((offer, others))
            continue
        region = offer.region
        inner = [o for o in others if o.region is not None and covers(region, o.region)]
        if any(o.region != region for o in inner):
            indirect.append((offer, inner))
        else:
            parts[home[region]][offer.name] = 1.0
            weight[home[region]] += offer.rate
    kept = sorted(weight, key=lambda regions: -weight[regions])[:_MOST_CLASSES]
    demands: dict[tuple[Region, ...], dict[str, float]] = {
        regions: parts[regions] for regions in kept if EVERYWHERE not in regions
    }
    rest: dict[str, float] = {}
    for regions, traffics in parts.items():
        if regions not in demands:
            (demands[at] if (at := _around(regions, demands)) else rest).update(traffics)
    for offer, others in indirect:
        _share(offer, others, demands, rest)
    if len(demands) + bool(rest) <= 1:
        return (StateClass((), {offer.name: 1.0 for offer in offers}),)
    order = sorted(demands, key=lambda regions: (-specificity(regions[0]), str(regions)))
    return (*(StateClass(regions, demands[regions]) for regions in order), StateClass((), rest))


def class_words(state_class: StateClass) -> str:
    """A class in words: its regions, or that it is the rest."""
    return " or ".join(map(str, state_class.regions)) or "all others"


def covers(outer: Region, inner: Region) -> bool:
    """Whether every packet of one region is in the other, too."""
    pairs = ((outer.inside, inner.inside), (outer.outside, inner.outside))
    return all(a is None or (b is not None and _contains(a, b)) for a, b in pairs)


def specificity(region: Region) -> int:
    """The more bits a region fixes, the earlier it is looked at."""
    return sum(prefix.length for prefix in (region.inside, region.outside) if prefix is not None)


def _contains(outer: Prefix, inner: Prefix) -> bool:
    return (
        outer.version == inner.version
        and outer.length <= inner.length
        and inner.value & outer.mask == outer.value
    )


def meet(a: Region, b: Region) -> bool:
    """Whether some packet is in both regions."""
    pairs = ((a.inside, b.inside), (a.outside, b.outside))
    return all(x is None or y is None or _contains(x, y) or _contains(y, x) for x, y in pairs)


def _components(regions: Sequence[Region]) -> dict[Region, tuple[Region, ...]]:
    """Regions that overlap without one covering the other belong to one class."""
    graph: nx.Graph[Region] = nx.Graph()
    graph.add_nodes_from(regions)
    distinct = list(graph)
    graph.add_edges_from(
        (a, b)
        for i, a in enumerate(distinct)
        for b in distinct[i + 1 :]
        if meet(a, b) and not covers(a, b) and not covers(b, a)
    )
    return {
        region: tuple(sorted(component, key=lambda r: (-specificity(r), str(r))))
        for component in nx.connected_components(graph)
        for region in component
    }


def _around(
    regions: tuple[Region, ...], classes: Mapping[tuple[Region, ...], object]
) -> tuple[Region, ...] | None:
    """The class that packets of a class that is not told apart fall into; None: the rest."""
    around = [(specificity(r), c) for c in classes for r in c if covers(r, regions[0])]
    return max(around, key=lambda item: (item[0], str(item[1])))[1] if around else None


def _share(
    offer: _Offer,
    others: Sequence[_Offer],
    classes: Mapping[tuple[Region, ...], dict[str, float]],
    rest: dict[str, float],
) -> None:
    """What comes back is divided as what goes out: by the rates of the others' parts."""
    rates = {o.name: o.rate for o in others}
    weights = [
        sum(rate * traffics.get(name, 0.0) for name, rate in rates.items())
        for traffics in (*classes.values(), rest)
    ]
    total = sum(weights)
    if not total:
        rest[offer.name] = 1.0
        return
    for traffics, weight in zip((*classes.values(), rest), weights, strict=True):
        if weight:
            traffics[offer.name] = weight / total


def _offer(functions: Functions, cuts: Cuts, group: Group, want: Demand) -> _Offer:
    """How a traffic comes to a group."""
    units = set(group.units)
    doors = {b for a, b in want.arcs if b in units and a not in units}
    doors |= {first for _, first in want.entries if first in units}
    traffic = want.traffic
    sides = {cuts.units[door].port == "outside" for door in doors}
    outside = sides == {True}
    if doors and all(_by_owner(functions, cuts, group, door) for door in doors):
        return _Offer(traffic.name, outside, None, want.packets_per_second)
    if len(sides) != 1 or group.spread == "one" or _rewritten(cuts, want, doors):
        return _Offer(traffic.name, outside, EVERYWHERE, want.packets_per_second)
    src, dst = (
        p if p is not None and p.length else None for p in (traffic.match.src, traffic.match.dst)
    )
    inside, beyond = (dst, src) if outside else (src, dst)
    region = Region(
        inside if group.spread != "outside_address" else None,
        beyond if group.spread != "inside_address" else None,
    )
    return _Offer(traffic.name, outside, region, want.packets_per_second)


def _rewritten(cuts: Cuts, want: Demand, doors: set[str]) -> bool:
    """Whether addresses may have changed before the group sees the packets."""
    way: nx.DiGraph[str] = nx.DiGraph(want.arcs)
    before = {a for door in doors if door in way for a in nx.ancestors(way, door)}
    programs = [e.program for a in before if (e := cuts.units[a].element) is not None]
    return not all(isinstance(p, FilterProgram | RouteProgram) for p in programs)


def _by_owner(functions: Functions, cuts: Cuts, group: Group, door: str) -> bool:
    return partitioned(functions, cuts, group, door) is not None


def partitioned(functions: Functions, cuts: Cuts, group: Group, door: str) -> str | None:
    """The first NF ahead in a group whose pool address packets that enter at `door` still show."""
    todo, seen = [door], set[str]()
    while todo:
        name = todo.pop(0)
        if name in seen or name not in group.units:
            continue
        seen.add(name)
        unit = cuts.units[name]
        key = functions[unit.nf].state_key
        if key is not None and unit.port in key.partitioned:
            return unit.nf
        todo.extend(arc.target for arc in cuts.successors(name))
    return None

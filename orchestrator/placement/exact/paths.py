"""Links carry the rates of their hops; chains keep their latency limits."""

from __future__ import annotations

import math
from collections import defaultdict

from orchestrator.errors import Constraint
from orchestrator.placement.exact.draft import HORIZON_NS, KBIT, MILLI, Draft, Linear
from orchestrator.placement.measure import processing_ns, way_ns
from orchestrator.placement.problem import links_of, passes_of


def links(draft: Draft) -> None:
    """Each direction of each link carries the rates of its hops, every bounce counted."""
    load: dict[tuple[str, str], list[Linear]] = defaultdict(list)
    worst: dict[tuple[str, str], int] = defaultdict(int)
    for index, arc in enumerate(draft.problem.arcs):
        choices = draft.hop[index]
        ways = list(choices)
        if all(not links_of(draft.problem, way) for way in ways):
            continue
        for chain in arc.chains:
            parts = draft.at_rate(chain, [choices[w] for w in ways], f"sent[{index},{chain}]")
            touched: set[tuple[str, str]] = set()
            for way, part in zip(ways, parts, strict=True):
                for link in links_of(draft.problem, way):
                    load[link].append(part)
                    touched.add(link)
            for link in touched:
                worst[link] += draft.most(chain)
    for (near, far), terms in sorted(load.items()):
        capacity = draft.problem.fabric.link(near, far).capacity
        taken = draft.problem.link_taken.get((near, far), 0)
        free = (capacity - taken) // KBIT
        if worst[near, far] <= free:
            continue
        guard = draft.group(
            Constraint.LINK,
            (near, far),
            lambda n=near, f=far, c=capacity, t=taken, w=worst[near, far]: (
                f"link {n} -> {f}: {c / 1e9:g} Gbit/s, {t / 1e9:g} taken; "
                f"up to {w / 1e6:.4g} Gbit/s may want to cross it"
            ),
        )
        draft.model.add(sum(terms) <= free).only_enforce_if(guard)


def packets(draft: Draft) -> None:
    """A SmartNIC carries the packets/s of its hops: each way in is a pass (in thousandths of them)."""
    load: dict[str, list[Linear]] = defaultdict(list)
    for index, arc in enumerate(draft.problem.arcs):
        choices = draft.hop[index]
        passed = {way: passes_of(draft.problem, way) for way in choices}
        if not any(passed.values()):
            continue
        for chain in arc.chains:
            each = math.ceil(KBIT * MILLI / (8 * draft.problem.chains[chain].packet_bytes))
            parts = draft.at_rate(chain, list(choices.values()), f"passing[{index},{chain}]")
            for way, part in zip(choices, parts, strict=True):
                for device in passed[way]:
                    load[device].append(each * part)
    for name, terms in sorted(load.items()):
        most = draft.problem.devices[name].packets_per_second
        guard = draft.group(
            Constraint.PACKETS,
            (name,),
            lambda n=name, m=most: (
                f"{n} carries {m:,} packets/s, and each packet to or from its server passes it"
            ),
        )
        draft.model.add(sum(terms) <= most * MILLI).only_enforce_if(guard)


def latencies(draft: Draft) -> None:
    for chain in draft.problem.chains.values():
        wanted = chain.max_latency_us is not None or "latency" in draft.objectives
        if not wanted or not draft.problem.chain_arcs[chain.name]:
            continue
        total = _latency(draft, chain.name)
        draft.latency_ns[chain.name] = total
        if chain.max_latency_us is None:
            continue
        limit: Linear = chain.max_latency_us * 1000
        if draft.soft:
            late = draft.model.new_int_var(0, HORIZON_NS, f"late[{chain.name}]")
            draft.late_ns[chain.name] = late
            limit = limit + late
        guard = draft.group(
            Constraint.LATENCY,
            (chain.name,),
            lambda c=chain: (
                f"chain {c.name}: latency at most {c.max_latency_us} us"
                f" ({c.base_latency_us} us of it on its access links)"
            ),
        )
        draft.model.add(total <= limit).only_enforce_if(guard)


def _spent(draft: Draft, node: str, chain: str) -> Linear:
    """ns in a task's server code."""
    if node.startswith("@") or chain not in draft.problem.tasks[node].cycles:
        return 0
    return sum(
        processing_ns(draft.problem, node, device, chain) * draft.on[node, device]
        for device in draft.ends(node)
    )


def _moving(draft: Draft, index: int) -> Linear:
    return sum(way_ns(draft.problem, way) * lit for way, lit in draft.hop[index].items())


def _latency(draft: Draft, chain: str) -> Linear:
    """A chain's latency, ns: a sum on a path, the longest way on a branching one."""
    problem, base = draft.problem, draft.problem.chains[chain].base_latency_us * 1000
    arcs = [(i, problem.arcs[i]) for i in problem.chain_arcs[chain]]
    sources = [arc.source for _, arc in arcs]
    targets = [arc.target for _, arc in arcs]
    if len(set(sources)) == len(sources) and len(set(targets)) == len(targets):
        nodes = dict.fromkeys([*sources, *targets])
        ends = set(problem.chains[chain].ends)
        last = [n for n in nodes if n not in sources]
        if not ends or ends == set(last):
            return (
                base
                + sum(_moving(draft, i) for i, _ in arcs)
                + sum(_spent(draft, n, chain) for n in nodes)
            )
    at: dict[str, Linear] = {}
    for _, arc in arcs:
        for node in (arc.source, arc.target):
            if node not in at:
                at[node] = (
                    0
                    if node.startswith("@")
                    else draft.model.new_int_var(0, HORIZON_NS, f"time[{chain},{node}]")
                )
    for i, arc in arcs:
        spent = _spent(draft, arc.source, chain)
        draft.model.add(at[arc.target] >= at[arc.source] + spent + _moving(draft, i))
    total = draft.model.new_int_var(0, HORIZON_NS, f"latency[{chain}]")
    for end in problem.chains[chain].ends or set(targets) - set(sources):
        if end in at:
            draft.model.add(total >= at[end] + _spent(draft, end, chain) + base)
    return total

"""Links carry the rates of their hops; chains keep their latency limits."""

from __future__ import annotations

import math
from collections import defaultdict

from orchestrator.errors import Constraint
from orchestrator.placement.exact.draft import HORIZON_NS, KBIT, MILLI, Linear, ModelDraft
from orchestrator.placement.measure import processing_ns, way_ns
from orchestrator.placement.problem import links_of, passes_of


def links(draft: ModelDraft) -> None:
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


def packets(draft: ModelDraft) -> None:
    """A device carries the packets/s that come to it, each as often as it comes on its longest way."""
    for name, device in draft.problem.devices.items():
        if not device.packets_per_second:
            continue
        terms = [t for chain in draft.problem.chains for t in _arriving(draft, chain, name)]
        if not terms:
            continue
        guard = draft.group(
            Constraint.PACKETS,
            (name,),
            lambda n=name, m=device.packets_per_second: (
                f"{n} carries {m:,} packets/s, and each packet counts as often as it comes to it"
            ),
        )
        draft.model.add(sum(terms) <= device.packets_per_second * MILLI).only_enforce_if(guard)


def _arriving(draft: ModelDraft, chain: str, device: str) -> list[Linear]:
    """Packets/s of a chain that come to a device, in thousandths: a term for each number of passes."""
    problem, model = draft.problem, draft.model
    most = 0
    passes: dict[int, Linear] = {}
    for i in problem.chain_arcs[chain]:
        arc = problem.arcs[i]
        counts = {w: passes_of(problem, arc, w).count(device) for w in draft.hop[i]}
        if any(counts.values()):
            most += max(counts.values())
            passes[i] = sum(n * draft.hop[i][w] for w, n in counts.items() if n)
    if not most:
        return []
    at: dict[str, Linear] = {}
    for i in problem.chain_arcs[chain]:
        arc = problem.arcs[i]
        at.setdefault(arc.source, 0)
        if arc.target not in at:
            at[arc.target] = model.new_int_var(0, most, f"passes[{chain},{device},{arc.target}]")
        model.add(at[arc.target] >= at[arc.source] + passes.get(i, 0))
    number = [model.new_bool_var(f"passes[{chain},{device}]={k}") for k in range(most + 1)]
    model.add_exactly_one(number)
    for reached in at.values():
        model.add(sum(k * literal for k, literal in enumerate(number)) >= reached)
    parts = draft.at_rate(chain, number, f"passing[{chain},{device}]")
    each = math.ceil(KBIT * MILLI / (8 * problem.chains[chain].packet_bytes))
    return [k * each * part for k, part in enumerate(parts) if k]


def latencies(draft: ModelDraft) -> None:
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


def _spent(draft: ModelDraft, node: str, chain: str) -> Linear:
    """ns in a task's server code."""
    if node.startswith("@") or chain not in draft.problem.tasks[node].cycles:
        return 0
    return sum(
        processing_ns(draft.problem, node, device, chain) * draft.on[node, device]
        for device in draft.ends(node)
    )


def _moving(draft: ModelDraft, index: int) -> Linear:
    return sum(way_ns(draft.problem, way) * lit for way, lit in draft.hop[index].items())


def _latency(draft: ModelDraft, chain: str) -> Linear:
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

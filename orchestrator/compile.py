"""One way to compile: the stages in their order, and what is given up where they do not fit together.

The only module that calls them. `deploy`, `whatif` and `compile --watch` ask `feasible`, so they agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from orchestrator.compiler.advice import advice, not_installed, placed_advice
from orchestrator.compiler.classes import traffic_classes
from orchestrator.compiler.cuts import cut
from orchestrator.compiler.fabric_program import fabric_programs
from orchestrator.compiler.forms import decide_filters, has_tree, tree_room
from orchestrator.compiler.layout import Layout
from orchestrator.compiler.lowering import Lowered, lower
from orchestrator.compiler.merging import MOST_CLASSES, Costs, costs_on
from orchestrator.compiler.nic_reasons import why_on_nics
from orchestrator.compiler.runtime_reasons import why_on_runtimes
from orchestrator.compiler.story import ClassStory, StoryTeller, unit_stories
from orchestrator.compiler.synthesis import synthesise
from orchestrator.compiler.wiring import Wiring
from orchestrator.errors import Constraint, DoesNotFit, InfeasibleError, InputError
from orchestrator.fitting.pipelines import refusal
from orchestrator.garbage import large_frozen_data
from orchestrator.graph import check_hosts, functions_of
from orchestrator.linker.link import link
from orchestrator.memo import Memo
from orchestrator.model.away import Away
from orchestrator.model.bundle import Bundle, Slo
from orchestrator.model.cuts import Cuts
from orchestrator.model.devices import devices_of
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions, lookup
from orchestrator.placement.buckets import with_pools
from orchestrator.placement.compiled import forced_by_pins
from orchestrator.placement.devices import room_of
from orchestrator.placement.model import Options, place
from orchestrator.placement.resources import Network, Used, block_use
from orchestrator.placement.running import Moving, Running, moved, running_of, taken_over
from orchestrator.placement.standby import standby_rules
from orchestrator.targets.costs import FilterCosts
from orchestrator.targets.pipelines import SHIPPED, Pipeline, Pipelines, footprint
from orchestrator.targets.target import filter_costs

PlacedT = TypeVar("PlacedT")

STAYING = Options(objectives=("slo", "moves", "cores", "latency", "hops"))
"""How an update is placed: nothing moves that need not."""
_NOTHING_USED, _NOTHING_AWAY = Used(), Away()


@dataclass(frozen=True, slots=True)
class TernaryRules:
    """An NF's rules are no tree, whatever they cost: they may fit where their tree does not."""

    nf: str


@dataclass(frozen=True, slots=True)
class NoMerging:
    """Tables of NFs in a row do not become one: two small ones may fit where one does not."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An NF stands on another switch: this one's chip does not hold it beside what is there."""

    nf: str
    switch: str


@dataclass(frozen=True, slots=True)
class OnServer:
    """An NF runs on a server although it needs no state; `why` is what its story says."""

    nf: str
    why: str


def _silent(_step: str) -> None:
    """For whom nobody waits."""


Relaxation = TernaryRules | NoMerging | Elsewhere | OnServer
"""What a graph does without, so that it can be placed."""


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """A graph, the topology it is for, and what is there.

    `beside` is the version that is deployed: the new one has its id, stays where it runs, as far as it
    can, and keeps its numbers where the two are equal, so that both can be installed at once. `used` is
    what other graphs hold. What is `away` is left out of placement; the graph has no host behind it.

    `pipelines` (by switch) stand for those of the topology, whose builds are in `builds`. `max_classes`
    bounds the traffic classes that two NFs in a row may make of their rules. `relaxations` are given up
    from the start. `warnings` come before the compiler's own. `functions` are the NFs, where they
    are known. `memo` is what compiling the graph found out before; it changes no result. `step` is told,
    in words, what is done next.
    """

    graph: ServiceGraph
    topology: Topology
    graph_id: int = 1
    beside: Bundle | None = None
    used: Used = _NOTHING_USED
    away: Away = _NOTHING_AWAY
    pipelines: Mapping[str, Pipeline] | None = None
    builds: Pipelines = SHIPPED
    placing: Options | None = None
    max_classes: int = MOST_CLASSES
    relaxations: tuple[Relaxation, ...] = ()
    warnings: tuple[str, ...] = ()
    functions: Functions | None = None
    moving: Moving | None = None
    """What shall run elsewhere than it does in `beside`."""
    endless_chips: bool = False
    """As if chips had stages without end: to see how many are asked for."""
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)
    step: Callable[[str], None] = field(default=_silent, compare=False, repr=False)

    def with_functions(self) -> CompileRequest:
        """The request with its NFs, made once for all that is tried."""
        return self if self.functions else replace(self, functions=functions_of(self.graph))

    def offered(self) -> Mapping[str, Pipeline]:
        """The pipeline of each switch."""
        return self.pipelines or {
            s.name: self.builds.capability(s.pipeline, s.target)
            for s in self.topology.switches.values()
        }

    def taken(self) -> Used:
        """What cannot be had: of other graphs, away or cordoned."""
        cores = self.used.cores | self.away.cores.keys() | self.away.cordon.cores
        return replace(self.used, cores=cores)

    def not_on(self) -> frozenset[tuple[str, str]]:
        """NFs with switches that are not to execute them."""
        some = (r for r in self.relaxations if isinstance(r, Elsewhere))
        return frozenset((given.nf, given.switch) for given in some)

    def without(self, relaxation: Relaxation) -> CompileRequest:
        """The request with one thing more given up."""
        return replace(self, relaxations=(*self.relaxations, relaxation))


@dataclass(frozen=True, slots=True)
class Given:
    """All that a front depends on: whoever asks for the same has the same.

    The graph is without its rates, latencies and packet sizes, which only placement asks for; `access`
    is the switch of each of its hosts; `forced` are NFs on servers, with the reason; `room` is what
    the levels of trees have free.
    """

    graph: ServiceGraph
    access: Mapping[str, str]
    forced: Mapping[str, str]
    ternary: frozenset[str]
    costs: Costs
    forms: FilterCosts | None
    room: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Front:
    """A graph before it is placed: as cut (`whole`), then with synthesised filters in their forms."""

    request: CompileRequest
    given: Given
    functions: Functions
    whole: Cuts
    cuts: Cuts


@dataclass(frozen=True, slots=True)
class Compiled:
    """Every stage's output for one graph, and what it was made from."""

    cuts: Cuts
    plan: Plan
    lowered: Lowered
    bundle: Bundle
    graph: ServiceGraph
    topology: Topology

    def classes(self) -> tuple[ClassStory, ...]:
        """The stories of all traffic classes."""
        fabric, layouts = Fabric(self.topology), self.lowered.layouts
        teller = StoryTeller(self.graph, self.cuts, self.plan, layouts, self.bundle.stories, fabric)
        return tuple(map(teller.tell, traffic_classes(self.cuts, self.graph)))


def compile_graph(request: CompileRequest) -> Compiled:
    """Cut, synthesise, place and lower a graph onto a topology, and number it beside what is there.

    With a memo that has seen an earlier version of the graph, what both have in common is taken from
    there: after a changed rule that is nearly all.
    """
    with large_frozen_data(), request.memo.round():
        return _compiled(request)


def _compiled(request: CompileRequest) -> Compiled:
    request = request.with_functions()
    graph, topology, beside = request.graph, request.topology, request.beside
    warnings = (*request.warnings, *check_hosts(graph, topology, request.functions))
    fabric, pipelines, used = (
        Fabric(topology, request.away),
        request.offered(),
        request.taken(),
    )
    network = Network(pipelines, used)
    placing, graph_id = request.placing, request.graph_id
    if beside is not None:
        graph_id = beside.graph_id
        running = taken_over(running_of(beside), beside.plan.standbys, request.away.cores)
        if request.moving is not None:
            was, running = running, _moved(request, running)
            graph = _pinned(graph, was, running)
            request = replace(request, graph=graph)
        placing = replace(placing or STAYING, running=running)

    def placed(fronts: Sequence[Front]) -> tuple[Plan, Lowered]:
        (only,) = fronts
        functions, cuts = only.functions, only.cuts
        request.step(f"placing {graph.name}")
        not_on = only.request.not_on()
        plan = place(graph, functions, cuts, fabric, network, options=placing, not_on=not_on)
        request.step(f"making entries of {graph.name}")
        lowered = lower(
            graph, functions, cuts, plan, fabric, pipelines, taken=used.tables, memo=request.memo
        )
        if not request.endless_chips:
            check_chips(lowered.layouts, pipelines, used.tables, request.builds)
        return plan, lowered

    (front,), (plan, lowered) = feasible([request], fabric, placed)
    whole, cuts, functions = front.whole, front.cuts, front.functions
    bundle = Bundle(
        graph=graph.name,
        owner=graph.owner,
        graph_id=graph_id,
        topology=topology.name,
        sampling_rate=graph.verification.sampling_rate,
        devices=devices_of(topology),
        fabric=fabric_programs(Fabric(topology) if request.away else fabric),
        programs={},
        workers=(),
        plan=plan,
        block_use=block_use(functions, cuts, plan, topology, pipelines),
        stories=unit_stories(
            cuts,
            plan,
            lowered.layouts,
            pipelines,
            {
                **why_on_nics(
                    cuts, plan, graph, fabric, partial(room_of, fabric, network), pipelines
                ),
                **why_on_runtimes(cuts, plan, graph, topology),
            },
        ),
        warnings=(
            *warnings,
            *advice(whole, cuts, graph, functions),
            *_given_up(front.request),
            *placed_advice(cuts, plan, graph, functions),
        ),
        removed=tuple((f"{nf}: {rule}", why) for nf, rule, why in not_installed(whole, cuts)),
        slos={t.name: Slo(t.rate, t.min_rate, t.max_latency_us) for t in graph.traffic},
        endpoints={endpoint.name: endpoint.hosts for endpoint in graph.endpoints.values()},
        builds=request.builds.needed(s.pipeline for s in topology.switches.values()),
    )
    request.step(f"numbering {graph.name}")
    bundle = link(bundle, lowered.symbolic, beside, request.memo)
    return Compiled(cuts, plan, lowered, bundle, graph, topology)


def _moved(request: CompileRequest, running: Running) -> Running:
    """Where the graph shall run as the request says."""
    assert request.moving is not None
    doubled = standby_rules(request.graph, request.graph.nfs).keys()
    return moved(running, request.moving, with_pools(request.functions or {}), doubled)


def _pinned(graph: ServiceGraph, was: Running, running: Running) -> ServiceGraph:
    """The graph with what moves to another server kept there; InputError when it pins it elsewhere."""
    servers = {
        nf: running.cores_of[nf][0].server
        for nf in running.pinned
        if nf in graph.nfs and lookup(graph.nfs[nf].type).has_state()
        if was.cores_of[nf][0].server != running.cores_of[nf][0].server
    }
    problems = [
        f"to: {nf} is pinned to {pin} by {graph.source or graph.name} (placement.pin.{nf})"
        for nf, pin in graph.placement.pinned.items()
        if servers.get(nf, pin) != pin
    ]
    if problems:
        raise InputError(problems)
    pins = {**graph.placement.pinned, **servers}
    return replace(graph, placement=replace(graph.placement, pinned=pins))


def _given_up(request: CompileRequest) -> Iterator[str]:
    """NFs that switches would execute, had they room for them."""
    where = request.graph.source or request.graph.name
    for relaxation in request.relaxations:
        if isinstance(relaxation, OnServer):
            yield f"{where}: nfs.{relaxation.nf}: runs on a server: {relaxation.why}"


def feasible(
    requests: Sequence[CompileRequest],
    fabric: Fabric,
    place: Callable[[Sequence[Front]], PlacedT],
    earlier: Sequence[Front] = (),
) -> tuple[tuple[Front, ...], PlacedT]:
    """Graphs that are placed together, as they were placed, and what `place` made of them.

    Where it raises DoesNotFit or InfeasibleError, one thing is given up and it is asked again: first a
    tree, then a switch whose chip is too small, then merged tables, then switches for an NF. Its last
    error is raised when nothing is left. What is `known` is not made again.
    """
    requests = [request.with_functions() for request in requests]
    while True:
        fronts = fronts_of(requests, fabric, earlier)
        try:
            return fronts, place(fronts)
        except (DoesNotFit, InfeasibleError) as error:
            relaxed = relax(error, fronts)
            if relaxed is None:
                raise
            at, relaxation = relaxed
            requests = [r.without(relaxation) if i == at else r for i, r in enumerate(requests)]
            earlier = (*earlier, *fronts)


def fronts_of(
    requests: Sequence[CompileRequest], fabric: Fabric, earlier: Sequence[Front] = ()
) -> tuple[Front, ...]:
    """The graphs before they are placed; what is `known`, for this or another request, as it is."""
    return tuple(_front(request.with_functions(), fabric, earlier) for request in requests)


def _front(request: CompileRequest, fabric: Fabric, earlier: Sequence[Front]) -> Front:
    functions = request.functions or {}
    given = _given(request, functions, fabric)
    for front in earlier:
        if front.given == given:
            return replace(front, request=request)
    name, step = given.graph.name, request.step
    step(f"cutting {name}")
    whole = cut(given.graph, functions, given.access, given.forced, request.memo)
    step(f"synthesising {name}")
    cuts = synthesise(whole, given.graph, given.costs, request.memo)
    step(f"choosing forms of {name}'s filters")
    cuts = decide_filters(cuts, given.forms, given.room, given.ternary, request.memo)
    return Front(request, given, functions, whole, cuts)


def _given(request: CompileRequest, functions: Functions, fabric: Fabric) -> Given:
    graph, topology, offered = request.graph, request.topology, request.offered()
    relaxations, taken = request.relaxations, request.used.tables
    hosts = [host for endpoint in graph.endpoints.values() for host in endpoint.hosts]
    forced = forced_by_pins(graph, functions, topology.servers)
    traffic = [
        replace(t, rate=0, packet_bytes=0, min_rate=None, new_flows=0.0) for t in graph.traffic
    ]
    return Given(
        replace(graph, traffic=tuple(replace(t, max_latency_us=None) for t in traffic)),
        {h: fabric.attachments[h].switch for h in hosts if h in fabric.attachments},
        forced | {r.nf: r.why for r in relaxations if isinstance(r, OnServer)},
        frozenset(r.nf for r in relaxations if isinstance(r, TernaryRules)),
        costs_on(
            topology,
            offered,
            taken,
            most_classes=request.max_classes,
            merging=NoMerging() not in relaxations,
        ),
        filter_costs(switch.target for switch in topology.switches.values()),
        tree_room(offered.values(), taken),
    )


def check_room(
    fronts: Sequence[Front], plans: Sequence[Plan], fabric: Fabric, network: Network
) -> None:
    """DoesNotFit when graphs that are placed together have no room in their switches' pipelines."""
    taken = {switch: Counter(tables) for switch, tables in network.used.tables.items()}
    for front, plan in zip(fronts, plans, strict=True):
        graph, functions, cuts = front.request.graph, front.functions, front.cuts
        try:
            wiring = Wiring(graph, functions, cuts, plan, fabric, network.pipelines, taken)
            check_chips(wiring.layouts, network.pipelines, taken)
        except DoesNotFit as error:
            raise DoesNotFit(str(error), error.nf, graph.name, error.switch) from error
        for switch, layout in wiring.layouts.items():
            held = layout.held(network.pipelines[switch])
            taken[switch] = taken.get(switch, Counter()) + held


def check_chips(
    layouts: Mapping[str, Layout],
    pipelines: Mapping[str, Pipeline],
    taken: Mapping[str, Counter[str]],
    builds: Pipelines = SHIPPED,
) -> None:
    """DoesNotFit where a switch's chip has not the stages for what it is to execute; its `nf` is one
    without which it would, the last in packet order; "" where no NF is to blame."""
    for switch, layout in layouts.items():
        pipeline = pipelines[switch]
        chip = pipeline.target.chip
        if chip is None:
            continue
        build = builds.planned_build(pipeline.name, pipeline.target.name)
        need = taken.get(switch, Counter()) + layout.held(pipeline)
        refused = refusal(build, chip, need)
        if refused is not None:
            parts = layout.parts(pipeline) if refused.least <= chip.stages else []
            blamed = refused.without or refused.never
            mine = [part for part in parts if part.instance in blamed] or parts
            # What comes last may stand on a later switch; what comes first would take the others along.
            last = max(mine, key=lambda part: (part.position, part.nf), default=None)
            nf = "" if last is None else last.nf
            raise DoesNotFit(f"{switch}: {refused.text}", nf, switch=switch)


def relax(
    error: DoesNotFit | InfeasibleError, fronts: Sequence[Front]
) -> tuple[int, Relaxation] | None:
    """What to give up after an error, and of which of the graphs; None: nothing would help.

    Each is given up once, so this comes to an end.
    """
    cause = (
        _without_slot(error, fronts) if isinstance(error, DoesNotFit) else _largest(error, fronts)
    )
    if cause is not None and cause[1] == "":  # no NF's fault
        return None
    if cause is not None:
        at, nf, _ = cause
        if has_tree(fronts[at].cuts, nf):
            return at, TernaryRules(nf)
        if isinstance(error, DoesNotFit) and error.switch:
            request, elsewhere = fronts[at].request, Elsewhere(nf, error.switch)
            if nf not in request.graph.placement.pinned and elsewhere not in request.relaxations:
                return at, elsewhere
    for at, front in enumerate(fronts):
        given = front.request.relaxations
        merged = any(unit.merged for unit in front.cuts.units.values())
        if merged and NoMerging() not in given and (cause is None or cause[0] == at):
            return at, NoMerging()
    if cause is not None:
        at, nf, why = cause
        given = fronts[at].request.relaxations
        if not any(isinstance(r, OnServer) and r.nf == nf for r in given):
            return at, OnServer(nf, why)
    return None


def _without_slot(error: DoesNotFit, fronts: Sequence[Front]) -> tuple[int, str, str] | None:
    """The NF that no block of its switch holds, with its graph and why it goes to a server."""
    for at, front in enumerate(fronts):
        if error.graph in ("", front.request.graph.name):
            return at, error.nf, str(error)
    return None


def _largest(error: InfeasibleError, fronts: Sequence[Front]) -> tuple[int, str, str] | None:
    """The NF of the largest element in a table that overflowed, with its graph and why it moves."""
    full = {n for b in error.blocking if b.kind is Constraint.TABLES for n in b.names}
    sizes = [
        (need, unit.nf, f"{block}.{table}", at)
        for at, front in enumerate(fronts)
        for unit in front.cuts.units.values()
        for (block, table), need in footprint(unit, front.request.offered().values()).items()
        if f"{block}.{table}" in full
    ]
    if not sizes:
        return None
    need, nf, table, at = max(sizes)
    return at, nf, f"no switch holds it: {need} entries of {table}"

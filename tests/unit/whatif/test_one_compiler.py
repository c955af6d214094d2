"""What a what-if says is what a deployment does: both compile one way, and give up the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from networks import Spec, campus, demand, long_acl, make_graph, one_way, permits, small, topology

from orchestrator.compile import (
    Compiled,
    CompileRequest,
    Elsewhere,
    Front,
    NoMerging,
    OnServer,
    Relaxation,
    TernaryRules,
    check_room,
    compile_graph,
    fronts_of,
    relax,
)
from orchestrator.errors import Blocking, Constraint, DoesNotFit, InfeasibleError
from orchestrator.model.away import Away, Cordon
from orchestrator.model.elements import FilterProgram
from orchestrator.model.graph import PlacementRules, ServiceGraph, Traffic
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.model import Options
from orchestrator.placement.resources import Network, Used
from orchestrator.targets.costs import LookupCosts
from orchestrator.whatif.cases import Settings, prepared
from orchestrator.whatif.run import ScenarioOutcome, run_scenario
from orchestrator.whatif.scenarios import Case, Scenario

SINGLE, LEAF_SPINE = topology("single"), topology("leaf-spine")
SETTINGS = Settings()
NO_CORDON = Cordon()
FULL = InfeasibleError("full", [Blocking(Constraint.TABLES, ("acl.ipv4",))])


@pytest.fixture(autouse=True)
def every_list_is_a_tree_where_one_is_possible(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "trees" in request.fixturenames:
        costs = LookupCosts(1e6, tree=0, level=0, branch=0, least_gain=0)
        monkeypatch.setattr("orchestrator.compile.filter_costs", lambda targets: costs)


@pytest.fixture
def trees() -> None:
    """Lists become trees, however short."""


def chain(*specs: Spec, traffic: Sequence[Traffic] | None = None) -> ServiceGraph:
    nfs = {f"nf{i}": spec for i, spec in enumerate(specs)}
    return make_graph(nfs, one_way("inside", *nfs, "outside"), traffic=traffic)


def allowed(count: int, **asked: object) -> Spec:
    """A list that drops what is not for one of so many networks."""
    rules = [{"dst": f"192.0.{i}.0/24", "action": "permit", **asked} for i in range(count)]
    return "acl", {"rules": rules, "default": "deny"}


MERGEABLE = chain(allowed(20, protocol="tcp"), allowed(20))


def deployed(graph: ServiceGraph, on: Topology, cordon: Cordon = NO_CORDON) -> Compiled:
    placing = Options(SETTINGS.strategy, SETTINGS.objectives, SETTINGS.limits)
    return compile_graph(CompileRequest(graph, on, placing=placing, away=Away(cordon=cordon)))


def foreseen(graph: ServiceGraph, on: Topology, cordon: Cordon = NO_CORDON) -> ScenarioOutcome:
    return run_scenario(Case((graph,), None, on, cordon=cordon), Scenario("now"), SETTINGS)


def servers_of(compiled: Compiled) -> set[str]:
    """NFs that run on servers."""
    return {nf for group in compiled.cuts.groups for nf in group.nfs}


def agreed(graph: ServiceGraph, on: Topology, cordon: Cordon = NO_CORDON) -> Compiled:
    """What deploy compiles, and what what-if says stands where that does."""
    mine, theirs = deployed(graph, on, cordon), foreseen(graph, on, cordon)
    assert theirs.slo_met, theirs.why
    units = {unit: at for unit, at in theirs.device_of.items() if unit in mine.cuts.units}
    assert set(units) == set(mine.cuts.units)
    assert {u: units[u] for u in mine.plan.device_of} == mine.plan.device_of
    homes = [cores[0].server for cores in mine.plan.cores_of]
    assert [units[group.units[0]] for group in mine.cuts.groups] == homes
    assert theirs.latency_us.keys() == mine.plan.latency_us.keys()
    return mine


class TestTheyAgree:
    def test_synthesis_makes_two_lists_fit_that_do_not(self) -> None:
        """81 entries each, as many together, and room for 100."""
        graph = chain(long_acl(80), long_acl(80))
        assert not servers_of(agreed(graph, small(SINGLE, acl_ipv4=100)))

    def test_merged_tables_are_one(self) -> None:
        """21 entries each, as many merged, and room for 30."""
        compiled = agreed(MERGEABLE, small(SINGLE, acl_ipv4=30))
        assert [bool(u.merged) for u in compiled.cuts.units.values() if u.element] == [True]

    def test_merged_tables_that_must_stand_apart(self) -> None:
        graph = replace(MERGEABLE, placement=PlacementRules(apart=(("nf0", "nf1"),)))
        compiled = agreed(graph, LEAF_SPINE)
        assert len({at for unit, at in compiled.plan.device_of.items() if "nf" in unit}) == 2

    @pytest.mark.usefixtures("trees")
    def test_a_tree_fits_where_its_rules_do_not(self) -> None:
        graph = chain(long_acl(200))
        assert not servers_of(agreed(graph, small(SINGLE, acl_ipv4=100)))

    @pytest.mark.usefixtures("trees")
    def test_rules_fit_where_their_tree_does_not(self) -> None:
        graph = chain(long_acl(80))
        compiled = agreed(graph, small(SINGLE, **{"acl_ipv4": 100, "acl_tree.level_1": 1}))
        assert not servers_of(compiled)
        assert {type(p) for p in programs(compiled)} == {FilterProgram}

    @pytest.mark.usefixtures("trees")
    def test_neither_fits(self) -> None:
        graph = chain(long_acl(200))
        compiled = agreed(graph, small(SINGLE, **{"acl_ipv4": 100, "acl_tree.level_1": 1}))
        assert servers_of(compiled) == {"nf0"}

    def test_what_is_cordoned_is_not_used(self) -> None:
        server = agreed(campus(), LEAF_SPINE).plan.cores_of[0][0].server
        taken = frozenset(Core(server, i) for i in range(LEAF_SPINE.servers[server].cores))
        compiled = agreed(campus(), LEAF_SPINE, Cordon(frozenset({"leaf1"}), taken))
        assert "leaf1" not in {at for unit, at in compiled.plan.device_of.items() if "edge" in unit}
        assert compiled.plan.cores_of[0][0].server != server

    def test_an_slo_that_is_missed_either_way_is_missed(self) -> None:
        """Deploy refuses it; what-if says by how much, and gives nothing up for it."""
        graph = chain(long_acl(80), traffic=[demand(name="t", max_latency_us=1)])
        with pytest.raises(InfeasibleError) as caught:
            deployed(graph, SINGLE)
        assert caught.value.blocking == (Blocking(Constraint.LATENCY, ("t",)),)
        outlook = foreseen(graph, SINGLE)
        assert outlook.missed.keys() == {"t"}
        assert str(caught.value) in outlook.why


def programs(compiled: Compiled) -> list[object]:
    return [
        unit.element.program for unit in compiled.cuts.units.values() if unit.element is not None
    ]


class TestWhatIsGivenUp:
    @staticmethod
    def fronts(graph: ServiceGraph, *relaxations: Relaxation) -> tuple[Front, ...]:
        request = CompileRequest(graph, SINGLE, relaxations=relaxations)
        return fronts_of([request], Fabric(SINGLE))

    @pytest.mark.usefixtures("trees")
    def test_each_once_the_cheapest_first(self) -> None:
        given = list[Relaxation]()
        error: InfeasibleError | DoesNotFit = DoesNotFit("sw: no room", "nf0")
        while (relaxed := relax(error, self.fronts(MERGEABLE, *given))) is not None:
            assert relaxed[0] == 0
            given.append(relaxed[1])
        assert given == [TernaryRules("nf0"), NoMerging(), OnServer("nf0", "sw: no room")]

    @pytest.mark.usefixtures("trees")
    def test_on_a_chip_another_switch_comes_before_a_server(self) -> None:
        given = list[Relaxation]()
        error = DoesNotFit("sw: no stage", "nf0", switch="sw")
        while (relaxed := relax(error, self.fronts(MERGEABLE, *given))) is not None:
            given.append(relaxed[1])
        last = OnServer("nf0", "sw: no stage")
        assert given == [TernaryRules("nf0"), Elsewhere("nf0", "sw"), NoMerging(), last]

    def test_where_no_nf_is_to_blame_nothing_is_given_up(self) -> None:
        assert relax(DoesNotFit("sw: no stage", "", switch="sw"), self.fronts(campus())) is None

    def test_the_largest_goes_to_a_server(self) -> None:
        graph = chain(long_acl(80), permits(), long_acl(70, net=193))
        relaxed = relax(FULL, self.fronts(graph, NoMerging()))
        assert relaxed == (0, OnServer("nf0", "no switch holds it: 81 entries of acl.ipv4"))

    def test_of_several_graphs_the_largest(self) -> None:
        graphs = [replace(chain(long_acl(n)), name=f"g{n}") for n in (10, 30, 20)]
        relaxed = relax(FULL, [front for graph in graphs for front in self.fronts(graph)])
        assert relaxed is not None
        assert relaxed[0] == 1

    def test_nothing_helps_against_lack_of_cores(self) -> None:
        error = InfeasibleError("no cores", [Blocking(Constraint.NEED, ("group0",))])
        assert relax(error, self.fronts(campus())) is None


def test_graphs_that_fill_a_block_together_do_not_fit() -> None:
    """Each alone lies in the one filter of the pipeline that is left."""
    graphs = [
        make_graph({"fw": long_acl(80)}, one_way("inside", "fw", "outside"), name=name)
        for name in ("one", "two")
    ]
    fabric, network = Fabric(SINGLE), Network.planned(SINGLE)
    (name,) = SINGLE.switches
    sizes = network.pipelines[name].table_sizes
    taken = {t: sizes[t] - 100 * (t == "acl.ipv4") for t in sizes if t.endswith(".ipv4")}
    network = replace(network, used=Used(tables={name: Counter(taken)}))
    requests = [CompileRequest(graph, SINGLE) for graph in graphs]
    fronts = fronts_of(requests, fabric)
    plans = [deployed(graph, SINGLE).plan for graph in graphs]
    check_room(fronts[:1], plans[:1], fabric, network)
    with pytest.raises(DoesNotFit) as caught:
        check_room(fronts, plans, fabric, network)
    assert (caught.value.graph, caught.value.nf) == ("two", "fw")
    assert relax(caught.value, fronts) == (1, OnServer("fw", str(caught.value)))


def test_scenarios_share_what_does_not_change() -> None:
    case = Case((chain(long_acl(80), permits()),), None, LEAF_SPINE)
    prepared_parts = prepared(case)

    def again(**changes: tuple[str, ...]) -> Front:
        changed = Scenario("x", **changes).apply(case)  # type: ignore[arg-type]
        requests = [CompileRequest(graph, changed.topology) for graph in changed.graphs]
        requests = [replace(r, pipelines=changed.network().pipelines) for r in requests]
        (front,) = fronts_of(requests, Fabric(changed.topology), prepared_parts)
        assert front.request.graph.traffic == changed.graphs[0].traffic
        return front

    assert again(scale=("traffic=2x",)).cuts is prepared_parts[0].cuts
    assert again(fail=("node:spine1",)).cuts is prepared_parts[0].cuts
    small_table = again(set=("leaf1.table_sizes.acl.ipv4=20",))
    assert small_table.cuts is not prepared_parts[0].cuts
    assert small_table.given != prepared_parts[0].given

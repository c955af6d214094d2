"""Reconcile against real switch processes and served workers: restarted, or altered by a second client.

Oracle: what the devices hold after a repair is what they held before the harm, byte for byte; what is
found is exactly what was done. Blind spot: packets (tests/emulated).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from finsy.proto import p4r
from networks import campus, compiled, topology
from processes import BMV2, ProcessNetwork, processes

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.p4info import Schema, clone_session_update, flood_update
from orchestrator.deployment.journal import Deployed, now
from orchestrator.deployment.reconcile import Drift, read_state, repair
from orchestrator.deployment.reconciling import inspect, reconcile
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact, FloodGroup, Lpm, PipelineProgram, TableEntry
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.targets.pipelines import SHIPPED, p4info

pytestmark = pytest.mark.slow

SWITCH = "switch1"
MANIFEST = SamplingSecret(1, 1 << 30, 0xDEADBEEF, 0x0BADCAFE)
KINDS = [
    "softswitch",
    pytest.param("bmv2", marks=pytest.mark.skipif(not BMV2, reason="BMv2: not installed")),
]
INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return compiled(campus(), "single").bundle


@pytest.fixture(scope="module", params=KINDS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessNetwork]:
    """Processes, started once for all tests of a kind."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("net")
    patch.setenv("XDG_STATE_HOME", str(folder))
    with processes(topology("single"), request.param, folder) as network:
        yield network
    patch.undo()


@pytest.fixture
def network(running: ProcessNetwork, bundle: Bundle) -> ProcessNetwork:
    """The campus graph is deployed: by reconcile itself, to which all was lost."""
    running.live.journal.clear()
    running.record(bundle, MANIFEST)
    reconcile(running.live, prune=True)
    assert not inspect(running.live)
    return running


def entities(network: ProcessNetwork) -> dict[bytes, bytes]:
    with network.live.reading().device(SWITCH) as driver:
        driver.pipeline_cookie()
        assert driver.schema is not None
        return read_state(driver, driver.schema, {})


def behind_our_back(network: ProcessNetwork, *updates: RawUpdate | p4r.Update) -> None:
    with network.live.device(SWITCH) as other:
        other.pipeline_cookie()
        other.write(updates)


def schema_of(network: ProcessNetwork) -> Schema:
    with network.live.reading().device(SWITCH) as driver:
        driver.pipeline_cookie()
        assert driver.schema is not None
        return driver.schema


def entries_of(network: ProcessNetwork, table: str) -> list[tuple[str, TableEntry]]:
    with network.live.reading().device(SWITCH) as driver:
        driver.pipeline_cookie()
        return [(row.graph, row.entry) for row in driver.entries(table)]


def found_words(drift: Drift) -> list[str]:
    (switch,) = drift.devices
    assert switch.schema is not None
    return [f"{c.kind} {c.entity}" for c in switch.difference.words(switch.schema)]


class TestSwitches:
    def test_one_that_restarted_gets_everything_again(self, network: ProcessNetwork) -> None:
        before = entities(network)
        network.switches[SWITCH].restart()
        drift = inspect(network.live)
        (switch,) = drift.devices
        assert switch.lost == "no pipeline: it has restarted"
        assert len(switch.difference.inserted) == len(before)
        assert reconcile(network.live)
        assert entities(network) == before
        assert not inspect(network.live)

    def test_one_that_runs_another_pipeline(self, network: ProcessNetwork) -> None:
        before = entities(network)
        with network.live.device(SWITCH) as other:
            config = other.pipeline_config()
            assert config is not None
            built = SHIPPED.build("edge", "bmv2")
            other.set_pipeline(p4info(built), built.device_config, 4711)
        (switch,) = inspect(network.live).devices
        assert switch.lost == "another pipeline"
        reconcile(network.live)
        assert entities(network) == before

    def test_an_entry_of_others_that_leads_into_a_graph(self, network: ProcessNetwork) -> None:
        """Its keys are another graph's; what it does is done to the campus."""
        schema, before = schema_of(network), entities(network)
        keys = (("spi", Exact(77 << 14)), ("si", Exact(255)))
        into = TableEntry(
            "flowtag_arrival.paths",
            keys,
            "flowtag_arrival.enter",
            (("segment", 1 << 14 | 1),),
            0,
            "x",
        )
        behind_our_back(network, *schema.updates([into], "stranger", INSERT))
        assert [line.split()[0] for line in found_words(inspect(network.live))] == ["delete"]
        reconcile(network.live)
        assert entities(network) == before

    def test_what_a_journal_of_old_asks_for_in_anothers_segments(
        self, network: ProcessNetwork, bundle: Bundle
    ) -> None:
        """Such a bundle was deployed before bundles were checked: its entries are drift now."""
        schema, before = schema_of(network), entities(network)
        deny = TableEntry(
            "acl.ipv4",
            (("segment", Exact(1 << 14 | 1)),),
            "acl.ipv4.deny",
            (),
            60_000,
            "fw: rules[0]",
        )
        harmful = replace(
            bundle,
            graph="mallory",
            graph_id=2,
            programs={SWITCH: PipelineProgram((deny,), (), ())},
            workers=(),
        )
        network.live.journal.clear()
        network.record(bundle, MANIFEST)
        network.record(harmful, None)
        behind_our_back(network, *schema.updates([deny], "mallory", INSERT))
        assert [line.split()[0] for line in found_words(inspect(network.live))] == ["delete"]
        reconcile(network.live)
        assert entities(network) == before

    def test_entries_deleted_altered_and_added(self, network: ProcessNetwork) -> None:
        schema, before = schema_of(network), entities(network)
        (graph, deleted), (_, kept), *_ = entries_of(network, "acl.ipv4")
        (_, altered), *_ = entries_of(network, "route.ipv4")
        wrong = altered._replace(action="route.ipv4.unreachable", params=())
        segment = dict(kept.keys)["segment"]
        added = TableEntry(
            "acl.ipv4", (("segment", segment),), "acl.ipv4.deny", (), 9999, "by hand"
        )
        behind_our_back(
            network,
            *schema.updates([deleted], graph, DELETE),
            *schema.updates([wrong], "", MODIFY),
            *schema.updates([added], "", INSERT),
        )
        told = found_words(inspect(network.live))
        assert [line.split()[0] for line in told] == ["add", "change", "delete"]
        nf, _, rule = deleted.origin.partition(": ")
        assert f"(graph campus, NF {nf}, {rule})" in told[0]
        assert "route.ipv4" in told[1]
        assert "acl.ipv4" in told[2]
        assert found_words(reconcile(network.live)) == told
        assert entities(network) == before

    def test_groups_and_sessions(self, network: ProcessNetwork, bundle: Bundle) -> None:
        before = entities(network)
        flood = bundle.programs[SWITCH].floods[0]
        behind_our_back(
            network,
            flood_update(flood._replace(ports=flood.ports[:1]), MODIFY),
            clone_session_update(100, 510, (1, 2), DELETE),
            flood_update(
                FloodGroup(flood.group + 1 + len(bundle.programs[SWITCH].floods), (1,), ""), INSERT
            ),
        )
        drift = inspect(network.live)
        (switch,) = drift.devices
        changes = switch.difference
        assert (len(changes.inserted), len(changes.modified), len(changes.deleted)) == (1, 1, 1)
        reconcile(network.live)
        assert entities(network) == before

    def test_what_others_put_there_is_told_and_left(self, network: ProcessNetwork) -> None:
        schema = schema_of(network)
        theirs = [
            TableEntry(
                "route.ipv4",
                (("segment", Exact(500 << 14 | 1)), ("dst", Lpm(0x0A000000, 8))),
                "route.ipv4.unreachable",
                (),
                0,
                "r: x",
            ),
        ]
        clean = entities(network)
        behind_our_back(network, *schema.updates(theirs, "unknown_graph", INSERT))
        before = entities(network)
        drift = inspect(network.live)
        assert not drift, "nothing is to be repaired"
        (switch,) = drift.devices
        assert len(switch.foreign) == len(theirs)
        reconcile(network.live)
        assert entities(network) == before
        assert inspect(network.live, prune=True)
        reconcile(network.live, prune=True)
        assert entities(network) == clean

    def test_one_that_does_not_answer_keeps_the_others_waiting_for_nothing(
        self, network: ProcessNetwork
    ) -> None:
        core = next(core for core, w in network.workers.items() if w.worker.tables.entries)
        network.switches[SWITCH].kill()
        network.workers[core].restart()
        drift = reconcile(network.live)
        assert len(drift.unreachable) == 1
        assert SWITCH in drift.unreachable[0]
        assert network.workers[core].worker.tables.entries
        network.switches[SWITCH].restart()
        reconcile(network.live)
        assert not inspect(network.live)

    def test_an_unfinished_change_is_finished_or_undone_first(
        self, network: ProcessNetwork, bundle: Bundle
    ) -> None:
        before = entities(network)
        changed = replace(bundle, warnings=("as if changed",))
        with network.live.leading() as lead:
            lead.intend("campus", Deployed(changed, MANIFEST, now()))
        (line, *_) = entries_of(network, "acl.ipv4")
        behind_our_back(network, *schema_of(network).updates([line[1]], "campus", DELETE))
        told: list[str] = []
        reconcile(network.live, note=told.append)
        assert "campus" in told[0]
        assert network.live.journal.intent() is None
        assert entities(network) == before


class TestWorkers:
    def core(self, network: ProcessNetwork) -> Core:
        return next(c for c, w in network.workers.items() if w.worker.tables.entries)

    def test_one_that_restarted_gets_its_nfs_and_chains_again(
        self, network: ProcessNetwork
    ) -> None:
        core = self.core(network)
        before = network.workers[core].worker.tables
        network.workers[core].restart()
        (drift,) = (w for w in inspect(network.live).workers if w)
        assert drift.core == core
        assert any("create NF campus/edge_ids" in line for line in drift.words())
        reconcile(network.live)
        after = network.workers[core].worker.tables
        assert after.entries == before.entries
        assert after.classifiers == before.classifiers
        assert after.manifests.keys() == before.manifests.keys()
        assert {n: i.config_json for n, i in after.instances.items()} == {
            n: i.config_json for n, i in before.instances.items()
        }

    def test_the_others_keep_their_state(self, network: ProcessNetwork) -> None:
        instances = {c: dict(w.worker.tables.instances) for c, w in network.workers.items()}
        core = self.core(network)
        network.workers[core].restart()
        reconcile(network.live)
        for other, worker in network.workers.items():
            if other != core:
                assert all(
                    worker.worker.tables.instances[name] is nf
                    for name, nf in instances[other].items()
                )

    def test_chains_and_nfs_altered(self, network: ProcessNetwork, bundle: Bundle) -> None:
        core = self.core(network)
        program = next(w for w in bundle.workers if Core(w.server, w.core) == core)
        before = network.workers[core].worker.tables
        with network.live.leading(), network.live.worker(core) as other:
            other.remove_chain("campus", program.chains[0])
            extra: dict[str, Any] = {"default": "permit"}
            other.configure("campus", {"extra": ("acl", extra)}, None)
            other.configure("guest", {"fw": ("acl", extra)}, None)
        drift = next(w for w in inspect(network.live).workers if w)
        assert "remove NF campus/extra" in drift.words()
        assert any(line.startswith("set the chain") for line in drift.words())
        assert drift.foreign == ("guest",)
        reconcile(network.live)
        after = network.workers[core].worker.tables
        assert after.entries == before.entries
        assert after.classifiers == before.classifiers
        assert {*after.instances} == {*before.instances, "guest/fw"}
        reconcile(network.live, prune=True)
        assert {*network.workers[core].worker.tables.instances} == {*before.instances}

    def test_a_chain_that_leads_elsewhere(self, network: ProcessNetwork, bundle: Bundle) -> None:
        core = self.core(network)
        program = next(w for w in bundle.workers if Core(w.server, w.core) == core)
        before = network.workers[core].worker.tables
        chain = program.chains[0]
        wrong = chain.hops[-1].__class__(mac=0x020000000001, spi=chain.spi, si=1)
        with network.live.leading(), network.live.worker(core) as other:
            other.remove_chain("campus", chain)
            bent = type(chain)(chain.spi, chain.si, (*chain.hops[:-1], wrong), chain.outputs)
            other.service_chain("campus", bent)
        assert inspect(network.live)
        reconcile(network.live)
        assert network.workers[core].worker.tables.classifiers == before.classifiers
        assert network.workers[core].worker.tables.entries == before.entries


def test_repairing_twice_changes_nothing(network: ProcessNetwork) -> None:
    with network.live.leading():
        assert not repair(network.live, network.live.journal.deployed())

"""Apply and remove: what fails leaves the network exactly as it was, wherever it fails.

Oracle: every device's whole state (entries, groups, sessions, chains) before and after.
Blind spot: gRPC itself (tests/unit/clients, tests/emulated).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import pytest
from finsy.proto import p4r
from networks import both_ways, campus, compiled, make_graph, permits, router, topology
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle, remove_bundle
from orchestrator.errors import DeploymentError, ServerError, SwitchError
from orchestrator.model.bundle import Bundle
from orchestrator.model.manifest import new_manifest
from orchestrator.model.plan import Core
from orchestrator.placement.resources import used_by
from orchestrator.simulation.devices import MemorySwitch
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

MODES = ("nothing applied", "half applied", "all applied")


class Fault:
    """The n-th call on the network fails, once."""

    def __init__(self) -> None:
        self.left = -1
        self.mode = ""

    def strikes(self) -> bool:
        self.left -= 1
        return self.left == -1

    def arm(self, calls: int, mode: str) -> None:
        self.left, self.mode = calls, mode

    def disarm(self) -> None:
        self.left = -1


class FaultySwitch:
    """A switch whose writes go in small batches, one of which fails."""

    def __init__(self, switch: MemorySwitch, fault: Fault) -> None:
        self._switch, self._fault = switch, fault
        self.name = switch.name

    @property
    def schema(self) -> Any:
        return self._switch.schema

    def pipeline_cookie(self) -> int | None:
        return self._switch.pipeline_cookie()

    def set_pipeline(self, *config: Any) -> None:
        self._switch.set_pipeline(*config)

    def entries(self, table: str = "") -> Iterator[InstalledEntry]:
        return self._switch.entries(table)

    def read_entities(self, *wanted: p4r.Entity) -> Iterator[p4r.Entity]:
        return self._switch.read_entities(*wanted)

    def write(
        self,
        updates: Iterable[p4r.Update],
        *,
        batch: int = 500,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        rest = iter(updates)
        written = 0
        while chunk := list(islice(rest, 2)):
            if self._fault.strikes():
                applied = {MODES[0]: [], MODES[1]: chunk[::2], MODES[2]: chunk}[self._fault.mode]
                self._switch.write(applied)
                raise SwitchError(f"{self.name}: injected")
            written += self._switch.write(chunk, progress=progress)
        return written


class FaultyWorker:
    def __init__(self, worker: Any, fault: Fault) -> None:
        self._worker, self._fault = worker, fault

    def configure(self, *what: Any, **options: Any) -> None:
        self._fail_or(self._worker.configure, *what, **options)

    def service_chain(self, *what: Any) -> None:
        self._fail_or(self._worker.service_chain, *what)

    def remove_graph(self, graph: str) -> None:
        self._worker.remove_graph(graph)

    def remove_chain(self, *what: Any) -> None:
        self._fail_or(self._worker.remove_chain, *what)

    def _fail_or(self, do: Callable[..., None], *what: Any, **options: Any) -> None:
        strikes = self._fault.strikes()
        if not strikes or self._fault.mode == MODES[2]:
            do(*what, **options)
        if strikes:
            raise ServerError("worker: injected")


class FaultyNetwork:
    def __init__(self, name: str) -> None:
        self.memory = MemoryNetwork(topology(name))
        self.name = "faulty"
        self.fault = Fault()
        self.bundles: dict[str, Bundle] = {}

    def device(self, name: str) -> AbstractContextManager[FaultySwitch]:
        return nullcontext(FaultySwitch(self.memory.switches[name], self.fault))

    def worker(self, core: Core) -> AbstractContextManager[FaultyWorker]:
        return nullcontext(FaultyWorker(self.memory.workers[core], self.fault))

    def pause(self, seconds: float) -> None:
        self.memory.pause(seconds)

    def state(self) -> dict[str, Any]:
        """All that graphs have put on the devices, counters aside."""
        tables_of: dict[str, Any] = {}
        for name, switch in self.memory.switches.items():
            pipeline = switch.soft.pipeline
            if pipeline is None:
                continue
            installed = [(i.graph, i.entry) for i in switch.entries()]
            tables_of[name] = (
                sorted((graph, *entry) for graph, entry in installed),
                dict(pipeline.state.groups),
                dict(pipeline.state.clone_sessions),
            )
        for core, worker in self.memory.workers.items():
            tables = worker.worker.tables
            tables_of[f"{core.server}.{core.index}"] = repr(tables)
        return tables_of

    def deploy(self, name: str, bundle: Bundle) -> None:
        manifest = new_manifest(bundle.graph_id, bundle.sampling_rate)
        apply_bundle(bundle, self, manifest, first=not self.bundles)
        self.bundles[name] = bundle

    def undeploy(self, name: str) -> None:
        bundle = self.bundles.pop(name)
        manifest = new_manifest(bundle.graph_id, bundle.sampling_rate)
        remove_bundle(bundle, self, manifest, last=not self.bundles)


def first_graph(where: str) -> Bundle:
    nfs = {"a": permits(), "b": permits()}
    graph = make_graph(
        nfs,
        both_ways("left", *nfs, "right"),
        name="first",
        endpoints={"left": ("h1",), "right": ("h2",)},
        sampling_rate=0.5,
    )
    return compiled(graph, where).bundle


def second_graph(network: FaultyNetwork, where: str) -> Bundle:
    graph = make_graph(
        {
            "i": ("ids", {"signatures": [{"id": 1, "content": "x", "protocol": "tcp"}]}),
            "r": router(),
        },
        ["outside i.outside", "i.inside r.inside", "r.outside other"],
        name="second",
        endpoints={"outside": ("h3",), "other": ("h4",)},
        sampling_rate=0.5,
    )
    used = used_by(network.bundles, topology(where))
    return compile_graph(CompileRequest(graph, topology(where), graph_id=2, used=used)).bundle


@pytest.mark.parametrize(
    ("where", "mode"), [*(("single", mode) for mode in MODES), ("leaf-spine", MODES[1])]
)
class TestRollback:
    """The n-th call fails, for every n there is."""

    def fail_everywhere(self, network: FaultyNetwork, bundle: Bundle, mode: str) -> int:
        before = network.state()
        for calls in range(1000):
            network.fault.arm(calls, mode)
            failure = self.failure(network, bundle)
            if not failure:
                network.fault.disarm()
                assert network.state() != before
                return calls
            assert "injected; the network is as it was before" in failure
            assert network.state() == before, f"call {calls}"
        raise AssertionError("it never succeeded")

    @staticmethod
    def failure(network: FaultyNetwork, bundle: Bundle) -> str:
        try:
            network.deploy("it", bundle)
        except DeploymentError as error:
            return str(error)
        return ""

    def test_beside_another_graph(self, mode: str, where: str) -> None:
        network = FaultyNetwork(where)
        network.deploy("first", first_graph(where))
        calls = self.fail_everywhere(network, second_graph(network, where), mode)
        assert calls > 15, "too few points of failure for this to mean much"

    def test_on_a_network_that_had_nothing(self, mode: str, where: str) -> None:
        network = FaultyNetwork(where)
        network.deploy("first", first_graph(where))
        network.undeploy("first")
        calls = self.fail_everywhere(network, compiled(campus(), where).bundle, mode)
        assert calls > 15


def test_whoever_counts_may_interrupt_and_all_is_undone() -> None:
    """Ctrl-C is noticed where changes are counted, and undoing them counts nothing."""
    network = FaultyNetwork("single")
    network.deploy("first", first_graph("single"))
    network.undeploy("first")
    before, counts = network.state(), list[int]()

    def interrupted(_: str, count: int) -> None:
        counts.append(count)
        raise KeyboardInterrupt

    bundle = compiled(campus(), "single").bundle
    with pytest.raises(KeyboardInterrupt):
        apply_bundle(bundle, network, None, first=True, progress=interrupted)
    assert counts
    assert network.state() == before


class TestRemove:
    def test_undeploying_returns_every_device_to_what_it_was(self) -> None:
        network = FaultyNetwork("leaf-spine")
        network.deploy("first", first_graph("leaf-spine"))
        before = network.state()
        network.deploy("second", second_graph(network, "leaf-spine"))
        assert network.state() != before
        network.undeploy("second")
        assert network.state() == before

    def test_the_last_graph_takes_the_fabric_with_it(self) -> None:
        network = FaultyNetwork("single")
        bundle = compiled(campus(), "single").bundle
        network.deploy("it", bundle)
        assert any(e[0] == "fabric" for e in network.state()["switch1"][0])
        network.undeploy("it")
        assert network.state()["switch1"] == ([], {}, {})

    def test_in_either_order(self) -> None:
        network = FaultyNetwork("leaf-spine")
        network.deploy("first", first_graph("leaf-spine"))
        network.deploy("second", second_graph(network, "leaf-spine"))
        network.undeploy("first")
        frame = Ether(src=mac_text(topology().hosts["h3"].mac), dst=mac_text(GATEWAY_MAC))
        packet = frame / IP(src="198.51.100.13", dst="198.51.100.14") / TCP(dport=80)
        assert [d.host for d in network.memory.send("h3", bytes(packet))] == ["h4"]
        network.undeploy("second")
        assert all(s == ([], {}, {}) for n, s in network.state().items() if "." not in n)


def test_the_result_counts_what_was_written() -> None:
    network = FaultyNetwork("single")
    bundle = compiled(campus(), "single").bundle
    told: list[tuple[str, int]] = []
    applied = apply_bundle(
        bundle,
        network,
        new_manifest(1, 0.5),
        first=True,
        progress=lambda switch, count: told.append((switch, count)),
    )
    real = len(network.state()["switch1"][0])
    assert applied.entries == {"switch1": real}
    assert {switch for switch, _ in told} == {"switch1"}
    groups_and_session = len(bundle.programs["switch1"].floods) + 1
    assert sum(count for _, count in told) == real + groups_and_session


def test_admission_comes_last() -> None:
    """No frame enters a graph that is not complete."""
    network = FaultyNetwork("leaf-spine")
    bundle = compiled(campus()).bundle
    order: list[str] = []

    class Watching(FaultySwitch):
        def write(self, updates: Iterable[p4r.Update], **options: Any) -> int:
            listed = list(updates)
            for update in listed:
                whole = update.message() if isinstance(update, RawUpdate) else update
                if whole.entity.HasField("table_entry"):
                    order.append(self.schema.decode(whole.entity.table_entry)[1].table)
            return super().write(listed, **options)

    network.device = lambda name: nullcontext(
        Watching(network.memory.switches[name], network.fault)
    )  # type: ignore[method-assign]
    network.deploy("it", bundle)
    admitting = [table == "classify.epoch" for table in order]
    assert any(admitting)
    assert admitting == sorted(admitting), "something was installed after the first admission"


def test_a_switch_that_refuses_an_entry_is_named() -> None:
    network = FaultyNetwork("single")
    bundle = compiled(campus(), "single").bundle
    network.deploy("it", bundle)
    before = network.state()
    with pytest.raises(DeploymentError) as caught:
        apply_bundle(bundle, network, None, first=False)
    assert str(caught.value).startswith("campus: ")
    assert network.state()["switch1"][0] == before["switch1"][0], "what was there must stay"

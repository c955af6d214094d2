"""A provider that may cheat: a network in memory, its witnesses, and hooks for those who cheat.

A `Cheat` has what a dishonest provider has: what crosses links (`link`), what its workers run (`nf`),
what becomes of records before the CLE has them (`log`), and another controller's calls (`script`).
Everything has one seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial

from networks import campus, compiled, ids, topology
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from orchestrator.clients.witness import SwitchWitness
from orchestrator.compile import Compiled, CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.deployment.execution import Executor
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.savepoint import restore, save
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving
from orchestrator.simulation.clocks import Clock
from orchestrator.simulation.links import Faults
from orchestrator.simulation.memory import MemoryNetwork
from orchestrator.simulation.network import Stop
from orchestrator.verification.cle.intake import Intake
from orchestrator.verification.collector import Collector
from orchestrator.verification.intended import Intended, intended
from orchestrator.verification.keys import commitment, report_key
from orchestrator.verification.manifest import (
    Epochs,
    MeantSoftware,
    Roles,
    Sampling,
    VerificationManifest,
    points_of,
)
from orchestrator.verification.trajectories import trajectories
from orchestrator.verification.verdicts import Judged, asked, judge, once
from servernf.proto import vnf_pb2
from servernf.python.local import LocalWorker
from servernf.wire import records
from servernf.wire.addresses import COLLECTOR_CORE, GATEWAY_MAC, device_mac, mac_text

EPOCH_US = 1_700_000_000_000_000
KEY = bytes(range(32))
LOSS_BOUND = 0.01
COLLECTOR = "server1"
"""Behind which the CLE's collector is."""
GAP_US = 400
"""Between two packets of the traffic."""


@dataclass
class Cheat:
    """What a provider does beside the agreement; nothing of it: an honest one."""

    link: Callable[[str, str, bytes, int], Iterable[tuple[bytes, int]]] | None = None
    nf: Callable[[Provider], None] | None = None
    log: Callable[[list[bytes]], list[bytes]] | None = None
    script: dict[int, Callable[[Provider], None]] = field(default_factory=dict)
    """By number of the packet before which it happens."""


@cache
def result() -> Compiled:
    return compiled(campus())


@cache
def version(number: int) -> Bundle:
    """A version of the graph, compiled beside the one before: of odd ones the ids has other signatures,
    of even ones 40 of the NAPT's buckets are on the next core."""
    if not number:
        return result().bundle
    worse = {"id": 7, "content": f"worse{(number + 1) // 2}", "protocol": "udp"}
    graph = campus([*ids()[1]["signatures"], worse])
    before, moving = version(number - 1), None
    if number % 2 == 0:
        to = before.workers[number // 2 % len(before.workers)]
        moving = Moving("edge_nat", Core(to.server, to.core), tuple(range(40)))
    request = CompileRequest(graph, topology(), beside=before, moving=moving)
    return compile_graph(request).bundle


@cache
def meant(versions: int = 1) -> Intended:
    return intended([version(number) for number in range(versions)], topology())


def manifest(rate: float) -> VerificationManifest:
    first = datetime.fromtimestamp(EPOCH_US / 1e6 - 5, UTC)
    return VerificationManifest(
        format=1,
        graph="campus",
        roles=Roles(customer="1" * 64, provider="2" * 64, cle="3" * 64),
        nfs=tuple(result().graph.nfs),
        points=(*points_of(result().bundle), *topology().switches),
        epochs=Epochs(first=first, seconds=10, overlap_seconds=2),
        sampling=Sampling(packets=rate, key=commitment(KEY)),
        loss_bound=LOSS_BOUND,
        references=MeantSoftware(servernf="0" * 64, bundle="0" * 64),
    )


class Provider:
    """A network with witnesses everywhere; `run` sends traffic, `judged` is the customer's verdict."""

    def __init__(
        self, seed: int, cheat: Cheat | None = None, *, rate: float = 0.25, loss: float = 0.0
    ) -> None:
        self.random = random.Random(seed)
        self.cheat = cheat or Cheat()
        self.manifest = manifest(rate)
        self.log: list[bytes] = []
        self.topology = topology()
        devices = [*self.topology.switches, *self.topology.servers]
        clocks = {
            name: Clock(self.random.randrange(400_000), self.random.uniform(-100, 100))
            for name in devices
        }
        self.network = MemoryNetwork(
            self.topology, timed=True, seed=seed, clocks=clocks, epoch_us=EPOCH_US
        )
        apply_bundle(result().bundle, self.network, None, first=True)
        self.collector = Collector(
            result().bundle.graph_id,
            {switch.id: name for name, switch in self.topology.switches.items()},
            partial(report_key, KEY, "campus"),
            lambda: EPOCH_US + self.network.now_us,
            self.log.append,
            boot=self.random.getrandbits(64),
            overlap_us=self.manifest.epochs.overlap_seconds * 1_000_000,
        )
        for worker in self.workers():
            worker.record_to(self._take)
        self.network.at_stops.append(self._saw)
        self.network.tamper = self.cheat.link
        if loss:
            for link in self.topology.links:
                for one, other in ((link.a, link.b), (link.b, link.a)):
                    if one in devices and other in devices:
                        self.network.set_faults(one, other, Faults(loss=loss))
        self._told: object = None
        self.versions = 1
        self.sent = 0
        if self.cheat.nf is not None:
            self.cheat.nf(self)

    def workers(self) -> list[LocalWorker]:
        """Of all cores that the graph is on."""
        return [self.network.workers[core].worker for core in self.cores()]

    def cores(self) -> list[Core]:
        return [Core(w.server, w.core) for w in result().bundle.workers]

    def run(self, packets: int) -> None:
        """Traffic both ways, new keys when an epoch begins, and whatever the cheat does when."""
        for _ in range(packets):
            if (script := self.cheat.script.get(self.sent)) is not None:
                script(self)
            self._watch()
            host, frame = self._packet()
            self.network.put(host, frame)
            self.network.advance(GAP_US)
            self.sent += 1
            if self.sent % 12 == 0:  # as a worker's loop does at steps of its clock
                self.settle()
        self.network.advance(100_000)
        self.settle()

    def settle(self) -> None:
        """Workers make the records of what they have noted, the collector those of what has come."""
        for worker in self.workers():
            worker.settle()
        self.collector.settle()

    def skip(self, seconds: float) -> None:
        """Time passes without traffic."""
        self.network.advance(round(seconds * 1e6))

    def judged(self) -> Judged:
        """What the customer finds."""
        log = self.log if self.cheat.log is None else self.cheat.log(list(self.log))
        told = once(records.read(data) for data in log)
        answers = asked(trajectories(told.records), self.manifest, KEY)
        return judge(answers, told, meant(self.versions), self.manifest)

    def update(self) -> None:
        """The next version takes over while packets are under way."""
        for _ in range(5):
            self.network.put(*self._packet())
            self.network.advance(GAP_US // 4)
        old, new = version(self.versions - 1), version(self.versions)
        self.versions += 1
        Executor(self.network).run(plan(Version(old, None, True), Version(new, None, True)))
        self.network.advance(100_000)
        self.settle()

    def ship(self, intake: Intake) -> None:
        """What points told comes to a CLE, a batch a boot of a point, in order."""
        batches: dict[tuple[int, int], list[bytes]] = {}
        for data in self.log:
            record = records.read(data)
            batches.setdefault((record.point, record.boot), []).append(data)
        for told in batches.values():
            for at in range(0, len(told), 100):
                intake.put(b"".join(told[at : at + 100])).result(60)

    def renew(self, core: Core) -> None:
        """A worker is started again, and the controller repairs it."""
        worker = self.network.renew_worker(core)
        worker.record_to(self._take)
        for program in version(self.versions - 1).workers:
            if Core(program.server, program.core) == core:
                driver = self.network.workers[core]
                driver.configure("campus", program.nfs, None)
                for chain in program.chains:
                    driver.service_chain("campus", chain)
        self._told = None
        self._watch()

    def reload(self, name: str) -> None:
        """A switch is started again, and the controller repairs it; its boots are a second apart."""
        self.skip(1)
        restore(self.network.switches[name], save(self.network.switches[name]))
        self._told = None
        self._watch()

    def _watch(self) -> None:
        now = datetime.fromtimestamp((EPOCH_US + self.network.now_us) / 1e6, UTC)
        witness = self.manifest.witness(KEY, now)
        if witness == self._told or witness is None:
            return
        self._told = witness
        request = vnf_pb2.WitnessRequest(
            graph="campus", headers=witness.headers, state=witness.state
        )
        for e in witness.epochs:
            request.epochs.add(
                number=e.number, key0=e.key0, key1=e.key1, threshold=e.threshold, flows=e.flows
            )
        # One after the other, and packets are under way meanwhile.
        for worker in self.workers():
            worker.setWitness(request)
            self.network.advance(self.random.randrange(2000))
        mac = device_mac(self.topology.servers[COLLECTOR].id, core=COLLECTOR_CORE)
        for name, switch in self.network.switches.items():
            key = partial(report_key, KEY, "campus", name)
            with SwitchWitness(
                name, nullcontext(switch), result().bundle.graph_id, mac, key, now.timestamp
            ) as point:
                point.set_witness("campus", witness)
            self.network.advance(self.random.randrange(2000))

    def _packet(self) -> tuple[str, bytes]:
        chance = self.random
        inside, outside = chance.choice(("h1", "h2")), chance.choice(("h3", "h4"))
        host = self.topology.hosts
        source, target = (str(host[name].addresses[0].ip) for name in (inside, outside))
        ports = chance.randrange(1024, 1200), chance.choice((53, 80, 443))
        transport = UDP(sport=ports[0], dport=ports[1])
        if chance.random() < 0.5:
            transport = TCP(sport=ports[0], dport=ports[1], seq=chance.getrandbits(32), flags="A")
        body = Raw(chance.randbytes(chance.randrange(16, 200)))
        ether = Ether(src=mac_text(host[inside].mac), dst=mac_text(GATEWAY_MAC))
        ip = IP(src=source, dst=target, id=chance.getrandbits(16))
        return inside, bytes(ether / ip / transport / body)

    def _take(self, record: bytes) -> bool:
        self.log.append(record)
        return True

    def _saw(self, stop: Stop) -> None:
        if stop.node == COLLECTOR:
            self.collector.take(stop.frame)

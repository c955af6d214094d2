"""Figures of witnesses: what they cost a worker, what sampling costs a switch, how much a CLE takes."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nf_specs import spec
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "p4"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "p4" / "fuzz"))

from edge_switch import GRAPH, HOST_PORT, EdgeSwitch, ether, forwarding, segment, tagged
from finsy.proto import p4r
from fuzz_bmv2 import BMV2, Oracle, oracle

from orchestrator.targets.pipelines import SHIPPED, p4info
from orchestrator.verification.cle.intake import WAITING, Intake
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.segments import Log
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.worker import Worker
from servernf.wire import native, nsh
from servernf.wire.addresses import COLLECTOR_CORE, device_mac
from servernf.wire.records import Record, RecordKind, frame_digest
from servernf.wire.witness import Epoch, Witness

MAC, PAIRS, BATCHES, BATCH = 0x0200_0001_0001, 10, 60, 64
FRAME = bytes(
    Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    / IP(src="10.0.0.7", dst="198.51.100.9")
    / UDP(sport=4000, dport=53)
    / Raw(bytes(1458))
)
RATES = (0.0, 0.001, 0.01, 0.1, 1.0)
COLLECTOR = {"collector": device_mac(9, core=COLLECTOR_CORE), "boot": 1, "key0": 1, "key1": 2}
_IDLE_NS = 100_000
"""CPU time of BMv2's threads in 20 ms, when there is nothing to do, is less."""
RECORD_BATCH, RECORDS = 100, 50_000


class _Sink:
    def __init__(self) -> None:
        self.bytes = self.records = 0

    def take(self, record: bytes) -> bool:
        self.bytes += len(record)
        self.records += 1
        return True


def _worker(rate: float | None) -> tuple[Worker, _Sink]:
    """A worker with a NAPT; `rate` None: without a witness."""
    made, sink = Worker("w", MAC), _Sink()
    made.configure("g", [spec("g/nat", "napt", {"addresses": ["203.0.113.1"]})])
    made.service_chain("g/nat", ChainScope(5, 254, "inside"), [ExitHop(1, 6, 253)])
    if rate is not None:
        made.shim.record_to(sink.take)
        made.witness("g", Witness((Epoch(1, 11, 12, int(rate * 2**32)),)))
    return made, sink


def _seconds(worker: Worker, batches: list[list[bytes]]) -> float:
    """CPU time, which others of this machine have no part in."""
    began = time.thread_time()
    for frames in batches:
        worker.process(frames)
        worker.shim.settle_if_due()
    worker.shim.settle()
    return time.thread_time() - began


def witness_cost() -> dict[str, Any]:
    """The share of packets/s that a worker loses at 1 %, and at other rates."""
    frames = [
        nsh.encode(nsh.Tag(MAC, 1, 5, 254, label=at * 7919, ingress_us=at), FRAME)
        for at in range(BATCHES * BATCH)
    ]
    batches = [frames[at : at + BATCH] for at in range(0, len(frames), BATCH)]
    plain, _ = _worker(None)
    shares: dict[str, float] = {}
    size = 0.0
    for rate in RATES:
        watched, sink = _worker(rate)
        lost: list[float] = []
        for pair in range(PAIRS):
            turn = (plain, watched) if pair % 2 else (watched, plain)
            taken = {worker.name + str(id(worker)): _seconds(worker, batches) for worker in turn}
            without, having = (taken[w.name + str(id(w))] for w in (plain, watched))
            lost.append(1 - without / having)
        shares[f"{rate:g}"] = round(statistics.median(lost), 3)
        packets = PAIRS * BATCHES * BATCH
        size = sink.bytes / packets if rate == 1 else size
    return {
        "name": "witness_cost",
        "value": shares["0.01"],
        "unit": "share of packets/s lost",
        "compared_with": "the same worker without a witness: NAPT, 1500 B, in process, no sockets",
        "by_rate": shares,
        "bytes_per_sampled_packet": round(size),
        "prf_in_c": native.library() is not None,
        "goal": 0.05,
    }


def sampling_cost() -> dict[str, Any]:
    """The share of packets/s that a switch loses where a witness watches 1 % of the packets and is told
    of them, and where an operator's manifest samples 1 % of the labels. Of both engines, and of BMv2
    where that is installed."""
    witnessed, sampled = _forwarding(), _forwarding()
    witnessed.add("record.collectors", {"graph": GRAPH}, "tell", COLLECTOR)

    def witness(rate: float, *, modify: bool) -> None:
        _witness(witnessed, rate, modify=modify)

    def manifest(rate: float, *, modify: bool) -> None:
        below = {"key0": 1, "key1": 2, "below": min(int(rate * 2**32), 2**32 - 1)}
        table = "trajectory_sample.manifests"
        sampled.add(table, {"graph": GRAPH}, "watch", below, modify=modify)

    by_witness = _lost_shares(witnessed, witness, RATES)
    if BMV2 is not None and os.geteuid() == 0:
        with oracle() as bmv2:
            by_witness["bmv2"] = _bmv2_shares(bmv2)
    return {
        "name": "sampling_cost",
        "value": max(losses["0.01"] for losses in by_witness.values() if losses),
        "unit": "share of packets/s lost",
        "compared_with": "the same switch without a witness: classify, label, tag, fabric; in process",
        "by_engine": by_witness,
        "of_an_operators_manifest": _lost_shares(sampled, manifest, (0.01,)),
        "goal": 0.05,
    }


def _witness(switch: EdgeSwitch, rate: float, *, modify: bool = False) -> None:
    below = {"number": 1, "key0": 1, "key1": 2, "flows": 0, "packets": int(rate * 2**32)}
    switch.add("witness.epochs", {"graph": GRAPH}, "watch", below, modify=modify)


def _lost_shares(
    watched: EdgeSwitch, use: Callable[..., None], rates: Sequence[float]
) -> dict[str, dict[str, float]]:
    """By engine and rate, the median of pairs in turn with a switch on which nothing is watched."""
    plain = _forwarding()
    frames = _frames()
    shares: dict[str, dict[str, float]] = {"python": {}, "c": {}}
    for number, rate in enumerate(rates):
        use(rate, modify=number > 0)
        for name in shares if plain.fast is not None else ["python"]:
            lost: list[float] = []
            for pair in range(PAIRS):
                turn = (plain, watched) if pair % 2 else (watched, plain)
                taken = {id(switch): _switch_ns(switch, frames, name) for switch in turn}
                lost.append(1 - taken[id(plain)] / taken[id(watched)])
            shares[name][f"{rate:g}"] = round(statistics.median(lost), 3)
    return shares


def _frames() -> list[bytes]:
    return [
        bytes(ether(IP(src="10.0.1.11", dst="198.51.100.13", id=at) / UDP())) for at in range(512)
    ]


class _OnBmv2(EdgeSwitch):
    """BMv2 in the softswitch's place: it alone is given entries and frames."""

    def __init__(self, bmv2: Oracle) -> None:
        self.bmv2 = bmv2
        edge = SHIPPED.build("edge", "bmv2")
        bmv2.load(edge.device_config, p4info(edge))
        super().__init__()
        self.classify(at := segment(1))
        self.deliver_all(at)
        tagged(self, at)

    def write(self, update: p4r.Update) -> None:
        assert self.bmv2.write([update]) == [0]
        self.last = update

    def forget(self) -> None:
        """Delete the entry that was written last."""
        self.write(p4r.Update(type=p4r.Update.DELETE, entity=self.last.entity))

    def ns(self, frames: list[bytes]) -> int:
        """CPU time that frames take, all threads together."""
        before = now = self._cpu_ns()
        for at in range(0, len(frames), BATCH):
            self.bmv2.exchange(HOST_PORT, frames[at : at + BATCH], 0, 0)
            last = 0
            while now - last > _IDLE_NS:  # not all leave by a port that somebody listens at
                time.sleep(0.02)
                last, now = now, self._cpu_ns()
        return now - before

    def _cpu_ns(self) -> int:
        threads = Path(f"/proc/{self.bmv2.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads)


def _bmv2_shares(bmv2: Oracle) -> dict[str, float]:
    """As `_lost_shares`, in turn with no witness, of CPU time."""
    switch, frames = _OnBmv2(bmv2), _frames()
    switch.add("record.collectors", {"graph": GRAPH}, "tell", COLLECTOR)
    switch.ns(frames)
    shares: dict[str, float] = {}
    for rate in RATES:
        lost: list[float] = []
        for _ in range(PAIRS):
            without = switch.ns(frames)
            _witness(switch, rate)
            lost.append(1 - without / switch.ns(frames))
            switch.forget()
        shares[f"{rate:g}"] = round(statistics.median(lost), 3)
    return shares


def _forwarding() -> EdgeSwitch:
    switch, at = forwarding()
    tagged(switch, at)
    return switch


def _switch_ns(switch: EdgeSwitch, frames: list[bytes], engine: str) -> float:
    if engine == "c":
        assert switch.fast is not None
        spent, _ = switch.fast.loaded.device.measure(20, [(HOST_PORT, frame) for frame in frames])
        switch.fast.packet_ins.clear()
        return float(spent)
    began = time.thread_time_ns()
    for at in range(0, len(frames), BATCH):
        switch.soft.process_batch(HOST_PORT, frames[at : at + BATCH])
    spent = time.thread_time_ns() - began
    switch.soft.packet_ins.clear()
    return float(spent)


def cle_records_per_second() -> dict[str, Any]:
    """Records that a CLE seals and syncs, of one point, in batches."""
    frame = bytes(128)
    batches = [
        b"".join(
            Record(
                RecordKind.IN, 1, 1, at, nf="g/nat", frame=frame, digest=frame_digest(frame)
            ).pack()
            for at in range(first, first + RECORD_BATCH)
        )
        for first in range(0, RECORDS, RECORD_BATCH)
    ]
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder), Ed25519PrivateKey.generate())
        intake = Intake(log, rate=1e9)
        intake.start([])
        began = time.perf_counter()
        answers: list[Future[Head]] = []
        for number, batch in enumerate(batches):
            if number >= WAITING // 2:
                answers[number - WAITING // 2].result()
            answers.append(intake.put(batch))
        for answer in answers:
            answer.result()
        took = time.perf_counter() - began
        intake.end()
        log.close()
    return {
        "name": "cle_records_per_second",
        "value": round(RECORDS / took),
        "unit": "records/s",
        "compared_with": f"nothing: one point, batches of {RECORD_BATCH} records with 128 B of frame",
    }

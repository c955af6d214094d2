"""The dpdk runtime beside its NFs: the conformance suite, chains, configurations that follow each other,
its process's end, hostile messages and frames. The C part runs with sanitizers.

Blind spot: ports; those are for tests/emulated.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dpdk_support import HAS, NEEDS_COMPILER, NEXT, frames, running, tagged
from scapy.layers.inet import IP, UDP, fragment
from scapy.packet import Raw
from servernf_support import ether, udp
from support import eventually

from servernf.conformance import calls, packets
from servernf.conformance.device import WorkerUnderTest, accept, listen
from servernf.conformance.vectors import Vector
from servernf.dpdk.building import build
from servernf.dpdk.process import ProcessRequest
from servernf.dpdk.worker import MOST_RESTARTS, DpdkWorker
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.changes import NfSpec
from servernf.python.runtime.tables import SampledLabels
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh
from servernf.wire.errors import EnvironmentMissing, InputError, ServerError
from servernf.wire.records import RecordKind, unpack
from servernf.wire.witness import Epoch, Witness

pytestmark = [pytest.mark.slow, NEEDS_COMPILER]

FRAME = udp("10.0.0.1", 7, "198.51.100.9", 9)
PERMIT: dict[str, Any] = {"rules": [], "default": "permit"}
DENY: dict[str, Any] = {"rules": [], "default": "deny"}
OUT = ExitHop(NEXT, 50, 7)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerUnderTest]:
    """A worker's process, whose frames come by a Unix socket."""
    build(dpdk=False, sanitized=True)  # compiled before anybody waits for the worker
    folder = tmp_path_factory.mktemp("conformance")
    wire, api = folder / "wire", f"unix:{folder}/w.sock"
    command = f"-m servernf.dpdk --name w --mac 02:00:00:01:00:01 --frames {wire} --api {api}"
    words = [sys.executable, *command.split(), "--sanitized"]
    door = listen(wire)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as worker:
        try:
            with WorkerUnderTest(api, accept(door)) as made:
                yield made
        finally:
            worker.terminate()


@pytest.fixture
def worker() -> Iterator[DpdkWorker]:
    with running() as made:
        yield made


def configure(worker: DpdkWorker, **nfs: tuple[str, dict[str, Any]]) -> None:
    specs = [NfSpec(f"g/{name}", kind, json.dumps(c)) for name, (kind, c) in nfs.items()]
    worker.configure("g", specs)


def sent(worker: DpdkWorker, *some: bytes, spi: int = 40) -> list[tuple[int, bytes]]:
    """(SPI, frame) of what leaves."""
    came = map(nsh.decode, worker.process([tagged(frame, spi) for frame in some]))
    return [(each[0].spi, each[1]) for each in came if each is not None]


@pytest.mark.parametrize("says", list(calls.CHECKS))
def test_calls(device: WorkerUnderTest, says: str) -> None:
    device.begin()
    calls.CHECKS[says](device)


@pytest.mark.parametrize(
    "vector", [v for v in packets.VECTORS if v.nf in HAS], ids=lambda vector: vector.name
)
def test_vectors(device: WorkerUnderTest, vector: Vector) -> None:
    packets.check(device, vector)


def test_compile_time_and_run_time_name_the_same_nfs(worker: DpdkWorker) -> None:
    assert tuple(worker.nf_types()) == HAS


def test_a_chain_runs_to_completion(worker: DpdkWorker) -> None:
    configure(
        worker,
        guard=("ttl_guard", {"rules": [{"min": 2}]}),
        mark=("dscp_marker", {"rules": [{"dst_port": 9, "protocol": "udp", "dscp": 46}]}),
        push=("vlan_push", {"vid": 5}),
        pop=("vlan_pop", {}),
        route=("router", {"routes": [{"prefix": "198.51.100.0/24"}]}),
    )
    names = ("mark", "push", "pop", "route")
    worker.service_chain(
        "g/guard", ChainScope(40, 255, "inside"), [*(NfHop(f"g/{n}", "inside") for n in names), OUT]
    )
    wanted = udp("10.0.0.1", 7, "198.51.100.9", 9, ttl=63, tos=46 << 2)
    low = udp("10.0.0.1", 7, "198.51.100.9", 9, ttl=1)
    lost = udp("10.0.0.1", 7, "203.0.113.1", 9)
    assert sent(worker, *[FRAME] * 40, low, lost) == [(50, wanted)] * 40
    counts = worker.metrics()
    assert (counts["g/guard.packets"], counts["g/guard.drop.ttl"]) == (42, 1)
    assert (counts["g/route.packets"], counts["g/route.drop.no_route"]) == (41, 1)
    assert (counts["frames_in"], counts["frames_out"]) == (42, 40)


def test_a_configuration_that_is_refused_changes_nothing(worker: DpdkWorker) -> None:
    configure(worker, nf=("acl", PERMIT))
    worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [OUT])
    with pytest.raises(InputError, match="unknown NF type 'dedup'"):
        configure(worker, nf=("acl", DENY), other=("dedup", {}))
    assert sent(worker, FRAME) == [(50, FRAME)]


def test_watched_packets_are_noted_as_by_the_python_runtime(worker: DpdkWorker) -> None:
    """Samples and records, but for times and for which process they are of; half of the labels."""
    told: list[tuple[list[Any], list[Any]]] = []
    for one in (worker, Worker("w", worker.core_mac)):
        records: list[bytes] = []
        one.shim.record_to(lambda record, to=records: to.append(record) is None)
        deny = {
            "rules": [{"dst_port": 7, "protocol": "udp", "action": "deny"}],
            "default": "permit",
        }
        specs = [("mark", "dscp_marker", {"rules": [], "default": 46}), ("nf", "acl", deny)]
        one.configure(
            "g",
            [NfSpec(f"g/{name}", kind, json.dumps(c)) for name, kind, c in specs],
            manifest=SampledLabels(1, 2, 1 << 31),
        )
        one.witness("g", Witness((Epoch(1, 2, 3, 1 << 31, 1 << 31),)))
        one.service_chain("g/mark", ChainScope(40, 255, "inside"), [NfHop("g/nf", "inside"), OUT])
        denied, unknown = udp("10.0.0.1", 7, "198.51.100.9", 7), tagged(FRAME, 41, label=3)
        for label in range(64):
            some = [
                tagged(f, 40, label=label, ingress_us=label) for f in (FRAME, denied, FRAME[:20])
            ]
            one.process([*some, unknown])
        samples, _, lost = one.read_samples()
        assert not lost
        seen = [
            (s.nf, s.label, s.spi, s.si, s.direction, s.port, s.length, s.digest, s.reason)
            for s in samples
        ]
        one.shim.settle()
        noted = [
            (r.kind, r.packet, r.path, r.epoch, r.nf, r.port_in, r.port_out, r.reason, r.frame)
            for r in map(unpack, records)
            if r.kind != RecordKind.EVENT
        ]
        calls = [
            r for r in map(unpack, records) if r.kind not in (RecordKind.EVENT, RecordKind.LOST)
        ]
        assert all(r.calls >= 1 and r.cpu_ns > 0 for r in calls)
        told.append((sorted(seen), sorted(noted)))
    assert told[0] == told[1]
    samples, noted = told[0]
    assert 64 < len(samples) < 2 * 64 * 4
    assert {kind for kind, *_ in noted} == {
        RecordKind.IN,
        RecordKind.OUT,
        RecordKind.DROP,
        RecordKind.LOST,
    }


def test_a_fragment_that_waits_is_told_of_and_leaves_beside_its_first(worker: DpdkWorker) -> None:
    napt = {"addresses": ["203.0.113.1"], "ports": [1024, 2047]}
    whole = IP(src="10.0.0.1", dst="198.51.100.9", id=9) / UDP(sport=7, dport=9) / Raw(bytes(40))
    first, waits, *_ = map(ether, fragment(whole, 24))
    told: list[list[Any]] = []
    for one in (worker, Worker("w", worker.core_mac)):
        records: list[bytes] = []
        one.shim.record_to(lambda record, to=records: to.append(record) is None)
        one.configure("g", [NfSpec("g/nf", "napt", json.dumps(napt))])
        one.witness("g", Witness((Epoch(1, 2, 3, 1 << 32),)))
        one.service_chain("g/nf", ChainScope(40, 255, "inside"), [OUT])
        assert one.process([tagged(waits, 40, label=1)]) == []
        assert one.metrics("g/nf")["g/nf.state_records"] == 1
        assert len(one.process([tagged(first, 40, label=2)])) == 2
        assert one.metrics("g/nf")["g/nf.state_records"] == 2  # the mapping, and the first fragment
        one.read_samples()
        fragments = [r for r in map(unpack, records) if r.kind != RecordKind.EVENT]
        told.append(
            [(r.kind, r.label, r.branch, r.port_out, r.reason, len(r.frame)) for r in fragments]
        )
    assert told[0] == told[1]
    assert [(kind, label, branch) for kind, label, branch, *_ in told[0]] == [
        (RecordKind.IN, 1, 0),
        (RecordKind.HELD, 1, 0),
        (RecordKind.IN, 2, 0),
        (RecordKind.OUT, 2, 0),
        (RecordKind.OUT, 2, 1),
    ]


def test_counters_and_levels_go_on_with_the_next_configuration(worker: DpdkWorker) -> None:
    """Beside each other, too, as versions of a graph are: one bucket, two instances."""
    rule = {"protocol": "udp", "rate": 8, "burst": len(FRAME) * 2}
    configure(worker, **{"nf": ("policer", {"rules": [rule]})})
    worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [OUT])
    assert len(sent(worker, FRAME)) == 1
    other = {"protocol": "tcp", "rate": 8, "burst": 64}
    configure(worker, **{"nf": ("policer", {"rules": [other, rule]})})
    assert len(sent(worker, FRAME, FRAME)) == 1
    counts = worker.metrics()
    assert (counts["g/nf.packets"], counts["g/nf.drop.rate"]) == (3, 1)
    assert counts["g/nf.rule1.inside.green"] == 2
    assert counts["g/nf.rule0.inside.green"] == 0


def test_instances_come_and_go_without_end(worker: DpdkWorker) -> None:
    for _ in range(20):
        names = {f"nf{n}": ("policer", {"rules": [{"rate": 8, "burst": 64}]}) for n in range(20)}
        configure(worker, **names)
        worker.remove_graph("g")
    assert worker.engine.memory._end < 3000


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_ends_is_started_and_configured_again(
    worker: DpdkWorker, number: signal.Signals
) -> None:
    configure(worker, nf=("acl", PERMIT), other=("acl", DENY))
    worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [OUT])
    assert sent(worker, FRAME) == [(50, FRAME)]
    os.kill(worker.engine.process.pid, number)
    eventually(lambda: worker.metrics()["process_restarts"] == 1)
    eventually(lambda: sent(worker, FRAME) == [(50, FRAME)])
    assert "started again" in worker.last_error
    assert worker.metrics()["g/nf.packets"] >= 2


def test_a_process_that_ends_again_and_again_ends_the_worker(worker: DpdkWorker) -> None:
    for _ in range(MOST_RESTARTS + 1):
        before = worker.engine.process
        with contextlib.suppress(ProcessLookupError):
            os.kill(before.pid, signal.SIGKILL)
        eventually(lambda b=before: worker.engine.process is not b or worker.ended.is_set())
    assert worker.ended.wait(20)


def test_hostile_messages_are_refused_and_change_nothing(worker: DpdkWorker) -> None:
    configure(worker, nf=("router", {"routes": [{"prefix": "::/0"}, {"prefix": "0.0.0.0/0"}]}))
    worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [OUT])
    good = [made.message for made in worker.engine._made.values()]
    process, rng = worker.engine.process, random.Random(5)
    refused = 0
    for turn in range(3_000):
        kind = rng.choice((*ProcessRequest, 0, 99))
        payload = bytearray(rng.choice((*good, rng.randbytes(rng.randrange(80)))))
        for _ in range(rng.randrange(4)):
            if payload:
                payload[rng.randrange(len(payload))] = rng.choice((0, 1, 0x7F, 0xFF))
        if kind in (ProcessRequest.TABLES, ProcessRequest.PACKETS) and not turn % 3:
            payload = bytearray(rng.randrange(4).to_bytes(4, "little") * rng.randrange(12))
        number = rng.choice((0, 1, 5, 4_095, 4_096, 1 << 31))
        if kind == ProcessRequest.TABLES and len(payload) == 20 and not any(payload):
            continue  # no steps and no paths are good tables
        with contextlib.suppress(ServerError):
            process.ask(kind, bytes(payload), number)  # type: ignore[arg-type]
            continue
        refused += 1
    assert refused > 1_000
    assert process is worker.engine.process, "it has not been started again"
    worker.remove_graph("g")


def test_hostile_frames_do_no_harm(worker: DpdkWorker) -> None:
    configure(
        worker,
        push=("vlan_push", {"vid": 5}),
        nat=("static_nat", {"pairs": [{"inside": "10.0.0.1", "outside": "203.0.113.5"}]}),
    )
    hops = [NfHop("g/nat", "inside"), OUT]
    worker.service_chain("g/push", ChainScope(40, 255, "inside"), hops)
    rng, count = random.Random(6), 0
    for _ in range(40):
        some = [bytearray(tagged(frame, 40)) for frame in frames(rng.randrange(1 << 30), 64)]
        for frame in some:
            if rng.random() < 0.3:
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            del frame[rng.choice((len(frame), len(frame), rng.randrange(len(frame)))) :]
        worker.process([*map(bytes, some), b"", b"x" * 65_535])
        count += len(some) + 2
    counts = worker.metrics()
    lost = sum(n for name, n in counts.items() if name.startswith("drop.") or ".drop." in name)
    assert counts["frames_in"] == count == counts["frames_out"] + lost
    assert counts["drop.malformed"] > 0 < counts["drop.bad_tag"]
    assert counts["process_restarts"] == 0


def test_packets_pass_while_the_configuration_changes(worker: DpdkWorker) -> None:
    """None is lost, none is treated half by one and half by another."""
    configure(worker, nf=("vlan_push", {"vid": 1}))
    worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [OUT])
    done = threading.Event()

    def change() -> None:
        for turn in range(100):
            configure(worker, nf=("vlan_push", {"vid": 1 + turn % 2}))
        done.set()

    changing = threading.Thread(target=change)
    changing.start()
    vids: set[int] = set()
    while not done.is_set():
        left = sent(worker, *[FRAME] * 32)
        assert len(left) == 32
        vids |= {frame[15] for _, frame in left}
    changing.join()
    assert vids <= {1, 2}


def test_without_dpdk_one_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentMissing, match=r"DPDK is not installed .*libdpdk-dev"):
        build(dpdk=True)

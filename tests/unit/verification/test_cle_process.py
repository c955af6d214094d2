"""The CLE as its users have it: a process that is killed, points that ship to it, and who audits it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from certificates import Authority
from support import eventually
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.verification.cle.audit import entries
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.service import head_of
from orchestrator.verification.keys import new_private
from servernf.proto import cle_pb2, cle_pb2_grpc
from servernf.ship.shipper import Shipper
from servernf.wire import records
from servernf.wire.errors import InputError
from servernf.wire.records import Record, RecordKind, point_id
from servernf.wire.ring import DATA, LEAST, Ring

POINT = "server1.1"


class Cle:
    """`orchestrator verify cle serve` on a folder."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.folder = folder
        self.address = f"unix:{folder}/cle.sock"
        self._more = more
        if not (folder / "cle.pem").exists():
            new_private(folder / "cle.pem")
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "orchestrator", "verify", "cle", "serve", str(self.folder)]
        words += ["--key", str(self.folder / "cle.pem"), "--listen", self.address, *self._more]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert json.loads(self.process.stdout.readline())["ready"]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def audited(self, *kept: Path) -> tuple[int, dict[str, object]]:
        words = ["verify", "cle", "audit", str(self.folder), "--cle", str(self.folder / "cle.pub")]
        words += [word for path in kept for word in ("--kept", str(path))]
        done = CliRunner().invoke(app, [*words, "--json"])
        return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def cle(tmp_path: Path) -> Iterator[Cle]:
    made = Cle(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end()


def record(sequence: int, point: str = POINT, boot: int = 1) -> bytes:
    return Record(RecordKind.IN, point_id(point), boot, sequence, frame=bytes(50)).pack()


@pytest.mark.slow
def test_killed_at_any_instant_it_loses_nothing_acknowledged(cle: Cle, tmp_path: Path) -> None:
    """Kills while a point ships: every receipt is on the chain, every record is there."""
    ring = Ring(tmp_path / "ring", create=1 << 20)
    chance = random.Random(5)
    receipts: list[Head] = []
    channel = grpc.insecure_channel(cle.address, [("grpc.max_reconnect_backoff_ms", 200)])
    shipper = Shipper({POINT: ring}, channel)
    shipper.counts.receipts = lambda told: receipts.append(head_of(told))
    written = 0
    stop = threading.Event()

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            if ring.put(record(written)):
                written += 1
            time.sleep(0.0002)

    threads = [threading.Thread(target=write), threading.Thread(target=shipper.run)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        enough = shipper.counts.acknowledged + 3
        eventually(lambda least=enough: shipper.counts.acknowledged >= least, what="receipts")
        time.sleep(chance.random() * 0.05)
        cle.end(signal.SIGKILL)
        cle.start()
    stop.set()
    threads[0].join()
    eventually(lambda: not ring.peek(1), what="the ring is empty")
    shipper.stop()
    threads[1].join()
    channel.close()
    assert cle.end() == 0
    kept = tmp_path / "kept.jsonl"
    kept.write_text("".join(head.line() for head in receipts))
    assert cle.audited(kept, tmp_path / "heads.jsonl")[0] == 0
    sequences = [
        records.read(data).sequence
        for entry in entries(tmp_path / "log")
        for data in records.split(entry.payload)
        if records.read(data).point == point_id(POINT)
    ]
    assert sequences == list(range(written))
    assert (shipper.counts.refused, shipper.counts.damaged) == (0, 0)
    assert len(receipts) > 15


@pytest.mark.slow
def test_what_the_customer_sees(cle: Cle, tmp_path: Path) -> None:
    with grpc.insecure_channel(cle.address) as channel:
        stub = cle_pb2_grpc.CleStub(channel)
        (receipt,) = stub.ship(iter([cle_pb2.Batch(records=record(0))]), timeout=60)
        assert head_of(stub.head(cle_pb2.HeadRequest(), timeout=60)) == head_of(receipt)
        with pytest.raises(grpc.RpcError, match="header"):
            list(stub.ship(iter([cle_pb2.Batch(records=b"rubbish")]), timeout=60))
    assert cle.end() == 0
    published = tmp_path / "heads.jsonl"
    code, told = cle.audited(published)
    assert (code, told["problems"]) == (0, [])
    (segment,) = (tmp_path / "log").glob("*.seg")
    segment.write_bytes(segment.read_bytes()[:-10])
    code, told = cle.audited(published)
    assert code == 1
    assert "does not lead there" in str(told["problems"])


@pytest.mark.slow
def test_who_speaks_for_which_point(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    issued = {name: authority.issue(name) for name in ("cle", "server1", "server2")}
    options = zip(("--tls-cert", "--tls-key"), issued["cle"], strict=True)
    words = [str(word) for pair in options for word in pair]
    words += ["--tls-ca", str(authority.ca), "--shipper", f"server1={POINT}"]
    cle = Cle(tmp_path, *words)
    try:
        for name, point, code in (
            ("server1", POINT, None),
            ("server1", "server2.1", grpc.StatusCode.PERMISSION_DENIED),
            ("server2", POINT, grpc.StatusCode.PERMISSION_DENIED),
        ):
            pems = [path.read_bytes() for path in issued[name]]
            credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes(), pems[1], pems[0])
            named = [("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel(cle.address, credentials, named) as channel:
                answers = cle_pb2_grpc.CleStub(channel).ship(
                    iter([cle_pb2.Batch(records=record(0, point))]), timeout=60
                )
                if code is None:
                    assert len(list(answers)) == 1
                else:
                    with pytest.raises(grpc.RpcError) as failure:
                        list(answers)
                    assert failure.value.code() is code  # type: ignore[attr-defined]
    finally:
        cle.end()


def test_a_ring_keeps_order_and_counts_what_found_no_room(tmp_path: Path) -> None:
    ring, reader = Ring(tmp_path / "r", create=LEAST), Ring(tmp_path / "r")
    chance = random.Random(1)
    expected: list[bytes] = []
    lost = 0
    for _ in range(5000):
        data = chance.randbytes(chance.randrange(1, 3000))
        if ring.put(data):
            expected.append(data)
        else:
            lost += 1
        if chance.random() < 0.3 and expected:
            wanted = expected.pop(0)
            assert reader.peek(len(wanted)) == wanted
            reader.free(len(wanted))
    assert reader.peek(1 << 20) == b"".join(expected)
    assert lost == reader.lost > 0


def test_what_is_no_ring(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x" * 100)
    (tmp_path / "other").write_bytes(bytes(DATA + LEAST))
    (tmp_path / "link").symlink_to(tmp_path / "short")
    for name in ("short", "other", "link", "missing"):
        with pytest.raises(InputError, match=f"ring {tmp_path}/{name}"):
            Ring(tmp_path / name)
    with pytest.raises(InputError, match="are expected"):
        Ring(tmp_path / "small", create=10)


def test_a_ring_with_rubbish_is_given_up_and_what_follows_is_shipped(tmp_path: Path) -> None:
    class Stub:
        shipped: list[bytes] = []  # noqa: RUF012

        def ship(self, batches: Iterator[cle_pb2.Batch], timeout: float) -> Iterator[object]:
            for batch in batches:
                self.shipped.append(batch.records)
                yield cle_pb2.Receipt()

    ring = Ring(tmp_path / "r", create=LEAST)
    with grpc.insecure_channel("unix:/nowhere") as channel:
        shipper = Shipper({POINT: ring}, channel)
        shipper._stub = Stub()  # type: ignore[assignment]
        for rubbish in (os.urandom(500), record(0)[:-1], bytes(3)):
            ring.put(rubbish)
            assert shipper.ship(POINT)
        assert shipper.counts.damaged == 3
        ring.put(record(1))
        ring.put(record(2))
        ring.put(record(0, boot=2))
        assert shipper.ship(POINT)
        assert Stub.shipped == [record(1) + record(2), record(0, boot=2)]
        assert not shipper.ship(POINT)

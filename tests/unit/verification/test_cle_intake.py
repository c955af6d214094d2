"""What the CLE takes: whole records in order, once, within a rate; and what it tells of itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import InputError
from orchestrator.verification.cle.audit import audit, entries, newest
from orchestrator.verification.cle.intake import FAR, Intake, TooMuch
from orchestrator.verification.cle.segments import Log, segment_files
from orchestrator.verification.keys import public_text
from servernf.wire import records
from servernf.wire.records import Record, RecordKind, point_id

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
POINT = point_id("server1.1")
WAIT_S = 60


class Clocks:
    def __init__(self) -> None:
        self.wall, self.steady = 1_700_000_000_000_000, 0.0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def intake(tmp_path: Path, clocks: Clocks) -> Iterator[Intake]:
    made, log = open_intake(tmp_path, clocks)
    yield made
    made.end()
    log.close()


def open_intake(folder: Path, clocks: Clocks, segment_bytes: int = 1 << 20) -> tuple[Intake, Log]:
    log = Log(folder, KEY, segment_bytes=segment_bytes)
    made = Intake(log, rate=100.0, wall_us=lambda: clocks.wall, monotonic=lambda: clocks.steady)
    made.start(list(entries(folder, newest(folder))))
    return made, log


def batch(first: int, count: int = 1, *, boot: int = 1, point: int = POINT) -> bytes:
    made = (Record(RecordKind.IN, point, boot, first + at, label=at) for at in range(count))
    return b"".join(record.pack() for record in made)


def logged(folder: Path, point: int = POINT) -> list[Record]:
    logged_records = (records.read(d) for e in entries(folder) for d in records.split(e.payload))
    return [record for record in logged_records if record.point == point]


def events(folder: Path) -> list[dict[str, object]]:
    """What the CLE tells of itself, but how far points' records are taken."""
    told = [record.event() for record in logged(folder, point_id("cle"))]
    return [said for said in told if said["event"] != FAR]


def test_a_receipt_is_a_head_of_the_log(intake: Intake, tmp_path: Path) -> None:
    head = intake.put(batch(0, 3)).result(WAIT_S)
    assert head.is_of(public_text(KEY))
    assert [r.sequence for r in logged(tmp_path)] == [0, 1, 2]
    assert audit(tmp_path, public_text(KEY), [head]).problems == ()


def test_what_is_sent_again_is_acknowledged_and_not_written_again(
    intake: Intake, tmp_path: Path
) -> None:
    for data in (batch(0, 3), batch(0, 3), batch(1, 4), batch(5, 1), batch(9, 1)):
        intake.put(data).result(WAIT_S)
    assert [r.sequence for r in logged(tmp_path)] == [0, 1, 2, 3, 4, 5, 9]


def test_an_earlier_boot_is_over(intake: Intake, tmp_path: Path) -> None:
    intake.put(batch(0, boot=7)).result(WAIT_S)
    intake.put(batch(0, boot=8)).result(WAIT_S)
    with pytest.raises(InputError, match="is over"):
        intake.put(batch(1, boot=7))
    assert [(r.boot, r.sequence) for r in logged(tmp_path)] == [(7, 0), (8, 0)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no record"),
        (b"rubbish", "header"),
        (batch(0) + b"x", "header"),
        (batch(1) + batch(0), "not in their order"),
        (batch(0) + batch(0), "not in their order"),
        (batch(0) + batch(1, boot=2), "one boot of one point"),
        (batch(0) + batch(1, point=5), "one boot of one point"),
    ],
)
def test_what_is_no_batch(intake: Intake, tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        intake.put(data)
    assert logged(tmp_path) == []


def test_a_cle_that_starts_again_knows_what_it_has(tmp_path: Path, clocks: Clocks) -> None:
    for data in (batch(0, 3), batch(2, 2), batch(0, boot=9)):
        made, log = open_intake(tmp_path, clocks)
        made.put(data).result(WAIT_S)
        made.end()
        log.close()
    made, log = open_intake(tmp_path, clocks)
    with pytest.raises(InputError, match="is over"):
        made.put(batch(5))
    made.end()
    log.close()
    assert [(r.boot, r.sequence) for r in logged(tmp_path)] == [
        (1, 0), (1, 1), (1, 2), (1, 3), (9, 0),
    ]  # fmt: skip
    assert [said["event"] for said in events(tmp_path)] == ["boot"] * 4


def test_a_start_needs_the_newest_segment_alone(tmp_path: Path, clocks: Clocks) -> None:
    """Also where retention has taken the others."""
    made, log = open_intake(tmp_path, clocks, 2_000)
    for data in (batch(0, 3), batch(0, boot=9), *(batch(at, boot=9) for at in range(1, 30))):
        clocks.steady += 10
        made.put(data).result(WAIT_S)
    made.end()
    files = segment_files(tmp_path)
    assert len(files) > 3
    assert newest(tmp_path) == files[-1:]
    log.forget(clocks.wall + 1)
    log.close()
    assert segment_files(tmp_path) == files[-1:]
    made, log = open_intake(tmp_path, clocks, 2_000)
    with pytest.raises(InputError, match="is over"):
        made.put(batch(5))
    before = logged(tmp_path)
    made.put(batch(0, 30, boot=9)).result(WAIT_S)  # all of it is there, or was
    assert logged(tmp_path) == before
    made.put(batch(30, boot=9)).result(WAIT_S)
    assert logged(tmp_path)[-1].sequence == 30
    made.end()
    log.close()
    assert audit(tmp_path, public_text(KEY)).problems == ()


def test_nobody_else_speaks_for_the_cle(intake: Intake) -> None:
    with pytest.raises(InputError, match="speaks for itself"):
        intake.put(batch(0, point=point_id("cle")))


def test_a_point_that_floods_is_refused_and_told(
    intake: Intake, clocks: Clocks, tmp_path: Path
) -> None:
    intake.put(batch(0)).result(WAIT_S)
    intake.put(batch(1, 400)).result(WAIT_S)
    for _ in range(5):
        with pytest.raises(TooMuch, match="more than 100 records/s"):
            intake.put(batch(401, 50))
    intake.put(batch(0, point=5)).result(WAIT_S)  # others are not refused for it
    clocks.steady += 0.5
    intake.put(batch(401, 50)).result(WAIT_S)
    assert [r.sequence for r in logged(tmp_path)] == list(range(451))
    assert [said["event"] for said in events(tmp_path)] == ["boot", "flood"]


def test_a_clock_that_jumps_is_told(intake: Intake, clocks: Clocks, tmp_path: Path) -> None:
    intake.put(batch(0)).result(WAIT_S)
    clocks.wall -= 3_600_000_000
    intake.put(batch(1)).result(WAIT_S)
    intake.put(batch(2)).result(WAIT_S)
    intake.end()
    assert {"event": "clock", "jumped_us": -3_600_000_000} in events(tmp_path)
    assert audit(tmp_path, public_text(KEY)).problems == ()


def test_a_full_disk_refuses_and_what_is_sent_again_is_taken(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.put(batch(0)).result(WAIT_S)
    sync = os.fdatasync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    first, second = intake.put(batch(1)), intake.put(batch(2))
    for answer in (first, second):
        with pytest.raises(TooMuch, match="No space left"):
            answer.result(WAIT_S)
    monkeypatch.setattr(os, "fdatasync", sync)
    intake.put(batch(1, 2)).result(WAIT_S)
    assert [r.sequence for r in logged(tmp_path)] == [0, 1, 2]

"""The CLE's log: what is acknowledged stays, and every change of it shows.

Oracle: a copy of what was acknowledged, and heads that somebody kept.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import InputError, StoreError
from orchestrator.verification.cle.audit import audit, entries
from orchestrator.verification.cle.seals import Head, read_heads
from orchestrator.verification.cle.segments import Damaged, Log, segment_files
from orchestrator.verification.keys import public_text

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_text(KEY)


def filled(folder: Path, count: int = 20, segment_bytes: int = 1000) -> list[Head]:
    """A log of several segments, and all its heads."""
    log = Log(folder, KEY, segment_bytes=segment_bytes)
    heads = [log.append([f"{at}a".encode(), f"{at}b".encode()], 1000 + at) for at in range(count)]
    log.close()
    return heads


def test_what_is_written_is_read_and_fits(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    payloads = [entry.payload for entry in entries(tmp_path)]
    assert payloads == [f"{at}{x}".encode() for at in range(20) for x in "ab"]
    assert len(segment_files(tmp_path)) > 3
    assert audit(tmp_path, PUBLIC, heads).problems == ()
    log = Log(tmp_path, KEY)
    assert log.head == heads[-1]
    heads.append(log.append([b"more"], 2000))
    log.close()
    told = audit(tmp_path, PUBLIC, heads)
    assert (told.first, told.last, told.problems) == (1, 41, ())


def test_two_processes_do_not_write_to_one_log(tmp_path: Path) -> None:
    log = Log(tmp_path, KEY)
    with pytest.raises(StoreError, match="another process"):
        Log(tmp_path, KEY)
    log.close()


def test_every_changed_byte_shows(tmp_path: Path) -> None:
    heads = filled(tmp_path / "log")
    chance = random.Random(1)
    for round_ in range(60):
        copy = tmp_path / f"{round_}"
        shutil.copytree(tmp_path / "log", copy)
        path = chance.choice(segment_files(copy))
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        assert audit(copy, PUBLIC, heads).problems


def lost_segment(folder: Path) -> None:
    segment_files(folder)[1].unlink()


def lost_end(folder: Path) -> None:
    last = segment_files(folder)[-1]
    last.write_bytes(last.read_bytes()[:-200])


def lost_last_segment(folder: Path) -> None:
    segment_files(folder)[-1].unlink()


def written_again(folder: Path) -> None:
    """By the CLE itself, which has the key: another story."""
    shutil.rmtree(folder, ignore_errors=True)
    log = Log(folder, KEY)
    for at in range(20):
        log.append([f"{at}a".encode(), b"another"], 1000 + at)
    log.close()


def swapped(folder: Path) -> None:
    one, other = segment_files(folder)[:2]
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


@pytest.mark.parametrize(
    "change", [lost_segment, lost_end, lost_last_segment, written_again, swapped]
)
def test_deletion_and_another_story_show(tmp_path: Path, change: Callable[[Path], None]) -> None:
    heads = filled(tmp_path / "log")
    change(tmp_path / "log")
    assert audit(tmp_path / "log", PUBLIC, heads).problems


def test_two_heads_are_told_as_what_they_are(tmp_path: Path) -> None:
    heads = filled(tmp_path / "one")
    written_again(tmp_path / "two")
    log = Log(tmp_path / "two", KEY)
    other = log.head
    log.close()
    told = audit(tmp_path / "one", PUBLIC, [*heads, other]).problems
    assert any(text.startswith("two stories") for text in told)


def test_a_head_of_somebody_else_is_none(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    forged = Head.sealed(heads[0].index, bytes(32), 1, Ed25519PrivateKey.generate())
    (told,) = audit(tmp_path, PUBLIC, [forged]).problems
    assert "is not the CLE's" in told


def test_kept_heads_come_from_a_file(tmp_path: Path) -> None:
    heads = filled(tmp_path / "log", 3)
    file = tmp_path / "heads.jsonl"
    file.write_text("".join(head.line() for head in heads) + '{"index": 9')  # cut short
    assert read_heads(file) == heads
    file.write_text('{"index": 9}\n')
    with pytest.raises(InputError, match=":1: is no head"):
        read_heads(file)


def test_cut_at_any_byte_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """As a kill at that instant leaves it: what is sealed stays, and the log goes on."""
    heads = filled(tmp_path / "log", 5, segment_bytes=1 << 20)
    (path,) = segment_files(tmp_path / "log")
    data = path.read_bytes()
    for size in range(0, len(data) + 1, 7):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / path.name).write_bytes(data[:size])
        log = Log(folder, KEY)
        sealed = [head for head in heads if head.index <= log.head.index]
        assert log.head in sealed or log.head.index == 0
        sealed.append(log.append([b"next"], 9000))
        log.close()
        assert audit(folder, PUBLIC, sealed).problems == ()


def test_rubbish_behind_the_last_seal_goes_and_damage_before_it_stops(tmp_path: Path) -> None:
    heads = filled(tmp_path / "log", 5, segment_bytes=1 << 20)
    (path,) = segment_files(tmp_path / "log")
    whole = path.read_bytes()
    for rubbish in (bytes(500), b"E" * 500, b"S" * 500, os.urandom(500)):
        path.write_bytes(whole + rubbish)
        log = Log(tmp_path / "log", KEY)
        assert log.head == heads[-1]
        log.close()
        assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"1a", b"XX"))
    with pytest.raises(Damaged):
        Log(tmp_path / "log", KEY)
    assert len(path.read_bytes()) == len(whole)


def test_a_full_disk_is_told_and_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = filled(tmp_path, 2)
    log = Log(tmp_path, KEY)
    sync = os.fdatasync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(StoreError, match="No space left"):
        log.append([b"no room"], 3000)
    monkeypatch.setattr(os, "fdatasync", sync)
    heads.append(log.append([b"room again"], 3001))
    log.close()
    assert [e.payload for e in entries(tmp_path)][-1] == b"room again"
    assert audit(tmp_path, PUBLIC, heads).problems == ()


def test_retention_leaves_a_log_that_fits(tmp_path: Path) -> None:
    heads = filled(tmp_path)
    log = Log(tmp_path, KEY)
    gone = log.forget(before_us=1010)
    log.close()
    assert gone
    told = audit(tmp_path, PUBLIC, heads)
    assert told.problems == ()
    assert 1 < told.first <= 21
    assert next(entries(tmp_path)).index == told.first

"""A store beside readers, on a full or read-only disk, damaged: one clear error, and nothing lost.

Oracle: what was committed is read afterwards, by another process too. Blind spot: power failures.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.deployment import store as stores
from orchestrator.deployment.etcd_store import EtcdPlace, EtcdStore
from orchestrator.deployment.journal import Journal, state_directory
from orchestrator.deployment.store import SqliteStore
from orchestrator.errors import StoreError

READER = """
import pathlib, sys
from orchestrator.deployment.store import SqliteStore
print(len(SqliteStore(pathlib.Path(sys.argv[1])).read()))
"""


def read_by_another_process(path: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.sqlite"


def test_readers_come_and_go_beside_a_leader_that_reads_too(path: Path) -> None:
    """A reader's end must not take the log away under a leader: "disk I/O error", and commits lost."""
    store = SqliteStore(path)
    with store.lead("a") as leader:
        for count in range(1, 4):
            leader.commit({str(count): b"x" * 10_000})
            assert len(store.read()) == count
            assert read_by_another_process(path) == count
    assert read_by_another_process(path) == 3


def test_reading_writes_nothing(path: Path) -> None:
    with SqliteStore(path).lead("a") as leader:
        leader.commit({"a": b"1"})
    path.write_bytes(path.read_bytes())  # a copy, as of a backup: without log and lock
    before = path.read_bytes()
    assert SqliteStore(path).read() == {"a": b"1"}
    assert path.read_bytes() == before


def test_missing_and_empty_files_hold_nothing_and_stay_so(path: Path) -> None:
    assert SqliteStore(path).read() == {}
    assert not path.exists()
    path.touch()
    assert SqliteStore(path).read() == {}
    assert path.stat().st_size == 0


@pytest.mark.parametrize(
    "data", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000]
)
def test_a_damaged_file_says_so_and_is_forgotten_when_cleared(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    store = SqliteStore(path)
    with pytest.raises(StoreError, match=r"net.sqlite: .*recover --adopt"):
        store.read()
    with pytest.raises(StoreError, match=r"net\.sqlite"), store.lead("a"):
        pass
    store.clear()
    assert store.read() == {}


def test_a_truncated_file(path: Path) -> None:
    with SqliteStore(path).lead("a") as leader:
        leader.commit({str(n): os.urandom(5000) for n in range(20)})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StoreError, match=r"net.sqlite: .*recover --adopt"):
        SqliteStore(path).read()


def test_somebody_elses_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE birds (name TEXT)")
    before = path.read_bytes()
    for act in (SqliteStore(path).read, SqliteStore(path).clear):
        with pytest.raises(StoreError, match=r"no journal .*birds"):
            act()
    with pytest.raises(StoreError, match="no journal"), SqliteStore(path).lead("a"):
        pass
    assert path.read_bytes() == before


def test_a_full_disk_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = stores._connect

    def small(path: Path, how: str) -> sqlite3.Connection:
        connection = connect(path, how)
        connection.execute("PRAGMA max_page_count = 8")
        return connection

    monkeypatch.setattr(stores, "_connect", small)
    store = SqliteStore(path)
    with store.lead("a") as leader:
        leader.commit({"a": b"1"})
        with pytest.raises(StoreError, match=r"full .*make room"):
            leader.commit({"a": b"2", "b": b"x" * 100_000})
        assert store.read() == {"a": b"1"}
        leader.commit({"a": b"3"})
    assert store.read() == {"a": b"3"}


def test_what_cannot_be_opened_says_which_file(tmp_path: Path) -> None:
    """As root permissions forbid nothing, so a folder stands where the file should be."""
    (tmp_path / "net.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"net\.sqlite"):
        SqliteStore(tmp_path / "net.sqlite").read()
    (tmp_path / "two.lock").mkdir()
    with (
        pytest.raises(StoreError, match=r"two\.lock"),
        SqliteStore(tmp_path / "two.sqlite").lead("a"),
    ):
        pass


def test_state_folders_are_private_and_what_is_in_the_way_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "orchestrator").mkdir(mode=0o755)
    assert stat.S_IMODE(state_directory().stat().st_mode) == 0o700
    (tmp_path / "orchestrator" / "journal").touch()
    with pytest.raises(StoreError, match=r"orchestrator/journal: cannot be made"):
        Journal("net")


def test_a_value_that_is_no_bundle_is_damage(path: Path) -> None:
    store = SqliteStore(path)
    with store.lead("a") as leader:
        leader.commit(
            {"graphs/g": b'{"manifest": null, "deployed_at": ""}', "graphs/g/bundle": b"x"}
        )
    with pytest.raises(StoreError, match="journal of net: g"):
        Journal("net", store).deployed()
    with store.lead("a") as leader:
        leader.commit({"graphs/g": b"{"})
    with pytest.raises(StoreError, match="journal is damaged"):
        Journal("net", store).deployed()


class TestSecret:
    def store(self, folder: Path) -> EtcdStore:
        return EtcdStore(EtcdPlace(("127.0.0.1:1",), "t", None, None), "net", folder / "store.key")

    def test_it_is_made_whole_once(self, tmp_path: Path) -> None:
        self.store(tmp_path)._key()
        key = (tmp_path / "store.key").read_bytes()
        assert len(key) == 32
        assert stat.S_IMODE((tmp_path / "store.key").stat().st_mode) == 0o600
        self.store(tmp_path)._key()
        assert (tmp_path / "store.key").read_bytes() == key
        assert [kept.name for kept in tmp_path.iterdir()] == ["store.key"]

    def test_a_disk_that_is_full_leaves_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StoreError, match="No space left"):
                self.store(tmp_path)._key()
        assert not list(tmp_path.iterdir())
        self.store(tmp_path)._key()

    def test_an_empty_one_is_damage(self, tmp_path: Path) -> None:
        (tmp_path / "store.key").touch()
        with pytest.raises(StoreError, match="damaged: 32 bytes are expected, it has 0"):
            self.store(tmp_path)._key()

"""What a store promises, for a SQLite file and for a real etcd: all or nothing, by the leader only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from certificates import Authority
from etcd import NEEDS_ETCD, etcd_process

from orchestrator.clients.channel import TlsFiles
from orchestrator.clients.etcd import EtcdClient
from orchestrator.deployment import etcd_store
from orchestrator.deployment.etcd_store import EtcdPlace, EtcdStore, parse_store
from orchestrator.deployment.live import journal_of, new_journal
from orchestrator.deployment.store import SqliteStore, Store, next_term
from orchestrator.errors import InputError, LeadershipLost, NetworkError, StoreError

Make = Callable[[], Store]


@pytest.fixture(scope="module")
def etcd_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with etcd_process(tmp_path_factory.mktemp("etcd")) as address:
        yield address


@pytest.fixture(params=["sqlite", pytest.param("etcd", marks=NEEDS_ETCD)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Opens the same store again and again, as controllers do."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "net.sqlite")
    place = EtcdPlace((request.getfixturevalue("etcd_address"),), f"t/{tmp_path.name}", None, None)
    return lambda: EtcdStore(place, "net", tmp_path / "store.key")


def test_what_is_committed_is_read(make: Make) -> None:
    big = os.urandom(3 * etcd_store.CHUNK + 17)
    with make().lead("a") as leader:
        assert make().read() == {}
        leader.commit({"graphs/a": b"1", "graphs/a/bundle": big, "transaction": b""})
        assert make().read() == {"graphs/a": b"1", "graphs/a/bundle": big, "transaction": b""}
        assert make().read("graphs/") == {"graphs/a": b"1", "graphs/a/bundle": big}
        leader.commit({"graphs/a/bundle": b"small", "graphs/b": big[:-1]}, ["graphs/a"])
        leader.commit({"graphs/b": big})
        assert make().read() == {"graphs/a/bundle": b"small", "graphs/b": big, "transaction": b""}
        leader.commit({}, ["graphs/b", "graphs/a/bundle", "transaction", "never"])
    assert make().read() == {}


def test_one_leads_and_the_next_has_a_higher_term(make: Make) -> None:
    assert not make().leader()
    with make().lead("first") as leader:
        assert make().leader() == "first"
        with pytest.raises(StoreError, match=r"^first is changing the network; try again"):
            make().lead("second", 0.1).__enter__()
        leader.check()
        first = leader.term
    assert not make().leader()
    with make().lead("second", 0.1) as leader:
        assert leader.term > first


def test_a_backup_takes_over_when_the_leader_ends(make: Make) -> None:
    leads = threading.Event()

    def back_up() -> None:
        with make().lead("backup") as leader:
            leader.commit({"k": b"backup"})
            leads.set()

    with make().lead("first") as leader:
        backup = threading.Thread(target=back_up)
        backup.start()
        leader.commit({"k": b"first"})
        assert not leads.is_set()
    backup.join(10)
    assert make().read() == {"k": b"backup"}


def test_clearing_deposes(make: Make) -> None:
    with make().lead("first") as leader:
        leader.commit({"k": b"1"})
        make().clear()
        with pytest.raises(LeadershipLost):
            leader.commit({"k": b"2"})
    assert make().read() == {}


def test_terms_are_above_those_of_a_store_that_was_lost(tmp_path: Path) -> None:
    """However fast its leaders followed each other."""
    lost = SqliteStore(tmp_path / "lost.sqlite")
    for _ in range(5):
        with lost.lead("many") as leader:
            last = leader.term
    with SqliteStore(tmp_path / "new.sqlite").lead("new") as leader:
        assert leader.term > last
    assert next_term(1 << 60) == (1 << 60) + 1


def _lead_for_ever(make: Make, told: Connection) -> None:
    with make().lead("killed") as leader:
        leader.commit({"k": b"before"})
        told.send(leader.term)
        signal.pause()


def test_a_killed_leader_is_followed(tmp_path: Path) -> None:
    """SQLite at once: the lock dies with the process. etcd: see the lease's test."""
    store = SqliteStore(tmp_path / "net.sqlite")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_lead_for_ever, args=(lambda: store, theirs))
    process.start()
    term = ours.recv()
    with pytest.raises(StoreError, match="killed is changing"):
        store.lead("next", 0.0).__enter__()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with store.lead("next", 1.0) as leader:
        assert leader.term > term
        assert store.read() == {"k": b"before"}


def test_files_are_the_users_only(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "net.sqlite")
    with store.lead("a") as leader:
        leader.commit({"k": b"v"})
        assert {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == dict.fromkeys(
            ("net.sqlite", "net.sqlite-wal", "net.sqlite-shm", "net.lock"), 0o600
        )


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.sqlite"
    path.write_bytes(b"rubbish " * 1000)
    with pytest.raises(StoreError, match=str(path)):
        SqliteStore(path).read()


def test_a_failed_commit_changes_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "net.sqlite")
    with store.lead("a") as leader:
        leader.commit({"a": b"1"})
        with pytest.raises(sqlite3.Error):
            leader.commit({"a": b"2", "b": None}, ["a"])  # type: ignore[dict-item]
        assert store.read() == {"a": b"1"}
        leader.commit({"a": b"3"})
    assert store.read() == {"a": b"3"}


@NEEDS_ETCD
class TestEtcd:
    def test_whoever_slept_through_its_lease_commits_nothing(
        self, etcd_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Oracle: etcd itself. The old leader's own clock is made to see nothing."""
        monkeypatch.setattr(etcd_store, "LEASE_S", 1)
        monkeypatch.setattr(etcd_store, "MARGIN_S", -1e9)
        place = EtcdPlace((etcd_address,), "lease", None, None)

        def store() -> EtcdStore:
            return EtcdStore(place, "net", tmp_path / "store.key")

        sleeper = store()
        monkeypatch.setattr(EtcdClient, "renew", lambda *_: True)  # it believes that it is renewed
        with ExitStack() as stack:
            old = stack.enter_context(sleeper.lead("sleeper"))
            old.commit({"k": b"old"})
            monkeypatch.undo()
            new = stack.enter_context(store().lead("backup", 20.0))
            new.commit({"k": b"new"})
            with pytest.raises(LeadershipLost):
                old.commit({"k": b"late"})
            with pytest.raises(LeadershipLost):
                old.check()
            assert new.term > old.term
            assert store().read() == {"k": b"new"}

    def test_a_leader_stops_before_its_lease_ends(
        self, etcd_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = EtcdPlace((etcd_address,), "margin", None, None)
        with EtcdStore(place, "net", tmp_path / "store.key").lead("a") as leader:
            leader.check()
            monkeypatch.setattr(etcd_store, "MARGIN_S", etcd_store.LEASE_S + 1.0)
            with pytest.raises(LeadershipLost, match="was not renewed in time"):
                leader.check()

    def test_etcd_sees_no_values(self, etcd_address: str, tmp_path: Path) -> None:
        place = EtcdPlace((etcd_address,), "sealed", None, None)
        with EtcdStore(place, "net", tmp_path / "store.key").lead("a") as leader:
            leader.commit({"k": b"sampling key 0xfeedbeef"})
        client = EtcdClient(place.endpoints)
        stored = b"".join(pair.value for pair in client.range("/sealed/")[0])
        assert stored
        assert b"feedbeef" not in stored
        assert (tmp_path / "store.key").stat().st_mode & 0o777 == 0o600
        with pytest.raises(StoreError, match=r"k was written with another key than .*other\.key"):
            EtcdStore(place, "net", tmp_path / "other.key").read()

    def test_networks_and_prefixes_are_apart(self, etcd_address: str, tmp_path: Path) -> None:
        stores = [
            EtcdStore(EtcdPlace((etcd_address,), prefix, None, None), network, tmp_path / "key")
            for prefix, network in (("p", "net"), ("p", "net2"), ("q", "net"))
        ]
        with ExitStack() as stack:
            for number, store in enumerate(stores):
                leader = stack.enter_context(store.lead("a", 0.1))
                leader.commit({"k": bytes([number])})
            stores[0].clear()
            assert [store.read() for store in stores] == [{}, {"k": b"\1"}, {"k": b"\2"}]

    def test_the_next_endpoint_is_asked(self, etcd_address: str, tmp_path: Path) -> None:
        place = EtcdPlace(("127.0.0.1:1", etcd_address), "second", None, None)
        with EtcdStore(place, "net", tmp_path / "key").lead("a") as leader:
            leader.commit({"k": b"v"})
        gone = EtcdStore(EtcdPlace(("127.0.0.1:1",), "x", None, None), "net", tmp_path / "key")
        with pytest.raises(StoreError, match=r"^etcd: no answer from 127\.0\.0\.1:1 \(Connection"):
            gone.read()

    def test_over_mutual_tls(self, tmp_path: Path) -> None:
        authority = Authority(tmp_path / "ca")
        certificate, key = authority.issue("controller")
        with etcd_process(tmp_path / "etcd", authority) as address:
            url = f"etcd://{address}/p?ca={authority.ca}&certificate={certificate}&key={key}"
            with EtcdStore(parse_store(url), "net", tmp_path / "key").lead("a") as leader:
                leader.commit({"k": b"v"})
            for wrong, told in (
                (f"etcd://{address}/p", "speaks TLS only"),
                (f"etcd://{address}/p?ca={authority.ca}", "asks for a client certificate"),
            ):
                with pytest.raises(StoreError, match=told):
                    EtcdStore(parse_store(wrong), "net", tmp_path / "key").read()


def test_addresses() -> None:
    parsed = parse_store("etcd://a:1,b:2/site/one?ca=/ca.pem&certificate=/c&key=/k&secret=/s")
    tls = TlsFiles(Path("/ca.pem"), Path("/c"), Path("/k"))
    assert parsed == EtcdPlace(("a:1", "b:2"), "site/one", tls, Path("/s"))
    assert parse_store("etcd://[::1]:2379") == EtcdPlace(
        ("[::1]:2379",), "orchestrator", None, None
    )
    with pytest.raises(InputError) as caught:
        parse_store("zk://a,b:x?tls=1&key=/k")
    assert caught.value.problems == (
        "--store: 'zk' is no store (etcd)",
        "--store: 'a': HOST:PORT is expected, as etcd://127.0.0.1:2379",
        "--store: 'b:x': HOST:PORT is expected, as etcd://127.0.0.1:2379",
        "--store: unknown option 'tls' (known: ca, certificate, key, name, secret)",
        "--store: certificate and key belong together",
    )


@NEEDS_ETCD
def test_a_network_knows_where_its_journal_is(
    etcd_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_STORE", f"etcd://{etcd_address}/known")
    with new_journal("net", str(tmp_path)).store.lead("a") as leader:
        leader.commit({"k": b"v"})
    monkeypatch.delenv("ORCHESTRATOR_STORE")
    assert journal_of("net", str(tmp_path)).store.read() == {"k": b"v"}
    monkeypatch.setenv("ORCHESTRATOR_STORE", "etcd://127.0.0.1:1")
    with pytest.raises(
        NetworkError, match=r"net: its journal is in etcd://.*/known, not in --store"
    ):
        journal_of("net", str(tmp_path))


def test_generated_messages_are_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    root = Path(__file__).resolve().parents[3]
    # A process of its own: protoc's protobuf and OR-Tools' abort each other in one.
    argv = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", f"--python_out={tmp_path}"]
    subprocess.run([*argv, "orchestrator/clients/etcd.proto"], check=True)
    made = tmp_path / "orchestrator" / "clients" / "etcd_pb2.py"
    assert made.read_text() == (root / "orchestrator" / "clients" / "etcd_pb2.py").read_text()

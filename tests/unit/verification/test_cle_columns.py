"""The log as columns. Oracle: the records that were put into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import InputError
from orchestrator.verification.cle.columns import compact, query
from orchestrator.verification.cle.segments import Log, segment_files
from servernf.wire.records import Record, RecordKind, event

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HOUR_US = 3_600_000_000
SQL = "SELECT graph, kind, label, frame, port_out FROM records ORDER BY entry, sequence"


def filled(folder: Path, first: int, count: int) -> None:
    log = Log(folder / "log", KEY, segment_bytes=2000)
    for at in range(first, first + count):
        kind = RecordKind.IN if at % 2 else RecordKind.OUT
        record = Record(
            kind, 7, 1, 2 * at, label=at, nf="g/nat", port_out="out'side", frame=b"\0\xff"
        )
        told = event(7, 1, 2 * at + 1, 0, {"event": "x"})
        log.append([record.pack() + told.pack()], at * HOUR_US // 5)
    log.close()


def expected(count: int) -> list[tuple[object, ...]]:
    return [
        row
        for at in range(count)
        for row in (
            ("g", "IN" if at % 2 else "OUT", at, "00ff", "out'side"),
            ("none", "EVENT", 0, '{"event":"x"}', ""),
        )
    ]


def test_one_answer_whatever_is_in_parquet(tmp_path: Path) -> None:
    filled(tmp_path, 0, 20)
    closed = len(segment_files(tmp_path / "log")) - 1
    assert query(tmp_path, SQL)[1] == expected(20)
    assert (compact(tmp_path), compact(tmp_path)) == (closed, 0)
    assert closed > 2
    assert query(tmp_path, SQL)[1] == expected(20)
    filled(tmp_path, 20, 20)
    assert query(tmp_path, SQL)[1] == expected(40)
    assert compact(tmp_path) > 2
    assert query(tmp_path, SQL)[1] == expected(40)
    assert (tmp_path / "parquet" / "graph=g" / "hour=1" / "kind=IN").is_dir()


def test_what_was_written_by_half_counts_once(tmp_path: Path) -> None:
    filled(tmp_path, 0, 20)
    compact(tmp_path)
    for mark in (tmp_path / "parquet" / "done").iterdir():
        mark.unlink()  # as if it had been killed before
    assert query(tmp_path, SQL)[1] == expected(20)
    compact(tmp_path)
    assert query(tmp_path, SQL)[1] == expected(20)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY records TO '/tmp/records.csv'",
        "SET enable_external_access = true",
        "ATTACH '/tmp/x.db'",
        "nonsense",
    ],
)
def test_a_query_reaches_nothing_else(tmp_path: Path, sql: str) -> None:
    filled(tmp_path, 0, 2)
    with pytest.raises(InputError, match="query:"):
        query(tmp_path, sql)


def test_the_commands(tmp_path: Path) -> None:
    filled(tmp_path, 0, 20)
    done = CliRunner().invoke(app, ["verify", "cle", "compact", str(tmp_path), "--json"])
    assert json.loads(done.stdout)["segments"] > 2
    sql = "SELECT count(*) AS told FROM records WHERE kind = 'IN'"
    done = CliRunner().invoke(app, ["verify", "cle", "query", str(tmp_path), sql, "--json"])
    assert json.loads(done.stdout) == [{"told": 10}]
    nowhere = CliRunner().invoke(app, ["verify", "cle", "query", str(tmp_path / "x"), sql])
    assert "holds no log" in str(nowhere.exception)

"""The log as columns: closed segments in Parquet, all of it queried with DuckDB, embedded.

`FOLDER/parquet/graph=G/hour=H/kind=K/segment-N-*.parquet`, an hour being that of reception since 1970. A
file `FOLDER/parquet/done/N` has the hash at the segment's end, so a segment is written once, and again
if it is another one. The segments stay what is true: a query is quick, verdicts read the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.verification.cle.running import log_folder
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.segments import LogEntry, read_segment, segment_files
from servernf.wire import records
from servernf.wire.records import Record, RecordKind

if TYPE_CHECKING:
    import duckdb

NUMBERS = (
    "sequence", "label", "ingress_us", "flow", "epoch", "branch", "frame_bytes", "entered_ns", "left_ns",
    "wall_us", "nf_us", "cpu_ns", "calls", "context_in", "context_out",
)  # fmt: skip
TEXTS = ("nf", "port_in", "port_out", "reason")
_HOUR_US = 3_600_000_000
_Row = tuple[LogEntry, Record]


def compact(folder: Path) -> int:
    """Write closed segments that are not in Parquet yet; how many."""
    if not log_folder(folder).is_dir():
        raise InputError(f"{folder}: holds no log of a CLE")
    written = 0
    done = folder / "parquet" / "done"
    done.mkdir(parents=True, exist_ok=True)
    for path in segment_files(log_folder(folder))[:-1]:
        sealed, end = _sealed(path)
        mark = done / path.stem
        if mark.exists() and mark.read_text() == end:
            continue
        with _connected() as base:
            base.register("rows", _table(sealed))
            where = str(folder / "parquet")
            base.execute(
                f"COPY (SELECT * FROM rows) TO '{_quoted(where)}' (FORMAT parquet, "
                f"PARTITION_BY (graph, hour, kind), FILENAME_PATTERN 'segment-{path.stem}-{{i}}', "
                "OVERWRITE_OR_IGNORE)"
            )
        mark.write_text(end)
        written += 1
    return written


def query(folder: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The columns and rows of a SELECT over `records`: what is in Parquet, and the newer segments.

    Nothing else can be read or written by it; InputError says what is wrong with it.
    """
    if not log_folder(folder).is_dir():
        raise InputError(f"{folder}: holds no log of a CLE")
    done = {path.name for path in (folder / "parquet" / "done").glob("*")}
    files = [
        str(path)
        for name in sorted(done)
        for path in (folder / "parquet").rglob(f"segment-{name}-*.parquet")
    ]
    newer = [p for p in segment_files(log_folder(folder)) if p.stem not in done]
    import duckdb

    with _connected() as base:
        base.register("newer", _table([row for path in newer for row in _sealed(path)[0]]))
        base.execute("CREATE TABLE records AS SELECT * FROM newer")
        if files:
            base.execute(
                "INSERT INTO records BY NAME SELECT * FROM "
                "read_parquet($1, hive_partitioning = true)",
                [files],
            )
        base.unregister("newer")
        # From here on the statement is the user's.
        base.execute("SET enable_external_access = false")
        base.execute("SET lock_configuration = true")
        try:
            result = base.execute(sql)
            return [column[0] for column in result.description or ()], result.fetchall()
        except duckdb.Error as error:
            raise InputError(f"query: {error}") from None


def _sealed(path: Path) -> tuple[list[_Row], str]:
    """The records of a segment that are sealed, and the hash there."""
    rows: list[_Row] = []
    waiting: list[LogEntry] = []
    end = ""
    for item in read_segment(path):
        if isinstance(item, LogEntry):
            waiting.append(item)
        elif isinstance(item, Head):
            rows += ((e, r) for e in waiting for r in _records(e))
            waiting.clear()
            end = item.hash.hex()
    return rows, end


def _records(entry: LogEntry) -> Iterator[Record]:
    return (records.read(data) for data in records.split(entry.payload))


def _table(rows: Iterable[_Row]) -> dict[str, np.ndarray[Any, Any]]:
    rows = list(rows)
    told = [record for _, record in rows]
    table: dict[str, np.ndarray[Any, Any]] = {
        "entry": np.array([e.index for e, _ in rows], np.uint64),
        "received_us": np.array([e.received_us for e, _ in rows], np.uint64),
        "hour": np.array([e.received_us // _HOUR_US for e, _ in rows], np.uint64),
        "graph": _texts(record.nf.rpartition("/")[0] or "none" for record in told),
        "kind": _texts(record.kind.name for record in told),
        "point": _texts(f"{record.point:016x}" for record in told),
        "boot": _texts(f"{record.boot:016x}" for record in told),
        "spi": np.array([record.path >> 8 for record in told], np.uint64),
        "si": np.array([record.si for record in told], np.uint64),
        "configuration": _texts(record.configuration.hex() for record in told),
        "digest": _texts(record.whole_digest.hex() for record in told),
        "frame": _texts(
            r.frame.decode() if r.kind is RecordKind.EVENT else r.frame.hex() for r in told
        ),
    }
    for name in NUMBERS:
        table[name] = np.array([getattr(record, name) for record in told], np.uint64)
    for name in TEXTS:
        table[name] = _texts(getattr(record, name) for record in told)
    return table


def _texts(values: Iterable[str]) -> np.ndarray[Any, Any]:
    return np.array(list(values), np.str_).astype(object)


def _connected() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ImportError:
        raise EnvironmentMissing(
            "DuckDB is not installed (pip install 'p4-offload-orchestrator[verify]')"
        ) from None
    return duckdb.connect()


def _quoted(text: str) -> str:
    return text.replace("'", "''")

"""Where a network's journal is kept, and who may write it: keys, values, and one leader at a time.

A controller leads for a term. Terms only grow; every change of the store is made under the condition
that its term is still the last one, so whoever was deposed changes nothing any more. A term is at least
the microseconds since 1970 when it began, and lasts longer than one: a new store's terms lie above those
of one that was lost, however fast those came, so that devices, which take the term as P4Runtime
election id, accept the new leader.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from orchestrator.errors import LeadershipLost, StoreError

LEAD_WAIT_S = 30.0
"""How long a controller waits for another to finish: longer than a dead one's lease lives."""
_POLL_S = 0.05
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS terms (only INTEGER PRIMARY KEY CHECK (only = 1), term INTEGER NOT NULL);
"""


_DAMAGED = (
    " (the journal is damaged: put a copy back, or move it away; then `orchestrator recover "
    "--adopt FILE` takes graphs in again as they are on the devices, `--forget` removes them there)"
)
_HELP = {
    "not a database": _DAMAGED,
    "malformed": _DAMAGED,
    "full": " (nothing was noted; make room and try again)",
    "readonly": " (the journal's folder and files must be writable)",
    "unable to open": " (the journal's folder and files must be writable)",
    "locked": " (another program holds it; try again)",
}
"""What helps, by a part of SQLite's words."""


class Leadership(Protocol):
    """The right to change a network, for one term."""

    @property
    def term(self) -> int:
        """Number of the term, above all earlier ones."""
        ...

    def check(self) -> None:
        """LeadershipLost unless this controller surely leads now; cheap enough for every batch."""
        ...

    def commit(self, put: Mapping[str, bytes], delete: Iterable[str] = ()) -> None:
        """Change all these keys or none; LeadershipLost when another leads."""
        ...


class Store(Protocol):
    """Keys and values of one network."""

    def read(self, prefix: str = "") -> dict[str, bytes]:
        """Keys with a prefix and their values."""
        ...

    def lead(self, who: str, wait_s: float = LEAD_WAIT_S) -> AbstractContextManager[Leadership]:
        """Lead while the context is open; StoreError names who else leads for longer than `wait_s`."""
        ...

    def leader(self) -> str:
        """Who leads now; "" for nobody."""
        ...

    def clear(self) -> None:
        """Forget everything: the network is gone."""
        ...


def next_term(last: int) -> int:
    """The term after `last`."""
    return max(last + 1, time.time_ns() // 1000)


class SqliteStore:
    """A file of one machine (WAL). A lock that dies with its process says who leads: no time-outs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = path.with_suffix(".lock")

    def read(self, prefix: str = "") -> dict[str, bytes]:
        """Keys with a prefix and their values; none of a file that is missing or empty."""
        with _told(self.path):
            if not self.path.exists() or not self.path.stat().st_size:
                return {}
            try:
                return self._read(prefix, "mode=ro")
            except sqlite3.OperationalError:
                # Where nothing can be written, a file whose log has been merged is read as it is.
                if os.access(self.path.parent, os.W_OK) or _has_log(self.path):
                    raise
                return self._read(prefix, "immutable=1")

    def _read(self, prefix: str, how: str) -> dict[str, bytes]:
        with closing(_connect(self.path, how)) as connection:
            if not _is_journal(connection, self.path):
                return {}
            rows = connection.execute(
                "SELECT key, value FROM entries WHERE substr(key, 1, ?) = ? ORDER BY key",
                (len(prefix), prefix),
            )
            return dict(rows.fetchall())

    @contextmanager
    def lead(self, who: str, wait_s: float = LEAD_WAIT_S) -> Generator[Leadership]:
        """Lead while the context is open."""
        lock = self._acquire(who, wait_s)
        try:
            with closing(self._open()) as connection:
                with _told(self.path):
                    connection.execute("BEGIN IMMEDIATE")
                    row = connection.execute("SELECT term FROM terms").fetchone()
                    term = next_term(row[0] if row else 0)
                    connection.execute("INSERT OR REPLACE INTO terms VALUES (1, ?)", (term,))
                    connection.commit()
                yield _SqliteLeadership(connection, term, self.path)
        finally:
            os.close(lock)

    def leader(self) -> str:
        """Who holds the lock."""
        try:
            lock = os.open(self._lock, os.O_RDONLY)
        except OSError:  # nobody has led yet, or it is not for us to see
            return ""
        try:
            return "" if _try_lock(lock, fcntl.LOCK_SH) else _holder(lock)
        finally:
            os.close(lock)

    def clear(self) -> None:
        """Forget everything; whoever leads does so no longer."""
        if not self.path.exists():
            return
        try:
            with closing(self._open()) as connection, _told(self.path):
                connection.executescript("DELETE FROM entries; UPDATE terms SET term = term + 1")
        except StoreError as error:
            cause = error.__cause__
            if not isinstance(cause, sqlite3.DatabaseError) or isinstance(
                cause, sqlite3.OperationalError
            ):
                raise
            for end in ("", "-wal", "-shm"):  # damaged: there is nothing in it to be kept
                self.path.with_name(f"{self.path.name}{end}").unlink(missing_ok=True)

    def _acquire(self, who: str, wait_s: float) -> int:
        deadline = time.monotonic() + wait_s
        with _told(self._lock):
            lock = os.open(self._lock, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{_holder(lock)} is changing the network; try again when it is done"
                    )
                time.sleep(_POLL_S)
            with suppress(
                OSError
            ):  # only words for those who wait: a full disk has no room for them
                os.ftruncate(lock, 0)
                os.pwrite(lock, who.encode(), 0)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _open(self) -> sqlite3.Connection:
        with _told(self.path):
            # SQLite gives its own files beside it the same rights. A file that is there is not opened:
            # closing it would drop the locks (POSIX's, per process) of this process's connections, and
            # the next one to close in another process would take the log away under them.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            # Leadership is checked by threads that write to switches; SQLite itself is serialised.
            connection = _connect(self.path, "mode=rw")
            try:
                _is_journal(connection, self.path)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
            except BaseException:
                connection.close()
                raise
            return connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=10,
        isolation_level=None,
        check_same_thread=False,
    )


def _is_journal(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether our tables are there, False: none are; StoreError when it is somebody else's file."""
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if tables and not {"entries", "terms"} <= tables:
        raise StoreError(
            f"{path}: a database, but no journal (its tables: {', '.join(sorted(tables)[:5])}): move it "
            "away"
        )
    return bool(tables)


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


@contextmanager
def _told(path: Path) -> Generator[None]:
    """Errors of the file or its folder as StoreError, with what helps."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise  # our own fault, not the file's
    except sqlite3.Error as error:
        text = str(error)
        helps = next((then for part, then in _HELP.items() if part in text), "")
        raise StoreError(f"{path}: {text}{helps}") from error
    except OSError as error:
        raise StoreError(f"{error.filename or path}: {error.strerror}") from error


class _SqliteLeadership:
    def __init__(self, connection: sqlite3.Connection, term: int, path: Path) -> None:
        self._connection, self._path = connection, path
        self._lock = threading.Lock()
        self.term = term

    def check(self) -> None:
        """LeadershipLost when the network was cleared, or the lock file removed, meanwhile."""
        with self._lock, _told(self._path):
            self._check()

    def _check(self) -> None:
        row = self._connection.execute("SELECT term FROM terms").fetchone()
        if row is None or row[0] != self.term:
            raise LeadershipLost("another controller has taken over: nothing more is changed")

    def commit(self, put: Mapping[str, bytes], delete: Iterable[str] = ()) -> None:
        """Change all these keys or none."""
        connection = self._connection
        with self._lock, _told(self._path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._check()
                connection.executemany("DELETE FROM entries WHERE key = ?", [(k,) for k in delete])
                connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", put.items())
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise


def _holder(lock: int) -> str:
    return os.pread(lock, 200, 0).decode(errors="replace") or "a controller"


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

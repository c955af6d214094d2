"""The log on disk: append-only segments of hash-chained entries, each group of them sealed.

A segment `NNNNNNNN.seg` is, big-endian:

    8s  b"CLESEG1\\n"   u64 its number   u64 index of the entry before it   32s hash of the chain there
    entries:  u8 b"E"   u32 bytes of the payload   u64 index   u64 received (us)   payload
    seals:    u8 b"S"   u64 index   u64 sealed (us)   32s hash of the chain   64s signature (Ed25519)

A payload is records (`servernf.wire.records`) as a point sent them; the first of a segment says how far
each point's are taken (`intake`), so that neither a start nor retention needs what is before. What is
behind the last seal was never acknowledged, and goes when the log is opened again. Seals are written
with what they seal, and both are on the disk (fdatasync) before anybody is told.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import InputError, StoreError
from orchestrator.verification.cle.seals import HASH_BYTES, SIGNATURE_BYTES, START, Head, chained
from orchestrator.verification.keys import public_text

MAGIC = b"CLESEG1\n"
MOST_PAYLOAD = 4 << 20
SEGMENT_BYTES = 64 << 20
_START = struct.Struct(f">8sQQ{HASH_BYTES}s")
_ENTRY = struct.Struct(">cIQQ")
_SEAL = struct.Struct(f">cQQ{HASH_BYTES}s{SIGNATURE_BYTES}s")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What a point sent at once."""

    index: int
    received_us: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Start:
    """How a segment begins: where the one before it ended."""

    number: int
    index: int
    hash: bytes


class Damaged(InputError):
    """A segment that does not say what the CLE sealed."""


def segment_files(folder: Path) -> list[Path]:
    """The segments of a log, the oldest first."""
    return sorted(folder.glob("[0-9]*.seg"))


def read_segment(path: Path) -> Iterator[Start | LogEntry | Head]:
    """What is in a segment, up to where it was cut short; Damaged where a hash is wrong.

    Signatures are the reader's to check (`Head.is_of`).
    """
    with path.open("rb") as file:
        raw = file.read(_START.size)
        if len(raw) < _START.size:
            return
        magic, number, index, chain_hash = _START.unpack(raw)
        if magic != MAGIC:
            raise Damaged(f"{path}: does not begin as a segment")
        yield Start(number, index, chain_hash)
        while (kind := file.read(1)) in (b"E", b"S"):
            if kind == b"S":
                rest = file.read(_SEAL.size - 1)
                if len(rest) < _SEAL.size - 1:
                    return
                _, told, wall_us, hashed, signature = _SEAL.unpack(kind + rest)
                if (told, hashed) != (index, chain_hash):
                    raise Damaged(f"{path}: a seal of entry {told} does not fit what is before it")
                yield Head(told, hashed, wall_us, signature)
                continue
            rest = file.read(_ENTRY.size - 1)
            if len(rest) < _ENTRY.size - 1:
                return
            head = kind + rest
            _, size, told, received_us = _ENTRY.unpack(head)
            payload = file.read(size) if size <= MOST_PAYLOAD else b""
            if size <= MOST_PAYLOAD and len(payload) < size:
                return
            if told != index + 1 or len(payload) != size:
                raise Damaged(f"{path}: entry {told} follows entry {index}")
            index, chain_hash = told, chained(chain_hash, head, payload)
            yield LogEntry(index, received_us, payload)
        if kind:
            raise Damaged(f"{path}: behind entry {index} is neither an entry nor a seal")


class Log:
    """A log that is written to, by one process (a lock) and one thread."""

    def __init__(
        self, folder: Path, key: Ed25519PrivateKey, *, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = folder
        self._key = key
        self._most = segment_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _locked(folder)
        self.head = Head(0, START, 0, b"")
        self._number = 0
        self._file: BinaryIO | None = None
        self._end = 0
        """Where the file's last seal ends."""
        self._open()

    @property
    def begins(self) -> bool:
        """Whether the next entry is the first of a segment."""
        return self._file is None or self._end >= self._most

    def append(self, payloads: list[bytes], wall_us: int) -> Head:
        """Write, seal and sync payloads; the head behind the last.

        StoreError where that fails (a full disk): then nothing of it is there, and the log goes on.
        """
        if self.begins:
            self._next()
        file = self._file
        assert file is not None
        index, chain_hash = self.head.index, self.head.hash
        parts: list[bytes] = []
        for payload in payloads:
            if not 0 < len(payload) <= MOST_PAYLOAD:
                raise InputError(f"a payload has {len(payload)} bytes; 1 to {MOST_PAYLOAD} go")
            index += 1
            head = _ENTRY.pack(b"E", len(payload), index, wall_us)
            chain_hash = chained(chain_hash, head, payload)
            parts += (head, payload)
        sealed = Head.sealed(index, chain_hash, wall_us, self._key)
        parts.append(_SEAL.pack(b"S", index, wall_us, chain_hash, sealed.signature))
        data = b"".join(parts)
        try:
            _write(file, data)
            os.fdatasync(file.fileno())
        except OSError as error:
            self._cut()
            raise StoreError(f"{self.folder}: {error.strerror}") from error
        self._end += len(data)
        self.head = sealed
        return sealed

    def close(self) -> None:
        """Somebody else may write to it."""
        if self._file is not None:
            self._file.close()
            self._file = None
        os.close(self._lock)

    def forget(self, before_us: int) -> list[Path]:
        """Remove segments whose last entry was received before a time; not the newest one."""
        gone: list[Path] = []
        for path in segment_files(self.folder)[:-1]:
            last = max(
                (e.received_us for e in read_segment(path) if isinstance(e, LogEntry)), default=0
            )
            if last >= before_us:
                break
            path.unlink()
            gone.append(path)
        return gone

    def _open(self) -> None:
        files = segment_files(self.folder)
        while files:
            last = files.pop()
            start: Start | None = None
            head: Head | None = None
            end = at = 0
            try:
                for item in read_segment(last):
                    match item:
                        case Start():
                            start, at = item, _START.size
                        case LogEntry():
                            at += _ENTRY.size + len(item.payload)
                        case Head():
                            at += _SEAL.size
                            head, end = item, at
            except Damaged:
                # After a loss of power anything may stand where nothing was synced. Where a seal of
                # ours stands behind it, it was acknowledged.
                if _sealed_behind(last, end, self._key):
                    raise
            if head is None or start is None:  # begun, and nothing sealed in it
                last.unlink()
                continue
            if last.stem != f"{start.number:08}":
                raise Damaged(f"{last}: is segment {start.number}")
            self._number, self.head, self._end = start.number, head, end
            self._file = last.open("r+b", buffering=0)
            self._cut()
            return

    def _cut(self) -> None:
        """Away with what is behind the last seal."""
        if self._file is not None:
            with suppress(OSError):  # what stays there is overwritten, or goes at the next opening
                self._file.truncate(self._end)
            self._file.seek(self._end)

    def _next(self) -> None:
        """Begin a segment."""
        if self._file is not None:
            self._file.close()
            self._file = None
        path = self.folder / f"{self._number + 1:08}.seg"
        try:
            file = path.open("wb", buffering=0)
            _write(file, _START.pack(MAGIC, self._number + 1, self.head.index, self.head.hash))
            os.fsync(file.fileno())
            _sync_folder(self.folder)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(f"{path}: {error.strerror}") from error
        self._file, self._number, self._end = file, self._number + 1, _START.size


def _sealed_behind(path: Path, end: int, key: Ed25519PrivateKey) -> bool:
    """Whether a seal of this CLE stands behind a byte of a segment, wherever."""
    public = public_text(key)
    data = path.read_bytes()
    at = data.find(b"S", end)
    while 0 <= at <= len(data) - _SEAL.size:
        _, index, wall_us, sealed_hash, signature = _SEAL.unpack_from(data, at)
        plausible = index < 1 << 48 and wall_us < 1 << 56
        if plausible and Head(index, sealed_hash, wall_us, signature).is_of(public):
            return True
        at = data.find(b"S", at + 1)
    return False


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreError(f"{folder}: another process writes to this log") from None
    return descriptor

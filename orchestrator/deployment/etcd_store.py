"""The journal in etcd: several controllers, one leader by lease; every change fenced by its key.

The leader's key is created under a lease. Each transaction carries the condition that this very key is
still there (by its create revision, which etcd never gives twice), so whoever was deposed, or slept
through its lease, commits nothing. Values are encrypted (AES-256-GCM) with a key that only the
controllers have: etcd, its backups and its wire see neither sampling keys nor NF configurations.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.clients import etcd
from orchestrator.clients.channel import TlsFiles
from orchestrator.clients.etcd import EtcdClient
from orchestrator.deployment.store import LEAD_WAIT_S, Leadership, next_term
from orchestrator.errors import InputError, LeadershipLost, StoreError

LEASE_S = 15
"""A leader that is not heard of for so long is deposed."""
MARGIN_S = 2.0
"""A leader stops so long before its lease may end: clocks of two machines may run a little apart."""
CHUNK = 512 << 10
"""Bytes of one key: etcd takes requests of 1.5 MiB (--max-request-bytes)."""
_POLL_S = 0.2
_NONCE = 12
_INLINE, _CHUNKED = b"\0", b"\1"


@dataclass(frozen=True, slots=True)
class EtcdPlace:
    """A `--store` address, taken apart."""

    endpoints: tuple[str, ...]
    prefix: str
    tls: TlsFiles | None
    secret: Path | None


def parse_store(address: str) -> EtcdPlace:
    """`etcd://host:port[,host:port][/prefix][?ca=F&certificate=F&key=F&secret=F]`."""
    parts = urlsplit(address)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    option_names = ("ca", "certificate", "key", "name", "secret")
    endpoints = tuple(filter(None, parts.netloc.split(",")))
    problems = [f"--store: '{parts.scheme}' is no store (etcd)"] if parts.scheme != "etcd" else []
    problems += [
        f"--store: '{endpoint}': HOST:PORT is expected, as etcd://127.0.0.1:2379"
        for endpoint in endpoints or ("",)
        if not endpoint.rpartition(":")[0] or not endpoint.rpartition(":")[2].isdigit()
    ]
    problems += [
        f"--store: unknown option '{name}' (known: {', '.join(option_names)})"
        for name in sorted(options.keys() - set(option_names))
    ]
    if bool(options.get("certificate")) != bool(options.get("key")):
        problems.append("--store: certificate and key belong together")
    if "certificate" in options and "ca" not in options:
        problems.append("--store: a certificate needs a ca, too")
    if problems:
        raise InputError(problems)
    tls = None
    if ca := options.get("ca"):
        certificate, key = (
            Path(options[name]) if name in options else None for name in ("certificate", "key")
        )
        tls = TlsFiles(Path(ca), certificate, key, options.get("name", ""))
    secret = Path(options["secret"]) if "secret" in options else None
    return EtcdPlace(endpoints, parts.path.strip("/") or "orchestrator", tls, secret)


class EtcdStore:
    """A network's keys below `PREFIX/NETWORK/`; `secret` is the file of its values' key."""

    def __init__(self, place: EtcdPlace, network: str, secret: Path) -> None:
        self._client = EtcdClient(place.endpoints, place.tls)
        self._root = f"/{place.prefix}/{network}"
        self._data = f"{self._root}/data/"
        self._leader, self._term = f"{self._root}/leader", f"{self._root}/term"
        self._secret = place.secret or secret
        self._cipher: AESGCM | None = None

    def read(self, prefix: str = "") -> dict[str, bytes]:
        """Keys with a prefix and their values, as of one moment."""
        pairs, revision = self._client.range(self._data + prefix)
        values: dict[str, bytes] = {}
        for pair in pairs:
            sealed = pair.value[1:]
            if pair.value[:1] == _CHUNKED:
                parts, _ = self._client.range(sealed.decode(), revision)
                sealed = b"".join(part.value for part in parts)
            name = pair.key.removeprefix(self._data)
            values[name] = self._decrypted(name, sealed)
        return values

    @contextmanager
    def lead(self, who: str, wait_s: float = LEAD_WAIT_S) -> Generator[Leadership]:
        """Lead while the context is open; the lease is renewed meanwhile."""
        leadership = self._elect(who, wait_s)
        try:
            yield leadership
        finally:
            leadership.resign()

    def leader(self) -> str:
        """Whose the key is."""
        pair = self._client.get(self._leader)
        return "" if pair is None else _name_of(pair.value)

    def clear(self) -> None:
        """Forget everything; whoever leads does so no longer."""
        self._client.transact([], etcd.delete_all(f"{self._root}/"))

    # -- election ------------------------------------------------------------------------------

    def _elect(self, who: str, wait_s: float) -> _EtcdLeadership:
        mine = f"{who} {secrets.token_hex(8)}".encode()
        deadline = time.monotonic() + wait_s
        asked = time.monotonic()
        lease = self._client.grant(LEASE_S)
        try:
            while True:
                leader = self._client.get(self._leader)
                if leader is None:
                    self._client.transact(
                        [etcd.created_at(self._leader, 0)], etcd.put(self._leader, mine, lease)
                    )
                    continue  # and see whose it is: an answer may be lost, the transaction not
                if leader.value == mine:
                    break
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{_name_of(leader.value)} is changing the network; try again when it is done"
                    )
                time.sleep(_POLL_S)
                asked = time.monotonic()
                if not self._client.renew(lease):
                    lease = self._client.grant(LEASE_S)
            fence = etcd.created_at(self._leader, leader.created)
            last = self._client.get(self._term)
            term = next_term(int(last.value) if last else 0)
            if not self._client.transact([fence], etcd.put(self._term, str(term).encode())):
                raise LeadershipLost("another controller has taken over: nothing was changed")
        except BaseException:
            with suppress(StoreError):
                self._client.revoke(lease)
            raise
        return _EtcdLeadership(self, self._client, term, fence, lease, asked)

    # -- values --------------------------------------------------------------------------------

    def put(self, name: str, value: bytes, version: str) -> Iterator[etcd.Operation]:
        """What writes a value; a long one's chunks are written beforehand, where nobody sees them.

        `version` sorts behind those of all earlier values of this name.
        """
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._key().encrypt(nonce, value, name.encode())
        chunks = self._chunks(name)
        if len(sealed) <= CHUNK:
            yield etcd.delete_all(chunks)
            yield etcd.put(self._data + name, _INLINE + sealed)
            return
        folder = f"{chunks}{version}/"
        for number, start in enumerate(range(0, len(sealed), CHUNK)):
            self._client.put(f"{folder}{number:08d}", sealed[start : start + CHUNK])
        yield etcd.delete_all(chunks, before=folder)
        yield etcd.put(self._data + name, _CHUNKED + folder.encode())

    def delete(self, name: str) -> Iterator[etcd.Operation]:
        """What deletes a value."""
        yield etcd.delete(self._data + name)
        yield etcd.delete_all(self._chunks(name))

    def _chunks(self, name: str) -> str:
        return f"{self._root}/chunks/{name.replace('/', '|')}/"

    def _decrypted(self, name: str, sealed: bytes) -> bytes:
        try:
            return self._key().decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())
        except InvalidTag:
            raise StoreError(
                f"etcd: {name} was written with another key than {self._secret}; controllers of one "
                "network share it: --store 'etcd://...?secret=FILE'"
            ) from None

    def _key(self) -> AESGCM:
        if self._cipher is None:
            try:
                if not self._secret.exists():
                    _new_secret(self._secret)
                self._cipher = AESGCM(self._secret.read_bytes())
            except OSError as error:
                raise StoreError(f"{self._secret}: {error.strerror}") from error
            except ValueError:
                raise StoreError(
                    f"{self._secret}: the key is damaged: 32 bytes are expected, it has "
                    f"{self._secret.stat().st_size}. Put back the copy of another controller; if "
                    "nothing is in the store yet, remove it, and a new key is made"
                ) from None
        return self._cipher


def _name_of(leader: bytes) -> str:
    return leader.decode(errors="replace").rpartition(" ")[0]


def _new_secret(path: Path) -> None:
    """A key is there whole or not at all; the first controller's stays."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with open(descriptor, "wb") as file:
            file.write(AESGCM.generate_key(256))
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


class _EtcdLeadership:
    def __init__(
        self,
        store: EtcdStore,
        client: EtcdClient,
        term: int,
        fence: etcd.Condition,
        lease: int,
        asked: float,
    ) -> None:
        self.term = term
        self._store, self._client = store, client
        self._versions = count(1)
        self._fence, self._lease = fence, lease
        self._until = asked + LEASE_S
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="etcd-lease", daemon=True)
        self._keeper.start()

    def check(self) -> None:
        """LeadershipLost when the lease may have ended: the clock says so without a call."""
        if self._over.is_set() or time.monotonic() > self._until - MARGIN_S:
            raise LeadershipLost(
                "the lease of this controller's leadership was not renewed in time: another may "
                "have taken over, so nothing more is changed"
            )

    def commit(self, put: Mapping[str, bytes], delete: Iterable[str] = ()) -> None:
        """Change all these keys or none."""
        self.check()
        version = f"{self.term:016d}-{next(self._versions):08d}"
        operations = [
            o for name, value in put.items() for o in self._store.put(name, value, version)
        ]
        operations += [o for name in delete for o in self._store.delete(name)]
        if not self._client.transact([self._fence], *operations):
            self._over.set()
            raise LeadershipLost("another controller has taken over: nothing more is changed")

    def resign(self) -> None:
        """Let others lead at once."""
        self._over.set()
        self._keeper.join()
        with suppress(StoreError):
            self._client.revoke(self._lease)

    def _keep(self) -> None:
        """Renew the lease three times in its life."""
        while not self._over.wait(LEASE_S / 3):
            asked = time.monotonic()
            try:
                renewed = self._client.renew(self._lease)
            except StoreError:
                continue  # `check` knows when it is too late
            if not renewed:
                self._over.set()
                return
            self._until = asked + LEASE_S

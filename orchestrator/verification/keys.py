"""Keys of the three roles: Ed25519 (RFC 8032) to sign, and the customer's and the CLE's sampling key.

A sampling key is 32 random bytes; the key of an epoch is HMAC-SHA-256 (RFC 2104) of it over graph and
number. Nothing of the provider's ever holds it: devices get the keys of epochs from the CLE.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from orchestrator.errors import InputError, StoreError
from orchestrator.files import read_small, write_whole
from servernf.wire.witness import Epoch

ROLES = ("customer", "provider", "cle")
SAMPLING_BYTES = 32
_EPOCH = b"orchestrator key epoch\0"
_REPORTS = b"orchestrator key of reports\0"
_HEX = re.compile("[0-9a-f]{64}")


def new_private(path: Path) -> Ed25519PrivateKey:
    """A signing key in a new file (PEM, 0600), its public key beside it (`.pub`, hexadecimal)."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _new_secret(path, pem)
    write_whole(path.with_suffix(".pub"), (public_text(key) + "\n").encode())
    return key


def private_key(path: Path, option: str) -> Ed25519PrivateKey:
    """The signing key of a PEM file; `option` begins the error."""
    data = read_small(path, f"{option} {path}")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{option} {path}: holds no unencrypted Ed25519 private key (PEM)")
    return key


def public_key(text: str, where: str) -> Ed25519PublicKey:
    """The key of 64 hexadecimal digits."""
    if not _HEX.fullmatch(text):
        raise InputError(f"{where}: 64 hexadecimal digits of an Ed25519 public key are expected")
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))


def public_text(key: Ed25519PrivateKey) -> str:
    """A key's public part, hexadecimal."""
    return key.public_key().public_bytes_raw().hex()


def signed_by(public: str, signature: bytes, message: bytes) -> bool:
    """Whether a signature is that of a public key (hexadecimal)."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def new_sampling_key(path: Path) -> bytes:
    """A sampling key in a new file (hexadecimal, 0600)."""
    key = secrets.token_bytes(SAMPLING_BYTES)
    _new_secret(path, (key.hex() + "\n").encode())
    return key


def sampling_key(path: Path, option: str) -> bytes:
    """The sampling key of a file."""
    text = read_small(path, f"{option} {path}").decode("ascii", "replace").strip()
    if not _HEX.fullmatch(text):
        raise InputError(f"{option} {path}: holds no sampling key (64 hexadecimal digits)")
    return bytes.fromhex(text)


def agreed_key(path: Path, committed: str, manifest: str) -> bytes:
    """The sampling key of a file, which must be the one that a manifest commits to."""
    key = sampling_key(path, "--sampling-key")
    if commitment(key) != committed:
        raise InputError(f"--sampling-key {path}: is not the one of {manifest}")
    return key


def commitment(key: bytes) -> str:
    """What a manifest says of a sampling key: its SHA-256, so that none is put in its place later."""
    return hashlib.sha256(b"orchestrator sampling key\0" + key).hexdigest()


def epoch_of(key: bytes, graph: str, number: int, rate: float, flows: float = 0.0) -> Epoch:
    """A key epoch of a graph, by the shares of packets and of flows."""
    said = _EPOCH + graph.encode() + b"\0" + number.to_bytes(8, "big")
    made = hmac.digest(key, said, "sha256")
    keys = int.from_bytes(made[:4], "big"), int.from_bytes(made[4:8], "big")
    return Epoch(number, *keys, *(min(round(r * (1 << 32)), 1 << 32) for r in (rate, flows)))


def report_key(key: bytes, graph: str, point: str, boot: int, epoch: int) -> tuple[int, int]:
    """By which a switch's reports of a graph are known, since a boot, from an epoch on
    (`servernf.wire.reports`)."""
    said = _REPORTS + graph.encode() + b"\0" + point.encode() + b"\0"
    made = hmac.digest(key, said + boot.to_bytes(8, "big") + epoch.to_bytes(8, "big"), "sha256")
    return int.from_bytes(made[:4], "big"), int.from_bytes(made[4:8], "big")


def _new_secret(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(f"{path}: is there already; a key is never overwritten") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StoreError(f"{path}: {error.strerror}") from error

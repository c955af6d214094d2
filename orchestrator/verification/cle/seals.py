"""Heads of the log, signed by the CLE: after so many entries the chain of hashes is there.

A receipt that a point gets is a head, and so is what is published to the customer. Whoever kept one
knows later whether the log still leads there.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import InputError
from orchestrator.files import read_regular
from orchestrator.verification.keys import signed_by

PURPOSE = b"orchestrator cle head\0"
HASH_BYTES = 32
SIGNATURE_BYTES = 64
START = bytes(HASH_BYTES)
"""The hash before the first entry."""
_SAID = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Head:
    """The chain's hash behind entry `index` (from 1), when it was sealed (us), and the signature."""

    index: int
    hash: bytes
    wall_us: int
    signature: bytes

    @classmethod
    def sealed(cls, index: int, chain_hash: bytes, wall_us: int, key: Ed25519PrivateKey) -> Head:
        """A head that the CLE stands for."""
        return cls(index, chain_hash, wall_us, key.sign(_message(index, chain_hash, wall_us)))

    def is_of(self, public: str) -> bool:
        """Whether the CLE with this public key signed it."""
        return signed_by(public, self.signature, _message(self.index, self.hash, self.wall_us))

    def line(self) -> str:
        """As a line of published heads."""
        said = {
            "index": self.index,
            "hash": self.hash.hex(),
            "wall_us": self.wall_us,
            "signature": self.signature.hex(),
        }
        return json.dumps(said) + "\n"


def chained(before: bytes, head: bytes, payload: bytes) -> bytes:
    """The chain's hash behind an entry: SHA-256 of the one before it, its head and its payload."""
    return hashlib.sha256(before + head + payload).digest()


def read_heads(path: Path) -> list[Head]:
    """The heads of a file that somebody kept, one JSON object a line; a line cut short is none."""
    heads: list[Head] = []
    text = read_regular(path, str(path)).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            raw = cast("dict[str, Any]", json.loads(line))
            heads.append(
                Head(
                    int(raw["index"]),
                    bytes.fromhex(raw["hash"]),
                    int(raw["wall_us"]),
                    bytes.fromhex(raw["signature"]),
                )
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"{path}:{number}: is no head of a log") from None
    return heads


def two_stories(heads: Iterable[Head], public: str) -> list[tuple[Head, Head]]:
    """Pairs of heads that one CLE signed and no one log has: of the same index, but not the same."""
    first: dict[int, Head] = {}
    pairs: list[tuple[Head, Head]] = []
    for head in heads:
        if not head.is_of(public):
            continue
        other = first.setdefault(head.index, head)
        if other.hash != head.hash:
            pairs.append((other, head))
    return pairs


def _message(index: int, chain_hash: bytes, wall_us: int) -> bytes:
    return PURPOSE + _SAID.pack(index, wall_us) + chain_hash

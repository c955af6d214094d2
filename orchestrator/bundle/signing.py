"""Who vouches for a bundle: an Ed25519 signature (RFC 8032) over its manifest, which has all digests.

The member `signature.json` holds the signer's public key and the signature, both in hexadecimal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from orchestrator.errors import InputError
from orchestrator.files import read_small

MEMBER = "signature.json"
TRUST = "ORCHESTRATOR_TRUST"
_PURPOSE = b"orchestrator bundle\0"
"""Before the manifest, so that a signature of something else is none of a bundle."""
_HEX_KEY, _HEX_SIGNATURE = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{128}")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\s*", re.DOTALL)


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file; InputError where there is none that signs."""
    data = read_small(path, f"--sign {path}")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"--sign {path}: holds no unencrypted private key (PEM)") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"--sign {path}: is not an Ed25519 key (openssl genpkey -algorithm ed25519)"
        )
    return key


def signature(key: Ed25519PrivateKey, manifest: bytes) -> bytes:
    """The member that signs a manifest."""
    document = {
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(_PURPOSE + manifest).hex(),
    }
    return (json.dumps(document) + "\n").encode()


def signer_of(member: bytes, manifest: bytes) -> str:
    """The fingerprint of the key that signed a manifest; ValueError if the signature is wrong."""
    raw = json.loads(member.decode("ascii"))
    document = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    key, signed = (str(document.get(name)) for name in ("public_key", "signature"))
    if not _HEX_KEY.fullmatch(key) or not _HEX_SIGNATURE.fullmatch(signed):
        raise ValueError(f"{MEMBER} holds no Ed25519 key and signature")
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    try:
        public.verify(bytes.fromhex(signed), _PURPOSE + manifest)
    except InvalidSignature:
        raise ValueError(f"{MEMBER} does not sign this manifest") from None
    return fingerprint(public)


def fingerprint(key: Ed25519PublicKey) -> str:
    """`SHA256:` and the digest of the raw public key."""
    return f"SHA256:{hashlib.sha256(key.public_bytes_raw()).hexdigest()}"


def trusted_keys(files: Iterable[str] | None = None) -> dict[str, str]:
    """Fingerprints of the keys that this user trusts, with their files ($ORCHESTRATOR_TRUST's if not
    given); InputError for a file without keys: who names one wants it to count.
    """
    if files is None:
        files = filter(None, os.environ.get(TRUST, "").split(os.pathsep))
    keys: dict[str, str] = {}
    for file in files:
        blocks = _PEM.findall(read_small(Path(file), f"--trust {file}"))
        for block in blocks:
            try:
                key = load_pem_public_key(block)
            except (ValueError, UnsupportedAlgorithm):
                key = None
            if not isinstance(key, Ed25519PublicKey):
                raise InputError(f"--trust {file}: holds a key that is not Ed25519")
            keys[fingerprint(key)] = file
        if not blocks:
            raise InputError(f"--trust {file}: holds no public key (PEM)")
    return keys

"""Signatures of bundles: who signed, what a change breaks, keys that are none."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from networks import make_graph, one_way, permits, topology

from orchestrator.bundle import signing
from orchestrator.bundle.codec import dump, read
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.errors import InputError


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture
def file(tmp_path: Path, key: ed25519.Ed25519PrivateKey) -> Path:
    here = topology("single")
    graph = make_graph({"fw": permits()}, one_way("inside", "fw", "outside"))
    path = tmp_path / "signed.bundle"
    path.write_bytes(
        dump(compile_graph(CompileRequest(graph, here)).bundle, topology=here, key=key)
    )
    return path


def trust(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    monkeypatch.setenv(signing.TRUST, ":".join(map(str, files)))


def test_who_signed_it(
    file: Path, key: ed25519.Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_back = read(file)
    assert (read_back.signer, read_back.trusted) == (signing.fingerprint(key.public_key()), False)
    keys = file.parent / "trusted.pem"
    other = ed25519.Ed25519PrivateKey.generate()
    keys.write_bytes(public_pem(other) + public_pem(key))
    trust(monkeypatch, keys)
    assert read(file).trusted
    keys.write_bytes(public_pem(other))
    with pytest.raises(InputError, match=r"is signed by SHA256:\w+; trusted are only SHA256:"):
        read(file)


def test_another_manifest_or_signature(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    changes = {
        "does not sign this manifest": {
            "manifest.json": json.dumps({**manifest, "owner": "alice"}).encode()
        },
        "holds no Ed25519 key": {"signature.json": b'{"public_key": "00"}'},
        "not a bundle": {"signature.json": b"\xff"},
    }
    for words, changed in changes.items():
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, data in (members | changed).items():
                archive.writestr(name, data)
        file.write_bytes(out.getvalue())
        with pytest.raises(InputError, match=words):
            read(file)


def test_keys_of_openssl(tmp_path: Path) -> None:
    """RFC 8410's encodings, as another program writes them."""
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    try:
        words = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)]
        subprocess.run(words, check=True, capture_output=True)
        words = ["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)]
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl that knows Ed25519")
    signed = signing.fingerprint(signing.signing_key(private).public_key())
    assert list(signing.trusted_keys([str(public)])) == [signed]


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "key"
    for data, words in ((b"secret", "holds no unencrypted"), (pem(other), "is not an Ed25519 key")):
        file.write_bytes(data)
        with pytest.raises(InputError, match=words) as caught:
            signing.signing_key(file)
        assert "secret" not in str(caught.value)
    for data, words in ((b"secret", "holds no public key"), (public_pem(other), "not Ed25519")):
        file.write_bytes(data)
        with pytest.raises(InputError, match=words):
            signing.trusted_keys([str(file)])
    with pytest.raises(InputError, match="is a directory"):
        signing.trusted_keys([str(tmp_path)])
    with pytest.raises(InputError, match="No such file"):
        signing.trusted_keys([str(tmp_path / "none")])

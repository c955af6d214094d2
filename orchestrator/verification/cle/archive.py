"""Bundles that were to run, by digest: with the log and the manifest, all that verdicts are made of.

A bundle has the configurations of its NFs. A file's name is its SHA-256, so nobody puts another one in
its place; an archive may hold more than a manifest refers to, such as the versions that came after.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.files import read_regular, replace_private

_SUFFIX = ".bundle"


def put(folder: Path, data: bytes) -> str:
    """Keep a bundle in a CLE's folder; its digest. Done again, it changes nothing."""
    digest = hashlib.sha256(data).hexdigest()
    where = folder / "archive"
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (where / f"{digest}{_SUFFIX}").exists():
        replace_private(where / f"{digest}{_SUFFIX}", data)
    return digest


def bundles(folder: Path) -> list[Path]:
    """What a CLE's folder has; InputError for a file that is not what its name says."""
    paths = sorted((folder / "archive").glob(f"*{_SUFFIX}"))
    for path in paths:
        if hashlib.sha256(read_regular(path, str(path))).hexdigest() != path.stem:
            raise InputError(f"{path}: is not the bundle that was archived under this digest")
    return paths

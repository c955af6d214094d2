"""Which version of this distribution runs."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Its number; to be asked before privileges go, since it reads files."""
    try:
        return version("servernf")
    except PackageNotFoundError:
        return "0+checkout"

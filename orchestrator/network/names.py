"""Names of networks."""

from __future__ import annotations

import re

from orchestrator.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


def check_network_name(name: str) -> str:
    """The name itself; it becomes a file's and a folder's name, so it is checked first."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"network name '{name}': 1 to 40 letters, digits, '.', '_' or '-' are expected, "
            "the first a letter or digit"
        )
    return name

"""Where the packages are, and files shipped beside them (in a wheel under `orchestrator/_data`)."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def shipped(kind: str) -> Path:
    """The folder of 'topologies', 'examples' or 'p4src'; FileNotFoundError where neither has it."""
    packaged = Path(str(resources.files("orchestrator"))) / "_data" / kind
    for folder in (packaged, _CHECKOUT / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the installation carries no '{kind}' (looked in {packaged})")


def shipped_topologies() -> dict[str, Path]:
    """Shipped topologies by name."""
    return {path.stem: path for path in sorted(shipped("topologies").glob("*.json"))}


def child_environment() -> dict[str, str]:
    """The environment of a process of ours that imports these packages, too, from wherever they are."""
    environment = dict(os.environ)
    root = str(_CHECKOUT)
    if not root.endswith("-packages"):
        # Run from a checkout that is not installed.
        path = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([root, path] if path else [root])
    return environment

"""Files shipped outside the packages: in a wheel under `orchestrator/_data`, else the checkout's own."""

from __future__ import annotations

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

"""Building the project's distributions, and fresh environments that have nothing but wheels."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def run(*command: object, **options: Any) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=240, **options
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(project: Path, folder: Path) -> Path:
    """The wheel of a project's folder."""
    # Without the build backend here, pip fetches it.
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(*PIP, "wheel", "--quiet", "--no-deps", *here, "--wheel-dir", folder, project)
    (made,) = folder.glob("*.whl")
    return made


def environment(folder: Path, *wheels: Path) -> tuple[Path, Path]:
    """The interpreter of a fresh environment with these wheels only, and where its packages are."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    run(*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", *wheels)
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    return python, Path(where.strip())

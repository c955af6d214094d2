"""What is installed is locked: pyproject's ranges and the locks agree, and every entry has hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.observation.shell import LOCK, REQUIREMENT

ROOT = Path(__file__).parents[2]
WHOLE = ROOT / "requirements.lock"


def locked(path: Path) -> dict[str, list[Requirement]]:
    """The entries by name: an environment marker may give a package several versions."""
    requirements: dict[str, list[Requirement]] = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        text, *hashes = re.split(r"\s+--hash=sha256:", entry.strip())
        assert hashes, f"{path.name}: {text} has no hash"
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes), text
        requirement = Requirement(text)
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), text
        requirements.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return requirements


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    server_side = tomllib.loads((ROOT / "servernf" / "pyproject.toml").read_text())["project"]
    own = f"servernf=={server_side['version']}"
    assert own in project["dependencies"], "the two are released together"
    assert project["version"] == server_side["version"]
    asked = [a for a in (*project["dependencies"], *server_side["dependencies"]) if a != own]
    for extra in project["optional-dependencies"].values():
        asked += extra
    pinned = locked(WHOLE)
    for requirement in map(Requirement, asked):
        entries = pinned.get(canonicalize_name(requirement.name), [])
        assert entries, f"{requirement} is not in {WHOLE.name}: make lock"
        for entry in entries:
            (version,) = entry.specifier
            assert version.version in requirement.specifier, (
                f"{entry} is not {requirement}: make lock"
            )


def test_the_shell_is_locked() -> None:
    wanted = Requirement(REQUIREMENT)
    (entry,) = locked(LOCK)[canonicalize_name(wanted.name)]
    assert entry.specifier == wanted.specifier
    assert "protobuf" in locked(LOCK)


@pytest.mark.parametrize("path", [WHOLE, LOCK], ids=lambda path: path.name)
def test_locks_name_no_index(path: Path) -> None:
    assert "://" not in path.read_text()


def test_setup_installs_the_lock() -> None:
    text = (ROOT / "setup.sh").read_text()
    assert "--require-hashes --only-binary :all: -r requirements.lock" in text
    assert "--no-deps --no-build-isolation -e servernf -e ." in text

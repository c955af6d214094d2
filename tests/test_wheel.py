"""The wheel works outside the checkout: built, installed into a fresh environment, and used.

The environment sees this one's packages by a .pth file, which does not follow the .pth files of theirs:
so the dependencies are there, and the checkout, installed here as editable, is not.
Blind spot: a dependency that pyproject.toml forgets (a fresh `make setup` would tell).
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from wheels import ROOT, build, environment


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, and an empty working directory."""

    python: Path
    home: Path

    def __call__(self, *command: object, code: int = 0) -> str:
        environment = {
            "PATH": os.pathsep.join([str(self.python.parent), os.environ["PATH"]]),
            "HOME": str(self.home),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        told = f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == code, told
        assert "Traceback" not in done.stderr, told
        return done.stdout

    def example(self, name: str) -> Path:
        examples = self(
            self.python,
            "-c",
            "from orchestrator.resources import shipped; print(shipped('examples'))",
        )
        return Path(examples.strip()) / name / "graph.json"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    server_side = build(ROOT / "servernf", tmp_path_factory.mktemp("servernf"))
    python, purelib = environment(folder / "venv", wheel, server_side)
    dependencies = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (purelib / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    home = folder / "home"
    home.mkdir()
    return Installed(python, home)


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for expected in (
        "orchestrator/_data/p4src/build/edge_v1model.json",
        "orchestrator/_data/p4src/build/edge_v1model.p4info.txtpb",
        "orchestrator/_data/topologies/leaf-spine.json",
        "orchestrator/profiles/python.json",
        "orchestrator/_data/examples/campus_edge/graph.json",
        "orchestrator/_data/examples/campus_edge/routes.txt",
        "orchestrator/_data/mininet/network.py",
        "orchestrator/py.typed",
        "orchestrator/ui/static/index.html",
        "orchestrator/ui/static/vendor/cytoscape/LICENSE",
    ):
        assert expected in names
    for name in names:
        assert "__pycache__" not in name
        other = ("tests/", "mininet/", "servernf/")
        assert not name.startswith(other), "would shadow another package"


def test_it_is_the_wheel_that_is_used(installed: Installed) -> None:
    for module in ("orchestrator", "servernf"):
        module_file = installed(
            installed.python, "-c", f"import {module}; print({module}.__file__)"
        )
        assert module_file.startswith(str(installed.python.parent.parent)), module_file
    assert str(ROOT) not in str(installed.example("campus_edge"))


def test_graph_check(installed: Installed) -> None:
    told = installed(
        "orchestrator", "graph", "check", installed.example("campus_edge"), "-t", "leaf-spine"
    )
    assert "campus_edge is valid" in told
    missing = installed("orchestrator", "graph", "check", "missing.json", code=2)
    assert missing == ""


def test_compile(installed: Installed) -> None:
    graph = installed.example("campus_edge")
    told = json.loads(installed("orchestrator", "compile", graph, "-t", "leaf-spine", "--json"))
    assert told["graph"] == "campus_edge"
    assert told["entries"]["leaf1"]["acl.ipv4"] > 100
    installed("orchestrator", "compile", graph, "-t", "leaf-spine", "-o", "campus.bundle")
    assert (installed.home / "campus.bundle").stat().st_size > 10_000


def test_deploy_in_memory(installed: Installed) -> None:
    graph = installed.example("campus_edge")
    told = json.loads(installed("orchestrator", "deploy", graph, "--network", "memory", "--json"))
    web = told["traffic"]["web"]
    assert web["sent"] == web["delivered"] > web["answered"], "pool addresses are no host's"
    assert web["answered"] == web["answers_delivered"] > 0
    unsolicited = told["traffic"]["return"]
    assert unsolicited["sent"] > unsolicited["delivered"] == 0
    installed("orchestrator", "net", "down", "memory")


def test_state_is_the_users(installed: Installed) -> None:
    """Nothing is written into the installation or the working directory."""
    before = {p for p in installed.home.rglob("*") if p.name != "campus.bundle"}
    installed("orchestrator", "net", "status")
    after = {p for p in installed.home.rglob("*") if p.name != "campus.bundle"}
    assert all(".local/state" in str(p) or p.name in (".local", "state") for p in after - before)

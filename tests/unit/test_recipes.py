"""The recipes of CONTRIBUTING.md are followed as they stand there: files written, then used.

Oracle: the reference of the recipe's NF against its runtime, p4c where it is on PATH. Blind spot: prose
between the recipes' files.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from networks import both_ways, make_graph, topology

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.model.builds import Slot
from orchestrator.nfs import base as nfs
from orchestrator.targets import block, target
from orchestrator.targets.block import BLOCKS, Block, filled, nf_blocks
from servernf.python import network_function

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def recipe(path: str) -> str:
    """The file that the text gives under this name."""
    match = re.search(rf"^`{re.escape(path)}`:\n\n```\w+\n(.*?)^```$", TEXT, re.M | re.S)
    assert match, f"CONTRIBUTING.md has no file {path}"
    assert not (ROOT / path).exists(), f"{path} is there: the recipe is of a new one"
    return match[1]


def followed(path: str, folder: Path) -> None:
    """Write a file and import it, as its package would."""
    file = folder / path.replace("/", "_")
    file.write_text(recipe(path))
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[file.stem]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe registers is gone after its test; what is there already registers itself once."""
    network_function.known_types()
    for module in (nfs, network_function, target):
        monkeypatch.setattr(module, "_registry", dict(vars(module)["_registry"]))


@pytest.mark.slow
def test_add_an_nf(tmp_path: Path) -> None:
    followed("orchestrator/nfs/size_limit.py", tmp_path)
    followed("servernf/python/nfs/size_limit.py", tmp_path)
    spec = ("size_limit", {"max_bytes": 200})
    graph = make_graph({"limit": spec}, both_ways("inside", "limit", "outside"))
    network = topology()
    driver = compare(
        graph, network, compile_graph(CompileRequest(graph, network)).bundle, 400, seed=3
    )
    assert driver.differences == []
    assert 0 < driver.delivered < driver.packets


@pytest.mark.slow
def test_add_a_target(tmp_path: Path) -> None:
    followed("orchestrator/targets/toy.py", tmp_path)
    network = topology()
    switches = {n: dataclasses.replace(s, target="toy") for n, s in network.switches.items()}
    graph = make_graph(
        {"a": ("acl", {"rules": [{"protocol": "tcp", "dst_port": "1-9", "action": "deny"}]})},
        both_ways("inside", "a", "outside"),
    )
    compiled = compile_graph(CompileRequest(graph, dataclasses.replace(network, switches=switches)))
    assert {t for _, t in compiled.bundle.pipeline_of.values()} == {"toy"}


def test_add_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = re.search(r"```python\n(Block\(.*?\))\n```", TEXT)
    assert line is not None
    made = eval(line[1], {"Block": Block})
    monkeypatch.setattr(block, "BLOCKS", {**BLOCKS, made.name: made})
    slots = (Slot("my_toy", made.name), Slot("nat", "rewrite"))
    text = nf_blocks(slots, {"my_toy.segments": 512}, block.BLOCKS)
    assert "toy_block(512) my_toy;" in text.instances
    source = recipe("p4src/blocks/toy.p4")
    assert f"control {made.name}_block(" in source
    compiler = shutil.which("p4c-bm2-ss")
    if compiler is None:
        pytest.skip("p4c-bm2-ss: not installed")
    p4src = tmp_path / "p4src"
    shutil.copytree(ROOT / "p4src", p4src)
    (p4src / "blocks/toy.p4").write_text(source)
    edge = p4src / "pipelines/edge.p4"
    edge.write_text(filled(edge.read_text(), text))
    info = tmp_path / "info.txtpb"
    command = [compiler, "--Wdisable", "--p4runtime-files", info, "-o", tmp_path / "toy.json"]
    subprocess.run([*command, "pipelines/edge_v1model.p4"], cwd=p4src, check=True)
    assert re.search(r'name: "ingress\.my_toy\.segments"', info.read_text())

"""The shipped blocks on chips: what is refused is refused by table and resource, and what is said to
fit does.

Oracle: the model itself, asked again with what it said would fit. Blind spot: the compiler, which may
do better or worse.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.errors import DoesNotFit
from orchestrator.fitting.pipelines import fitted, holdable, refusal
from orchestrator.fitting.steps import instance_table
from orchestrator.graph import load_graph
from orchestrator.placement.resources import Network
from orchestrator.placement.topologies import load_topology
from orchestrator.resources import shipped
from orchestrator.targets import lookup
from orchestrator.targets.chip import Chip
from orchestrator.targets.pipelines import SHIPPED
from orchestrator.whatif.scenarios import change

BUILD = SHIPPED.planned_build("edge", "tofino")
ACL = {"acl.ipv4": 300}
CAMPUS = shipped("examples") / "campus_edge" / "graph.json"


def chip(name: str) -> Chip:
    described = lookup(name).chip
    assert described is not None
    return described


def test_blocks_without_entries_are_left_out() -> None:
    fit_made = fitted(BUILD, chip("tofino2"), ACL)
    tables = {instance_table(p.name) for p in fit_made.placed if p.keyed and p.entries}
    assert {"acl.ipv4", "classify.ipv4", "fabric.devices"} <= tables
    assert not {t for t in tables if t.partition(".")[0] in ("rewrite", "route", "policer")}
    assert not any("rewrite" in p.name for p in fit_made.placed)


def test_packet_order_is_kept() -> None:
    at = {instance_table(p.name): p for p in fitted(BUILD, chip("tofino2"), ACL).placed}
    order = ["port.ports", "classify.ipv4", "classify.epoch", "classify.first_ipv4"]
    order += ["acl.ipv4", "dispatch.spread", "fabric.devices"]
    stages = [at[table].first for table in order]
    assert stages == sorted(stages)
    assert len(set(stages)) == len(stages), "each depends on the one before"


def test_tofino_has_fewer_stages_than_every_pipeline_needs() -> None:
    refused = refusal(BUILD, chip("tofino"), ACL)
    assert refused is not None
    assert refused.resource == "order"
    assert refused.least > 12
    assert refused.text.startswith(f"{refused.table} stands behind what it depends on, in stage ")
    assert refused.text.endswith(
        f"(the blocks that every pipeline has need {refused.least} by themselves)"
    )


def test_what_would_fit_does() -> None:
    need = {"acl.ipv4": 20_000}
    refused = refusal(BUILD, chip("tofino2"), need)
    assert refused is not None
    assert refused.fewer is not None
    table, entries = refused.fewer
    assert table == "acl.ipv4"
    assert 1_000 < entries < 20_000
    assert fitted(BUILD, chip("tofino2"), {table: entries}).fits
    assert not fitted(BUILD, chip("tofino2"), {table: entries * 2}).fits
    assert f"with {entries:,} entries of acl.ipv4 or without acl" in refused.text


def test_another_nf_elsewhere_would_fit() -> None:
    need = {**ACL, "route.ipv4": 200, "route.segments_routed": 2}
    refused = refusal(BUILD, chip("tofino2"), need)
    assert refused is not None
    assert refused.without == ("route",)
    left = {table: n for table, n in need.items() if not table.startswith("route.")}
    assert refusal(BUILD, chip("tofino2"), left) is None


def test_too_many_header_bits_are_refused() -> None:
    small = dataclasses.replace(chip("tofino2"), phv_bits=1_000)
    refused = refusal(BUILD, small, ACL)
    assert refused is not None
    assert refused.resource == "phv_bits"
    assert refused.text.startswith("Tofino 2 has 1,000 bits of packet header vector, ")


@pytest.mark.slow
def test_plans_use_only_tables_that_a_chip_can_hold() -> None:
    assert not holdable(BUILD, chip("tofino"))
    held = holdable(BUILD, chip("tofino2"))
    assert {"acl.ipv4", "acl.tree.level_1", "rewrite.src_ipv6"} <= held
    assert "route.ipv4" not in held
    lacking = {slot.instance for slot in BUILD.slots if slot.block in chip("tofino2").lacks}
    assert lacking == {"hash_lb", "tunnel"}
    assert not {table for table in held if table.partition(".")[0] in lacking}
    planned = SHIPPED.planned("edge", "tofino2")
    assert planned.capacity("hash_lb", "segments") > 0, "the blocks' own size"


def topology(folder: Path, target: str) -> str:
    raw = json.loads((shipped("topologies") / "leaf-spine.json").read_text())
    raw["switches"]["leaf1"]["target"] = target
    path = folder / "rack.json"
    path.write_text(json.dumps(raw))
    return str(path)


@pytest.mark.slow
def test_resources_of_a_switch_that_holds_its_share(tmp_path: Path) -> None:
    picture = tmp_path / "stages.svg"
    words = ["compile", str(CAMPUS), "-t", topology(tmp_path, "tofino2"), "--resources"]
    result = CliRunner().invoke(app, [*words, "--json", "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)["switches"].values()
    assert told["fits"]
    assert told["stages"]["estimate"] <= told["stages"]["of"] == 20
    of = {row["table"]: row for row in told["tables"]}
    assert of["acl.ipv4"]["nfs"] == ["edge_acl"]
    assert of["acl.ipv4"]["tcam"] > 0
    assert not any(table.startswith("route.") for table in of), "routes went to another switch"
    for resource in ("tcam", "sram", "map_ram"):
        shares = sum(use[resource] for use in told["by_stage"])
        assert shares == sum(row[resource] for row in told["tables"])
        assert shares == pytest.approx(
            sum(mine[resource] for mine in told["nfs"].values()), abs=0.5
        )
    assert set(told["nfs"]) == {"", "edge_acl", "edge_ids", "edge_nat"}
    assert of["deliver.mac"]["entries"] > 0, "entries of what every pipeline has are counted, too"
    assert of["port.ports"]["compiler"] == {"sram": 3, "tcam": 0, "map_ram": 2}
    assert of["neighbor.arp"]["compiler"] is None, "not measured"
    assert picture.read_text().startswith("<?xml")


@pytest.mark.slow
def test_resources_of_a_chip_that_is_too_small(tmp_path: Path) -> None:
    words = ["compile", str(CAMPUS), "-t", topology(tmp_path, "tofino"), "--resources", "--json"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, DoesNotFit)
    assert result.exception.exit_code == 3
    (told,) = json.loads(result.stdout)["switches"].values()
    assert not told["fits"]
    assert "Tofino has 12 stages" in told["why"]
    assert "Tofino has 12 stages" in str(result.exception)
    assert told["stages"]["estimate"] > 12


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (
            ["--resources"],
            "--resources: no switch of leaf-spine has a target with match-action stages",
        ),
        (
            ["--resources", "--explain"],
            "--resources goes with --plot, --max-classes and --json only",
        ),
    ],
)
def test_what_resources_cannot_be_asked_for(words: list[str], wrong: str) -> None:
    result = CliRunner().invoke(app, ["compile", str(CAMPUS), *words])
    assert wrong in str(result.exception)


@pytest.mark.slow
def test_what_fits_alone_but_not_together_goes_to_another_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A chip of 16 stages holds the access list or the translation of branch_office, not both."""
    small = dataclasses.replace(chip("tofino2"), stages=16)
    monkeypatch.setattr(type(lookup("tofino2")), "chip", small)
    graph = load_graph(shipped("examples") / "branch_office" / "graph.json").graph
    on = change(load_topology("leaf-spine"), "leaf1.target=tofino2")
    pipelines = Network.planned(on).pipelines
    plan = compile_graph(CompileRequest(graph, on, pipelines=pipelines)).plan
    here = {unit.partition(".")[0] for unit, device in plan.device_of.items() if device == "leaf1"}
    assert here & {"branch_acl", "branch_nat"}
    assert not here >= {"branch_acl", "branch_nat"}
    assert not any(core for group in plan.cores_of for core in group), "no server was needed"


@pytest.mark.slow
@pytest.mark.parametrize(("target", "status"), [("tofino", "INFEASIBLE"), ("tofino2", "OPTIMAL")])
def test_what_if_asks_the_chip(target: str, status: str) -> None:
    words = ["whatif", str(CAMPUS), "-t", "leaf-spine", "--set", f"leaf1.target={target}", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    scenario = json.loads(result.stdout)["scenarios"][-1]
    assert scenario["status"] == status, scenario["why"]
    if target == "tofino":
        assert "leaf1: " in scenario["why"]
        assert "by themselves" in scenario["why"]
    else:
        routes = [d for task, d in scenario["device_of"].items() if task.startswith("edge_router")]
        assert "leaf1" not in routes

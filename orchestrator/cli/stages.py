"""`orchestrator compile --resources`: what a graph takes of switches with match-action stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.cli.output import print_json, print_table, say
from orchestrator.cli.working import COMPILING, Work
from orchestrator.compile import MOST_CLASSES, CompileRequest, compile_graph
from orchestrator.errors import DoesNotFit
from orchestrator.fitting.picture import draw_stages
from orchestrator.graph import load_graph
from orchestrator.placement.resources import Network
from orchestrator.placement.topologies import resolve_topology
from orchestrator.presenters.stages import check_has_chips, stages_json
from orchestrator.targets.pipelines import SHIPPED

_BY_NF = ("stages", "tcam", "sram", "map_ram", "hash_bits", "logical_tables")


def show_stages(
    graph: Path, topology: str, max_classes: int | None, plot: Path | None, as_json: bool
) -> None:
    """Print it, and draw it; DoesNotFit at the end, where it does not fit."""
    loaded, there = load_graph(graph), resolve_topology(topology)
    check_has_chips(there)
    request = CompileRequest(
        loaded.graph,
        there,
        pipelines=Network.planned(there).pipelines,
        warnings=tuple(loaded.warnings),
        max_classes=max_classes or MOST_CLASSES,
    )
    refused: DoesNotFit | None = None
    with Work(COMPILING, silent=as_json) as work:
        request = replace(request, step=work.step)
        try:
            result = compile_graph(request)
        except DoesNotFit as error:
            refused = error
            offered = {
                s.name: SHIPPED.planned(s.pipeline, s.target) for s in there.switches.values()
            }
            result = compile_graph(replace(request, pipelines=offered, endless_chips=True))
    told: dict[str, Any] = stages_json(result)
    if plot is not None:
        draw_stages(told, f"{result.bundle.graph} on {there.name}", plot)
    if as_json:
        print_json({"graph": result.bundle.graph, "topology": there.name, "switches": told})
    else:
        for switch, stages in told.items():
            _print_switch(switch, stages)
        if plot is not None:
            say(f"picture written to {plot}")
    if refused is not None:
        raise refused


def _print_switch(switch: str, told: Any) -> None:
    stages, phv = told["stages"], told["phv_bits"]
    rows = [
        (
            row["table"],
            ", ".join(row["nfs"]),
            f"{row['first_stage']}-{row['last_stage']}",
            row["entries"],
            row["size"],
            _beside(row, "tcam"),
            _beside(row, "sram"),
            _beside(row, "map_ram"),
            row["hash_bits"],
        )
        for row in told["tables"]
    ]
    columns = (
        "table",
        "NF",
        "stages",
        "entries#",
        "size#",
        "TCAM#",
        "SRAM#",
        "map RAM#",
        "hash bits#",
    )
    title = f"{switch} ({told['chip']}), an estimate / what the compiler took for such a table by itself"
    print_table(title, columns, rows)
    columns = ("NF", "stages#", "TCAM#", "SRAM#", "map RAM#", "hash bits#", "logical tables#")
    of_nfs = [
        (nf or "(every pipeline)", *(f"{mine[r]:g}" for r in _BY_NF))
        for nf, mine in told["nfs"].items()
    ]
    print_table(f"{switch}: by NF", columns, of_nfs)
    say(
        f"{switch}: {stages['estimate']} of {stages['of']} stages, {phv['estimate']:,} of {phv['of']:,} "
        f"bits of packet header vector; {'fits' if told['fits'] else 'does not fit'}; "
        "no compiler has been asked of it as a whole"
    )


def _beside(row: Any, memory: str) -> str:
    """The estimate, and the compiler's figure where there is one."""
    said = row["compiler"]
    return str(row[memory]) if said is None else f"{row[memory]} / {said[memory]}"

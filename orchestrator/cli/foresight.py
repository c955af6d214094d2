"""`whatif --live NETWORK` without a graph: what `reconcile --watch` would do about a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.cli.networks import find_network
from orchestrator.cli.output import print_json, print_table, say
from orchestrator.errors import InputError
from orchestrator.presenters.foresight import foreseen, foreseen_json
from orchestrator.upkeep.foresight import Foreseen


def foresee_failures(live: str, fail: Sequence[str], fail_each: str, as_json: bool) -> None:
    """Place the deployed graphs without what fails, as a repair would, and print it."""
    network = find_network(live)
    if not fail and not fail_each:
        raise InputError("whatif --live without GRAPH: say what fails (--fail or --fail-each)")
    failures = foreseen(network, fail, fail_each)
    if as_json:
        print_json(foreseen_json(network, failures))
        return
    _print(failures)


def _print(failures: Mapping[str, Mapping[str, Foreseen]]) -> None:
    print_table(
        "What a repair would do",
        ("fails", "graph", "placed", "moves"),
        (
            (name, graph, "NO" if seen.why else "yes", "; ".join(seen.moves))
            for name, graphs in failures.items()
            for graph, seen in graphs.items()
        ),
    )
    for name, graphs in failures.items():
        for seen in graphs.values():
            if seen.why:
                say(f"{name}: {seen.why}")

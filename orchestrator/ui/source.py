"""What the page shows: a running network, or what a bundle would make of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from orchestrator.errors import InputError
from orchestrator.placement.cpsat import Limits
from orchestrator.presenters.live_case import LiveCase
from orchestrator.presenters.whatif import outcomes_json, scenarios_of
from orchestrator.ui.questions import (
    EntriesQuestion,
    PacketQuestion,
    Planned,
    SamplesQuestion,
    Supposed,
    TraceQuestion,
)
from orchestrator.whatif.cases import Settings
from orchestrator.whatif.run import ScenarioOutcome, run_local

Told = dict[str, object]
Tell = Callable[[str, int, int], None]
"""Progress: what is done, how much of it, of how many (0: nobody knows). It raises `Cancelled`."""

_OBJECTIVES = ("slo", "cores", "latency", "moves", "hops")
_SEARCH_S = 10.0


class PageSource(Protocol):
    """Answers to the page's questions, each what a command prints as JSON.

    Called in threads, several at once. ReportedError where a command would fail.
    """

    kind: str
    """`live` or `bundle`."""
    name: str
    files: Sequence[Path]
    """Service graphs that may be planned, supposed and, if the page may write, deployed."""

    def network(self) -> Told:
        """`status`: devices, hosts, links, conditions, graphs."""
        ...

    def graphs(self) -> Told:
        """`bundle show` of each graph that is there."""
        ...

    def rules(self) -> Told:
        """`tables all --coverage`; of a bundle what it holds."""
        ...

    def entries(self, asked: EntriesQuestion) -> Told:
        """`tables DEVICE`, in pages."""
        ...

    def explain(self, asked: PacketQuestion) -> Told:
        """`explain --network-wide`."""
        ...

    def trace(self, asked: TraceQuestion) -> Told:
        """`trace`: a packet is sent."""
        ...

    def samples(self, asked: SamplesQuestion) -> Told:
        """`samples`."""
        ...

    def events(self) -> Told:
        """`events`: the last that workers keep."""
        ...

    def synthesis(self, graph: str) -> Told:
        """`compile` of a graph that is there."""
        ...

    def plan(self, asked: Planned, tell: Tell) -> Told:
        """`compile` of a file and, where there is a network, `deploy --dry-run`."""
        ...

    def deploy(self, asked: Planned, tell: Tell) -> Told:
        """`deploy` of a file."""
        ...

    def whatif(self, asked: Supposed, tell: Tell) -> Told:
        """`whatif`."""
        ...


def file_of(files: Sequence[Path], number: int) -> Path:
    """The graph file of a number."""
    if number >= len(files):
        raise InputError(
            f"file: there is no file {number}: `orchestrator ui --graph FILE` names some"
        )
    return files[number]


def outcomes(start: LiveCase, asked: Supposed, tell: Tell) -> Told:
    """The scenarios of a question, one after the other in this process."""
    scenarios = scenarios_of(
        start.case,
        asked.fail,
        asked.scale,
        asked.change,
        without_offload=asked.without_offload,
        sweep_text=asked.sweep,
        each=asked.fail_each,
    )
    for scenario in scenarios:
        scenario.apply(start.case)  # wrong names are said at once
    done = 0

    def step(_: ScenarioOutcome) -> None:
        nonlocal done
        done += 1
        tell("scenarios", done, len(scenarios) + 1)

    tell("scenarios", 0, len(scenarios) + 1)
    limits = Limits(seconds=_SEARCH_S, deterministic=True)
    settings = Settings("optimal", _OBJECTIVES, limits, start.running, start.workers)
    results = run_local(start.case, scenarios, settings, processes=1, progress=step)
    return outcomes_json(start, results)

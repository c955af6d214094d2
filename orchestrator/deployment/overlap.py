"""Whether two graphs would claim the same frames at a port, or answer for the same address there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.errors import DeploymentError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Between, Exact, Key, PipelineProgram, TableEntry, Ternary
from orchestrator.targets.block import ADMISSION_TABLES

_ANSWERS = frozenset({"neighbor.arp", "neighbor.nd"})


def check_overlap(bundle: Bundle, deployed: Mapping[str, Bundle]) -> None:
    """DeploymentError when a frame could enter the graph and one that is deployed already, or when both
    answer for an address at a port (one entry cannot be two graphs')."""
    problems: dict[str, None] = {}
    for name, other in deployed.items():
        for switch, program in bundle.programs.items():
            theirs = other.programs.get(switch)
            if theirs is None:
                continue
            for mine, its in _pairs(_admitting(program), _admitting(theirs)):
                port = dict(mine.keys)["ingress_port"]
                assert isinstance(port, Exact)
                problems[
                    f"{mine.origin} and {its.origin} of {name} ask for the same frames at "
                    f"{switch} port {port.value}"
                ] = None
            answered = {entry.keys: entry for entry in _answers(theirs)}
            for mine in _answers(program):
                if (its := answered.get(mine.keys)) is not None:
                    problems[
                        f"{mine.origin} and {its.origin} of {name} own the same address at {switch} "
                        f"port {dict(mine.keys)['ingress_port'][0]}"
                    ] = None
    if problems:
        listed = "; ".join(list(problems)[:5])
        raise DeploymentError(
            f"{bundle.graph}: {listed}; give their matches something that tells them apart"
        )


def _admitting(program: PipelineProgram) -> tuple[TableEntry, ...]:
    return tuple(entry for entry in program.entries if entry.table in ADMISSION_TABLES)


def _answers(program: PipelineProgram) -> tuple[TableEntry, ...]:
    return tuple(entry for entry in program.entries if entry.table in _ANSWERS)


def _pairs(
    ours: Iterable[TableEntry], theirs: tuple[TableEntry, ...]
) -> Iterable[tuple[TableEntry, TableEntry]]:
    for mine in ours:
        for its in theirs:
            if mine.table == its.table and _meet(dict(mine.keys), dict(its.keys)):
                yield mine, its


def _meet(ours: Mapping[str, Key], theirs: Mapping[str, Key]) -> bool:
    """Whether some frame matches both; a key that is left out matches all."""
    return all(_common(ours[name], theirs[name]) for name in ours.keys() & theirs.keys())


def _common(a: Key, b: Key) -> bool:
    if isinstance(a, Between) and isinstance(b, Between):
        return a.low <= b.high and b.low <= a.high
    if isinstance(a, Ternary) and isinstance(b, Ternary):
        return not (a.value ^ b.value) & a.mask & b.mask
    return a == b

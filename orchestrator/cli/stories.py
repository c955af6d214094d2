"""How a compiled graph is told: the cut, and what it takes of tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.cli.crowds import MOST
from orchestrator.cli.output import print_table, say
from orchestrator.model.bundle import Bundle, Story


def print_stories(bundle: Bundle) -> None:
    """The cut: which element runs where, and why."""
    columns = ("element", "runs on", "block", "entries#", "why")
    print_table(f"The cut of {bundle.graph}", columns, _cut_rows(bundle.stories))
    for line in bundle.plan.notes:
        say(line)


def print_entries(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Entries per switch and table; of a crowd of switches the sums."""
    if len(counts) > MOST:
        sums: Counter[str] = Counter()
        using: Counter[str] = Counter()
        for tables in counts.values():
            sums.update(tables)
            using.update(tables.keys())
        title = f"Entries of the graph on {len(counts)} devices (--json has those of each)"
        summed = [(table, using[table], sums[table]) for table in sorted(sums)]
        print_table(title, ("table", "devices#", "entries#"), summed)
        return
    rows = [
        (switch, table, count)
        for switch, tables in counts.items()
        for table, count in sorted(tables.items())
    ]
    print_table("Entries of the graph", ("device", "table", "entries#"), rows)


def _cut_rows(stories: Sequence[Story]) -> list[tuple[object, ...]]:
    """A row an element; of a crowd one for all copies of an element that differ in their device only."""
    alike: dict[tuple[object, ...], list[Story]] = {}
    for s in stories:
        copy = s.unit.partition("@")[0] if len(stories) > MOST else s.unit
        alike.setdefault((copy, s.slot or "NF", s.entries or "", s.why), []).append(s)
    return [
        (
            unit if len(some) > 1 else some[0].unit,
            f"{some[0].device} and {len(some) - 1} more" if len(some) > 1 else some[0].device,
            *rest,
        )
        for (unit, *rest), some in alike.items()
    ]

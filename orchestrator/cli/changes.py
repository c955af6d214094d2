"""What a deployment would change, printed (`deploy --dry-run`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from orchestrator.cli.crowds import MOST, names_of
from orchestrator.cli.output import print_table, say, warn
from orchestrator.deployment.operations import Prepared
from orchestrator.deployment.summary import Summary, change_words

_SIGNS = {"add": "+", "change": "~", "delete": "-"}


def print_changes(prepared: Prepared, network: str, verbose: bool) -> None:
    """The plan for people."""
    summary = prepared.summary
    if not summary:
        say(f"{summary.graph} on {network} is up to date: nothing would change")
        return
    if verbose:
        print_table(
            "Entries",
            ("", "device", "table", "match", "prio#", "action", "was", "rule"),
            (
                (
                    _SIGNS[str(words["kind"])],
                    *(words[name] for name in ("device", "table", "match")),
                    words["priority"] or "",
                    words["action"],
                    words["before"],
                    ": ".join(str(words[name]) for name in ("nf", "rule") if words[name]),
                )
                for words in change_words(prepared.transaction, prepared.new.bundle)
            ),
        )
    _print_tables(f"Changes of {summary.graph} on {network}", summary)
    if summary.workers:
        print_table(
            "Servers",
            ("worker", "NFs added", "NFs removed", "paths added#", "paths removed#"),
            (
                (
                    name,
                    ", ".join(changed.add),
                    ", ".join(changed.delete),
                    changed.paths_added or "",
                    changed.paths_deleted or "",
                )
                for name, changed in sorted(summary.workers.items())
            ),
        )
    for moved in summary.moved:
        say(f"state moves: {moved}")
    for standby in summary.standbys:
        say(f"standby: {standby}")
    for lost in summary.lost:
        warn(f"state lost: {lost}")
    for full in summary.full:
        warn(full)
    if summary.interrupts:
        warn(
            "the graph's packets are dropped from the old version's end until the new one is in force"
        )
    elif summary.full:
        warn("deploying it is refused without --allow-interruption")
    elif prepared.old is not None:
        switches = names_of(summary.switched_over)
        say(
            f"one entry on each of {switches} puts it in force"
            if switches
            else "it changes in place: every packet meets one change at most"
        )
    say(f"plan: {summary.words()}")


def _print_tables(title: str, summary: Summary) -> None:
    """What becomes of entries, by device and table; of a crowd of devices by table."""
    kinds = ("add#", "change#", "delete#", "copies#", "provenance#")
    rows = [
        (device, table, list(asdict(changes).values()))
        for device, tables in sorted(summary.devices.items())
        for table, changes in sorted(tables.items())
    ]
    if len(summary.devices) <= MOST:
        listed = ((device, table, *(n or "" for n in counts)) for device, table, counts in rows)
        print_table(title, ("device", "table", *kinds), listed)
        return
    using = Counter(table for _, table, _ in rows)
    sums = {table: [0] * len(kinds) for table in sorted(using)}
    for _, table, counts in rows:
        sums[table] = [a + b for a, b in zip(sums[table], counts, strict=True)]
    print_table(
        f"{title}, {len(summary.devices)} devices (--json has those of each)",
        ("table", "devices#", *kinds),
        ((table, using[table], *(n or "" for n in numbers)) for table, numbers in sums.items()),
    )

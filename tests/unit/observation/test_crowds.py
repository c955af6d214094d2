"""Tables of many devices say what is not well, and how many are."""

from __future__ import annotations

from orchestrator.cli.crowds import MOST, crowd


def rows(well: int, wrong: int) -> list[tuple[str, str]]:
    return [*((f"leaf{n}", "yes") for n in range(well)), *((f"bad{n}", "NO") for n in range(wrong))]


def shown(well: int, wrong: int, *, everything: bool = False) -> tuple[str, int]:
    lines = crowd("Devices", rows(well, wrong), lambda row: row[-1] != "yes", everything)
    return lines[0], len(lines[1])


def test_few_are_all_shown() -> None:
    assert shown(MOST - 1, 1) == ("Devices", MOST)
    assert shown(2000, 1, everything=True) == ("Devices", 2001)


def test_of_many_only_those_that_are_not_well() -> None:
    assert shown(998, 2) == ("Devices: 998 of 1000 are well (--all lists all)", 2)
    assert shown(1000, 0) == ("Devices: 1000 of 1000 are well (--all lists all)", 0)
    title, count = shown(10, 990)
    assert title.startswith(f"Devices: 10 of 1000 are well, the worst {MOST} of those that are not")
    assert count == MOST

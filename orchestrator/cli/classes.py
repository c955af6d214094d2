"""Traffic classes on the command line: `compile --explain [CLASS]` and `--plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from orchestrator.cli.output import print_table, say
from orchestrator.errors import InputError, unknown

if TYPE_CHECKING:
    from orchestrator.compile import Compiled
    from orchestrator.compiler.story import ClassStory

ALL = "all"
"""What `--explain` without a class asks for."""
_MOST_LISTED = 100


class ExplainCommand(TyperCommand):
    """A command whose `--explain` may stand without a value, also in front of the graph's file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Fill in the value that is left out."""
        whole: list[str] = []
        for argument, after in zip(args, [*args[1:], ""], strict=True):
            whole.append(argument)
            if argument == "--explain" and (not after or after.startswith("-") or _is_file(after)):
                whole.append(ALL)
        return super().parse_args(ctx, whole)


def _is_file(text: str) -> bool:
    return text.endswith(".json") or Path(text).is_file()


def chosen(result: Compiled, wanted: str) -> tuple[ClassStory, ...]:
    """The classes of a name or of a traffic; InputError lists what there is."""
    stories = result.classes()
    told = tuple(s for s in stories if wanted in (ALL, s.name, s.traffic))
    if not told:
        names = [story.name for story in stories]
        listed = [f"  {s.name}: {s.witness}: {s.end}" for s in stories[:_MOST_LISTED]]
        raise InputError(
            "\n".join([f"--explain: {unknown('traffic class', wanted, names)}", *listed])
        )
    return told


def print_classes(result: Compiled, stories: Sequence[ClassStory]) -> None:
    """All classes, a line each."""
    print_table(
        f"The traffic classes of {result.bundle.graph} (compile --explain CLASS tells more)",
        ("class", "ends at", "because", "way", "a packet of it"),
        (
            (story.name, story.end, _because(story), " > ".join(story.nodes), story.witness)
            for story in stories[:_MOST_LISTED]
        ),
    )
    if len(stories) > _MOST_LISTED:
        say(f"and {len(stories) - _MOST_LISTED} more (--json lists all)")
    for change in result.cuts.changes:
        say(change)
    if result.bundle.removed:
        say(
            f"{len(result.bundle.removed)} rules are given to no device, since no packet meets them"
        )


def print_story(graph: str, story: ClassStory) -> None:
    """One class at length."""
    say(
        f"class {story.name} of {graph}: traffic {story.traffic}, from {story.ingress}: {story.end}"
    )
    say(f"  packets  {story.packets}{'' if story.whole else ' (not all of them)'}")
    say(f"  such as  {story.witness}")
    say(
        f"  way      {' > '.join(story.nodes)}: {_count(story.hops, 'hop')}, "
        f"{_count(story.recirculations, 'recirculation')}"
    )
    print_table(
        "",
        ("element", "runs on", "block", "sent on by", "why"),
        (
            (
                step.unit,
                step.device,
                step.block + (", recirculated" if step.recirculated else ""),
                _decided(step.output, step.decided_by, step.more_rules),
                step.why,
            )
            for step in story.steps
        ),
    )
    for line in story.synthesis:
        say(f"  {line}")


def _because(story: ClassStory) -> str:
    """What was decided on the way."""
    decided = (step for step in story.steps if step.decided_by)
    return ", ".join(f"{step.unit.partition('.')[0]} {step.output}" for step in decided)


def _decided(output: str, rules: Sequence[str], more: int) -> str:
    words = ", ".join(rules) + (f" and {more} more" if more else "")
    return f"{output}: {words}" if words and output else output or words


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")

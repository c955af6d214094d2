"""The customer's taps beside the points' records: what neither tells alone.

A tap knows a packet by its own keyed hash (`taps`), and a record has the packet, so whoever has the
tap's key finds the packets that both watched. Asked of packets that went from one tap to the other:

- *too few entries*: of what a tap saw sent, points tell of the share that the manifest samples, or more;
- *an output that nobody told*: a packet came, and no record says that it left the chain;
- *an output that did not come*: it is told to have left, more often than the loss bound grants;
- *better service*: packets that points told of were lost less often than those of which they did not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from orchestrator.errors import InputError
from orchestrator.verification.keys import commitment
from orchestrator.verification.statistics import FAMILY_WISE, chance_of_worse, too_many
from orchestrator.verification.taps import RECEIVED, SENT, Tap, TapWatcher
from orchestrator.verification.trajectories import Trajectory
from servernf.wire.records import RecordKind

_QUESTIONS = 4


@dataclass(frozen=True, slots=True)
class TapsBesideRecords:
    """Of packets that a tap saw sent: how many there were and were lost, of those that points told of
    and of the others, for how many outputs one side alone spoke, and what contradicts the terms."""

    told: int
    told_lost: int
    others: int
    others_lost: int
    outputs: int
    untold_outputs: int
    missing_outputs: int
    problems: tuple[str, ...]


def beside(
    one: Tap,
    other: Tap,
    key: bytes,
    trajectories: Iterable[Trajectory],
    sampled: float,
    loss_bound: float,
    settle_us: int,
) -> TapsBesideRecords:
    """Compare what two taps saw of packets from one to the other with what points told of them.

    `sampled` is the share of packets that points are to tell of; frames of `settle_us` at the taps'
    begin and end are left out, as `taps.compare` does, and so are equal packets: whose record is whose?
    """
    if commitment(key) != one.commitment or one.commitment != other.commitment:
        raise InputError("the taps' key is not this one: their packets cannot be found in records")
    first = max(one.began_us, other.began_us) + settle_us
    last = min(one.ended_us, other.ended_us) - settle_us
    sent = Counter(s.packet for s in one.sights if s.way == SENT)
    mine = {s.packet for s in one.sights if s.way == SENT and first <= s.at_us <= last}
    came = Counter(s.packet for s in other.sights if s.way == RECEIVED)
    told = _told(TapWatcher(key, one.rate), trajectories)
    alone = [packet for packet in mine if sent[packet] == 1 and came[packet] <= 1]
    watched = [packet for packet in alone if packet in told]
    others = [packet for packet in alone if packet not in told]
    outputs = [packet for packet in watched if told[packet]]
    has_edges = any(told.values())
    compared = TapsBesideRecords(
        told=len(watched),
        told_lost=sum(not came[packet] for packet in watched),
        others=len(others),
        others_lost=sum(not came[packet] for packet in others),
        outputs=len(outputs),
        untold_outputs=sum(bool(came[p]) and not told[p] for p in watched) if has_edges else 0,
        missing_outputs=sum(not came[packet] for packet in outputs),
        problems=(),
    )
    return replace(compared, problems=tuple(_problems(compared, sampled, loss_bound)))


def _told(watcher: TapWatcher, trajectories: Iterable[Trajectory]) -> dict[str, bool]:
    """Packets that points told of, as the tap knows them, and whether they told of the last output."""
    told: dict[str, bool] = {}
    for trajectory in trajectories:
        first = trajectory.records[0]
        if trajectory.entries > 1 or first.kind not in (RecordKind.ENTRY, RecordKind.IN):
            continue
        sight = watcher.saw(first.frame, first.wall_us, SENT)
        if sight is not None:
            told[sight.packet] = any(r.kind is RecordKind.EXIT for r in trajectory.records)
    return told


def _problems(compared: TapsBesideRecords, sampled: float, loss_bound: float) -> Iterator[str]:
    level = FAMILY_WISE / _QUESTIONS
    told, others, outputs = compared.told, compared.others, compared.outputs
    of, lost = told + others, (compared.told_lost, compared.others_lost)
    if too_many(others, of, 1 - sampled * (1 - loss_bound), level):
        yield f"points told of {told} of {of} packets that were sent; {sampled:g} were to be told"
    if too_many(compared.untold_outputs, told, loss_bound, level):
        yield f"{compared.untold_outputs} of {told} packets came whose output nobody told"
    if too_many(compared.missing_outputs, outputs, loss_bound, level):
        yield f"{compared.missing_outputs} of {outputs} packets that left, as is told, did not come"
    if chance_of_worse(lost[1], others, lost[0], told) < level:
        yield (
            f"{lost[0]} of {told} packets that points told of were lost, {lost[1]} of {others} others: "
            "watched ones have better service"
        )

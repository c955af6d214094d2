"""Where a pipeline's tables come to stand on a chip: stages by dependency, then by room.

A table stands behind what writes its keys, what its actions read, and what they write (match and
action dependencies); one that only follows another may stand beside it (RMT, section 3.3). In packet
order each takes the first stages that have room for it. What does not fit is given stages
that the chip has not, to see how many it would need.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace

from orchestrator.fitting.expressions import Field, FieldWrite, computes
from orchestrator.fitting.memory import exact, key_bytes, part
from orchestrator.fitting.steps import Asked, Step, Steps, end_of, steps_of
from orchestrator.softswitch.ir.program import P4Program
from orchestrator.targets.chip import Chip, StageUse

MOST_STAGES = 4096
"""Where counting ends: a table of a million ternary entries has some 200."""


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """A step on the chip: `first` to `last` stage, and all that it takes. `bound`: what kept it from an
    earlier stage, or from fewer of them ("" nothing; "order": what it depends on)."""

    name: str
    first: int
    last: int
    use: StageUse
    entries: int
    keyed: bool
    bound: str = ""
    behind: str = ""
    """The step that it waits for."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A pipeline on a chip."""

    chip: Chip
    placed: tuple[PlacedStep, ...]
    stages: tuple[StageUse, ...]
    """What is taken of each, also of those that the chip has not."""
    phv_bits: int

    @property
    def refused(self) -> PlacedStep | None:
        """The first table that the chip has no stage for."""
        return next((p for p in self.placed if p.last >= self.chip.stages), None)

    @property
    def fits(self) -> bool:
        """Whether the chip holds it."""
        return self.refused is None and self.phv_bits <= self.chip.phv_bits

    def chain(self) -> tuple[str, ...]:
        """What the last step waits for, one behind the other."""
        by_name = {p.name: p for p in self.placed}
        names: list[str] = []
        at = max(self.placed, key=lambda p: p.last, default=None)
        while at is not None and at.name not in names:
            names.append(at.name)
            at = by_name.get(at.behind)
        return tuple(reversed(names))


@dataclass(frozen=True, slots=True)
class _Level:
    """From which stage on a field can be read, and who wrote it."""

    stage: int = 0
    by: str = ""


Levels = dict[Field, _Level]


@dataclass(slots=True)
class _Room:
    """What is taken of each stage so far; a key of several tables of a stage comes to it once."""

    chip: Chip
    taken: list[StageUse] = field(default_factory=list[StageUse])
    keys: list[set[tuple[Field, bool]]] = field(default_factory=list[set[tuple[Field, bool]]])

    def at(self, stage: int) -> StageUse:
        while len(self.taken) <= stage:
            self.taken.append(StageUse())
            self.keys.append(set())
        return self.taken[stage]

    def with_part(self, step: Step, entries: int, stage: int) -> StageUse:
        """What is taken of a stage with some of a step's entries."""
        use = self.at(stage) + part(step, entries)
        shared = [k for k in step.keys if ((k.header, k.field), exact(step)) in self.keys[stage]]
        twice = sum(key_bytes(key) for key in shared)
        if exact(step):
            return replace(use, exact_bytes=use.exact_bytes - twice)
        return replace(use, ternary_bytes=use.ternary_bytes - twice)

    def put(self, step: Step, first: int) -> tuple[int, int, StageUse, str]:
        """(first, last stage, what it takes, what it had no room for) from this stage on."""
        if not step.entries:
            return self._put_whole(first, part(step, 0))
        left, begun, total, bound = step.entries, -1, StageUse(), ""
        stage = first
        while left and stage < MOST_STAGES:
            room = self._most(step, left, stage)
            if room < left and not bound:
                bound = self._short(step, room + 1, stage)
            if room:
                self.taken[stage] = self.with_part(step, room, stage)
                self.keys[stage] |= {((k.header, k.field), exact(step)) for k in step.keys}
                use = part(step, room)
                total, left = total + use, left - room
                begun = stage if begun < 0 else begun
            stage += 1
        return begun if begun >= 0 else stage, stage - 1, total, bound

    def _put_whole(self, first: int, use: StageUse) -> tuple[int, int, StageUse, str]:
        bound = ""
        for stage in range(first, MOST_STAGES):
            short = (self.at(stage) + use).beyond(self.chip.stage)
            if not short:
                self.taken[stage] = self.at(stage) + use
                return stage, stage, use, bound
            bound = bound or short[0]
        return MOST_STAGES, MOST_STAGES, use, bound

    def _short(self, step: Step, entries: int, stage: int) -> str:
        return next(iter(self.with_part(step, entries, stage).beyond(self.chip.stage)), "")

    def _most(self, step: Step, entries: int, stage: int) -> int:
        """The most entries that a stage still holds."""
        if not self._short(step, entries, stage):
            return entries
        low, high = 0, entries
        while high - low > 1:
            middle = (low + high) // 2
            if self._short(step, middle, stage):
                high = middle
            else:
                low = middle
        return low


def fit(program: P4Program, asked: Asked, chip: Chip) -> Fit:
    """A program on a chip."""
    ingress, egress = program.architecture.controls
    behind = steps_of(program, egress, asked, end_of(program, {}))
    before = steps_of(program, ingress, asked, end_of(program, behind))
    return place((before, behind), chip, phv_bits(program, {**before, **behind}))


def place(controls: Iterable[Steps], chip: Chip, phv: int = 0) -> Fit:
    """The steps of controls, which share the stages; `phv`: bits of the packet header vector."""
    room = _Room(chip)
    placed = [step for steps in controls for step in _place(steps, room)]
    while room.taken and room.taken[-1] == StageUse():
        room.taken.pop()
    return Fit(chip, tuple(placed), tuple(room.taken), phv)


def _place(steps: Steps, room: _Room) -> list[PlacedStep]:
    if not steps:
        return []
    levels: dict[str, Levels] = {next(iter(steps)): {}}
    earliest: dict[str, _Level] = {}
    once = _written_once(steps)
    placed: list[PlacedStep] = []
    for name, step in steps.items():
        here = levels.get(name, {})
        after = earliest.get(name, _Level())
        start = _start(step, here, after, once)
        first, last, use, bound = room.put(step, start.stage)
        bound = bound or ("order" if start.stage else "")
        placed.append(
            PlacedStep(name, first, last, use, step.entries, bool(step.keys), bound, start.by)
        )
        for way in step.ways:
            if way.next is None:
                continue
            _later(levels.setdefault(way.next, {}), _written(way.writes, here, name, last, once))
            reached = earliest.get(way.next, _Level())
            if first > reached.stage:
                earliest[way.next] = _Level(first, name)
            else:
                earliest.setdefault(way.next, reached)
    return placed


def _start(step: Step, here: Levels, after: _Level, once: Container[Field]) -> _Level:
    """The first stage that a step may stand in."""
    nothing = _Level()
    waits = [here.get(field, nothing) for field in step.looked_at]
    for way in step.ways:
        made: set[Field] = set()
        for write in way.writes:
            if not (_free(write, step, once)):
                waits += [here.get(field, nothing) for field in write.reads if field not in made]
                waits.append(here.get(write.target, nothing))
            made.add(write.target)
    latest = max((*waits, after), key=lambda level: level.stage)
    if step.asks is not None and (ahead := computes(step.asks)):
        inputs = max((here.get(f, nothing) for f in step.looked_at), key=lambda level: level.stage)
        if inputs.stage + ahead > latest.stage:
            return _Level(inputs.stage + ahead, inputs.by)
    return latest


def _written(
    writes: tuple[FieldWrite, ...], here: Levels, name: str, last: int, once: Container[Field]
) -> Levels:
    """From when on what an action writes can be read."""
    now = dict(here)
    made: dict[Field, int] = {}
    for write in writes:
        if write.copy and write.target in once:
            (source,) = write.reads if len(write.reads) == 1 else (None,)
            if source is not None:
                now[write.target] = now.get(source, _Level())
                if source in made:
                    made[write.target] = made[source]
                continue
        begins = max((made[r] for r in write.reads if r in made), default=last)
        made[write.target] = begins + write.steps
        now[write.target] = _Level(begins + write.steps, name)
    return now


def _free(write: FieldWrite, step: Step, once: Container[Field]) -> bool:
    """Whether a copy is none on the chip but another name: nothing else is ever written there."""
    return write.copy and write.target in once and not step.keys


def _written_once(steps: Steps) -> frozenset[Field]:
    seen: set[Field] = set()
    again: set[Field] = set()
    for step in steps.values():
        for way in step.ways:
            for write in way.writes:
                (again if write.target in seen else seen).add(write.target)
    return frozenset(seen - again)


def _later(levels: Levels, other: Levels) -> None:
    for name, level in other.items():
        if level.stage > levels.get(name, _Level()).stage:
            levels[name] = level


def phv_bits(program: P4Program, steps: Steps) -> int:
    """Header bits of the longest way through the parser, what may be pushed, and metadata in use."""
    bits = {h.name: sum(f.width for f in h.type.fields) for h in program.headers.values()}
    longest: dict[str, int] = {}

    def from_state(name: str | None, before: frozenset[str]) -> int:
        if name is None or name in before:
            return 0
        if name not in longest:
            state = program.states[name]
            taken = sum(
                bits.get(op["parameters"][0]["value"], 0)
                for op in state.ops
                if op["op"].startswith("extract")
            )
            following = {t.next_state for t in state.transitions}
            ahead = (from_state(n, before | {name}) for n in following)
            longest[name] = taken + max(ahead, default=0)
        return longest[name]

    writes = [w for step in steps.values() for way in step.ways for w in way.writes]
    pushed = {w.target[0] for w in writes if w.target[1] == "$valid$" and w.constant == 1}
    fields = {f for step in steps.values() for f in step.looked_at}
    fields |= {f for w in writes for f in (w.target, *w.reads)}
    used = sum(
        program.field(header, name).width
        for header, name in fields
        if header in program.headers and program.headers[header].metadata and name != "$valid$"
    )
    return from_state(program.init_state, frozenset()) + sum(bits[h] for h in pushed) + used

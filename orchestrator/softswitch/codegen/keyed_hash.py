"""HalfSipHash-2-4 where a program computes it: its arithmetic becomes one primitive, `keyed_hash`.

P4 has no keyed hash, so blocks write theirs (p4src/shared/prf.p4) as sums, rotations and exclusive ors
of words of 32 bits: ten rounds for two words, 140 assignments, which took most of a witness's time.
Engines have the function itself (servernf/wire/prf.h).

Nothing is known by its name. Straight runs of assignments are followed symbolically (`values`). The hash
of some key and words, as its authors define it, is looked up there operation by operation; where every
one of them is found, what the program computes *is* the hash. Who reads it then reads the primitive,
and what nobody reads any more goes. The primitive's parameters are where it is to go, the two
words of the key, and the message's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from orchestrator.softswitch.codegen.layout import used_fields
from orchestrator.softswitch.codegen.straight import StraightRun, chains_of
from orchestrator.softswitch.codegen.values import WORD, Field, Run, Values, target_of
from orchestrator.softswitch.ir.program import (
    Action,
    Conditional,
    ControlGraph,
    Header,
    HeaderField,
    HeaderType,
    Json,
    P4Program,
)

_KEYS = 0x6C796765, 0x74656462
_END = 0xFF
_ANSWERS = "$prf"
"""The metadata that conditions read instead of the arithmetic; no P4 name begins with `$`."""


def with_keyed_hash(program: P4Program) -> P4Program:
    """The program with `keyed_hash` for what is that; itself where nothing is."""
    chains = chains_of(program)
    rewriting = _Rewriting(program)
    rewritten = [chain for chain in chains if rewriting.rewrite(chain)]
    if not rewritten:
        return program
    rewriting.drop_unread(chains, rewritten)
    return rewriting.result()


# -------------------------------------------------------------- recognising

_State = tuple[int | None, int | None, int | None, int | None]
"""Values of v0 to v3; None: the program does not make it."""


def _hashes(values: Values) -> dict[int, tuple[int, ...]]:
    """Values that are hashes, and of what: the words of the key, then those of the message."""
    hashes: dict[int, tuple[int, ...]] = {}
    ways: list[tuple[_State, tuple[int, ...]]] = []
    low, high = (values.constant(number) for number in _KEYS)
    for one, other in values.sums:
        for key0, key1 in ((one, other), (other, one)):
            start = (key0, key1, values.find("^", key0, low), values.find("^", key1, high))
            ways.append((start, (key0, key1)))
    while ways:
        (v0, v1, v2, v3), message = ways.pop()
        if v3 is None:
            continue
        length = values.constant((4 * (len(message) - 2) & 0xFF) << 24)
        for word in tuple(values.with_xor.get(v3, ())):
            v = _rounds(values, (v0, v1, v2, values.find("^", v3, word)), 2)
            taken = (values.find("^", v[0], word), *v[1:])
            if taken[0] is None:
                continue
            if word == length and (made := _finished(values, taken)) is not None:
                hashes[made] = message
            ways.append((taken, (*message, word)))
    return {
        made: of for made, of in hashes.items() if all(values.bits[value] <= WORD for value in of)
    }


def _finished(values: Values, v: _State) -> int | None:
    """The hash, once the length is taken."""
    v0, v1, v2, v3 = v
    _, one, _, other = _rounds(values, (v0, v1, values.find("^", v2, values.constant(_END)), v3), 4)
    if one is None or other is None:
        return None
    return values.operation("^", one, other)


def _rounds(values: Values, v: _State, count: int) -> _State:
    """SipRounds, as far as the program makes them."""
    find, turned = values.find, values.turned
    v0, v1, v2, v3 = v
    for _ in range(count):
        v0 = find("add", v0, v1)
        v1 = find("^", turned(v1, 5), v0)
        v0 = turned(v0, 16)
        v2 = find("add", v2, v3)
        v3 = find("^", turned(v3, 8), v2)
        v0 = find("add", v0, v3)
        v3 = find("^", turned(v3, 7), v0)
        v2 = find("add", v2, v1)
        v1 = find("^", turned(v1, 13), v2)
        v2 = turned(v2, 16)
    return v0, v1, v2, v3


# ---------------------------------------------------------------- rewriting


class _Rewriting:
    """A program, and what differs from it so far."""

    def __init__(self, program: P4Program) -> None:
        self.program = program
        self._primitives: dict[int, list[Json]] = {}
        """By an action's id."""
        self._conditions: dict[tuple[str, str], Json] = {}
        """By pipeline and node."""
        self._answers = 0
        self._state: set[Field] = set()
        """Metadata that is given values in runs with a hash."""

    def rewrite(self, chain: StraightRun) -> bool:
        """Put `keyed_hash` where values of a chain are that; whether there are any."""
        primitives = [p for action in chain.actions for p in self._of(action)]
        changed: dict[int, Json] = {}
        behind: list[Json] = []
        for places in self._runs(primitives):
            values = Values()
            run = Run(self.program, values)
            for at in places:
                run.assign(primitives[at])
            hashes = _hashes(values) if values.sums else {}
            if not hashes:
                continue
            run = Run(self.program, values)
            for at in places:
                to, source = primitives[at]["parameters"]
                of = hashes.get(run.value(source))
                if of is not None and (words := run.words(of)) is not None:
                    changed[at] = _keyed_hash(to, words)
                run.assign(primitives[at])
                if self.program.headers[to["value"][0]].metadata:
                    self._state.add(to["value"])
            if chain.condition is not None and places.stop == len(primitives):
                behind = self._answered(chain.condition, run, hashes)
        if changed or behind:
            primitives = [changed.get(at, p) for at, p in enumerate(primitives)]
            self._put(chain.actions, primitives, behind)
        return bool(changed or behind)

    def _runs(self, primitives: Sequence[Json]) -> Iterator[range]:
        """Places of assignments that stand in a row."""
        begin = 0
        for at, primitive in enumerate(primitives):
            if target_of(self.program, primitive) is None:
                yield range(begin, at)
                begin = at + 1
        yield range(begin, len(primitives))

    def _answered(
        self, place: tuple[str, str], run: Run, hashes: Mapping[int, tuple[int, ...]]
    ) -> list[Json]:
        """Have a condition read answers instead of hashes; the primitives that make them."""
        made: list[Json] = []

        def read(node: Json) -> Json:
            if node["type"] != "expression":
                return node
            what = node["value"]
            if "op" not in what:
                return {**node, "value": read(what)}
            of = hashes.get(run.value(node))
            if of is not None and (words := run.words(of)) is not None:
                answer = {"type": "field", "value": (_ANSWERS, f"answer{self._answers}")}
                self._answers += 1
                made.append(_keyed_hash(answer, words))
                return answer
            sides = {side: read(what[side]) for side in ("left", "right") if what.get(side)}
            return {**node, "value": {**what, **sides}}

        expression = read(self._condition(place).expression)
        if made:
            self._conditions[place] = expression
        return made

    def _condition(self, place: tuple[str, str]) -> Conditional:
        pipeline, name = place
        return self.program.pipelines[pipeline].conditionals[name]

    def _put(self, actions: Sequence[Action], primitives: list[Json], behind: list[Json]) -> None:
        at = 0
        for action in actions:
            size = len(action.primitives)
            self._primitives[action.id] = primitives[at : at + size]
            at += size
        self._primitives[actions[-1].id] += behind

    def _of(self, action: Action) -> Sequence[Json]:
        return self._primitives.get(action.id, action.primitives)

    def drop_unread(self, chains: Sequence[StraightRun], rewritten: Sequence[StraightRun]) -> None:
        """Leave out assignments to what nobody reads any more."""
        read = self._read_elsewhere(chains)
        for chain in rewritten:
            wanted = set(read)
            for action in reversed(chain.actions):
                kept: list[Json] = []
                for primitive in reversed(self._of(action)):
                    to = target_of(self.program, primitive)
                    if to in self._state and to not in wanted:
                        continue
                    wanted -= {to} if to else set()
                    wanted |= set(_read(primitive, to))
                    kept.append(primitive)
                self._primitives[action.id] = kept[::-1]

    def _read_elsewhere(self, chains: Sequence[StraightRun]) -> set[Field]:
        """What is read outside chains, or in one before it is given a value there."""
        inside = {action.id for chain in chains for action in chain.actions}
        outside = tuple(a for a in self.program.actions if a.id not in inside)
        read = set(used_fields(replace(self.result(), actions=outside)).metadata)
        for chain in chains:
            given: set[Field] = set()
            for primitive in (p for action in chain.actions for p in self._of(action)):
                to = target_of(self.program, primitive)
                read |= set(_read(primitive, to)) - given
                given |= {to} if to else set()
        return read

    def result(self) -> P4Program:
        fields = tuple(HeaderField(f"answer{i}", WORD, False) for i in range(self._answers))
        answers = Header(_ANSWERS, HeaderType(_ANSWERS, fields), True, len(self.program.headers))
        return replace(
            self.program,
            headers={**self.program.headers, _ANSWERS: answers},
            actions=tuple(map(self._action, self.program.actions)),
            pipelines={name: self._pipeline(p) for name, p in self.program.pipelines.items()},
        )

    def _action(self, action: Action) -> Action:
        return replace(action, primitives=tuple(self._of(action)))

    def _pipeline(self, pipe: ControlGraph) -> ControlGraph:
        tables = {
            name: replace(table, actions=tuple(map(self._action, table.actions)))
            for name, table in pipe.tables.items()
        }
        calls = {
            name: replace(call, action=self._action(call.action))
            for name, call in pipe.calls.items()
        }
        conditionals = {
            name: replace(node, expression=self._conditions.get((pipe.name, name), node.expression))
            for name, node in pipe.conditionals.items()
        }
        return replace(pipe, tables=tables, calls=calls, conditionals=conditionals)


def _keyed_hash(to: Json, words: Sequence[Json]) -> Json:
    return {"op": "keyed_hash", "parameters": [to, *words]}


def _read(primitive: Json, to: Field | None) -> Iterator[Field]:
    """Fields that a primitive names, beside the one that it gives a value."""
    return _named(primitive["parameters"][1:] if to else primitive["parameters"])


def _named(node: Json) -> Iterator[Field]:
    if isinstance(node, (list, tuple)):
        for item in cast("list[Json]", node):
            yield from _named(item)
    elif isinstance(node, dict):
        keyed = cast("dict[str, Json]", node)
        if keyed.get("type") == "field" and isinstance(keyed["value"][0], str):
            yield keyed["value"]
        else:
            yield from _named(list(keyed.values()))

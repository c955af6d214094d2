"""Entries as bytes. Oracle: protobuf's own serialisation of messages built field by field."""

from __future__ import annotations

import pytest
from finsy.proto import p4i, p4r
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.clients.encoding import InsertRun, RawUpdate, canonical
from orchestrator.clients.identity import identify
from orchestrator.clients.p4info import Schema
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry, Ternary

pytestmark = pytest.mark.slow

KINDS = ("EXACT", "LPM", "TERNARY", "RANGE", "OPTIONAL")
BITS = 32


def p4info() -> p4i.P4Info:
    """Table `t` with a key of each kind, in an order that is not that of their ids; action `a`."""
    info = p4i.P4Info()
    action = info.actions.add()
    action.preamble.id, action.preamble.name = 0x0100_0001, "ingress.a"
    for number in (1, 2, 300):
        action.params.add(id=number, name=f"p{number}", bitwidth=128)
    table = info.tables.add(size=1024)
    table.preamble.id, table.preamble.name = 0x0200_0001, "ingress.t"
    table.action_refs.add(id=action.preamble.id)
    for number in (5, 2, 3, 200, 1):
        kind = KINDS[number % 5]
        table.match_fields.add(
            id=number,
            name=kind + str(number),
            bitwidth=BITS,
            match_type=p4i.MatchField.MatchType.Value(kind),
        )
    return info


INFO = p4info()
SCHEMA = Schema(INFO)
FIELDS = {f.name: f for f in INFO.tables[0].match_fields}
number = st.integers(0, (1 << BITS) - 1)


def key_of(name: str) -> st.SearchStrategy[Key]:
    kind = name.rstrip("0123456789")
    exact = st.builds(Exact, number)
    if kind == "LPM":
        return exact | st.builds(Lpm, number, st.integers(0, BITS))
    if kind == "TERNARY":
        return exact | st.builds(Ternary, number, number)
    return st.builds(Between, number, number) if kind == "RANGE" else exact


@st.composite
def entries(draw: st.DrawFn) -> TableEntry:
    names = draw(st.permutations(list(FIELDS)))[: draw(st.integers(0, len(FIELDS)))]
    params = draw(st.lists(st.sampled_from(("p1", "p2", "p300")), unique=True))
    return TableEntry(
        "t",
        tuple((name, draw(key_of(name))) for name in names),
        "a",
        tuple((name, draw(st.integers(0, (1 << 128) - 1))) for name in params),
        draw(st.integers(0, (1 << 31) - 1)),
        draw(st.text(max_size=300)),
    )


def message(entry: TableEntry, graph: str) -> p4r.Entity:
    """The entry by protobuf's own means."""
    made = p4r.TableEntry(table_id=0x0200_0001, priority=entry.priority)
    for name, key in sorted(entry.keys, key=lambda item: FIELDS[item[0]].id):
        kind = name.rstrip("0123456789")
        match = made.match.add(field_id=FIELDS[name].id)
        if kind == "LPM":
            length = key.length if isinstance(key, Lpm) else BITS
            match.lpm.value, match.lpm.prefix_len = canonical(key[0]), length
        elif kind == "TERNARY":
            mask = key.mask if isinstance(key, Ternary) else (1 << BITS) - 1
            match.ternary.value, match.ternary.mask = canonical(key[0]), canonical(mask)
        elif kind == "RANGE":
            assert isinstance(key, Between)
            match.range.low, match.range.high = canonical(key.low), canonical(key.high)
        elif kind == "OPTIONAL":
            match.optional.value = canonical(key[0])
        else:
            match.exact.value = canonical(key[0])
    made.action.action.action_id = 0x0100_0001
    for name, value in entry.params:
        made.action.action.params.add(param_id=int(name[1:]), value=canonical(value))
    made.metadata = f"{graph}|{entry.origin}".encode()
    return p4r.Entity(table_entry=made)


@given(entries(), st.text(max_size=20))
def test_bytes_are_those_of_protobuf(entry: TableEntry, graph: str) -> None:
    _, data = SCHEMA.identified(entry, graph)
    assert data == message(entry, graph).SerializeToString(deterministic=True)
    for kind in (p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE):
        update = p4r.Update(type=kind, entity=message(entry, graph))
        request = p4r.WriteRequest(updates=[update])
        assert RawUpdate(kind, data).part() == request.SerializeToString(deterministic=True)
        assert RawUpdate(kind, data).message() == update
        assert RawUpdate.of(update) == RawUpdate(kind, data)


@given(st.lists(entries(), min_size=1, max_size=8), st.data())
def test_runs_of_inserts_are_what_one_by_one_gives(
    made: list[TableEntry], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(made) - 1))
    last = data.draw(st.integers(first + 1, len(made)))
    run = InsertRun(SCHEMA.inserts(made, "g"), first, last)
    alone = list(SCHEMA.updates(made[first:last], "g", p4r.Update.INSERT))
    assert run.updates() == alone
    assert run.part() == b"".join(update.part() for update in alone)
    most = data.draw(st.integers(1, 9))
    parts = list(run.split(most))
    assert [len(part) for part in parts[:-1]] == [most] * (len(parts) - 1)
    assert [update for part in parts for update in part.updates()] == alone


@given(entries(), st.randoms(use_true_random=False))
def test_a_switchs_answer_is_told_by_the_same_identity(entry: TableEntry, random: object) -> None:
    """With keys in another order, longer byte strings and counters."""
    answer = message(entry, "g")
    table_entry = answer.table_entry
    random.shuffle(matches := list(table_entry.match))  # type: ignore[attr-defined]
    del table_entry.match[:]
    table_entry.match.extend(matches)
    for match in table_entry.match:
        kind = match.WhichOneof("field_match_type")
        assert kind
        part = getattr(match, kind)
        for name in ("value", "mask", "low", "high"):
            if hasattr(part, name):
                setattr(part, name, getattr(part, name).rjust(BITS // 8, b"\0"))
    for param in table_entry.action.action.params:
        param.value = param.value.rjust(16, b"\0")
    table_entry.counter_data.packet_count = 7
    table_entry.time_since_last_hit.elapsed_ns = 3
    assert identify(answer) == SCHEMA.identified(entry, "g")


@given(entries(), entries())
def test_two_entries_are_one_if_table_match_and_priority_are(a: TableEntry, b: TableEntry) -> None:
    def asked(entry: TableEntry) -> object:
        made = message(entry, "").table_entry
        return made.priority, [m.SerializeToString() for m in made.match]

    same = SCHEMA.identified(a, "g")[0] == SCHEMA.identified(b, "h")[0]
    assert same == (asked(a) == asked(b))
    other = a._replace(params=(), origin="else")
    assert SCHEMA.identified(a, "g")[0] == SCHEMA.identified(other, "h")[0]

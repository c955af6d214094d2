"""Old and new entries of a table: what stays, what priorities the others get, in what order to write.

Oracle: first match on tiny tables, asked for every packet after every single write.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.deployment.planning import in_order
from orchestrator.deployment.transaction import Change
from orchestrator.linker.matching import MOST_PRIORITY, Matched, Matching, match_entries
from orchestrator.model.entries import PRIORITY_STRIDE as STRIDE
from orchestrator.model.entries import Exact, Lpm, TableEntry, Ternary

PACKETS = range(8)
SEGMENT = ("segment", Exact(7))
IDS = frozenset({"segment"})


def rule(value: int, mask: int, action: str, priority: int) -> TableEntry:
    keys = (SEGMENT, ("src", Ternary(value & mask, mask))) if mask else (SEGMENT,)
    return TableEntry("acl.ipv4", keys, action, (), priority, "")


def rules(draws: list[tuple[int, int, str]], stride: int = STRIDE) -> list[TableEntry]:
    """A first-match list: no match twice, the first has the highest priority."""
    distinct = {(value & mask, mask): action for value, mask, action in reversed(draws)}
    count = len(distinct)
    return [
        rule(value, mask, action, (count - rank) * stride + 1)
        for rank, ((value, mask), action) in enumerate(distinct.items())
    ]


def route(value: int, length: int, action: str) -> TableEntry:
    bits = value >> 3 - length << 3 - length
    keys = (SEGMENT, ("dst", Lpm(bits, length))) if length else (SEGMENT,)
    return TableEntry("route.ipv4", keys, action, (), 0, "")


def outcome(table: list[TableEntry], packet: int) -> str:
    """The action of the entry that takes precedence, or a miss."""
    best, verdict = -1, "miss"
    for entry in table:
        key = dict(entry.keys).get("src") or dict(entry.keys).get("dst")
        if isinstance(key, Ternary):
            hit, precedence = packet & key.mask == key.value, entry.priority
        elif isinstance(key, Lpm):
            hit, precedence = packet >> 3 - key.length == key.value >> 3 - key.length, key.length
        else:
            hit, precedence = True, entry.priority
        if hit and precedence > best:
            best, verdict = precedence, entry.action
    return verdict


def walk(old: list[TableEntry], matched: Matched) -> list[list[TableEntry]]:
    """The table after every single write."""
    changes = [Change(a, b) for a, b in matched.pairs if a != b]
    table, states = list(old), [list(old)]
    for group in in_order(changes):
        for change in group:
            if change.before is not None:
                table.remove(change.before)  # type: ignore[arg-type]
            if change.after is not None:
                table.append(change.after)  # type: ignore[arg-type]
            states.append(list(table))
    return states


def check(old: list[TableEntry], new: list[TableEntry], matched: Matched) -> None:
    states = walk(old, matched)
    for packet in PACKETS:
        before, after = outcome(old, packet), outcome(new, packet)
        seen = [outcome(state, packet) for state in states]
        changed = seen.index(after) if before != after else len(seen)
        assert seen[:changed] == [before] * changed, f"packet {packet}: {seen}"
        assert set(seen[changed:]) <= {after}, f"packet {packet}: {seen}"
    assert len(states[-1]) == len(new)


DRAWS = st.lists(
    st.tuples(st.sampled_from(PACKETS), st.sampled_from(PACKETS), st.sampled_from("abc")),
    max_size=7,
)


@given(DRAWS, DRAWS)
def test_every_packet_meets_one_change_at_most(one: list, other: list) -> None:  # type: ignore[type-arg]
    old, new = rules(one), rules(other)
    matched = match_entries(old, new, IDS)
    assert not matched.crowded
    check(old, new, matched)


@given(
    *[st.lists(st.tuples(st.sampled_from(PACKETS), st.integers(0, 3), st.sampled_from("abc")))] * 2
)
def test_routes_too(one: list, other: list) -> None:  # type: ignore[type-arg]
    old, new = (
        list({r.keys: r for r in (route(*d) for d in some)}.values()) for some in (one, other)
    )
    check(old, new, match_entries(old, new, IDS))


@given(st.lists(DRAWS, min_size=2, max_size=8))
def test_version_after_version(versions: list) -> None:  # type: ignore[type-arg]
    """Priorities stay valid however often they are squeezed in; a crowded table says so."""
    table = rules(versions[0])
    for draws in versions[1:]:
        new = rules(draws)
        matched = match_entries(table, new, IDS)
        if matched.crowded:
            table = new
            continue
        check(table, new, matched)
        table = [after for _, after in matched.pairs if after is not None]
        assert all(0 < entry.priority <= MOST_PRIORITY for entry in table)


def test_a_rule_between_moves_no_other() -> None:
    old = rules([(n, 7, "a") for n in PACKETS])
    new = rules([*[(n, 7, "a") for n in (*range(4), *range(4, 8))][:4], (0, 4, "b")])
    matched = match_entries(old, new, IDS)
    stays = [a for a, b in matched.pairs if a is not None and b is not None]
    assert all(a == b for a, b in matched.pairs if a is not None and b is not None)
    assert len(stays) == 4


def test_the_longest_run_stays() -> None:
    """One rule to the front of a hundred: one entry moves, not a hundred."""
    order = list(range(100))
    old = [rule(n, 127, "a", (100 - n) * STRIDE + 1) for n in order]
    moved = [99, *order[:-1]]
    new = [rule(n, 127, "a", (100 - at) * STRIDE + 1) for at, n in enumerate(moved)]
    matched = match_entries(old, new, IDS)
    assert sum(a is None for a, _ in matched.pairs) == 1
    assert sum(b is None for _, b in matched.pairs) == 1


def test_no_room_is_told() -> None:
    old = rules([(n, 7, "a") for n in PACKETS], stride=1)
    new = rules([(0, 7, "a"), (0, 4, "b"), *((n, 7, "a") for n in PACKETS[1:])], stride=1)
    assert match_entries(old, new, IDS).crowded


def test_two_that_have_the_same_list_get_the_same_answer() -> None:
    """Switches with one access list: what changes is found out once, and made once."""
    old = rules([(1, 7, "deny"), (2, 7, "deny"), (0, 0, "permit")])
    new = rules([(1, 7, "deny"), (3, 7, "deny"), (0, 0, "permit")])
    match = Matching()
    first = match(old, new, IDS)
    assert match(list(old), list(new), IDS) is first
    assert first == match_entries(old, new, IDS)
    assert match(new, old, IDS) == match_entries(new, old, IDS)


def test_only_what_changes_or_names_another_node_is_doubtful() -> None:
    old = rules([(1, 7, "deny"), (2, 7, "deny"), (0, 0, "permit")])
    new = rules([(1, 7, "deny"), (3, 7, "deny"), (0, 0, "permit")])
    new[-1] = new[-1]._replace(params=(("segment", 9),))
    matched = match_entries(old, new, IDS)
    named = {
        (b and b.keys, a and a.keys) for b, a in map(matched.pairs.__getitem__, matched.doubtful)
    }
    assert named == {
        (None, new[1].keys),
        (old[1].keys, None),
        (old[2].keys, new[2].keys),
    }

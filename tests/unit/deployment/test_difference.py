"""Wanted and present states. Oracle: sets that the tests change by hand."""

from __future__ import annotations

from finsy.proto import p4r

from orchestrator.clients.p4info import Schema, clone_session_update, flood_update
from orchestrator.deployment.desired import State, present
from orchestrator.deployment.difference import difference
from orchestrator.model.entries import Exact, FloodGroup, Lpm, TableEntry
from orchestrator.targets.pipelines import SHIPPED, p4info

SCHEMA = Schema(p4info(SHIPPED.build("edge", "softswitch")))
INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE
GROUP = flood_update(FloodGroup(65, (2, 3), "endpoint left", (4,)), INSERT).entity
SESSION = clone_session_update(100, 510, (1, 2), INSERT).entity


def route(number: int, rule: str = "", segment: int = 0x4002) -> TableEntry:
    return TableEntry(
        "route.ipv4",
        (("segment", Exact(0x4001)), ("dst", Lpm(number << 8, 24))),
        "route.ipv4.connected",
        (("segment", segment),),
        0,
        f"edge_router: {rule or f'routes[{number}]'}",
    )


def state(*entries: TableEntry, graph: str = "campus") -> State:
    entity_of = present([GROUP, SESSION])
    for entry in entries:
        identity, data = SCHEMA.identified(entry, graph)
        entity_of[identity] = data
    return entity_of


def entities(kept: State) -> list[p4r.Entity]:
    return [p4r.Entity.FromString(data) for data in kept.values()]


def test_equal_states_differ_in_nothing() -> None:
    wanted = state(*map(route, range(1, 50)))
    assert not len(difference(wanted, state(*map(route, reversed(range(1, 50))))))


def test_adds_changes_deletes_in_words() -> None:
    wanted = state(route(1), route(2), route(3, segment=0x4007))
    there = state(route(2, segment=0x4009), route(3, segment=0x4007), route(4))
    delta = difference(wanted, there)
    words = list(delta.words(SCHEMA))
    assert [w.kind for w in words] == ["add", "change", "delete"]
    added, changed, deleted = words
    assert (added.entity.table, added.entity.graph, added.entity.nf, added.entity.rule) == (
        "route.ipv4",
        "campus",
        "edge_router",
        "routes",  # where in the file, devices are not told
    )
    assert added.entity.match == "segment 1.1, dst 0.0.1.0/24"
    assert changed.entity.action == "route.ipv4.connected(segment 1.2)"
    assert changed.before is not None
    assert changed.before.action == "route.ipv4.connected(segment 1.9)"
    assert "dst 0.0.4.0/24" in str(deleted.entity)


def test_updates_make_the_wanted_state() -> None:
    wanted = state(*map(route, range(1, 40)))
    there = state(*(route(n, segment=0x4002 + n % 2) for n in range(10, 60)))
    made = dict(there)
    order: list[int] = []
    for update in difference(wanted, there).updates():
        ((identity, data),) = present([p4r.Entity.FromString(update.entity)]).items()
        assert (identity in made) == (update.kind != INSERT)
        order.append(update.kind)
        if update.kind == DELETE:
            del made[identity]
        else:
            made[identity] = data
    assert made == wanted
    assert order == sorted(order), "INSERT is 1, MODIFY 2, DELETE 3"


def test_groups_come_before_the_entries_that_name_them_and_go_after() -> None:
    full = state(route(1))
    kinds = ["packet_replication_engine_entry", "packet_replication_engine_entry", "table_entry"]

    def order(data: tuple[bytes, ...]) -> list[str | None]:
        return [p4r.Entity.FromString(d).WhichOneof("entity") for d in data]

    assert order(difference(full, {}).inserted) == kinds
    assert order(difference({}, full).deleted) == kinds[::-1]


def test_replicas_have_no_order_and_ports_two_forms() -> None:
    answer = p4r.Entity()
    answer.CopyFrom(GROUP)
    group = answer.packet_replication_engine_entry.multicast_group_entry
    for replica in group.replicas:
        port = replica.egress_port  # pyright: ignore[reportDeprecated]
        replica.port = port.to_bytes(2)
    group.replicas.reverse()
    assert present([answer]) == present([GROUP])
    del group.replicas[0]
    assert len(difference(present([GROUP]), present([answer])).modified) == 1


def test_expected_entities_share_their_bytes() -> None:
    wanted = state(*map(route, range(1, 50)))
    seen = present(entities(wanted), wanted)
    assert seen == wanted
    assert all(seen[identity] is data for identity, data in wanted.items())


def test_another_graphs_entry_in_ours_place_is_a_change() -> None:
    delta = difference(state(route(1)), state(route(1), graph="other"))
    (words,) = delta.words(SCHEMA)
    assert words.before is not None
    assert (words.before.graph, words.entity.graph) == ("other", "campus")

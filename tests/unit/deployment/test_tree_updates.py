"""Updates of access lists that are trees: packets between any two writes meet one version, whole.

Oracle: the reference interpreter on the two graphs, as in test_update.py. And what a memo remembers of
earlier compilations changes nothing: the bundle is that of a fresh process, entry for entry.
Blind spots: packets that are in the switch during a write (tests/emulated); IPv6, which stays ternary.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from networks import demand, make_graph, topology
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from update_support import Probes, WatchedNetwork, compiled_beside, update

from orchestrator.bundle.codec import dump, load
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.transaction import Drain, Transaction, WriteEntries
from orchestrator.linker.nodes import Nodes, owner
from orchestrator.linker.sharing import share
from orchestrator.memo import Memo
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import TableEntry
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.refs import TREE
from orchestrator.targets.costs import LookupCosts
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

WHERE = "leaf-spine"
AT_ANY_PRICE = LookupCosts(1e6, tree=0, level=0, branch=0, least_gain=0)
Rule = dict[str, Any]


@pytest.fixture(autouse=True)
def trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.compile.filter_costs", lambda targets: AT_ANY_PRICE)


def graph(rules: list[Rule]) -> ServiceGraph:
    config = {"rules": rules, "default": "permit"}
    edges = ["inside fw.inside", "fw.outside outside"]
    return make_graph({"fw": ("acl", config)}, edges, traffic=[demand()])


def random_rule(rng: random.Random) -> Rule:
    """Of few addresses and ports, so that rules meet each other often."""
    rule: Rule = {"action": rng.choice(["permit", "deny"])}
    if rng.random() < 0.7:
        length = rng.choice([28, 30, 31, 32])
        address = rng.randrange(16) >> 32 - length << 32 - length
        rule["src"] = f"10.0.1.{address}/{length}"
    if rng.random() < 0.7 or "src" not in rule:
        rule["dst"] = rng.choice(["198.51.100.13/32", "198.51.100.14/32", "198.51.100.0/24"])
    if rng.random() < 0.8:
        rule["protocol"] = rng.choice(["tcp", "udp"])
        for port in ("src_port", "dst_port"):
            if rng.random() < 0.4:
                low = rng.randrange(4)
                rule[port] = f"{low}-{low + rng.randrange(3)}"
    if rule.get("protocol") == "tcp" and rng.random() < 0.2:
        rule["tcp_flags"] = "0x02/0x12"
    return rule


def edited(rules: list[Rule], rng: random.Random) -> list[Rule]:
    """One of the edits that operators make."""
    changed, at = list(rules), rng.randrange(len(rules))
    match rng.randrange(6):
        case 0:
            changed[at] = random_rule(rng)
        case 1:
            changed.insert(at, random_rule(rng))
        case 2:
            del changed[at]
        case 3:
            other = rng.randrange(len(rules))
            changed[at], changed[other] = changed[other], changed[at]
        case 4:
            turned = "deny" if changed[at]["action"] == "permit" else "permit"
            changed[at] = {**changed[at], "action": turned}
        case _:
            for _ in range(3):
                changed[rng.randrange(len(changed))] = random_rule(rng)
    return changed


def packets(rng: random.Random, count: int) -> list[tuple[str, bytes]]:
    ether = Ether(src=mac_text(topology(WHERE).hosts["h1"].mac), dst=mac_text(GATEWAY_MAC))
    frames: list[tuple[str, bytes]] = []
    for _ in range(count):
        ip = IP(src=f"10.0.1.{rng.randrange(17)}", dst=f"198.51.100.{rng.choice([13, 14])}")
        ports = {"sport": rng.randrange(7), "dport": rng.randrange(7)}
        l4 = (
            TCP(flags=rng.choice(["S", "A", "SA"]), **ports) if rng.random() < 0.6 else UDP(**ports)
        )
        frames.append(("h1", bytes(ether / ip / l4)))
    return frames


def changes(transaction: Transaction) -> Iterator[tuple[TableEntry | None, TableEntry | None]]:
    for step in transaction.steps:
        if isinstance(step, WriteEntries):
            for change in step.changes:
                yield change.before, change.after  # type: ignore[misc]


def flat(bundle: Bundle) -> object:
    return {n: (tuple(p.entries), p.activation) for n, p in bundle.programs.items()}


@pytest.mark.parametrize("seed", range(12))
def test_every_packet_meets_one_version(seed: int) -> None:
    rng = random.Random(seed)
    rules = [random_rule(rng) for _ in range(24)]
    sent = packets(rng, 40)
    memo = Memo()
    running = compiled_beside(graph(rules), WHERE, None, memo)
    assert any(n.kind == TREE for n in Nodes(running).all())
    network = WatchedNetwork(WHERE)
    network.run(plan(None, Version(running, None, True)))
    for _ in range(4):
        before, rules = rules, edited(rules, rng)
        probes = Probes(WHERE, (graph(before), graph(rules)), sent)
        new = compiled_beside(graph(rules), WHERE, running, memo)
        cold = compile_graph(CompileRequest(graph(rules), topology(WHERE))).bundle
        assert flat(new) == flat(share(cold, running))
        transaction = update(running, new)

        def check(probes: Probes = probes) -> None:
            probes.check(network, (0, 1))

        network.after = check
        network.run(transaction)
        network.after = lambda: None
        probes.check(network, [1])
        running = new
    network.run(plan(Version(running, None, True), None), careful=True)
    for switch in network.memory.switches.values():
        assert list(switch.entries()) == []


@pytest.mark.parametrize("seed", range(4))
def test_nodes_made_from_those_of_another_version_are_the_same(seed: int) -> None:
    """Entries, places, and who names whom."""
    rng = random.Random(seed)
    rules = [random_rule(rng) for _ in range(24)]
    memo = Memo()
    last: Nodes | None = None
    for _ in range(6):
        bundle = compile_graph(CompileRequest(graph(rules), topology(WHERE), memo=memo)).bundle
        made, fresh = Nodes(bundle, like=last), Nodes(bundle)
        assert (made.parts, made.place, made.roots) == (fresh.parts, fresh.place, fresh.roots)
        for node in fresh.all():
            assert made.above([node]) == fresh.above([node])
        last, rules = made, edited(rules, rng)


def host_rules(count: int) -> list[Rule]:
    """Every port of 10 hosts has its rule: a node for each host below the root's."""
    return [
        {"protocol": "udp", "src": f"10.0.1.{i % 10}/32", "dst_port": i, "action": "deny"}
        for i in range(count)
    ]


def test_a_changed_rule_changes_its_branches_only() -> None:
    rules = host_rules(300)
    old = compiled_beside(graph(rules), WHERE, None)
    rules[150] = {**rules[150], "dst_port": 9000}
    new = compiled_beside(graph(rules), WHERE, old)
    changed = list(changes(update(old, new)))
    assert len(changed) == 2
    assert {owner("leaf1", (a or b)).kind for a, b in changed} == {TREE}  # type: ignore[union-attr,arg-type]


def test_nodes_that_go_are_drained() -> None:
    """A packet may be between two lookups when its tree's branch is bent elsewhere."""
    rules = host_rules(300)
    old = compiled_beside(graph(rules), WHERE, None)
    left = [rule for rule in rules if rule["src"] != "10.0.1.3/32"]
    transaction = update(old, compiled_beside(graph(left), WHERE, old))
    titles = [stage.title for stage in transaction.stages]
    assert titles.index("drain") < titles.index("delete old entries")
    (drain,) = [s for s in transaction.steps if isinstance(s, Drain) and s.entries]
    watched = [entry for _, entries in drain.entries for entry in entries]
    assert watched
    assert all(entry.table.startswith("acl.tree.level_") for entry in watched)


def test_a_bundle_from_a_file_shares_as_much() -> None:
    rules = host_rules(300)
    old = compiled_beside(graph(rules), WHERE, None)
    rules[150] = {**rules[150], "dst_port": 9000}
    new = compiled_beside(graph(rules), WHERE, old)
    loaded = load(dump(old), "old.bundle")
    again = compiled_beside(graph(rules), WHERE, loaded)
    assert len(list(changes(update(loaded, again)))) == len(list(changes(update(old, new))))


def test_a_rule_in_front_changes_nothing_behind_it() -> None:
    rules = host_rules(300)
    old = compiled_beside(graph(rules), WHERE, None)
    inserted = {"protocol": "udp", "src": "10.0.1.77/32", "dst_port": 1, "action": "deny"}
    new = compiled_beside(graph([inserted, *rules]), WHERE, old)
    pairs = list(changes(update(old, new)))
    assert all(a is None or b is None or a[:5] != b[:5] for a, b in pairs)
    assert 0 < len(pairs) <= 4, "its own branch, and the node that this leads to"
    places = {e.origin for e in new.programs["leaf1"].entries if "level_" in e.table}
    assert "fw: rules[300]" in places


def test_what_lies_behind_a_change_is_copied() -> None:
    """A rule that hid another goes, and that other one changes: in between, nothing may be denied.

    Packets of the branch that goes come to the node of the other rule, so only one of the two may be
    changed in place.
    """
    hiding = {"dst": "198.51.100.13/32", "src": "10.0.0.0/8", "dst_port": 80}
    ballast = [
        {"dst": f"198.51.100.{13 + i}/32", "src": f"10.0.1.{5 + i}/32", "protocol": "udp"}
        for i in range(2)
    ]

    def rules(hidden_port: int, *more: Rule) -> list[Rule]:
        hidden = {"dst_port": 80, "src_port": hidden_port, "action": "deny"}
        denied = [{**rule, "dst_port": 1, "action": "deny"} for rule in ballast]
        return [{"protocol": "tcp", **r} for r in (*more, *denied, hidden)]

    before, after = rules(5, {**hiding, "action": "permit"}), rules(6)
    old = compiled_beside(graph(before), WHERE, None)
    new = compiled_beside(graph(after), WHERE, old)
    network = WatchedNetwork(WHERE)
    network.run(plan(None, Version(old, None, True)))
    ether = Ether(src=mac_text(topology(WHERE).hosts["h1"].mac), dst=mac_text(GATEWAY_MAC))
    sent = [
        ("h1", bytes(ether / IP(src="10.0.1.11", dst=dst) / TCP(sport=port, dport=80)))
        for dst in ("198.51.100.13", "198.51.100.14")
        for port in (4, 5, 6)
    ]
    probes = Probes(WHERE, (graph(before), graph(after)), sent)
    network.after = lambda: probes.check(network, (0, 1))
    network.run(update(old, new))
    network.after = lambda: None
    probes.check(network, [1])

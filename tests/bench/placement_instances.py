"""Seeded placement instances: chains of catalogue NFs on fat-trees, and small random problems.

Cycles are Lemur's (docs: examples/lemur); entries are drawn from three sizes of rule sets.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from orchestrator.model.topology import Link, Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.chains import CatalogueNf, ChainSpec, Policy, chains_problem
from orchestrator.placement.problem import Problem
from orchestrator.placement.resources import SCALE_OUT_LOAD, Network, Used
from orchestrator.placement.topologies import fat_tree
from orchestrator.targets.pipelines import SHIPPED

BOTH, ONLY_SERVER, ONLY_SWITCH = (
    frozenset({"switch", "server"}),
    frozenset({"server"}),
    frozenset({"switch"}),
)

CATALOGUE: Mapping[str, CatalogueNf] = {
    spec.name: spec
    for spec in (
        CatalogueNf("acl-small", 985, BOTH, entries={"acl.ipv4": 100}),
        CatalogueNf("acl", 985, BOTH, entries={"acl.ipv4": 600}),
        CatalogueNf("acl-large", 985, BOTH, entries={"acl.ipv4": 1800}),
        CatalogueNf("hash_lb", 564, BOTH, entries={"rewrite.dst_ipv4": 200}),
        CatalogueNf("static_nat", 519, BOTH, entries={"rewrite.src_ipv4": 300}),
        CatalogueNf("update_ttl", 60, BOTH, entries={"route.ipv4": 16}),
        CatalogueNf("vlan_push", 289, BOTH, entries={"rewrite.src_ipv4": 16}),
        CatalogueNf("router", 200, BOTH, entries={"route.ipv4": 2000}),
        CatalogueNf("measure", 310, ONLY_SERVER),
        CatalogueNf("url_filter", 6994, ONLY_SERVER),
        CatalogueNf("chacha", 6820, ONLY_SERVER),
        CatalogueNf("dedup", 33186, ONLY_SERVER),
        CatalogueNf("shaper", 20, ONLY_SERVER, replicable=False),
    )
}
STATELESS = tuple(n for n, s in CATALOGUE.items() if "switch" in s.platforms)
STATEFUL = tuple(n for n, s in CATALOGUE.items() if "switch" not in s.platforms)
INSIDE = ("measure", "measure", "measure", "measure", "url_filter", "chacha")
"""What generated chains have in their middle; cheap work makes offloading matter."""
EDGE_TABLES = {
    "acl.ipv4": 1900,
    "rewrite.dst_ipv4": 400,
    "rewrite.src_ipv4": 600,
    "route.ipv4": 4100,
}
PROGRAMMABLE = 4
"""Every so many-th edge switch offers EDGE_TABLES, the others forward only. So tables are scarce, and
what offloading saves depends on who gets them: the bound is not what each chain needs alone."""


def network_of(topology: Topology) -> Network:
    """A network on which nothing runs yet."""
    pipelines = {
        s.name: SHIPPED.capability(s.pipeline, s.target) for s in topology.switches.values()
    }
    return Network(pipelines, Used())


def fat_tree_instance(
    k: int, chains: int, *, seed: int = 1, load: float = 0.65, extra: int = 0
) -> Problem:
    """`chains` chains of 4 to 6 NFs (one to two of them stateful, in the middle) on a k-ary fat-tree
    of which every PROGRAMMABLE-th edge switch holds EDGE_TABLES. Rates are drawn, then scaled so that
    server work at full offload takes the share `load` of all cores; with what cannot be offloaded it is
    some 5 to 10 % more. `extra` chains more come from the same stream."""
    rng = random.Random(seed)
    topology = _partly_programmable(
        fat_tree(k, table_sizes=dict(EDGE_TABLES), capacity=100 * 10**9)
    )
    hosts = list(topology.hosts)
    specs: list[ChainSpec] = []
    for number in range(chains + extra):
        length = rng.randint(4, 6)
        stateful = rng.randint(1, 2)
        before = rng.randint(1, length - stateful - 1)
        nfs = (
            [rng.choice(STATELESS) for _ in range(before)]
            + [rng.choice(INSIDE) for _ in range(stateful)]
            + [rng.choice(STATELESS) for _ in range(length - stateful - before)]
        )
        ingress, egress = rng.sample(hosts, 2)
        specs.append(
            ChainSpec(
                f"chain{number}",
                tuple(nfs),
                ingress,
                egress,
                round(10 ** rng.uniform(8.0, 9.5)),
                rng.choice((512, 1000, 1500)),
                max_latency_us=rng.choice((None, 500, 1000)),
            )
        )
    budget = 1.7e9 * SCALE_OUT_LOAD
    total = sum(s.cores - s.reserved_cores for s in topology.servers.values())

    def cores_at(scale: float) -> float:
        return sum(
            -(
                -sum(CATALOGUE[n].cycles_per_packet for n in c.nfs if n in STATEFUL)
                * c.rate
                * scale
                / (8 * c.packet_bytes)
                // budget
            )
            for c in specs[:chains]
        )

    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if cores_at(middle) < load * total else (low, middle)
    most = 12 * budget
    scaled = []
    for c in specs:
        cycles = sum(CATALOGUE[n].cycles_per_packet for n in c.nfs)
        rate = min(c.rate * low, most / cycles * 8 * c.packet_bytes, 20e9)
        scaled.append(replace(c, rate=max(1_000_000, round(rate))))
    return chains_problem(
        f"fattree{k}-{chains}",
        Fabric(topology),
        network_of(topology),
        CATALOGUE,
        scaled,
        Policy(near=True),
    )


def _partly_programmable(topology: Topology) -> Topology:
    """The fat-tree with tables at every PROGRAMMABLE-th edge switch only."""
    edges = [name for name, switch in topology.switches.items() if switch.table_sizes]
    bare = [name for i, name in enumerate(edges) if i % PROGRAMMABLE]
    switches = {
        name: replace(s, table_sizes=dict.fromkeys(EDGE_TABLES, 0)) if name in bare else s
        for name, s in topology.switches.items()
    }
    return replace(topology, switches=switches)


def small_instance(seed: int) -> Problem:
    """A random small problem: leaf-spine, 1-3 servers, 1-4 chains; some cannot be placed."""
    rng = random.Random(seed)
    leaves = rng.randint(1, 3)
    topology = _leaf_spine(rng, leaves)
    hosts = list(topology.hosts)
    specs = []
    for number in range(rng.randint(1, 4)):
        nfs = tuple(rng.choice(list(CATALOGUE)) for _ in range(rng.randint(1, 4)))
        specs.append(
            ChainSpec(
                f"chain{number}",
                nfs,
                rng.choice(hosts),
                rng.choice(hosts),
                round(10 ** rng.uniform(7, 9.3)),
                rng.choice((256, 1000, 1500)),
                max_rate=round(10 ** rng.uniform(9, 10)),
                max_latency_us=rng.choice((None, None, 60, 200)),
            )
        )
    return chains_problem(
        f"small{seed}",
        Fabric(topology),
        network_of(topology),
        CATALOGUE,
        specs,
        Policy(load_limit=rng.choice((0.75, 1.0))),
    )


def _leaf_spine(rng: random.Random, leaves: int) -> Topology:
    from orchestrator.placement import topologies as shapes

    names = [f"leaf{i}" for i in range(leaves)] + ["spine0", "spine1"]
    ports = shapes._Ports(names)
    from orchestrator.model.topology import Server, Switch

    sizes = {
        "acl.ipv4": rng.choice((150, 800, 3000)),
        "rewrite.dst_ipv4": rng.choice((100, 500)),
        "rewrite.src_ipv4": rng.choice((100, 700)),
        "route.ipv4": rng.choice((100, 5000)),
    }
    switches = {n: Switch(n, i, "auto", "edge", dict(sizes)) for i, n in enumerate(names, 1)}
    links: list[Link] = []
    for i in range(leaves):
        for spine in ("spine0", "spine1"):
            links.append(shapes._link(ports, f"leaf{i}", spine, 10 * 10**9, 5))
    servers = {}
    for i in range(rng.randint(1, 3)):
        name = f"server{i}"
        servers[name] = Server(
            name, len(names) + 1 + i, rng.randint(3, 10), 1, 1_700_000_000, 1 << 34
        )
        links.append(shapes._link(ports, f"leaf{rng.randrange(leaves)}", name, 10 * 10**9, 3))
    hosts = {}
    for i in range(4):
        name = f"h{i}"
        hosts[name] = shapes._host(name, i + 1, f"10.0.{i}.2/24", f"10.0.{i}.1")
        links.append(shapes._link(ports, f"leaf{i % leaves}", name, 10 * 10**9, 5))
    return Topology("small", switches, servers, {}, hosts, tuple(links), 2)

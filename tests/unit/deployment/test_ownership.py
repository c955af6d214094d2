"""A bundle from a stranger: what is not its own is refused, by the entry and the field.

Oracle: a bundle with one thing changed, and by hand what would be valid. The fuzz deploys what is not
refused, and looks itself at every number that a switch then holds.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from finsy.proto import p4r
from networks import campus, compiled, ids, long_acl, make_graph, one_way, permits, topology

from orchestrator.bundle.codec import dump, unpack
from orchestrator.clients.p4info import Schema
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.deployment.fitting import for_network
from orchestrator.errors import InputError, ReportedError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact, Lpm, Meter, PipelineProgram, TableEntry, Ternary
from orchestrator.model.manifest import new_manifest
from orchestrator.simulation.memory import MemoryNetwork
from orchestrator.targets.block import OWN_INSTANCES
from orchestrator.targets.pipelines import SHIPPED, p4info
from orchestrator.targets.references import key_role, param_role

pytestmark = pytest.mark.slow

MINE, THEIRS = 2, 1
HERE = topology("single")
SWITCH = "switch1"


@cache
def mallory() -> Bundle:
    graph = make_graph(
        {"fw": permits(), "watch": ids()},
        one_way("inside", "fw", "watch", "outside"),
        name="mallory",
        endpoints={"inside": ("h1",), "outside": ("h3",)},
    )
    return compile_graph(CompileRequest(graph, HERE, graph_id=MINE)).bundle


def refused(bundle: Bundle) -> str:
    """What is said of a bundle that comes in a file."""
    with pytest.raises(InputError) as caught:
        for_network(unpack(dump(bundle, topology=HERE), "mal.bundle"), HERE)
    for line in str(caught.value).splitlines():
        assert line.startswith("mal.bundle: ")
    return str(caught.value)


def with_entries(change: Callable[[list[TableEntry]], Any]) -> Bundle:
    """Mallory's bundle with other entries of the switch."""
    program = mallory().programs[SWITCH]
    entries = list(program.entries)
    change(entries)
    return with_program(entries=tuple(entries))


def with_program(**changes: Any) -> Bundle:
    program = replace(mallory().programs[SWITCH], **changes)
    return replace(mallory(), programs={SWITCH: program})


def first(entries: list[TableEntry], table: str) -> int:
    return next(i for i, entry in enumerate(entries) if entry.table == table)


def changed(where: str, **fields: Any) -> Bundle:
    """One entry of a table with other fields; `keys` and `params` are merged."""

    def change(entries: list[TableEntry]) -> None:
        at = first(entries, where)
        entry = entries[at]
        for name in ("keys", "params"):
            if name in fields:
                merged = {**dict(getattr(entry, name)), **fields[name]}
                entry = entry._replace(**{name: tuple(merged.items())})
        rest = {n: v for n, v in fields.items() if n not in ("keys", "params")}
        entries[at] = entry._replace(**rest)

    return with_entries(change)


def test_its_own_is_taken() -> None:
    taken = for_network(unpack(dump(mallory(), topology=HERE), "x"), HERE)
    assert taken.graph_id == MINE


def test_denies_for_anothers_segments() -> None:
    """The attack: alice's graph is 1, so her segments are 16385 and the like."""
    deny = TableEntry(
        "acl.ipv4", (("segment", Exact(16385)),), "acl.ipv4.deny", (), 100, "fw: rules[0]"
    )
    told = refused(with_entries(lambda entries: entries.append(deny)))
    assert told.splitlines()[0] == (
        "mal.bundle: switch1: acl.ipv4 [segment 16385] -> acl.ipv4.deny ('fw: rules[0]'): key segment "
        "is 16385, of graph 1; valid for this bundle's graph 2: 32768 to 49151"
    )


SEGMENT, PATH = THEIRS << 14 | 1, THEIRS << 14
FOREIGN: dict[str, tuple[Callable[[], Bundle], str]] = {
    "segment left for": (
        lambda: changed("flowtag_arrival.paths", params={"segment": SEGMENT}),
        "parameter segment is 16385, of graph 1",
    ),
    "segment 0": (
        lambda: changed("flowtag_arrival.paths", params={"segment": 0}),
        "parameter segment is 0, of graph 0",
    ),
    "path taken over": (
        lambda: changed("flowtag_arrival.paths", keys={"spi": Exact(PATH)}),
        "key spi is 16384, of graph 1; valid for this bundle's graph 2: 32768 to 49151",
    ),
    "path sent into": (
        lambda: changed("dispatch.next", params={"spi": PATH}),
        "parameter spi is 16384, of graph 1",
    ),
    "admitted for": (
        lambda: changed("classify.ipv4", params={"graph": THEIRS}),
        "parameter graph is 1, of graph 1; valid for this bundle's graph 2: 2",
    ),
    "first segments": (
        lambda: changed("classify.first_ipv4", keys={"graph": Exact(THEIRS)}),
        "key graph is 1, of graph 1",
    ),
    "group": (
        lambda: changed("deliver.floods", params={"group": THEIRS << 6 | 1}),
        "parameter group is 65, of graph 1; valid for this bundle's graph 2: 128 to 191",
    ),
    "port of another host": (
        lambda: changed("classify.ipv4", keys={"ingress_port": Exact(2)}),
        "key ingress_port is port 2; valid are the ports of its own hosts and servers: 1, 3",
    ),
    "delivered to another host": (
        lambda: changed("deliver.ipv4", params={"port": 2}),
        "parameter port is port 2; valid",
    ),
    "delivered to the controller": (
        lambda: changed("deliver.ipv4", params={"port": 510}),
        "parameter port is port 510; valid",
    ),
    "MAC of another core": (
        lambda: changed("dispatch.next", params={"mac": 0x02_00_00_02_00_03}),
        "parameter mac is 02:00:00:02:00:03; valid are",
    ),
    "MAC of another host": (
        lambda: changed("deliver.ipv4", params={"host_mac": 0x0A_00_00_00_00_02}),
        "parameter host_mac is 0a:00:00:00:00:02; valid are",
    ),
    "a gateway of its own": (
        lambda: changed("deliver.ipv4", params={"gateway_mac": 7}),
        "parameter gateway_mac is 00:00:00:00:00:07; valid are 06:00:00:00:00:01",
    ),
    "a table of the network's": (
        lambda: with_entries(lambda entries: entries.append(mallory().fabric[SWITCH].entries[-1])),
        "a graph has no entries in this table",
    ),
    "sampling keys": (
        lambda: with_entries(
            lambda entries: entries.append(
                TableEntry(
                    "trajectory_sample.manifests",
                    (("graph", Exact(THEIRS)),),
                    "trajectory_sample.watch",
                    (("key0", 1), ("key1", 2), ("below", 3)),
                    0,
                    "x",
                )
            )
        ),
        "a graph has no entries in this table",
    ),
    "in force too early": (
        lambda: with_entries(
            lambda entries: entries.append(mallory().programs[SWITCH].activation[0])
        ),
        "a graph has no entries in this table",
    ),
    "another graph put out of force": (
        lambda: with_program(
            activation=tuple(
                entry._replace(keys=(("graph", Exact(THEIRS)),))
                for entry in mallory().programs[SWITCH].activation
            )
        ),
        "only graph 2 may be put in force",
    ),
    "an entry again": (
        lambda: with_entries(
            lambda entries: entries.append(entries[first(entries, "acl.ipv4")]._replace(params=()))
        ),
        "is there twice",
    ),
    "a default action's": (
        lambda: with_entries(
            lambda entries: entries.append(
                entries[first(entries, "deliver.ipv4")]._replace(
                    action="deliver.no_host", params=()
                )
            )
        ),
        "action deliver.no_host is none of deliver.ipv4.host_at_port, deliver.ipv4.host_at_switch",
    ),
    "another kind of match": (
        lambda: changed("deliver.mac", keys={"segment": Ternary(MINE << 14 | 1, 1)}),
        "key segment is matched as TERNARY, and the table asks EXACT",
    ),
    "no priority": (lambda: changed("acl.ipv4", priority=0), "priority is 0, valid are 1 to"),
    "a meter": (
        lambda: changed("deliver.mac", meter=Meter(1, 1, 1, 1)),
        "it has a meter, and the table has none",
    ),
    "twice": (
        lambda: with_entries(lambda entries: entries.append(entries[0])),
        "is there twice",
    ),
    "an answer for every address": (
        lambda: with_entries(
            lambda entries: entries.append(
                TableEntry(
                    "neighbor.arp",
                    (("ingress_port", Exact(1)), ("target", Lpm(10 << 24, 8))),
                    "neighbor.answer_arp",
                    (("mac", 0x06_00_00_00_00_01),),
                    0,
                    "x",
                )
            )
        ),
        "key target must be one address, of 32 bits",
    ),
    "an answer as another": (
        lambda: with_entries(
            lambda entries: entries.append(
                TableEntry(
                    "neighbor.arp",
                    (("ingress_port", Exact(1)), ("target", Lpm(0x0A000202, 32))),
                    "neighbor.answer_arp",
                    (("mac", 0x0A_00_00_00_00_01),),
                    0,
                    "x",
                )
            )
        ),
        "parameter mac is 0a:00:00:00:00:01; valid are 06:00:00:00:00:01",
    ),
    "copies for another host": (
        lambda: with_program(
            floods=tuple(f._replace(ports=(2,)) for f in mallory().programs[SWITCH].floods)
        ),
        "is port 2; valid are",
    ),
    "another graph's group": (
        lambda: with_program(
            floods=tuple(
                f._replace(group=THEIRS << 6 | 1) for f in mallory().programs[SWITCH].floods
            )
        ),
        "multicast group 65: its number is 65, of graph 1",
    ),
    "a port of the fabric": (
        lambda: replace(
            mallory(),
            fabric={
                SWITCH: replace(
                    mallory().fabric[SWITCH],
                    entries=tuple(
                        entry._replace(action="port.fabric_facing")
                        for entry in mallory().fabric[SWITCH].entries
                        if entry.table == "port.ports"
                    ),
                )
            },
        ),
        "is no entry of this network's fabric",
    ),
    "a fabric without an entry": (
        lambda: replace(
            mallory(),
            fabric={SWITCH: PipelineProgram(mallory().fabric[SWITCH].entries[1:], (), ())},
        ),
        "is missing",
    ),
    "hosts that are not there": (
        lambda: replace(mallory(), endpoints={"inside": ("h77",)}),
        "endpoint inside: unknown host 'h77'",
    ),
    "no hosts": (lambda: replace(mallory(), endpoints={}), "does not say which hosts it is for"),
    "memory for nothing": (
        lambda: replace(mallory(), block_use={**mallory().block_use, "server1": {}}),
        "block_use.server1.memory_bytes is 0, and it takes",
    ),
    "entries for nothing": (
        lambda: replace(mallory(), block_use={**mallory().block_use, SWITCH: {}}),
        "block_use.switch1.acl.ipv4 is 0, and it takes",
    ),
    "cores that are not its plan's": (
        lambda: replace(mallory(), plan=replace(mallory().plan, cores_of=())),
        "cores_of: are not the cores of workers.json",
    ),
    "a link that is nowhere": (
        lambda: replace(
            mallory(),
            plan=replace(mallory().plan, hops=(replace(mallory().plan.hops[0], target="moon"),)),
        ),
        "hops: unknown device 'moon'",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_its_own(name: str) -> None:
    made, words = FOREIGN[name]
    assert words in refused(made())


def with_chain(**hop: Any) -> Bundle:
    """The first worker's first chain with another last hop."""
    worker = mallory().workers[0]
    served = worker.chains[0]
    last = replace(served.hops[-1], **hop)
    chains = (replace(served, hops=(*served.hops[:-1], last)), *worker.chains[1:])
    return replace(mallory(), workers=(replace(worker, chains=chains), *mallory().workers[1:]))


def with_worker(**changes: Any) -> Bundle:
    worker = replace(mallory().workers[0], **changes)
    return replace(mallory(), workers=(worker, *mallory().workers[1:]))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: with_chain(spi=PATH), "SPI is 16384, of graph 1"),
        (lambda: with_chain(mac=0x0A_00_00_00_00_02), "0a:00:00:00:00:02, which is no switch"),
        (lambda: with_chain(nf="alice", mac=0, spi=0, si=0), "unknown NF of this worker 'alice'"),
        (
            lambda: with_worker(
                chains=tuple(replace(c, spi=PATH) for c in mallory().workers[0].chains)
            ),
            "SPI is 16384, of graph 1",
        ),
        (lambda: with_worker(nfs={"watch": ("rootkit", {})}), "unknown NF type 'rootkit'"),
        (lambda: with_worker(nfs={"../alice/fw": ("ids", {})}), "'../alice/fw' is not a name"),
        (lambda: with_worker(core=3), "there is no worker on server1.4"),
    ],
)
def test_workers_of_its_own(made: Callable[[], Bundle], words: str) -> None:
    assert words in refused(made())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sampling_rate": float("nan")}, "manifest.json: NaN is not JSON"),
        ({"sampling_rate": float("inf")}, "manifest.json: Infinity is not JSON"),
        ({"sampling_rate": 2}, "sampling_rate"),
        ({"graph": "g\x1b[2J"}, "is not a name"),
        ({"owner": "alice\nroot"}, "is not a name"),
        ({"graph_id": 0}, "graph id 0 is none of 1 to 1023"),
        ({"graph_id": True}, "graph_id"),
        ({"slos": {"t": {"rate": -1, "min_rate": None, "max_latency_us": None}}}, "slos"),
        ({"block_use": {"server1": {"memory_bytes": -(1 << 40)}}}, "block_use"),
        ({"surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_a_manifest_is_checked(values: dict[str, Any], words: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"]) | values
        members["manifest.json"] = json.dumps(manifest).encode()

    with pytest.raises(InputError) as caught:
        unpack(repacked(dump(mallory(), topology=HERE), change), "x")
    assert words in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "kind",
    ["delete", "modify", "default", "counter", "owner", "register"],
)
def test_batches_hold_inserts_only(kind: str) -> None:
    """What an entry does not say is not lost on the way: the bytes are compared."""

    def change(members: dict[str, bytes]) -> None:
        name = f"programs/{SWITCH}.entries.bin"
        batch = p4r.WriteRequest.FromString(members[name])
        update = batch.updates[0]
        if kind in ("delete", "modify"):
            update.type = {"delete": p4r.Update.DELETE, "modify": p4r.Update.MODIFY}[kind]
        elif kind == "default":
            update.entity.table_entry.is_default_action = True
        elif kind == "counter":
            update.entity.table_entry.counter_data.packet_count = 7
        elif kind == "owner":
            update.entity.table_entry.metadata = b"alice|fw: rules[0]"
        else:
            update.entity.register_entry.register_id = 1
        members[name] = batch.SerializeToString(deterministic=True)

    with pytest.raises(InputError, match="x: not a bundle"):
        unpack(repacked(dump(mallory(), topology=HERE), change), "x")


def test_every_number_of_the_shipped_pipeline_is_classified() -> None:
    """A table that comes to the pipeline must say what its numbers stand for."""
    schema = Schema(p4info(SHIPPED.build("edge", "bmv2")))
    networks_own = {"port", "fabric", "trajectory_sample"}
    for table in schema.tables.values():
        instance = table.name.partition(".")[0]
        if instance in networks_own:
            assert instance not in OWN_INSTANCES
            continue
        for name in table.keys:
            assert key_role(table.name, name) is not None, (table.name, name)
        for action in table.actions:
            for name in schema.actions[action].params:
                assert param_role(action, name) is not None, (action, name)


# -- fuzz ----------------------------------------------------------------------------------------


def repacked(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """With digests that are right again."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    try:
        manifest = json.loads(members["manifest.json"])
        manifest["sha256"] = {
            n: hashlib.sha256(c).hexdigest() for n, c in members.items() if n != "manifest.json"
        }
        members["manifest.json"] = json.dumps(manifest).encode()
    except (ValueError, TypeError):
        pass
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def mutated_json(value: Any, rng: random.Random) -> Any:
    """A document with one leaf (or branch) changed."""
    odd = [
        *(-1, 0, 1, 2, 7, 1 << 14, 1 << 40, 1 << 70, 1.5, True, None, "", "x" * 300, [], {}),
        *("server1", "h2", "../x", "\x1b[2J", "fw", "ids", 16385, 65, "1e999"),
    ]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != name}
        return {**value, name: mutated_json(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.2:
            return [*value, value[at]]
        return [*value[:at], mutated_json(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return value ^ 1 << rng.randrange(20)
    return rng.choice(odd)


def mutated_lines(data: bytes, rng: random.Random) -> bytes:
    """Places of rules with one of another kind, or one more."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at : at + rng.randrange(2)] = [
        rng.choice([b":7", b"[0]", b"", b"\xff", b"; a", b":1&:2"])
    ]
    return b"\n".join(lines)


def mutated_batch(data: bytes, rng: random.Random) -> bytes:
    """A batch with one field of one entry changed."""
    batch = p4r.WriteRequest.FromString(data)
    if not batch.updates or rng.random() < 0.1:
        copy = bytearray(data or b"\0")
        copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        return bytes(copy)
    entity = rng.choice(batch.updates).entity
    if not entity.HasField("table_entry"):
        group = entity.packet_replication_engine_entry.multicast_group_entry
        if rng.random() < 0.5 or not group.replicas:
            group.multicast_group_id ^= 1 << rng.randrange(16)
        else:
            rng.choice(group.replicas).egress_port ^= 1 << rng.randrange(4)  # pyright: ignore[reportDeprecated]
        return batch.SerializeToString(deterministic=True)
    entry = entity.table_entry
    what = rng.randrange(5)
    if what == 0 and entry.match:
        match = rng.choice(entry.match)
        kind = str(match.WhichOneof("field_match_type"))
        inner = getattr(match, kind)
        field = "low" if kind == "range" else "value"
        number = int.from_bytes(getattr(inner, field)) ^ 1 << rng.randrange(24)
        setattr(inner, field, number.to_bytes((number.bit_length() + 7) // 8 or 1))
    elif what == 1 and entry.action.action.params:
        param = rng.choice(entry.action.action.params)
        number = int.from_bytes(param.value) ^ 1 << rng.randrange(24)
        param.value = number.to_bytes((number.bit_length() + 7) // 8 or 1)
    elif what == 2:
        entry.priority ^= 1 << rng.randrange(8)
    elif what == 3:
        other = rng.choice(batch.updates).entity.table_entry
        if rng.random() < 0.5:
            entry.action.CopyFrom(other.action)
        entry.table_id = other.table_id
    else:
        entry.metadata = rng.choice(
            (b"mallory|\x1b[2J", b"alice|x", b"\xff", b"mallory|" + b"y" * 9)
        )
    return batch.SerializeToString(deterministic=True)


def foreign_numbers(network: MemoryNetwork, bundle: Bundle) -> list[str]:
    """Numbers on the switches that are not the graph's, found without the roles of the compiler."""
    widths = {"segment": 14, "target": 14, "spi": 14, "group": 6, "graph": 0}
    ports, servers = {1, 3}, {5}
    foreign: list[str] = []
    for switch in network.switches.values():
        for installed in switch.entries():
            entry = installed.entry
            if entry.table.startswith(("port.", "fabric.", "trajectory", "neighbor.echo")):
                continue
            keys = [(n, k.value) for n, k in entry.keys if isinstance(k, Exact)]
            foreign += [
                f"{entry}: {name}"
                for name, value in (*keys, *entry.params)
                if name in widths and value >> widths[name] != bundle.graph_id
            ]
            foreign += [
                f"{entry}: {name}"
                for name, value in (*keys, *entry.params)
                if name in ("ingress_port", "port")
                and not entry.table.startswith(("neighbor.", "dispatch."))
                and value not in (servers if entry.table.endswith(".origins") else ports)
            ]
    return foreign


@pytest.mark.parametrize("seed", range(4))
def test_a_mutated_bundle_is_refused_or_its_own(seed: int) -> None:
    rng = random.Random(seed)
    good = dump(mallory(), topology=HERE)
    refusals, deployed = list[str](), 0
    for _ in range(60):

        def change(members: dict[str, bytes]) -> None:
            name = rng.choice([n for n in sorted(members) if not n.startswith("pipelines/")])
            if name.endswith(".bin"):
                members[name] = mutated_batch(members[name], rng)
            elif name.endswith(".txt"):
                members[name] = mutated_lines(members[name], rng)
            else:
                value = mutated_json(json.loads(members[name]), rng)
                members[name] = json.dumps(value).encode()

        data = repacked(good, change)
        try:
            bundle = for_network(unpack(data, "x"), HERE)
            network = MemoryNetwork(HERE)
            manifest = new_manifest(bundle.graph_id, bundle.sampling_rate)
            apply_bundle(bundle, network, manifest, first=True)
        except ReportedError as error:
            refusals.append(str(error))
            continue
        deployed += 1
        assert foreign_numbers(network, bundle) == []
    assert len(refusals) > 30
    assert max(map(len, refusals)) < 12_000
    assert deployed


def test_larger_graphs_are_their_own() -> None:
    """No false alarm: trees, several cores and a switch behind others."""
    here = topology("leaf-spine")
    wall = make_graph({"fw": long_acl(300)}, one_way("inside", "fw", "outside"), name="wall")
    for bundle in (
        compiled(campus()).bundle,
        compile_graph(CompileRequest(wall, here, graph_id=1023)).bundle,
    ):
        assert for_network(unpack(dump(bundle, topology=here), "x"), here) is not None

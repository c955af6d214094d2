"""Access lists on real BMv2 and on the softswitch: what their forms cost a packet.

Each graph is one access list and a default route between two hosts of one switch, compiled as always and
loaded into a switch process on veth pairs. Frames each meet a rule chosen by chance; at most 32 are
under way, so that the switch is never flooded.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Missing, Result, figure
from finsy.proto import p4r

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "p4" / "fuzz"))

from fuzz_bmv2 import BMV2, PRIMARY, Oracle, oracle

from orchestrator.clients.p4info import Schema
from orchestrator.compile import CompileRequest, TernaryRules, compile_graph
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.oracle.packets import HeaderFields, match_corners
from orchestrator.oracle.world import Station
from orchestrator.targets.pipelines import SHIPPED, p4info

RULES = Path(__file__).resolve().parents[3] / "shared" / "data" / "classbench"
SETS = ("acl1_10k", "acl1_1k", "fw1_1k", "ipc1_1k")
_FRAMES = 1024
_UNDER_WAY = 32
_SECONDS = 2.0
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """A graph's updates for its one switch, and frames that it delivers."""

    updates: list[p4r.Update]
    trees: bool


def graph_of(rules: Path | None, folder: Path) -> ServiceGraph:
    """An access list (None: an empty one) and a default route towards h2."""
    config: dict[str, Any] = {"default": "permit"}
    if rules is not None:
        if not rules.exists():
            raise Missing(f"{rules} is not there")
        (folder / "access.rules").write_bytes(rules.read_bytes())
        config |= {"rules_file": "access.rules"}
    hop = str(load_topology("single").hosts["h2"].addresses[0].ip)
    graph = {
        "name": "filter",
        "endpoints": {"inside": {"hosts": ["h1"]}, "outside": {"hosts": ["h2"]}},
        "nfs": {
            "list": {"type": "acl", "config": config},
            "hop": {
                "type": "router",
                "config": {"routes": [{"prefix": "0.0.0.0/0", "next_hop": hop, "port": "outside"}]},
            },
        },
        "edges": [
            {"from": "inside", "to": "list.inside"},
            {"from": "list.outside", "to": "hop.inside"},
            {"from": "hop.outside", "to": "outside"},
        ],
        "traffic": [{"name": "all", "from": "inside", "to": "outside", "rate": "10Mbit/s"}],
    }
    path = folder / "graph.json"
    path.write_text(json.dumps(graph))
    return load_graph(path).graph


def loaded(rules: Path | None, target: str, *, trees: bool = True) -> Loaded:
    """Compiled for a switch of this target; without `trees` all rules are ternary."""
    from dataclasses import replace

    topology = load_topology("single")
    switches = {n: replace(s, target=target) for n, s in topology.switches.items()}
    topology = replace(topology, switches=switches)
    with tempfile.TemporaryDirectory() as folder:
        graph = graph_of(rules, Path(folder))
        bundle = compile_graph(
            CompileRequest(graph, topology, relaxations=() if trees else (TernaryRules("list"),))
        ).bundle
    return Loaded(_updates(bundle), any(".tree." in t for t in _tables(bundle)))


def _tables(bundle: Bundle) -> set[str]:
    return {entry.table for program in bundle.programs.values() for entry in program.entries}


def _updates(bundle: Bundle) -> list[p4r.Update]:
    schema = Schema(p4info(SHIPPED.build("edge", "bmv2")))
    (switch,) = bundle.programs
    program, fabric = bundle.programs[switch], bundle.fabric[switch]
    result: list[p4r.Update] = []
    for part in (fabric, program):
        for entry in (*part.entries, *part.activation):
            update = p4r.Update(type=p4r.Update.INSERT)
            update.entity.table_entry.CopyFrom(schema.encode(entry, "filter"))
            result.append(update)
    return result


def frames(rules: Path, seed: int = 1) -> list[bytes]:
    """One for each of `_FRAMES` rules chosen by chance."""
    topology = load_topology("single")
    with tempfile.TemporaryDirectory() as folder:
        function = graph_of(rules, Path(folder)).nfs["list"].config
    listed, rng = function.all_rules, random.Random(seed)
    host = topology.hosts["h1"]
    sender = Station("h1", host.mac, ())
    result: list[bytes] = []
    while len(result) < _FRAMES:
        match, _, _ = rng.choice(listed)
        corner = next(match_corners(match))
        fields = HeaderFields(
            version=4,
            src=corner.src if corner.src is not None else rng.getrandbits(32),
            dst=corner.dst if corner.dst is not None else rng.getrandbits(32),
            protocol=corner.protocol if corner.protocol is not None else 17,
            src_port=corner.src_port if corner.src_port is not None else rng.randrange(65536),
            dst_port=corner.dst_port if corner.dst_port is not None else rng.randrange(65536),
            flags=corner.flags if corner.flags is not None else 0x10,
            icmp=corner.icmp,
        )
        result.append(fields.frame(sender))
    return result


def write(switch: Oracle, updates: Sequence[p4r.Update]) -> float:
    """Write entries, 500 a request; entries a second."""
    start = time.monotonic()
    for at in range(0, len(updates), 500):
        request = p4r.WriteRequest(device_id=1, election_id=PRIMARY, updates=updates[at : at + 500])
        switch.stub.Write(request, timeout=60)
    return len(updates) / (time.monotonic() - start)


def microseconds(switch: Oracle, sent: Sequence[bytes]) -> float:
    """A packet's time in the switch: the best of some rounds with a bounded number under way."""
    best = 1e9
    for _ in range(_ROUNDS):
        done, at = 0, 0
        start = time.monotonic()
        while time.monotonic() - start < _SECONDS:
            batch = sent[at : at + _UNDER_WAY]
            at = (at + _UNDER_WAY) % (len(sent) - _UNDER_WAY)
            got = switch.exchange(1, batch, len(batch), 0)
            arrived = sum(map(len, got.values()))
            if arrived != len(batch):
                raise RuntimeError(f"{arrived} of {len(batch)} frames came back")
            done += arrived
        best = min(best, (time.monotonic() - start) / done * 1e6)
    return best


def _compared(name: str) -> dict[str, float]:
    """Microseconds a packet: no rules, as compiled, and all rules ternary; in this order, then again."""
    if BMV2 is None:
        raise Missing("simple_switch_grpc is not installed")
    if os.geteuid() != 0:
        raise Missing("veth interfaces need root")
    rules = RULES / f"{name}.rules"
    sent = frames(rules)
    forms = {
        "empty_us": loaded(None, "bmv2"),
        "as_compiled_us": loaded(rules, "bmv2"),
        "ternary_us": loaded(rules, "bmv2", trees=False),
    }
    pipeline = SHIPPED.build("edge", "bmv2")
    result = dict.fromkeys(forms, 1e9)
    for _ in range(2):
        for form, graph in forms.items():
            with oracle() as switch:
                switch.load(pipeline.device_config, p4info(pipeline))
                write(switch, graph.updates)
                result[form] = min(result[form], microseconds(switch, sent))
    rounded = {form: round(us, 1) for form, us in result.items()}
    return {**rounded, "tree": float(forms["as_compiled_us"].trees)}


@figure("acl_10k_pps_ratio_bmv2", unit="ratio", goal=0.33)
def acl_10k() -> Result:
    """Packet rate of BMv2 with acl1_10k over the rate with an empty access list, same frames."""
    us = _compared("acl1_10k")
    ratio = us["empty_us"] / us["as_compiled_us"]
    ternary = round(us["empty_us"] / us["ternary_us"], 3)
    return {"value": round(ratio, 3), "compared_with": {**us, "ternary_ratio": ternary}}


@figure("acl_slowest_against_ternary_bmv2", unit="ratio", goal=1.0)
def never_slower() -> Result:
    """The smallest of all rule sets' packet rates, each over the rate of its plain ternary form."""
    ratios = dict.fromkeys(SETS, 1.0)  # what stays ternary is the same entries: not measured
    for name in SETS:
        if loaded(RULES / f"{name}.rules", "bmv2").trees:
            us = _compared(name)
            ratios[name] = us["ternary_us"] / us["as_compiled_us"]
    return {
        "value": round(min(ratios.values()), 3),
        "compared_with": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }

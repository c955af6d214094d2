"""Figures of the fast engine (C) beside the Python engine: the edge pipeline, from memory, on one core.

Both have the same entries (`fuzz.edge_setup`) and 60-byte frames of 1,024 flows, and take turns within
one run. The C engine's time is CPU time of its process, the Python engine's that of its thread.
"""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from figures import Missing, Result, figure
from finsy.proto import p4r
from softswitch import _edge, _frames, _rules, canonical, fuzz

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entity_errors import WriteError
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.switch import SoftSwitch

ROUNDS = 5
FLOWS = 1024
CHANGES_A_SECOND = 1000


def _fast(stack: ExitStack, target: fuzz.Target, updates: Sequence[p4r.Update]) -> FastSwitch:
    switch = stack.enter_context(FastSwitch())
    try:
        switch.load(json.loads(target.raw), target.info)
    except SwitchError as missing:
        raise Missing(str(missing)) from missing
    _write(switch, updates)
    return switch


def _write(switch: FastSwitch | SoftSwitch, updates: Sequence[p4r.Update]) -> None:
    try:
        switch.write(updates)
    except WriteError as refused:
        raise AssertionError(refused) from refused


def _nanoseconds(switch: FastSwitch, frames: Sequence[bytes], rounds: int = 50) -> float:
    """CPU time a packet."""
    spent, _ = switch.loaded.device.measure(rounds, [(1, frame) for frame in frames])
    return spent / rounds / len(frames)


def _python_ns(switch: SoftSwitch, frames: Sequence[bytes]) -> float:
    start = time.thread_time_ns()
    for i in range(0, len(frames), 64):
        switch.process_batch(1, frames[i : i + 64])
    return (time.thread_time_ns() - start) / len(frames)


def _least(*measures: Callable[[], float], rounds: int = ROUNDS) -> list[float]:
    """The least of each, which take turns."""
    readings = [[measure() for measure in measures] for _ in range(rounds)]
    return [min(each) for each in zip(*readings, strict=True)]


@figure("engine_gain", unit="ratio", goal=40)
def engine_gain() -> Result:
    """Packets a second of C over those of Python."""
    target, frames = _edge(), _frames(FLOWS)
    python = fuzz.fresh(target)
    python.write(target.setup)
    with ExitStack() as stack:
        fast = _fast(stack, target, target.setup)
        assert len(fast.process_batch(1, frames)) == len(python.process_batch(1, frames))
        theirs, ours = _least(
            lambda: _python_ns(python, frames), lambda: _nanoseconds(fast, frames)
        )
    return {
        "value": round(theirs / ours, 1),
        "compared_with": {"python_ns": round(theirs), "c_ns": round(ours), "flows": FLOWS},
    }


def _with_and_without_rules(stack: ExitStack, target: fuzz.Target) -> tuple[FastSwitch, FastSwitch]:
    """Switches with acl1_10k and with an empty ACL."""
    rules = _rules(target)
    acl = rules[0].entity.table_entry.table_id
    setup = [u for u in target.setup if u.entity.table_entry.table_id != acl]
    return _fast(stack, target, [*setup, *rules]), _fast(stack, target, setup)


@figure("engine_acl10k_ratio", unit="ratio", goal=0.7)
def engine_acl10k_ratio() -> Result:
    """Packets a second with acl1_10k.rules in the ACL over those with none."""
    target, frames = _edge(), _frames(FLOWS)
    with ExitStack() as stack:
        full, empty = _with_and_without_rules(stack, target)
        with_rules, without = _least(
            lambda: _nanoseconds(full, frames), lambda: _nanoseconds(empty, frames)
        )
        many = _frames(64_000)  # more than are remembered: each is looked up
        new, old = _nanoseconds(full, many, 2), _nanoseconds(empty, many, 2)
    return {
        "value": round(without / with_rules, 3),
        "compared_with": {
            "empty_ns": round(without),
            "acl1_10k_ns": round(with_rules),
            "every_packet_a_new_flow_ratio": round(old / new, 3),
            "every_packet_a_new_flow_ns": [round(new), round(old)],
        },
    }


def _routes(target: fuzz.Target, start: int, count: int) -> list[p4r.Update]:
    table = next(t for t in target.info.tables if t.preamble.name == "ingress.route.ipv4")
    ids = {f.name: f.id for f in table.match_fields}
    action = next(
        a for a in target.info.actions if a.preamble.name == "ingress.route.ipv4.next_hop"
    )
    out: list[p4r.Update] = []
    for i in range(start, start + count):
        update = p4r.Update(type=p4r.Update.INSERT)
        e = update.entity.table_entry
        e.table_id = table.preamble.id
        e.match.add(field_id=ids["segment"]).exact.value = canonical(5)
        m = e.match.add(field_id=ids["dst"])
        m.lpm.value, m.lpm.prefix_len = canonical((i + 1) << 8), 24
        e.action.action.action_id = action.preamble.id
        for p, v in zip(action.params, (1, 2, 6), strict=True):
            e.action.action.params.add(param_id=p.id, value=canonical(v))
        out.append(update)
    return out


@figure("engine_write_rate", unit="ratio", goal=1)
def engine_write_rate() -> Result:
    """Entries a second over those that the Python engine takes: routes in batches of 1,000.

    CPU time: of this thread, and of the process of the C engine.
    """
    target = _edge()
    batches = [_routes(target, start, 1000) for start in range(0, 50_000, 1000)]
    python = fuzz.fresh(target)
    spent = {"python": 0.0, "c": 0.0}
    with ExitStack() as stack:
        fast = _fast(stack, target, [])
        gc.disable()  # a collection would be the one's whose turn it is, of what both have made
        stack.callback(gc.enable)
        both: list[tuple[str, FastSwitch | SoftSwitch]] = [("python", python), ("c", fast)]
        for batch in batches:
            both.reverse()  # the second one finds the batch in the caches
            for name, switch in both:
                start = _written_s(switch)
                switch.write(batch)
                spent[name] += _written_s(switch) - start
    return {
        "value": round(spent["python"] / spent["c"], 3),
        "compared_with": {f"{name}_entries_a_second": round(5e4 / s) for name, s in spent.items()},
    }


def _written_s(switch: FastSwitch | SoftSwitch) -> float:
    """CPU seconds of what takes part in a write."""
    there = _cpu_ns(switch) if isinstance(switch, FastSwitch) else 0
    return (time.thread_time_ns() + there) / 1e9


def _cpu_ns(switch: FastSwitch) -> int:
    return int(Path(f"/proc/{switch.child.pid}/schedstat").read_text().split()[0])


@figure("engine_churn_ratio", unit="ratio", goal=0.9)
def engine_churn_ratio() -> Result:
    """Packets a second while 1,000 rules a second change, over those without: the process's CPU time."""
    target, frames = _edge(), _frames(FLOWS)
    rng = random.Random(3)
    rules = [u for u in _rules(target) if rng.random() < 0.1]
    with ExitStack() as stack:
        switch = _fast(stack, target, target.setup)
        packets = [(1, frame) for frame in frames]
        switch.loaded.device.measure(50, packets)
        # So many packets pass between two changes.
        between = 1e9 / CHANGES_A_SECOND / _nanoseconds(switch, frames)
        rounds = max(1, round(between / FLOWS))
        spent: dict[str, list[int]] = {"still": [], "churn": []}
        for i, rule in enumerate(rules):
            start = _cpu_ns(switch)
            switch.loaded.device.measure(rounds, packets)
            middle = _cpu_ns(switch)
            update = p4r.Update(type=p4r.Update.INSERT, entity=rule.entity)
            switch.write([update])
            switch.loaded.device.measure(rounds, packets)
            spent["still"].append(middle - start)
            spent["churn"].append(_cpu_ns(switch) - middle)
            if i >= 300:
                break
    still, churn = (sum(sorted(each)[: len(each) // 2]) for each in spent.values())
    return {
        "value": round(still / churn, 3),
        "compared_with": {
            "packets_between_changes": rounds * FLOWS,
            "changes": len(spent["churn"]),
        },
    }

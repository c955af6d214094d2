"""The state of an instance as another worker gets it: its tables, and the frames held for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from servernf.python.network_function import NetworkFunction
from servernf.python.runtime.held import HELD, HeldFrames, read_held
from servernf.python.runtime.tables import CompiledCall, CompiledExit, Instance
from servernf.python.scope import Buckets, StateScope
from servernf.python.state import CHUNK
from servernf.wire.buckets import KEYS
from servernf.wire.errors import InputError, quoted
from servernf.wire.state import RecordLayout, StateRecord, decode, encode


def export_state(
    instance: Instance, held: HeldFrames, scope: StateScope, now_us: int
) -> list[bytes]:
    """Batches, in the order in which to enter them."""
    batches = instance.nf.state.export(scope, now_us)
    records = held.records(instance.name, now_us) if scope.is_all else []
    for at in range(0, len(records), CHUNK):
        batches.append(encode(instance.type_name, HELD, records[at : at + CHUNK]))
    return batches


def import_state(
    instance: Instance,
    held: HeldFrames,
    steps: Mapping[int, CompiledCall],
    batches: Iterable[bytes],
    now_us: int,
) -> int:
    """Enter batches of another worker; how many records. InputError: nothing has changed."""

    def layouts(nf_type: str) -> Mapping[str, RecordLayout]:
        if nf_type != instance.type_name:
            raise InputError(
                f"state: is of {quoted(nf_type)}, and {instance.name} is {instance.type_name}"
            )
        return instance.nf.state.layouts | {HELD.table: HELD}

    read = [decode(data, layouts) for data in batches]
    frames: list[StateRecord] = [
        r for batch in read if batch.table == HELD.table for r in batch.records
    ]
    frames_held = read_held(instance.name, frames, now_us, partial(step_of, steps))
    tables = [batch for batch in read if batch.table != HELD.table]
    count = instance.nf.state.enter(tables, now_us)
    for beside, tag in frames_held:
        held.hold(beside, tag)
    return count + len(frames_held)


def delete_state(instance: Instance, held: HeldFrames, scope: StateScope) -> int:
    """Take the records of a scope out; how many."""
    gone = instance.nf.state.delete(scope)
    if scope.is_all:
        held.forget(instance.name)
    return gone


def check_divided(instance: Instance, buckets: Buckets) -> None:
    """InputError when an instance's state cannot be divided so, or its packets would not show it."""
    nf = instance.nf
    nf.state.check_divided(buckets.asks)
    if buckets.is_narrow and type(nf).hash_of_answer is not NetworkFunction.hash_of_answer:
        raise InputError(
            f"scope: what answers {instance.name} from outside shows its bucket, and no flow space"
            " within it: name buckets only"
        )


def all_buckets(instances: Iterable[Instance]) -> Buckets | None:
    """One bucket of all flows, by a key that the tables of all instances have; None where there is none.

    Source and destination come to the same one, since it follows from types and configurations.
    """
    listed = list(instances)
    for key in KEYS:
        everything = Buckets(key, 1, frozenset({0}))
        with suppress(InputError):
            for instance in listed:
                instance.nf.state.check_divided(everything.asks)
            return everything
    return None


def step_of(
    steps: Mapping[int, CompiledCall], path: int, nf: str, port: str
) -> CompiledCall | None:
    """Where packets of a path enter an instance by a port."""
    ways: list[CompiledCall | CompiledExit] = [steps[path]] if path in steps else []
    seen: set[int] = set()
    while ways:
        step = ways.pop()
        if isinstance(step, CompiledExit) or id(step) in seen:
            continue
        seen.add(id(step))
        if step.instance.name == nf and step.port == port:
            return step
        ways += step.next.values()
    return None

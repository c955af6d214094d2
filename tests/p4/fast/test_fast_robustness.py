"""Malformed packets, P4Runtime messages and records of the boundary, on C with sanitizers.

Oracle: the Python engine, which does the same with each packet and message; of records only that each
is answered and the process lives. Blind spot: what a fuzzer would find that sees which code runs.
`make exhaustive`: 1,000,000 packets, 10,000 messages, 200,000 records.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from finsy.proto import p4r
from google.protobuf.message import DecodeError

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
sys.path.insert(0, str(Path(__file__).parents[1] / "softswitch"))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "softswitch"))

import fuzz
import robustness
from fast_support import Pair
from fuzz_entries import EntryMaker, replication
from softswitch_support import op_frame, p4info, program, udp_frame
from test_fast_profiles import INFO, Writer, without_shifts_of_union_stacks

from orchestrator.errors import SwitchError
from orchestrator.softswitch.fast.building import build, build_process, compiler
from orchestrator.softswitch.fast.device import EngineProcess, EngineRequest
from orchestrator.softswitch.ir import read_program

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed"),
    pytest.mark.slow,
]

PORTS = (0, 1, 2, 3, 7, 510, 511)
RANDOM_OP = 18
"""What `externs` does of its own: two engines' random numbers are not the same."""


def exhaustive(sample: int, many: int) -> list[Any]:
    return [sample, pytest.param(many, marks=(pytest.mark.exhaustive, pytest.mark.timeout(7200)))]


@pytest.fixture(scope="module")
def pairs() -> Iterator[list[Pair]]:
    """All programs of the softswitch's tests and the shipped one, with entries."""
    rng = random.Random(1)
    (shipped,) = (t for t in fuzz.shipped() if t.name == "edge_v1model")
    ready = [
        (program("router"), p4info("router"), ()),
        (program("features"), p4info("features"), ()),
        (without_shifts_of_union_stacks(), INFO, ()),
        (json.loads(shipped.raw), shipped.info, shipped.setup),
    ]
    with ExitStack() as stack:
        all_pairs: list[Pair] = []
        for made, info, setup in ready:
            both = stack.enter_context(Pair(made, info))
            both.write([*setup, *EntryMaker(info, rng).entries(10), *replication()])
            all_pairs.append(both)
        yield all_pairs


@pytest.mark.parametrize("count", exhaustive(4_000, 1_000_000))
def test_malformed_packets(pairs: list[Pair], count: int) -> None:
    rng = random.Random(5)
    seeds = [udp_frame(), udp_frame(vlan=9, options=b"\1" * 8)]
    seeds += [op_frame(op, 2, 3, rng.randbytes(24)) for op in range(22)]
    seeds += [fuzz.ip_frame(rng) for _ in range(200)]
    sent = 0
    for i in range(count):
        frame = robustness.mutate(rng, seeds)
        if frame[:1] != bytes([RANDOM_OP]):
            both = pairs[i % len(pairs)]
            sent += len(both.process(PORTS[i % len(PORTS)], [frame]))
            both.python.packet_ins.clear()
            both.fast.packet_ins.clear()
    assert sent > count // 10


@pytest.mark.parametrize("count", exhaustive(600, 10_000))
def test_mutated_messages(pairs: list[Pair], count: int) -> None:
    rng = random.Random(6)
    codes: list[int] = []
    for n in range(count):
        both = pairs[n % len(pairs)]
        assert both.python.p4info is not None
        maker = EntryMaker(both.python.p4info, rng)
        update = rng.choice([*maker.entries(2), *replication()])
        update.type = rng.choice((0, 1, 1, 2, 3))
        raw = bytearray(update.SerializeToString())
        for _ in range(rng.randrange(4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            message = p4r.Update.FromString(bytes(raw))
        except DecodeError:
            continue
        codes += both.write([message])
    assert codes.count(0) > count // 20
    assert codes.count(0) < len(codes) * 0.9
    for both in pairs:
        both.read(p4r.Entity(table_entry=p4r.TableEntry()))


@pytest.mark.parametrize("count", exhaustive(3_000, 200_000))
def test_mutated_records(count: int) -> None:
    """Records that were right, of tables, profiles, groups and sessions, with bytes changed."""
    rng = random.Random(7)
    seeds = _records(rng)
    refused = 0
    with EngineProcess(build_process(sanitized=True)) as process:
        process.greet(0)
        engine = build(read_program(without_shifts_of_union_stacks()), sanitized=True)
        device = process.load(engine)
        for n in range(count):
            if n % 1000 == 999:  # what was accepted fills it
                device.unload()
                device = process.load(engine)
            raw = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(4)):
                raw[rng.randrange(len(raw))] = rng.choice((0, 1, 2, 255, rng.randrange(256)))
            if rng.random() < 0.1:
                del raw[rng.randrange(len(raw)) :]
            try:
                device.ask(EngineRequest.CHANGES, raw)
            except SwitchError as error:
                refused += "refuses" in str(error)
            if n % 10 == 0:
                device.packets(0, [(1, rng.choice((5, 6, 12)).to_bytes(1, "big") + bytes(15))])
        assert device.state().loops_cut == 0
    assert count // 5 < refused < count


def _records(rng: random.Random) -> list[bytes]:
    """Messages of changes that a switch has told its process."""
    told: list[bytes] = []
    with Pair(without_shifts_of_union_stacks(), INFO) as both:
        device = both.fast.loaded.device
        ask = device.ask

        def heard(kind: EngineRequest, payload: bytes | bytearray = b"") -> bytes:
            if kind is EngineRequest.CHANGES:
                told.append(bytes(payload))
            return ask(kind, payload)

        device.ask = heard
        writer = Writer(rng)
        kinds = (writer.member, writer.group, writer.entry)
        for _ in range(60):
            both.write([rng.choice(kinds)() for _ in range(2)])
            both.write([rng.choice(EntryMaker(INFO, rng).entries(3) or replication())])
        both.write(replication())
    return told

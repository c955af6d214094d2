"""Updates that C reads for the fast engine are the operations that Python makes of them.

Oracle: `EntityStore.decode`. Blind spot: how often C leaves what it could take; the bench's
`engine_write_rate` shows that.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from finsy.proto import p4i, p4r
from google.protobuf.message import DecodeError

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "softswitch"))

import fuzz
from fuzz_entries import EntryMaker, replication
from softswitch_support import p4info, program
from test_fast_profiles import INFO, without_shifts_of_union_stacks

from orchestrator.softswitch.entities.store import EntityStore
from orchestrator.softswitch.entity_errors import EntityError
from orchestrator.softswitch.fast.building import compiler
from orchestrator.softswitch.fast.plain import PlainUpdates, reader
from orchestrator.softswitch.ir import read_program
from orchestrator.softswitch.state.pipeline import PipelineState

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed")


def _store(raw: object, info: p4i.P4Info) -> EntityStore:
    made = raw if isinstance(raw, dict) else json.loads(raw)  # type: ignore[arg-type]
    state = PipelineState(
        read_program(made), lambda: 0, clock=lambda: 0, send_digest=lambda _: None
    )
    return EntityStore(state, info)


@pytest.fixture(scope="module")
def stores() -> list[tuple[EntityStore, p4i.P4Info]]:
    (edge,) = (t for t in fuzz.shipped() if t.name == "edge_v1model")
    programs = [
        (program("router"), p4info("router")),
        (program("features"), p4info("features")),
        (without_shifts_of_union_stacks(), INFO),
        (edge.raw, edge.info),
    ]
    return [(_store(raw, info), info) for raw, info in programs]


def _mutated(updates: list[p4r.Update], rng: random.Random) -> Iterator[p4r.Update]:
    for update in updates:
        update.type = rng.choice((0, 1, 1, 1, 2, 3))
        entry = update.entity.table_entry
        if rng.random() < 0.3:
            entry.controller_metadata = rng.getrandbits(64)  # pyright: ignore[reportDeprecated]
        if rng.random() < 0.3:
            entry.metadata = rng.randbytes(rng.randrange(20))
        if entry.match and rng.random() < 0.1:
            entry.match.add().CopyFrom(rng.choice(entry.match))
        raw = bytearray(update.SerializeToString())
        for _ in range(rng.choice((0, 0, 1, 3))):
            raw[rng.randrange(len(raw))] = rng.choice((0, 1, 2, 255, rng.randrange(256)))
        try:
            yield p4r.Update.FromString(bytes(raw))
        except DecodeError:
            continue


@pytest.mark.parametrize(
    "rounds", [60, pytest.param(20_000, marks=(pytest.mark.exhaustive, pytest.mark.timeout(3600)))]
)
def test_c_and_python_read_the_same(
    stores: list[tuple[EntityStore, p4i.P4Info]], rounds: int
) -> None:
    rng = random.Random(17)
    plain = refused = 0
    for n in range(rounds):
        store, info = stores[n % len(stores)]
        updates = list(_mutated([*EntryMaker(info, rng).entries(4), *replication()], rng))
        for update, quick in zip(updates, PlainUpdates(store).operations(updates), strict=True):
            try:
                slow = store.decode(update)
            except EntityError:
                refused += 1
                assert quick is None, update
                continue
            if quick is not None:
                plain += 1
                assert quick == slow, update
    assert min(plain, refused) > 5 * rounds


def test_most_entries_are_plain(stores: list[tuple[EntityStore, p4i.P4Info]]) -> None:
    store, info = stores[-1]
    updates = EntryMaker(info, random.Random(3)).entries(40)
    operations = list(PlainUpdates(store).operations(updates))
    assert operations.count(None) < len(operations) * 0.2
    assert PlainUpdates(store).decoded(updates) == [store.decode(u) for u in updates]


def test_any_bytes_are_read_within_bounds() -> None:
    """In a process with sanitizers: what is no message at all, too."""
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = os.environ | {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "read\n"), run.stderr


def _read_anything() -> None:
    rng = random.Random(5)
    info = p4info("features")
    store = _store(program("features"), info)
    plain = PlainUpdates(store, sanitized=True)
    read = reader(sanitized=True)
    seeds = [u.SerializeToString() for u in EntryMaker(info, rng).entries(30)]
    for _ in range(3_000):
        messages: list[bytes] = []
        for _ in range(4):
            raw = bytearray(rng.choice(seeds))
            for _ in range(rng.randrange(6)):
                raw[rng.randrange(len(raw))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
            messages.append(bytes(raw[: rng.choice((len(raw), rng.randrange(len(raw) + 1)))]))
        ends = array("Q", (sum(map(len, messages[: i + 1])) for i in range(4)))
        rows = bytearray(plain.row_bytes * 4)
        read(plain.tables, plain.table_count, b"".join(messages), ends, rows)
    print("read")


if __name__ == "__main__":
    _read_anything()

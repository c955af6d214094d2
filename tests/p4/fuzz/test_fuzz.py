"""A bounded run of the differential fuzzer, and its parts that need no BMv2.

Oracle: BMv2. Blind spot: frames under 14 bytes, outputs on ports without an interface, and what
only shows after more packets (`make fuzz` runs 100,000).
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fuzz
import fuzz_program
from fuzz_bmv2 import BMV2
from fuzz_entries import EntryMaker

_ALREADY_EXISTS = 6


def test_programs_are_made_from_their_seed_alone() -> None:
    texts = [fuzz_program.ProgramMaker(seed).make() for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_most_random_entries_are_accepted() -> None:
    for target in fuzz.shipped():
        maker = EntryMaker(target.info, random.Random(1), target.pools)
        codes = fuzz.our_codes(fuzz.fresh(target), [*target.setup, *maker.entries(10)])
        # Tables whose whole key is a segment or a graph have few different entries.
        assert codes.count(0) > len(codes) * 0.6
        assert codes.count(0) + codes.count(_ALREADY_EXISTS) > len(codes) * 0.9


@pytest.mark.skipif(fuzz.P4C is None, reason="p4c-bm2-ss is not installed")
def test_a_generated_program_runs_without_fault() -> None:
    target = next(t for seed in range(5, 20) if (t := fuzz.generated(seed)) is not None)
    switch = fuzz.fresh(target)
    rng = random.Random(2)
    fuzz.our_codes(switch, EntryMaker(target.info, rng).entries(8))
    for _ in range(500):
        switch.process(rng.choice((1, 2, 3)), fuzz_program.frame(rng))
    assert switch.counters.faults == 0, switch.counters.last_fault


@pytest.mark.skipif(BMV2 is None, reason="simple_switch_grpc is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for veth interfaces")
def test_softswitch_equals_bmv2_on_random_packets() -> None:
    log: list[str] = []
    summary = fuzz.run(1200, 20, log.append, each=200)
    differ = [summary[f"{what}differences"] for what in ("", "write_", "c_")]
    assert differ == [0, 0, 0], "\n".join(log)
    assert summary["packets"] >= 1000

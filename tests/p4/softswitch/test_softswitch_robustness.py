"""A bounded share of robustness.py: malformed packets and P4Runtime messages."""

from __future__ import annotations

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import robustness


def test_malformed_packets_neither_fault_nor_hang() -> None:
    result = robustness.packets(20_000, random.Random(5))
    assert robustness.verdict(result) == []


def test_mutated_messages_are_refused_by_name() -> None:
    result = robustness.messages(2_000, random.Random(6))
    assert robustness.verdict(result) == []
    assert result["applied"] > 100
    assert result["refused"] > 100

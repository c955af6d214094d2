"""The conformance harness on the programs beside it.

Oracle: the .stf expectations, and BMv2 where present. Blind spot: what our few programs leave
out; `make p4-conformance P4C=<checkout>` runs p4c's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import run
from conformance_stf import Expect, Packet, masked, parse, verdict

PROGRAMS = Path(__file__).parent / "programs"


def test_expectations_take_wildcards_and_ends() -> None:
    assert Expect(1, "0a*b", False).accepts(b"\x0a\x1b\xff")
    assert not Expect(1, "0a*b", True).accepts(b"\x0a\x1b\xff")
    assert masked("0x1*", 8) == (0x10, 0xF0, None)
    assert masked("10/3", 8) == (10, 0xE0, 3)
    steps = [Packet(0, b"x"), Expect(1, "78", True)]
    assert verdict(steps, {1: [b"x"]}) == ""
    assert verdict(steps, {}) == "port 1: 1 packets expected, 0 came"
    assert verdict(steps, {1: [b"x"], 2: [b"x"]}) == "unexpected packets on ports {2: 1}"


def test_files_are_parsed() -> None:
    steps = parse(PROGRAMS / "unions.stf")
    assert steps[0] == Packet(0, b"\x01\x77\xff")
    assert steps[1] == Expect(1, "01aabbccddff", True)


@pytest.mark.skipif(run.P4C is None, reason="p4c-bm2-ss is not installed")
@pytest.mark.parametrize("name", ["forward", "unions", "varbits"])
def test_own_programs_pass(name: str) -> None:
    result = run.judge(PROGRAMS / f"{name}.p4", PROGRAMS / f"{name}.stf", 20)
    assert (result.softswitch, result.differs) == ("pass", "")
    assert result.bmv2 in ("pass", "absent")
    assert result.fast in ("pass", "absent")


@pytest.mark.skipif(run.P4C is None, reason="p4c-bm2-ss is not installed")
def test_a_failing_test_is_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "unions.p4").write_text((PROGRAMS / "unions.p4").read_text())
    (tmp_path / "unions.stf").write_text("packet 0 03 99\nexpect 1 03 99\n")
    assert run.main([str(tmp_path), "--no-bmv2"]) == 0
    out = capsys.readouterr().out
    assert "softswitch: port 1: 1 packets expected, 0 came" in out

"""`orchestrator profile` on this machine: a worker and a switch on veth pairs, in own namespaces.

Oracle: what must hold of any machine (a second NF costs more, no frame is lost, nothing is left behind).
Blind spot: whether the figures are true; `make bench ONLY=predicted_saturation_error` asks that.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.profiles import FOLDER, runtime_profile, switch_profile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs"),
]


def profile(*words: str) -> str:
    done = CliRunner().invoke(app, ["profile", *words, "--rounds", "2", "--json"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_one_nf_of_one_runtime() -> None:
    cpus, network = os.sched_getaffinity(0), os.readlink("/proc/thread-self/ns/net")
    (only,) = json.loads(profile("napt", "--runtime", "python"))
    assert (only["name"], set(only["nfs"])) == ("python", {"napt", "vlan_pop"})
    points = {(p["bytes"], p["fresh"]): p["ns"] for p in only["nfs"]["napt"]["points"]}
    assert set(points) == {(64, False), (512, False), (1500, False), (64, True)}
    assert points[64, True] > points[64, False], "a mapping is made"
    assert all(ns > 0 for ns in only["frame_ns"].values())
    assert only["measured"]["cpu"]
    assert os.sched_getaffinity(0) == cpus
    assert os.readlink("/proc/thread-self/ns/net") == network


def test_a_switch_is_written_as_plans_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile("softswitch", "--folder", str(tmp_path))
    monkeypatch.setenv(FOLDER, str(tmp_path))
    measured = switch_profile("softswitch")
    assert measured is not None
    assert set(measured.pass_ns) == {64, 512, 1500}
    assert measured.packets_per_second > 0
    assert runtime_profile("python") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["natp"], "unknown NF, runtime or target 'natp'; did you mean 'napt'?"),
        (["napt", "--folder", "."], "--folder: a file has all NFs of its runtime"),
        (["napt", "--runtime", "pyton"], "--runtime: unknown runtime 'pyton'"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["profile", *words])
    assert said in str(done.exception)

"""Looking into a live network by the command line, on the softswitch and on BMv2.

Oracles: packets that hosts really exchanged, tshark, Prometheus's parser, a bundle that never ran, and
a controller that stays primary. Blind spot: a switch that lies about its entries.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from urllib.request import urlopen

import pytest
from commands import command_line, orchestrator
from finsy.proto import p4r
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, Live, network
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.cli import main
from orchestrator.deployment.journal import state_directory
from orchestrator.observation.frames import between_hosts
from orchestrator.observation.journey import journey_json
from orchestrator.observation.shell import REQUIREMENT
from orchestrator.observation.views import see_bundle, see_live

pytestmark = NEEDS_EMULATION

NEEDS_TSHARK = pytest.mark.skipif(not shutil.which("tshark"), reason="tshark: not installed")
SHELL = state_directory() / "p4runtime-shell"
"""The user's own, seen before the tests have folders of their own."""


ONE_WILL_DO = pytest.mark.parametrize("live", ["softswitch"], indirect=True, scope="module")
"""For what does not depend on the kind of switch."""


def run(*words: str, expect: int = 0, network: bool = True) -> tuple[str, str]:
    """`orchestrator WORDS` in this process (loading it again takes a second): what it prints."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(
            "sys.argv", ["orchestrator", *words, *(("--network", "insp") if network else ())]
        )
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == expect, f"{words}: {out.getvalue()}{err.getvalue()}"
    return out.getvalue(), err.getvalue()


def run_json(*words: str, expect: int = 0) -> Any:
    """What `orchestrator WORDS --json` prints."""
    return json.loads(run(*words, "--json", expect=expect)[0])


@pytest.fixture(scope="module", params=SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, "insp") as running:
        graph = json.loads(CAMPUS_EDGE.read_text())
        graph["verification"]["sampling_rate"] = 0.2
        folder = running.folder / "campus"
        shutil.copytree(CAMPUS_EDGE.parent, folder)
        (folder / "graph.json").write_text(json.dumps(graph))
        routes = (folder / "routes.txt").read_text().splitlines(keepends=True)
        (folder / "routes.txt").write_text("".join(routes[:12]))  # every command reads the journal
        orchestrator("deploy", str(folder / "graph.json"), "--network", "insp")
        running.comes_to_ping("h1", "198.51.100.13")
        yield running


def manifest_keys(live: Live) -> list[str]:
    manifest = live.network.journal.deployed()["campus_edge"].manifest
    assert manifest is not None
    return [str(manifest.key0), str(manifest.key1)]


def test_tables_show_what_a_ping_hit_and_where_the_rule_is(live: Live) -> None:
    assert live.pings("h1", "198.51.100.13", 3)
    hit = run_json("tables", "leaf1", "--nf", "edge_router", "--hit")
    if not hit:  # routed behind the server, on the other leaf
        hit = run_json("tables", "leaf2", "--nf", "edge_router", "--hit")
    rules = [row["rule"] for row in hit if row["table"] == "route.ipv4"]
    assert rules == ["routes.txt:2"]
    assert all(row["packets"] >= 3 for row in hit)
    telnet = run_json(
        "tables",
        "leaf1",
        "acl.ipv4",
        "--match",
        "dst_port=23",
        "--match",
        "protocol=tcp",
        "--unhit",
    )
    lines = (CAMPUS_EDGE.parent / "access.json").read_text().splitlines()
    named = [row for row in telnet if row["keys"].get("dst_port") == "23"]
    assert named
    for row in named:
        name, _, line = row["rule"].partition(":")
        assert (name, json.loads(lines[int(line) - 1].rstrip(","))["dst_port"]) == (
            "access.json",
            23,
        )


@ONE_WILL_DO
def test_csv_watch_and_coverage(live: Live) -> None:
    rows = run("tables", "leaf1", "port.ports", "--csv")[0].splitlines()
    assert rows[0].startswith("device,table,segment,match,action")
    assert len(rows) == 6
    watching = subprocess.Popen(
        command_line(
            *("tables", "leaf1", "classify.ipv4", "--json", "--network", "insp"),
            *("--watch", "--count", "2", "--interval", "2"),
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert all(row["rate"] is None for row in first["entries"])
    assert live.pings("h1", "198.51.100.13", 4)
    second = json.loads(watching.stdout.readline())
    assert watching.wait(20) == 0
    assert any(row["rate"] > 0 for row in second["entries"])
    covered = run_json("tables", "all", "--coverage")
    never = {(rule["nf"], rule["rule"]) for rule in covered["never_hit"]}
    assert ("edge_router", "routes.txt:2") not in never
    assert any(nf == "edge_acl" for nf, _ in never)


def test_reading_does_not_push_a_controller_aside(live: Live) -> None:
    with live.network.device("leaf1") as primary:
        run_json("tables", "leaf1", "port.ports")
        run("explain", "leaf1", "--from", "h1", "--to", "h3:80")
        assert primary.is_primary
        primary.pipeline_cookie()
        words = ("trace", "--from", "h1", "--to", "h3:80")
        if live.state.switches["leaf1"].target == "bmv2":
            _, told = run(*words, expect=6)
            assert "this switch knows no roles" in told
        else:
            assert run_json(*words)["agrees"]
            assert primary.packet_in(10) is not None, "the controller hears the sample, too"
        assert primary.is_primary


def test_an_explanation_is_the_same_live_and_from_the_bundle(live: Live) -> None:
    saved = live.folder / "campus.bundle"
    run("compile", str(live.folder / "campus" / "graph.json"), "-o", str(saved), network=False)
    running, offline = see_live(live.network), see_bundle(saved)
    models = [running.model(), offline.model()]
    for target in ("h3:80", "h3:23", "h4:53/udp", "h3/icmp", "h3:9999/6udp"):
        frame = between_hosts(live.state.topology, "h1", target)
        told = [journey_json(model.send("h1", frame)) for model in models]
        assert told[0] == told[1], target
        assert bool(told[0]["delivered"]) is (target != "h3:23")
    words = ("explain", "--from", "h1", "--to", "h3:23", "--json")
    assert run(*words) == run(*words, "--bundle", str(saved), network=False)


@pytest.mark.parametrize("target", ["h3:80", "h3:23"])
def test_the_network_does_what_explain_predicts(live: Live, target: str) -> None:
    traced = run_json("trace", "--from", "h1", "--to", target)
    assert traced["agrees"], traced["disagreements"]
    assert len(traced["reported"]) == len(traced["expected"]) >= 1
    assert bool(traced["delivered"]) is (target != "h3:23")


def test_a_deny_behind_our_back_is_a_difference_a_reason_and_a_way_not_taken(live: Live) -> None:
    assert run_json("tables", "all", "--diff")["differences"] == []
    with live.network.device("leaf1") as client:
        client.pipeline_cookie()
        assert client.schema is not None
        victim = next(
            item
            for item in client.entries("acl.ipv4")
            if item.entry.origin == "edge_acl: default" and item.entry.action != "acl.ipv4.deny"
        )
        turned = victim.entry._replace(action="acl.ipv4.deny", params=())
        client.write(client.schema.updates([turned], victim.graph, p4r.Update.MODIFY))
        try:
            differences = run_json("tables", "leaf1", "--diff", expect=1)["differences"]
            assert [item["kind"] for item in differences] == ["changed"]
            assert differences[0]["expected"]["origin"] == "edge_acl: default"
            asked = ("explain", "--from", "h1", "--to", "h3:80", "--why-not", "edge_nat")
            told = run_json(*asked)["why_not"]
            assert not told["reached"]
            assert "default of edge_acl" in told["why"]
        finally:
            back = client.schema.updates([victim.entry], victim.graph, p4r.Update.MODIFY)
            client.write(back)
    run("tables", "all", "--diff")


@NEEDS_TSHARK
def test_captures_are_nsh_to_tshark(live: Live) -> None:
    nat = next(
        worker.server
        for worker in live.network.journal.deployed()["campus_edge"].bundle.workers
        if "edge_nat" in worker.nfs
    )
    shown: dict[str, list[list[str]]] = {}
    for place in (f"{nat}:edge_nat", "leaf1:h1"):
        file = live.folder / "c.pcapng"
        capturing = subprocess.Popen(
            command_line(
                *("capture", place, "-o", str(file), "--network", "insp"),
                *("--count", "2", "--seconds", "30"),
            ),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert capturing.stderr is not None
        assert "capturing at" in capturing.stderr.readline()
        live.comes_to_ping("h1", "198.51.100.13")
        assert capturing.wait(20) == 0
        fields = ("nsh.spi", "nsh.si", "ip.src", "icmp.type")
        lines = subprocess.run(
            ["tshark", "-r", str(file), "-T", "fields", *(x for f in fields for x in ("-e", f))],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        shown[place] = [line.split("\t") for line in lines]
    before, behind = shown[f"{nat}:edge_nat"]
    assert before[0]
    assert behind[0]
    assert int(behind[1]) == int(before[1]) - 1
    assert (before[2], behind[2].rpartition(".")[0]) == ("10.0.1.11", "203.0.113")
    assert [row[0] for row in shown["leaf1:h1"]] == ["", ""]
    assert [row[3] for row in shown["leaf1:h1"]] == ["8", "0"]


@ONE_WILL_DO
def test_metrics_and_top(live: Live) -> None:
    serving = subprocess.Popen(
        command_line("metrics", "--listen", "127.0.0.1:0", "--network", "insp"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stderr is not None
        address = serving.stderr.readline().split("http://")[1].split("/")[0]
        with urlopen(f"http://{address}/metrics") as answer:
            text = answer.read().decode()
    finally:
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == 130
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("device", "leaf1") == "leaf1"
    }
    assert samples["orchestrator_device_up"] == 1
    assert samples["orchestrator_global_reconfiguration_delay_seconds"] > 0
    top = run_json("top", "--count", "1")
    assert {row["traffic"] for row in top["traffic"]} >= {"web", "return"}
    assert all(not switch["problem"] for switch in top["devices"])
    run("top", "--count", "1")
    for key in manifest_keys(live):
        assert key not in text


@ONE_WILL_DO
def test_no_command_shows_the_sampling_keys(live: Live) -> None:
    for words in (
        ("tables", "leaf1", "trajectory_sample.manifests"),
        ("tables", "leaf1", "--json"),
        ("explain", "leaf1", "--from", "h1", "--to", "h3:80", "-v"),
    ):
        shown, _ = run(*words)
        for key in manifest_keys(live):
            assert key not in shown
            assert f"{int(key):08x}" not in shown


@pytest.mark.skipif(
    not (SHELL / ".ready").exists(),
    reason=f"{REQUIREMENT}: its environment is not made (`orchestrator shell SWITCH` makes it)",
)
def test_the_shell_reads_and_cannot_write(live: Live) -> None:
    here = state_directory() / "p4runtime-shell"
    if not here.exists():
        here.symlink_to(SHELL)
    lines = (
        'print("ENTRIES", sum(1 for _ in table_entry["ingress.port.ports"].read()))\n'
        'te = table_entry["ingress.port.ports"](action="ingress.port.host_facing")\n'
        'te.match["ingress_port"] = "77"\n'
        'te.action["switch_id"] = "1"\n'
        "te.insert()\n"
    )
    done = subprocess.run(
        command_line("shell", "leaf1", "--network", "insp"),
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert "ENTRIES 5" in done.stdout, done.stdout + done.stderr
    assert "Not primary" in done.stdout + done.stderr
    assert len(run_json("tables", "leaf1", "port.ports")) == 5


@ONE_WILL_DO
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("tables", "leaf9"), 5, "did you mean 'leaf"),
        (("tables", "leaf1", "acl.ipv5"), 6, "did you mean 'acl.ipv"),
        (("tables", "leaf1", "--match", "dts=1"), 2, "did you mean 'dst'"),
        (("tables", "leaf1", "--sort", "hits"), 2, "known:"),
        (("tables", "leaf1", "--address", "127.0.0.1:1x"), 2, "HOST:PORT"),
        (("explain", "leaf1"), 2, "--packet TEXT"),
        (("explain", "leaf1", "--from", "h9", "--to", "h3"), 2, "known: h1"),
        (("capture", "leaf1:99", "-o", "/dev/null"), 2, "known:"),
        (("capture", "server1:edge_nta", "-o", "/dev/null"), 2, "NF"),
        (("metrics", "--listen", "x"), 2, "HOST:PORT"),
    ],
)
def test_errors_say_what_would_be_valid(
    live: Live, words: tuple[str, ...], code: int, told: str
) -> None:
    _, said = run(*words, expect=code)
    assert told in said

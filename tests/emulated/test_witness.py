"""A manifest makes it all run: rings, shippers and CLE of a live network, and the customer's verdict.

Oracle: pings that hosts really exchanged.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import command_line, orchestrator, orchestrator_json
from live import FIREWALL, NEEDS_EMULATION, SWITCHES, Live, guard_graph, own_folders
from support import eventually
from update_load import Load, write_version

from orchestrator.emulation import load_state, start_in_host
from orchestrator.verification import keys
from orchestrator.verification.manifest import SIGNERS

pytestmark = [NEEDS_EMULATION, pytest.mark.slow]


def agreed(
    folder: Path, graph: str, bundle: Path, *options: str, rate: str = "1", **changed: Any
) -> Path:
    """Keys of all three, and the manifest that both have signed, of all packets unless it is said."""
    for role in keys.ROLES:
        orchestrator("verify", "key", "new", str(folder / f"{role}.pem"))
    secret, made = str(folder / "watch.key"), folder / "manifest.json"
    orchestrator("verify", "key", "sampling", secret)
    words = [word for role in keys.ROLES for word in (f"--{role}", str(folder / f"{role}.pub"))]
    words += ["--sampling-key", secret, "--rate", rate, "-o", str(made), *options]
    orchestrator("verify", "manifest", "new", graph, str(bundle), *words)
    terms = json.loads(made.read_text())
    # All points know an epoch half an overlap after it has begun.
    first = datetime.now(UTC) - timedelta(seconds=100)
    terms["manifest"]["epochs"]["first"] = first.isoformat()
    terms["manifest"] |= changed
    made.write_text(json.dumps(terms))
    for role in SIGNERS:
        key = str(folder / f"{role}.pem")
        orchestrator("verify", "manifest", "sign", str(made), "--role", role, "--key", key)
    return made


@contextmanager
def running(*words: str) -> Iterator[None]:
    """A command that goes on until SIGINT."""
    process = subprocess.Popen(command_line(*words), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def honest(live: Live, *bundles: Path) -> dict[str, Any]:
    """A verdict without findings."""
    verdict = judged(live, *bundles)
    assert not verdict["findings"], verdict["findings"]
    return verdict


def judged(live: Live, *bundles: Path) -> dict[str, Any]:
    folder = live.folder
    words = ["verify", "check", str(folder / "log"), str(folder / "manifest.json"), "--json"]
    words += ["--sampling-key", str(folder / "watch.key"), "--settle", "0"]
    words += [word for bundle in bundles for word in ("--bundle", str(bundle))]
    done = subprocess.run(
        command_line(*words), capture_output=True, text=True, check=False, timeout=240
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(told["findings"]), done.stderr
    return told


@contextmanager
def collecting(live: Live, server: str, *words: str) -> Iterator[None]:
    """`orchestrator verify cle collect` at a server's interface."""
    argv = [sys.executable, "-m", "orchestrator", "verify", "cle", "collect", "eth0", *words]
    process = start_in_host(live.state, server, [*argv, "--collector", server])
    try:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@contextmanager
def tapped(live: Live, name: str, *hosts: str) -> Iterator[None]:
    """`orchestrator verify tap` at hosts' interfaces, into files NAME-HOST."""
    if not (live.folder / "tap.key").exists():
        orchestrator("verify", "key", "sampling", str(live.folder / "tap.key"))
    with ExitStack() as ending:
        for host in hosts:
            words = ["verify", "tap", live.state.hosts[host].interface, "--rate", "1"]
            words += [
                "--tap-key",
                str(live.folder / "tap.key"),
                "-o",
                str(live.folder / f"{name}-{host}"),
            ]
            argv = [sys.executable, "-m", "orchestrator", *words]
            tap = start_in_host(live.state, host, argv)
            ending.callback(tap.wait, 60)
            ending.callback(tap.send_signal, signal.SIGINT)
            assert tap.stdout is not None
            assert "watching" in tap.stdout.readline()
        yield


def ends(live: Live, name: str) -> dict[str, Any]:
    """What `verify ends` says of both directions."""
    files = [str(live.folder / f"{name}-{host}") for host in ("h1", "h3")]
    done = subprocess.run(
        command_line("verify", "ends", *files, "--settle", "0", "--json"),
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_from_workers_to_the_customers_verdict() -> None:
    with own_folders() as folder:
        cle = f"unix:{folder}/cle.sock"
        orchestrator(
            "net", "up", "leaf-spine", "--switch", "softswitch", "--name", "w", "--cle", cle
        )
        live = Live("w", load_state("w"), folder)
        graph, bundle = guard_graph(folder, FIREWALL), folder / "g.bundle"
        orchestrator("compile", graph, "-t", "leaf-spine", "-o", str(bundle))
        orchestrator("deploy", str(bundle), "--network", "w")
        manifest = agreed(folder, graph, bundle)
        watch = ("verify", "cle", "watch", str(manifest), "--network", "w")
        serve = ("verify", "cle", "serve", str(folder / "log"), "--key", str(folder / "cle.pem"))
        secret = ("--sampling-key", str(folder / "watch.key"))
        with running(*watch, *secret), running(*serve, "--listen", cle):
            with tapped(live, "honest", "h1", "h3"):
                assert live.pings("h1", "198.51.100.13", 20)
            for verdict in ends(live, "honest").values():
                assert (verdict["sent"], verdict["lost"], verdict["problems"]) == (20, 0, [])
            eventually(lambda: judged(live, bundle)["packets"] >= 40, what="40 packets judged")
            verdict = judged(live, bundle)
            assert (verdict["findings"], verdict["completeness"], verdict["path"]) == (
                [],
                True,
                True,
            )
            # A worker that starts anew is told the epochs again, and a new boot is no gap.
            orchestrator("net", "restart", live.state.workers[0].name, "--network", "w")
            orchestrator("reconcile", "w")
            before = verdict["packets"]
            # Until it is told, what it sends on is nobody's to judge.
            eventually(
                lambda: (
                    live.pings("h1", "198.51.100.13", 1)
                    and judged(live, bundle)["packets"] > before
                ),
                what="the new boot's packets",
            )
            assert judged(live, bundle)["findings"] == []
            # The provider cheats: another configuration, which the customer cannot tell from outside.
            cheaper = {"default": "permit", "max_connections": 10}
            orchestrator("deploy", guard_graph(folder, {**FIREWALL, "config": cheaper}), "-n", "w")
            live.comes_to_ping("h1", "198.51.100.13")
            eventually(lambda: judged(live, bundle)["findings"], what="a finding")
            assert {f["verdict"] for f in judged(live, bundle)["findings"]} == {"path"}
            # One that drops is a drop that somebody has told of; the customer's own ends see it as well.
            only_dns = {"action": "permit", "protocol": "udp", "dst_port": 53}
            denies = {**FIREWALL, "config": {"rules": [only_dns]}}
            orchestrator("deploy", guard_graph(folder, denies), "-n", "w")
            with tapped(live, "denied", "h1", "h3"):
                assert not live.pings("h1", "198.51.100.13", 20, wait=0.2)
            there = ends(live, "denied")
            assert any(
                "did not come" in p for verdict in there.values() for p in verdict["problems"]
            )
        orchestrator("net", "down", "w")


@pytest.mark.parametrize("switch", SWITCHES[:2])
def test_switches_report_to_the_collector(switch: str) -> None:
    """What enters and what leaves is told by switches, and one that drops says why."""
    with own_folders() as folder:
        cle = f"unix:{folder}/cle.sock"
        orchestrator("net", "up", "leaf-spine", "--switch", switch, "--name", "w", "--cle", cle)
        live = Live("w", load_state("w"), folder)
        graph, bundle = guard_graph(folder, FIREWALL), folder / "g.bundle"
        orchestrator("compile", graph, "-t", "leaf-spine", "-o", str(bundle))
        orchestrator("deploy", str(bundle), "--network", "w")
        manifest = str(agreed(folder, graph, bundle, "--switches"))
        options = ("--sampling-key", str(folder / "watch.key"), "--bundle", str(bundle))
        options = (*options, "--network", "w")
        watch = ("verify", "cle", "watch", manifest, *options, "--collector", "server2")
        serve = ("verify", "cle", "serve", str(folder / "log"), "--key", str(folder / "cle.pem"))
        collect = (manifest, *options, "--cle", cle)
        with (
            running(*serve, "--listen", cle),
            collecting(live, "server2", *collect),
            running(*watch),
        ):
            assert live.pings("h1", "198.51.100.13", 20)

            def complete() -> bool:
                """Records of switches and of workers come by ways of their own."""
                verdict = judged(live, bundle)
                assert verdict["findings"] == [], verdict["findings"]
                return verdict["packets"] >= 40 and verdict["completeness"] and verdict["path"]

            eventually(complete, what="40 packets, of which everybody told all")
            ways = orchestrator_json(
                "verify", "trajectories", str(folder / "log"), "--cle", str(folder / "cle.pub"),
                "--bundle", str(bundle), "--limit", "1000",
            )  # fmt: skip
            kinds = [{r["kind"] for r in way["records"]} for way in ways]
            assert sum({"ENTRY", "IN", "EXIT"} <= kind for kind in kinds) >= 40
        orchestrator("net", "down", "w")


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.exhaustive)])
def test_updates_moves_and_new_keys_under_traffic_are_honest(rounds: int) -> None:
    """What workers and switches tell of it contradicts nothing, by the bundles that ran."""
    with own_folders() as folder:
        cle = f"unix:{folder}/cle.sock"
        words = ("--switch", "softswitch", "--name", "w", "--cle", cle)
        orchestrator("net", "up", "leaf-spine", *words)
        live = Live("w", load_state("w"), folder)
        bundles: list[Path] = []

        def changed(*words: str) -> None:
            """A version takes over, and the customer is given it."""
            orchestrator(*words, "-n", "w")
            bundles.append(folder / f"{len(bundles)}.bundle")
            orchestrator("bundle", "save", "updated", "-o", str(bundles[-1]), "-n", "w")

        def later(epoch: int) -> int:
            newest = watched(log)
            return newest if newest > epoch else 0

        graph, log = str(write_version(folder, 0)), str(folder / "log")
        changed("deploy", graph)
        epochs = {"first": datetime.now(UTC).isoformat(), "seconds": 20, "overlap_seconds": 10}
        terms = {"rate": "0.25", "epochs": epochs, "loss_bound": 0.01}
        manifest = str(agreed(folder, graph, bundles[0], "--switches", **terms))
        workers = [
            p for p in json.loads(Path(manifest).read_text())["manifest"]["points"] if "." in p
        ]
        key = str(folder / "watch.key")
        common = ("--sampling-key", key, "--bundle", str(bundles[0]), "-n", "w")
        serve = ("verify", "cle", "serve", log, "--key", str(folder / "cle.pem"), "--listen", cle)
        with (
            running(*serve),
            collecting(live, "server2", manifest, *common, "--cle", cle),
            running("verify", "cle", "watch", manifest, *common, "--collector", "server2"),
        ):
            with Load(live.state, 50) as load:
                before = newest = watched(log)
                for number in range(rounds):
                    for worker in workers:  # the load is on one of them, and leaves it
                        changed("move", "updated/firewall", "--buckets", "0-63", "--to", worker)
                    write_version(folder, 3 * (number + 1))  # another configuration, too
                    changed("deploy", graph)
                    newest = eventually(partial(later, newest), timeout=90, what="another epoch")
            assert load.report is not None
            assert load.report.tcp_intact
            assert newest >= before + rounds
            verdict = eventually(partial(honest, live, *bundles), what="an honest verdict")
            assert verdict["packets"] > 100 * rounds
            ways = orchestrator_json(
                "verify", "trajectories", log, "--cle", str(folder / "cle.pub"), "--limit", "100000",
                *(word for bundle in bundles for word in ("--bundle", str(bundle))),
            )  # fmt: skip
            points = {r["point"] for way in ways for r in way["records"]}
            assert {"leaf1", "leaf2", *workers} <= points
            # What the customer was not given is nobody's agreement.
            assert {f["verdict"] for f in judged(live, bundles[0])["findings"]} == {"path"}
        orchestrator("net", "down", "w")


def watched(log: str) -> int:
    """The newest epoch by whose key switches report."""
    keyed = """SELECT max(CAST(frame->>'epoch' AS INT)) AS epoch FROM records
        WHERE kind = 'EVENT' AND frame LIKE '%"event":"key"%'"""
    (row,) = orchestrator_json("verify", "cle", "query", log, keyed)
    return int(row["epoch"] or 0)

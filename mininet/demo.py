"""`make demo`: deploy the campus edge on a live leaf-spine network and show what it does.

Everything is done with the commands that a user would type. Without root it falls back to the network
in memory and says so. `make demo RUNTIME=dpdk`: the servers' workers are of that runtime.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runtimes import topology_of

from orchestrator.emulation import NetworkState, load_state, run_in_host, start_in_host
from orchestrator.errors import ReportedError
from orchestrator.resources import shipped
from orchestrator.runtimes import DEFAULT, known_runtimes

NETWORK, TOPOLOGY = "demo", "leaf-spine"
OUTSIDE = "198.51.100.13"  # h3
HTTP, UDP, SINK, DENIED = 8080, 5000, 8000, 23
SIGNATURE = "campus-test-signature-0001"
TRAFFIC = Path(__file__).with_name("traffic.py")
EXAMPLE = shipped("examples") / "campus_edge" / "graph.json"


class DemoFailed(Exception):
    """A claim of the demo did not hold."""


def command(*words: str, quiet: bool = False) -> str:
    """Run an orchestrator command, shown as a user would type it."""
    shown = [os.path.relpath(w) if w.startswith("/") else w for w in words]
    if not quiet:
        print(f"\n$ orchestrator {' '.join(shown)}", flush=True)
    run = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": os.environ.get("COLUMNS", "150")},
    )
    if not quiet:
        print(run.stdout, end="", flush=True)
    if run.returncode:
        raise DemoFailed(f"orchestrator {words[0]} ended with {run.returncode}")
    return run.stdout


def claim(what: str, holds: bool, detail: str = "") -> None:
    """Print a claim and whether it holds; the demo fails if one does not."""
    print(f"  {'ok  ' if holds else 'FAIL'}  {what}{': ' + detail if detail else ''}", flush=True)
    if not holds:
        raise DemoFailed(what)


def traffic(state: NetworkState, host: str, *words: str) -> dict[str, Any]:
    """Run one traffic command in a host."""
    run = run_in_host(state, host, [sys.executable, str(TRAFFIC), *words], timeout=60)
    if run.returncode:
        raise DemoFailed(f"{host}: {' '.join(words)}: {run.stderr.strip().splitlines()[-1:]}")
    return json.loads(run.stdout)


def denied_count() -> int:
    """Packets that the access list denied at leaf1, read over P4Runtime."""
    entries = json.loads(
        command("tables", "leaf1", "acl.ipv4", "-n", NETWORK, "--json", quiet=True)
    )
    return sum(e["packets"] or 0 for e in entries if e["action"].endswith(".deny"))


def main() -> int:
    """Run the demo; 0 when every claim holds."""
    parser = argparse.ArgumentParser(description="Deploy the campus edge and show what it does.")
    parser.add_argument("--runtime", choices=known_runtimes(), default=DEFAULT)
    runtime = parser.parse_args().runtime
    with tempfile.TemporaryDirectory() as folder:
        return _demo(topology_of(TOPOLOGY, runtime, Path(folder)))


def _demo(topology: str) -> int:
    if os.geteuid() != 0 or shutil.which("mn") is None:
        print("Not root, or no Mininet: the same bundle runs on a network in memory instead.")
        command("deploy", str(EXAMPLE), "--network", "memory")
        command("net", "down", "memory")
        return 0
    started = time.monotonic()
    up = False
    try:
        command("net", "up", topology, "--name", NETWORK)
        up = True
        state = load_state(NETWORK)
        command("deploy", str(EXAMPLE), "-n", NETWORK)
        command("place", str(EXAMPLE), "-t", topology)
        show_traffic(state)
        command("undeploy", "campus_edge", "-n", NETWORK)
    except (DemoFailed, ReportedError) as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if up:
            command("net", "down", NETWORK)
    print(f"\nThe demo took {time.monotonic() - started:.0f} s; nothing of it is left.")
    return 0


def show_traffic(state: NetworkState) -> None:
    """Real hosts, real sockets: what passes, what is dropped where, and one packet's way."""
    print("\nTraffic of real hosts (h1 inside, h3 outside):", flush=True)
    servers = [
        start_in_host(state, "h3", [sys.executable, str(TRAFFIC), *words])
        for words in (("serve", str(HTTP)), ("udp-serve", str(UDP)), ("sink", str(SINK)))
    ]
    for server in servers:
        assert server.stdout is not None
        server.stdout.readline()
    ping = run_in_host(state, "h1", ["ping", "-c", "3", "-i", "0.2", "-W", "1", OUTSIDE])
    claim("ICMP passes", ping.returncode == 0, ping.stdout.strip().splitlines()[-1])
    answer = traffic(state, "h1", "udp", OUTSIDE, str(UDP))
    claim("UDP passes", bool(answer["answered"]), f"h1 was seen as {answer['seen_as']}")
    outer = str(answer["seen_as"]).split(":")[0]
    claim("outside sees the NAPT's address", outer in ("203.0.113.1", "203.0.113.2"), outer)

    local = run_in_host(
        state, "h3", [sys.executable, str(TRAFFIC), "get", f"http://127.0.0.1:{HTTP}/"]
    )
    expected = json.loads(local.stdout)["sha256"]
    listener = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "samples", "-n", NETWORK, "--seconds", "60"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
    )
    got = traffic(state, "h1", "get", f"http://{OUTSIDE}:{HTTP}/")
    megabytes = got["bytes"] / 1e6
    claim(
        f"an HTTP download of {megabytes:.0f} MB is byte-identical",
        got["sha256"] == expected and megabytes >= 10,
        f"{megabytes * 8 / got['seconds']:.0f} Mbit/s",
    )
    before = denied_count()
    refused = traffic(state, "h1", "connect", OUTSIDE, str(DENIED))
    after = denied_count()
    claim(
        f"TCP port {DENIED} is dropped in the switch",
        not refused["connected"] and after > before,
        f"leaf1's acl counters went from {before} to {after}",
    )
    harmless = traffic(state, "h1", "split", OUTSIDE, str(SINK), "nothing to see here, move along")
    claim("a harmless text in two TCP segments arrives", bool(harmless["answered"]))
    caught = traffic(state, "h1", "split", OUTSIDE, str(SINK), f"x {SIGNATURE} y")
    status = json.loads(command("status", "-n", NETWORK, "--json", quiet=True))
    drops = {
        worker: count
        for worker, counters in status["workers"].items()
        for name, count in counters.items()
        if name == "campus_edge/edge_ids.alerts" and count
    }
    claim(
        "a signature split over two TCP segments is caught on the server",
        not caught["answered"] and bool(drops),
        ", ".join(f"{count} alert by the IDS on {worker}" for worker, count in drops.items()),
    )
    command("tables", "leaf1", "acl.ipv4", "-n", NETWORK, "--hit")
    while listener.poll() is None:  # on a busy machine it begins to listen late
        traffic(state, "h1", "get", f"http://{OUTSIDE}:{HTTP}/")
    output, _ = listener.communicate(timeout=60)
    print("\n$ orchestrator samples\n" + output, end="", flush=True)
    claim("a sampled packet's trajectory was seen hop by hop", "Trajectory of label" in output)


if __name__ == "__main__":
    sys.exit(main())

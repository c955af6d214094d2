"""A network that a plain Mininet script started (examples/own_mininet), over TCP with mutual TLS only.

Oracle: real hosts, and what the script's own processes do when nobody of ours is there.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, command_line, orchestrator, orchestrator_json
from live import NEEDS_EMULATION, TRAFFIC, own_folders
from scapy.utils import rdpcap
from support import eventually

from orchestrator.deployment.live import LiveNetwork
from orchestrator.network.fabric import Fabric
from orchestrator.network.folders import list_inventories
from orchestrator.network.inventory import load_inventory
from orchestrator.observation.conditions import recorded
from orchestrator.observation.liveness import Subject

EXAMPLE = ROOT / "examples" / "own_mininet"
H3 = "198.51.100.13"
BYTES = 2_000_000
SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
    port.bind(("h1-eth0", 0))
    port.send(bytes.fromhex(sys.argv[1]))
"""
pytestmark = [NEEDS_EMULATION, pytest.mark.skipif(not shutil.which("openssl"), reason="openssl")]


@dataclass
class Own:
    """The script's network: `folder` has its files, `pids` keep its hosts' namespaces."""

    folder: Path
    target: str
    pids: dict[str, int]

    def inside(self, host: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = ["mnexec", "-a", str(self.pids[host]), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)

    def traffic(self, host: str, *words: str) -> dict[str, Any]:
        done = self.inside(host, sys.executable, str(TRAFFIC), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def pings(self, count: int = 2) -> bool:
        done = self.inside("h1", "ping", "-c", str(count), "-i", "0.1", "-W", "2", H3)
        return f" {count} received" in done.stdout

    def connects(self, port: int) -> bool:
        return bool(self.traffic("h1", "connect", H3, str(port))["connected"])

    def serving(self, host: str, *words: str) -> subprocess.Popen[bytes]:
        """A server inside a host, which listens."""
        argv = ["mnexec", "-a", str(self.pids[host]), sys.executable, str(TRAFFIC), *words]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        return server

    def file(self, name: str, change: Any) -> str:
        """A file of the example, changed; its path."""
        raw = json.loads((self.folder / name).read_text())
        change(raw)
        path = self.folder / f"changed_{name}"
        path.write_text(json.dumps(raw))
        return str(path)

    def refused(self, topology: str) -> str:
        return orchestrator("net", "attach", topology, "-n", "wrong", expect=5).stderr


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    target = "bmv2" if shutil.which("simple_switch_grpc") else "softswitch"
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(EXAMPLE / "topology.json", folder)
    graph = json.loads((EXAMPLE / "graph.json").read_text())
    graph["verification"] = {"sampling_rate": 0.25}
    (folder / "graph.json").write_text(json.dumps(graph))
    subprocess.run(["sh", EXAMPLE / "certificates.sh", folder / "certs"], check=True)
    with own_folders():
        script = _start(folder, target, "--certificates", "certs")
        try:
            hosts = _hosts(script, folder)
            eventually(_all_listen, what="the switches' servers")
            yield Own(folder, target, hosts)
        finally:
            _end(script)


def _all_listen() -> bool:
    """The script has started them, and does not wait until they listen."""
    for port in range(50051, 50055):
        socket.create_connection(("127.0.0.1", port), 1).close()
    return True


def _start(folder: Path, target: str, *words: str) -> subprocess.Popen[bytes]:
    """The script in a folder; it ends as this process does, whatever ends that."""
    argv = ["setpriv", "--pdeathsig", "TERM", "/usr/bin/python3", str(EXAMPLE / "network.py")]
    argv += ["--switch", target, "--python", sys.executable, *words]
    with (folder / "network.log").open("w") as log:
        return subprocess.Popen(
            argv,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_ENV,
        )


def _hosts(script: subprocess.Popen[bytes], folder: Path) -> dict[str, int]:
    """Waits until the script's network is ready; a process of each host."""
    lines = eventually(lambda: _ready(script, folder / "network.log"), what="the script")
    return {line.split()[0]: int(line.split()[1]) for line in lines if len(line.split()) == 2}


def _end(script: subprocess.Popen[bytes]) -> None:
    script.send_signal(signal.SIGINT)
    try:
        script.wait(60)
    finally:  # all of its processes end with it
        script.kill()
        script.wait()


_ENV = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


def _ready(script: subprocess.Popen[bytes], log: Path) -> list[str]:
    lines = log.read_text().splitlines()
    if script.poll() is not None:
        raise RuntimeError("\n".join(lines))
    return lines if "ready" in lines else []


def test_the_script_knows_nothing_of_the_orchestrator() -> None:
    tree = ast.parse((EXAMPLE / "network.py").read_text())
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert imported <= {*sys.stdlib_module_names, "mininet"}


def test_a_killed_one_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    first = _start(tmp_path, "softswitch")
    try:
        pids = _hosts(first, tmp_path)
        assert list(_of_example())
        refused = subprocess.run(
            first.args, cwd=tmp_path, env=_ENV, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert "another one of these networks runs" in refused.stderr
        assert set(_hosts(first, tmp_path)) == pids.keys()
    finally:
        first.kill()
        first.wait()
    second = _start(tmp_path, "softswitch")
    try:
        assert _hosts(second, tmp_path).keys() == pids.keys()
    finally:
        _end(second)
    assert not list(_of_example())


def _of_example() -> Iterator[str]:
    """Interfaces of the example in the root namespace, and its processes."""
    names = [path.name for path in Path("/sys/class/net").iterdir()]
    yield from (
        n for n in names if n == "v1-mgmt" or n.partition("-")[0] in ("s1", "s2", "s3", "s4")
    )
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = process.joinpath("cmdline").read_bytes().split(b"\0")
            if b"127.0.0.1:50051" in words or b"mininet:v1" in words:
                yield process.name


def test_what_is_wrong_is_told_and_nothing_is_kept(own: Own) -> None:
    def swap(raw: Any) -> None:
        raw["links"][4]["b_port"], raw["links"][5]["a_port"] = "s3-eth2", "s3-eth1"

    said = own.refused(own.file("topology.json", swap))
    assert (
        "s2 port 2 (s2-eth2) reaches s3 port 1 (s3-eth1), the topology says s3 port 2 (s3-eth2)"
        in said
    )
    subprocess.run(["ip", "link", "set", "s2-eth2", "mtu", "1500"], check=True)
    try:
        said = own.refused(str(own.folder / "topology.json"))
    finally:
        subprocess.run(["ip", "link", "set", "s2-eth2", "mtu", "1600"], check=True)
    assert "s2 port 2 (s2-eth2) to s3 port 1 (s3-eth1): frames of 128 bytes pass" in said
    own.inside("v1", "ip", "link", "set", "v1-eth0", "mtu", "1500")
    try:
        said = own.refused(str(own.folder / "topology.json"))
    finally:
        own.inside("v1", "ip", "link", "set", "v1-eth0", "mtu", "1600")
    assert "v1: 'v1-eth0' has an MTU of 1500, tagged frames need 1538 or more" in said

    def stranger(raw: Any) -> None:
        raw["tls"]["device_name"] = "somebody"

    said = own.refused(own.file("topology.json", stranger))
    assert said.count("certificate is not valid for 'somebody'") == 5
    assert list_inventories() == []


def test_attached_it_is_a_network_like_any_other(own: Own) -> None:
    topology, graph = str(own.folder / "topology.json"), str(own.folder / "graph.json")
    told = orchestrator_json("net", "attach", topology)
    assert {s["target"] for s in told["switches"].values()} == {own.target}
    assert told["workers"] == {"v1.1": "10.99.0.2:50100"}
    assert told["links_probed"] == 4
    (shown,) = orchestrator_json("net", "status")
    assert (shown["name"], shown["health"], shown["silent"]) == ("own", "attached", [])

    assert not own.pings(1)
    orchestrator("deploy", graph, "-n", "own")
    eventually(lambda: own.pings(1), what="ping h1 -> h3")
    server = own.serving("h3", "serve", "8080", "--bytes", str(BYTES))
    try:
        got = own.traffic("h1", "get", f"http://{H3}:8080/")
        assert got["bytes"] == BYTES
        own.traffic("h1", "get", f"http://{H3}:8080/whoami")
        _is_inspected(own)
        _is_updated(own)
        _is_let_go_and_taken_in_again(own, topology)
        assert own.traffic("h1", "get", f"http://{H3}:8080/")["sha256"] == got["sha256"]
    finally:
        server.terminate()
        server.wait()
    orchestrator("undeploy", "office", "-n", "own")
    assert not own.pings(1)
    done = orchestrator_json("net", "detach", "own")
    assert (done["in_force"], done["workers_stopped"]) == ([], ["v1.1"])
    assert orchestrator_json("net", "status") == []


def test_a_worker_on_an_interface_that_is_given(own: Own) -> None:
    """v1's end of the link to s1, a veth, instead of a macvlan on it."""

    def given(raw: Any) -> None:
        server = raw["servers"]["v1"]
        server["interfaces"] = [server.pop("interface")]

    topology = own.file("topology.json", given)
    (mac,) = [s.split()[1] for s in _link(own, "v1", "v1-eth0") if s.startswith("link/ether")]
    said = own.refused(topology)
    wanted = "02:00:00:05:00:01"
    assert f"v1: 'v1-eth0' has MAC {mac}, v1.1 needs {wanted}" in said
    own.inside("v1", "ip", "link", "set", "v1-eth0", "address", wanted)
    try:
        orchestrator("net", "attach", topology)
        assert not any("core1" in line for line in _link(own, "v1"))
        orchestrator("deploy", str(own.folder / "graph.json"), "-n", "own")
        eventually(lambda: own.pings(1), what="ping h1 -> h3")
        status = orchestrator_json("status", "-n", "own")
        assert status["workers"]["v1.1"]["office/nat.mappings"] > 0
        orchestrator("undeploy", "office", "-n", "own")
        assert orchestrator_json("net", "detach", "own")["workers_stopped"] == ["v1.1"]
    finally:
        own.inside("v1", "ip", "link", "set", "v1-eth0", "address", mac)


def test_a_cut_link_is_routed_around(own: Own) -> None:
    """Nobody looks at interfaces: only frames tell that the link is cut."""
    orchestrator("net", "attach", str(own.folder / "topology.json"))
    orchestrator("deploy", str(own.folder / "graph.json"), "-n", "own")
    eventually(lambda: own.pings(1), what="ping h1 -> h3")
    used, other = _middle()
    words = command_line("reconcile", "own", "--watch", "--interval", "1s", "--json")
    log = own.folder / "watch.jsonl"
    with log.open("w") as out:
        watch = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: _condition(used) == "up", what="the link is known to be up")
        subprocess.run(["ip", "link", "set", f"{used}-eth1", "down"], check=True)
        eventually(lambda: '"event": "placement"' in log.read_text(), what="placed anew")
        assert _condition(used) == "down"
        assert _middle() == (other, used)
        eventually(lambda: own.pings(1), what="ping h1 -> h3 the other way")
        subprocess.run(["ip", "link", "set", f"{used}-eth1", "up"], check=True)
        eventually(lambda: _condition(used) == "up", what="the link is up")
        assert own.pings()
    finally:
        subprocess.run(["ip", "link", "set", f"{used}-eth1", "up"], check=True)
        watch.send_signal(signal.SIGINT)
        watch.wait(60)
    orchestrator("undeploy", "office", "-n", "own")
    orchestrator("net", "detach", "own")


def _condition(switch: str) -> str:
    """What the watch knows of a link from s1."""
    condition = recorded(load_inventory("own").folder).get(Subject("link", f"s1-{switch}"))
    return condition.state if condition else ""


def _middle() -> tuple[str, str]:
    """Over which of s2 and s4 the graph goes, and the other."""
    network = LiveNetwork(load_inventory("own"))
    fabric, bundle = Fabric(network.topology), network.journal.deployed()["office"].bundle
    (used,) = {
        node
        for hop in bundle.plan.hops
        for node in fabric.path(hop.source, hop.target, hop.tree)
        if node in ("s2", "s4")
    }
    return used, "s4" if used == "s2" else "s2"


def _link(own: Own, host: str, *device: str) -> list[str]:
    """What `ip link show` says, a line each."""
    shown = own.inside(host, "ip", "link", "show", *device).stdout
    return [line.strip() for line in shown.splitlines()]


def _is_inspected(own: Own) -> None:
    status = orchestrator_json("status", "-n", "own")
    assert {d["name"]: d["answers"] for d in status["devices"]} == dict.fromkeys(
        ("s1", "s2", "s3", "s4", "v1"), True
    )
    assert status["workers"]["v1.1"]["office/nat.mappings"] > 0
    rows = orchestrator_json("tables", "s1", "acl.ipv4", "-n", "own")
    assert any("25" in row["match"] for row in rows)
    refused = orchestrator("explain", "--from", "h1", "--to", "h3:25", "-n", "own").stdout
    assert "rules[0]" in refused
    assert "own at" in orchestrator("top", "--count", "1", "-n", "own").stdout
    assert 'orchestrator_device_up{device="s2"' in orchestrator("metrics", "-n", "own").stdout
    for words, instead in (
        (("trace", "--from", "h1", "--to", "h3"), "; --frame FILE writes the packet instead"),
        (("capture", "s1:h1", "-o", str(own.folder / "none.pcapng")), ""),
    ):
        lacks = orchestrator(*words, "-n", "own", expect=4).stderr
        assert "needs the interfaces of its devices" in lacks
        assert instead in lacks
    assert not (own.folder / "none.pcapng").exists()
    _is_traced(own)


def _is_traced(own: Own) -> None:
    """The host sends the packet itself; switches and the worker report it."""
    file = own.folder / "packet.pcapng"
    words = command_line("trace", "--from", "h1", "--to", "h3:80", "--frame", str(file))
    words += ["--seconds", "60", "-n", "own", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tracing:
        assert tracing.stderr is not None
        assert b"listening; have h1 send" in tracing.stderr.readline()
        (packet,) = rdpcap(str(file))
        sent = own.inside("h1", sys.executable, "-c", SEND, bytes(packet).hex())
        assert sent.returncode == 0, sent.stderr
        told, problems = tracing.communicate(timeout=240)
    assert tracing.returncode == 0, (told, problems)
    traced = json.loads(told)
    assert traced["agrees"]
    assert traced["delivered"] is None
    assert {seen["device"] for seen in traced["reported"]} >= {"s1", "s3", "v1.1"}


def _is_updated(own: Own) -> None:
    """The ACL lets port 25 through instead of 26."""
    server = own.serving("h3", "sink", "25")
    try:
        assert not own.connects(25)

        def other_port(raw: Any) -> None:
            raw["nfs"]["guard"]["config"]["rules"][0]["dst_port"] = 26

        orchestrator("deploy", own.file("graph.json", other_port), "-n", "own")
        assert own.connects(25)
    finally:
        server.terminate()
        server.wait()


def _is_let_go_and_taken_in_again(own: Own, topology: str) -> None:
    done = orchestrator_json("net", "detach", "own")
    assert (done["in_force"], done["workers_stopped"]) == (["office"], [])
    assert list_inventories() == []
    assert own.pings()
    told = orchestrator_json("net", "attach", topology)
    assert told["in_force"] == {"1": "office"}
    assert (told["pipelines_loaded"], told["workers_started"]) == ([], [])
    assert own.pings()
    orchestrator("recover", "--adopt", str(own.folder / "changed_graph.json"), "-n", "own")
    assert not orchestrator_json("reconcile", "own", "--dry-run")["drifted"]
    assert own.pings()

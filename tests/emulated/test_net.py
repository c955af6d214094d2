"""Live networks: what `net_up` builds, and that nothing of it is left, however it ends.

Oracle: the kernel (namespaces, interfaces, processes before and after). Blind spot: forwarding,
since no pipeline is loaded here.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from other_user import NOBODY, connects_as
from support import eventually

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.emulation import (
    NetworkState,
    load_state,
    net_down,
    net_status,
    net_up,
    restart,
    run_in_host,
    start_in_host,
)
from orchestrator.emulation.environment import require_emulation
from orchestrator.emulation.naming import network_of_interface
from orchestrator.emulation.processes import namespace_of
from orchestrator.emulation.state import inventory_of
from orchestrator.emulation.wiring import INSIDE_MTU
from orchestrator.errors import EnvironmentMissing, NetworkError
from orchestrator.model.topology import Host, Link, Server, Switch, Topology
from orchestrator.network.folders import list_inventories, list_networks
from orchestrator.network.inventory import load_inventory, save_inventory
from servernf.wire.addresses import device_mac, mac_text

ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/emulated")]


def _missing() -> str:
    try:
        require_emulation()
    except EnvironmentMissing as e:
        return str(e)
    return ""


pytestmark = pytest.mark.skipif(bool(_missing()), reason=_missing())

TARGETS = [
    pytest.param(
        "bmv2",
        marks=pytest.mark.skipif(
            not shutil.which("simple_switch_grpc"), reason="BMv2: not installed"
        ),
    ),
    "softswitch",
]


def host(number: int, subnet: int) -> Host:
    return Host(
        f"h{number}",
        0x0A_00_00_00_00_00 + number,
        (
            ipaddress.ip_interface(f"10.0.{subnet}.{number}/24"),
            ipaddress.ip_interface(f"fd00:{subnet}::{number}/64"),
        ),
        (ipaddress.ip_address(f"10.0.{subnet}.254"), ipaddress.ip_address(f"fd00:{subnet}::fe")),
    )


def topology(name: str = "test") -> Topology:
    """Two switches, a server, two hosts."""
    ends = [("a", 1, "b", 1), ("a", 2, "server", 0), ("a", 3, "h1", 0), ("b", 2, "h2", 0)]
    return Topology(
        name=name,
        switches={n: Switch(n, i, "auto", "edge", {}) for i, n in enumerate("ab", 1)},
        servers={"server": Server("server", 3, 3, 1, 2_000_000_000, 1 << 30)},
        smartnics={},
        hosts={"h1": host(1, 1), "h2": host(2, 2)},
        links=tuple(Link(a, i, b, j, 100_000_000, 5) for a, i, b, j in ends),
        trees=1,
    )


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """State and sockets of this test alone, under a short path; every network is removed."""
    base = Path(tempfile.mkdtemp(prefix="net-"))
    monkeypatch.setenv("XDG_STATE_HOME", str(base / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    yield base
    for name in list_networks():
        net_down(name)
    shutil.rmtree(base)


def up(name: str = "test", switch: str = "auto", **options: bool) -> NetworkState:
    return net_up(topology(name), switch=switch, **{"workers": False, **options})


@dataclass
class Traces:
    """What this test's networks are seen by. Others' networks may come and go meanwhile."""

    folder: Path
    files: frozenset[Path]
    ids: set[str] = field(default_factory=set)
    namespaces: set[int] = field(default_factory=set)

    def note(self, state: NetworkState) -> None:
        self.ids.add(state.id)
        self.namespaces |= {
            os.stat(f"/proc/{place.pid}/ns/net").st_ino
            for place in (*state.hosts.values(), *state.servers.values())
        }

    def gone(self) -> bool:
        """Nothing of the networks is left: to be asked `eventually`."""
        assert self.ids, "the test noted no network"
        left = [i for i in os.listdir("/sys/class/net") if network_of_interface(i) in self.ids]
        assert left == []
        mine = f"XDG_RUNTIME_DIR={self.folder}".encode()
        for pid in set(filter(str.isdigit, os.listdir("/proc"))) - {str(os.getpid())}:
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                namespace = os.stat(f"/proc/{pid}/ns/net").st_ino
            except OSError:
                continue
            assert mine not in environment, f"process {pid}"
            # The number of a namespace that is gone is given to the next one at once.
            foreign = any(v.startswith(b"XDG_RUNTIME_DIR=") for v in environment)
            assert foreign or namespace not in self.namespaces, f"process {pid}"
        assert files(self.folder) == self.files
        return True


def files(folder: Path) -> frozenset[Path]:
    return frozenset(path for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def traces(folder: Path) -> Traces:
    return Traces(folder, files(folder))


def interface(state: NetworkState, host: str, name: str) -> dict[str, object]:
    shown = run_in_host(
        state, host, ["ip", "-json", "-detail", "address", "show", name], check=True
    )
    return json.loads(shown.stdout)[0]


@pytest.mark.parametrize("switch", TARGETS)
def test_up_status_down_leaves_nothing(folder: Path, traces: Traces, switch: str) -> None:
    state = up(switch=switch)
    traces.note(state)

    assert state.phase == "running"
    assert load_state("test") == state
    assert state.topology == topology()
    assert {s.target for s in state.switches.values()} == {switch}
    assert state.switches["b"].device_id == 2
    assert sorted(state.switches["a"].interfaces) == [1, 2, 3]
    assert all(len(i) <= 15 for s in state.switches.values() for i in s.interfaces.values())
    (status,) = net_status("test")
    assert (status.health, status.dead) == ("running", ())
    files = [*folder.rglob("*.json"), *folder.rglob("*.log")]
    assert folder / "state/orchestrator/networks/test.json" in files
    assert (folder / "state/orchestrator/networks/test.json").stat().st_mode & 0o777 == 0o600
    assert (folder / "state/orchestrator/networks").stat().st_mode & 0o777 == 0o700

    # A traffic server that somebody forgot goes, too.
    start_in_host(state, "h1", ["sleep", "1000"], stdout=subprocess.DEVNULL).pid  # noqa: B018
    net_down("test")

    assert list_networks() == []
    eventually(traces.gone)


def test_a_running_network_is_not_started_twice(folder: Path) -> None:
    up()
    with pytest.raises(NetworkError, match="'test' is up already"):
        up()
    assert net_status("test")[0].health == "running"


def test_two_networks_side_by_side(traces: Traces) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(up, ("one", "two"))
    traces.note(one)
    traces.note(two)

    assert one.id != two.id
    addresses = {s.grpc_address for n in (one, two) for s in n.switches.values()}
    assert len(addresses) == 4
    net_down("one")
    assert [s.health for s in net_status()] == ["running"]
    assert run_in_host(two, "h1", ["true"]).returncode == 0
    net_down("two")
    eventually(traces.gone)


@pytest.mark.parametrize("then", ["up", "down"])
def test_killed_supervisor_is_cleaned_up(traces: Traces, then: str) -> None:
    old = up()
    traces.note(old)
    theirs = {**os.environ, "XDG_RUNTIME_DIR": "/somewhere/else"}
    guest = start_in_host(old, "h2", ["sleep", "1000"], stdout=subprocess.DEVNULL, env=theirs)
    inside = namespace_of(old.hosts["h2"].pid)
    eventually(lambda: namespace_of(guest.pid) == inside)
    os.kill(old.supervisor, signal.SIGKILL)
    eventually(lambda: net_status("test")[0].health == "crashed")

    if then == "up":
        new = up()
        traces.note(new)
        assert new.id != old.id
        assert net_status("test")[0].health == "running"
        assert not [process for process in old.processes if process.is_alive]
    net_down("test")

    assert guest.wait(5) == -signal.SIGKILL
    eventually(traces.gone)


@pytest.mark.parametrize("switch", TARGETS)
def test_nobody_else_reaches_switches_and_workers(folder: Path, switch: str) -> None:
    """Another user of the machine, and a host of the network, even its root."""
    state = up(switch=switch, workers=True)
    addresses = [s.grpc_address for s in state.switches.values()]
    addresses += [w.api for w in state.workers]
    assert len(addresses) == 4
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    pids = [s.pid for s in state.switches.values()] if switch == "softswitch" else []
    assert not [pid for pid in (*pids, *(w.pid for w in state.workers)) if f"={pid}," in listening]
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for path in (address.removeprefix("unix:") for address in addresses):
        assert connects_as(NOBODY, path) == "PermissionError"
        assert connects_as(0, path) == ""
        inside = run_in_host(state, "h1", [sys.executable, "-c", connect, path])
        assert "FileNotFoundError" in inside.stderr


def test_tcp_only_when_asked_for(folder: Path) -> None:
    said: list[str] = []
    state = net_up(topology(), switch="softswitch", workers=False, tcp=True, warn=said.append)
    assert all(s.grpc_address.startswith("127.0.0.1:") for s in state.switches.values())
    assert said == ["a, b: TCP without TLS, so every user of this machine can change them"]


def test_what_was_started_anew_is_reached_where_it_is(folder: Path) -> None:
    net_up(topology(), switch="softswitch", workers=False, tcp=True, name="test")
    state = restart("test", "a")
    address = load_inventory("test").pipelines["a"].address
    assert address == state.switches["a"].grpc_address
    with SwitchClient("a", address, state.switches["a"].device_id, primary=False) as client:
        assert client.pipeline_cookie() is None
    net_down("test")
    assert list_inventories() == []


def test_a_network_of_others_keeps_its_name(folder: Path) -> None:
    inventory = replace(inventory_of(up()), name="theirs")
    save_inventory(inventory)
    with pytest.raises(NetworkError, match="was not started here"):
        net_up(topology(), switch="softswitch", workers=False, name="theirs")
    assert load_inventory("theirs") == inventory


@pytest.mark.parametrize("then", ["up", "down"])
def test_a_forged_mark_or_name_has_nobody_killed(traces: Traces, then: str) -> None:
    """A process that claims to be the network's, has its pids, or interfaces of its name."""
    state = up()
    traces.note(state)
    claims = {**os.environ, "ORCHESTRATOR_NETWORK": state.id, "XDG_RUNTIME_DIR": "/elsewhere"}
    inside = (
        f"ip link add o{state.id}s1p1 type veth peer name o{state.id}s1p2 && "
        "echo up && exec sleep 1000"
    )
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", inside], env=claims, stdout=subprocess.PIPE
    ) as foreign:
        assert foreign.stdout
        assert foreign.stdout.readline() == b"up\n"
        os.kill(state.supervisor, signal.SIGKILL)
        eventually(lambda: net_status("test")[0].health == "crashed")
        file = traces.folder / "state/orchestrator/networks/test.json"
        raw = json.loads(file.read_text())
        raw["processes"].append({"pid": foreign.pid, "started": raw["processes"][0]["started"]})
        raw["supervisor"] = raw["hosts"]["h1"]["pid"] = foreign.pid
        file.write_text(json.dumps(raw))
        if then == "up":
            traces.note(up())
        net_down("test")
        assert foreign.poll() is None
        foreign.kill()
    eventually(traces.gone)


def test_interrupted_start_leaves_nothing(traces: Traces) -> None:

    def interrupt(line: str) -> None:
        traces.note(load_state("test"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        net_up(topology(), switch="auto", workers=False, progress=interrupt)
    assert list_networks() == []
    eventually(traces.gone)


def test_ctrl_c_leaves_nothing(traces: Traces) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; from test_net import *;"
        "tell = lambda line: print(load_state('test').id, flush=True);"
        "net_up(topology(), workers=False, progress=tell)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *PATHS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as caller:
        assert caller.stdout is not None
        traces.ids.add(caller.stdout.readline().strip())
        caller.send_signal(signal.SIGINT)
        _, problem = caller.communicate(timeout=120)
    assert problem.rstrip().endswith("KeyboardInterrupt")
    assert list_networks() == []
    eventually(traces.gone)


def test_killed_caller_leaves_nothing(traces: Traces) -> None:
    """`net up` itself dies while the network starts: the supervisor notices."""
    program = (
        "import os, signal, sys; sys.path[:0] = sys.argv[1:]; from test_net import *;"
        "die = lambda line: (print(load_state('test').id, flush=True), os.kill(os.getpid(), 9));"
        "net_up(topology(), workers=False, progress=die)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *PATHS], capture_output=True, text=True, check=False
    )
    traces.ids.add(done.stdout.strip())
    assert done.returncode == -signal.SIGKILL
    eventually(traces.gone)


def test_failed_start_says_why_and_leaves_nothing(
    folder: Path, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "bin"
    broken.mkdir()
    (broken / "simple_switch_grpc").write_text("#!/bin/sh\necho 'no port for you' >&2\nexit 3\n")
    (broken / "simple_switch_grpc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    with pytest.raises(NetworkError, match=r"(?s)[ab] did not start:.*no port for you"):
        net_up(
            topology(),
            switch="bmv2",
            workers=False,
            progress=lambda line: traces.note(load_state("test")),
        )
    assert list_networks() == []
    shutil.rmtree(broken)
    eventually(traces.gone)


def test_a_dead_switch_shows_in_the_status(folder: Path) -> None:
    state = up()
    os.kill(state.switches["b"].pid, signal.SIGKILL)

    status = eventually(lambda: next((s for s in net_status("test") if s.dead), None))

    assert status.health == "degraded"
    assert [(c.kind, c.name) for c in status.dead] == [("switch", "b")]
    eventually(lambda: "b ended: SIGKILL" in state.log.read_text())


def test_hosts_are_set_up(folder: Path) -> None:
    state = up()
    shown = interface(state, "h1", "eth0")

    assert shown["mtu"] == 1500
    assert shown["address"] == mac_text(state.hosts["h1"].mac)
    assert isinstance(shown["addr_info"], list)
    addresses = {f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"]}
    assert {"10.0.1.1/24", "fd00:1::1/64"} <= addresses
    assert not any(a.get("tentative") for a in shown["addr_info"])
    for family, gateway in (("-4", "10.0.1.254"), ("-6", "fd00:1::fe")):
        routes = run_in_host(state, "h1", ["ip", family, "-json", "route", "show", "default"])
        assert [r["gateway"] for r in json.loads(routes.stdout)] == [gateway]
    features = run_in_host(state, "h1", ["ethtool", "-k", "eth0"], check=True).stdout
    for feature in (
        "tx-checksumming",
        "rx-checksumming",
        "scatter-gather",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
        "generic-receive-offload",
    ):
        assert f"{feature}: off" in features


def test_inside_links_carry_the_tag(folder: Path) -> None:
    state = up()
    for name in [i for s in state.switches.values() for i in s.interfaces.values()]:
        assert Path(f"/sys/class/net/{name}/mtu").read_text().strip() == str(INSIDE_MTU)
        assert Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").read_text().strip() == "1"
    assert interface(state, "server", "eth0")["mtu"] == INSIDE_MTU


@pytest.mark.parametrize("switch", TARGETS)
def test_workers_answer_in_their_servers(folder: Path, switch: str) -> None:
    state = up(switch=switch, workers=True)

    workers = state.servers["server"].workers
    assert [(w.name, w.core, w.interface) for w in workers] == [
        ("server.1", 0, "core1"),
        ("server.2", 1, "core2"),
    ]
    assert [w.mac for w in workers] == [device_mac(3, core=1), device_mac(3, core=2)]
    inside = os.stat(f"/proc/{state.servers['server'].pid}/ns/net").st_ino
    for worker in workers:
        assert os.stat(f"/proc/{worker.pid}/ns/net").st_ino == inside
        assert Path(worker.api.removeprefix("unix:")).is_socket()
    os.kill(workers[0].pid, signal.SIGKILL)
    dead = eventually(lambda: net_status("test")[0].dead)
    assert [(c.kind, c.name) for c in dead] == [("worker", "server.1")]


def test_workers_end_with_their_agent_and_start_with_it(folder: Path) -> None:
    state = up(workers=True, switch="softswitch")
    (agent,) = state.agents
    os.kill(agent.pid, signal.SIGKILL)
    dead = {"server-agent", "server.1", "server.2"}
    eventually(lambda: {c.name for c in net_status("test")[0].dead} == dead)
    again = restart("test", "server.2")
    assert net_status("test")[0].health == "running"
    assert [(w.name, w.api) for w in again.workers] == [(w.name, w.api) for w in state.workers]
    assert not {w.pid for w in again.workers} & {w.pid for w in state.workers}


def test_a_worker_core_has_its_own_mac(folder: Path) -> None:
    state = up(workers=True)
    for core in (1, 2):
        shown = interface(state, "server", f"core{core}")
        assert shown["address"] == mac_text(device_mac(3, core=core))
        assert shown["mtu"] == INSIDE_MTU
        linkinfo = shown["linkinfo"]
        assert isinstance(linkinfo, dict)
        assert (linkinfo["info_kind"], linkinfo["info_data"]["mode"]) == ("macvlan", "private")
    absent = run_in_host(state, "server", ["ip", "link", "show", "core3"])
    assert absent.returncode != 0, "core 3 is reserved"


def test_a_worker_core_has_the_interface_that_the_topology_says(folder: Path) -> None:
    base = topology()
    server = replace(base.servers["server"], interfaces=("eth0", "vf1"))
    state = net_up(replace(base, servers={"server": server}), switch="softswitch", workers=True)
    assert [worker.interface for worker in state.workers] == ["eth0", "vf1"]
    for core, name in enumerate(server.interfaces, 1):
        shown = interface(state, "server", name)
        assert shown["address"] == mac_text(device_mac(3, core=core))
        assert shown["mtu"] == INSIDE_MTU


def test_the_gateway_is_asked_for(folder: Path) -> None:
    """No static neighbours: ARP and neighbour solicitations leave the host, nobody answers yet."""
    state = up()
    neighbours = run_in_host(state, "h1", ["ip", "neigh"]).stdout
    assert "PERMANENT" not in neighbours
    for gateway in ("10.0.1.254", "fd00:1::fe"):
        run_in_host(state, "h1", ["ping", "-c", "1", "-W", "1", gateway])
        neighbours = run_in_host(state, "h1", ["ip", "neigh", "show", gateway]).stdout
        assert "FAILED" in neighbours or "INCOMPLETE" in neighbours, neighbours


def test_a_quiet_network(folder: Path) -> None:
    """The machine's own stack says nothing on a switch's ports, nor does a server."""
    state = up()
    ports = state.switches["a"].interfaces
    for name in (ports[1], ports[2]):
        sent = Path(f"/sys/class/net/{name}/statistics/tx_packets").read_text()
        received = Path(f"/sys/class/net/{name}/statistics/rx_packets").read_text()
        assert (int(sent), int(received)) == (0, 0)


def test_link_capacities_on_request(folder: Path) -> None:
    state = up(limit_links=True)
    port = state.switches["a"].interfaces[3]
    shown = subprocess.run(["tc", "qdisc", "show", "dev", port], capture_output=True, text=True)
    assert "tbf" in shown.stdout
    assert "rate 100Mbit" in shown.stdout


def test_unknown_hosts_and_networks_are_named(folder: Path) -> None:
    state = up()
    with pytest.raises(NetworkError, match=r"unknown host 'h3' \(known: h1, h2, server\)"):
        run_in_host(state, "h3", ["true"])
    with pytest.raises(NetworkError, match=r"unknown network 'tset'; did you mean 'test'"):
        net_down("tset")

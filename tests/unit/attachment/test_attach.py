"""`net attach` and `net detach` on softswitches and agents of this process, wired without root.

Oracle: what the test itself did wrong, and what the devices hold before and after.
Blind spot: BMv2, NICs, and traffic, which tests/emulated/test_own_mininet.py has.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from etcd import NEEDS_ETCD, etcd_process
from fake_agents import FakeAgent, agent
from finsy.proto import p4i, p4r
from google.protobuf import text_format
from support import eventually
from typer.testing import CliRunner
from wired import OFFICE, End, Wired, wired

from orchestrator.attachment.attach import Attached, AttachOptions, attach
from orchestrator.attachment.detach import detach
from orchestrator.attachment.restarting import restarter_of
from orchestrator.attachment.sampling import ProbeReports
from orchestrator.cli import app
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.journal import sqlite_store
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.presence import look
from orchestrator.deployment.transaction import CloneSession
from orchestrator.errors import InputError, NetworkError
from orchestrator.graph import load_topology
from orchestrator.model.devices import devices_of
from orchestrator.network.folders import attached_dir, list_inventories, state_file
from orchestrator.network.inventory import load_inventory
from orchestrator.observation.liveness import SUSPECT, UP, Subject
from orchestrator.observation.watcher import Watcher
from orchestrator.softswitch.server import ServerTls
from orchestrator.targets.pipelines import SHIPPED
from orchestrator.targets.pipelines import p4info as p4info_of
from servernf.proto import agent_pb2
from servernf.wire.addresses import device_mac

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[2] / "p4" / "softswitch"
NAMES = ("s1", "s2", "s3")
LINKS: list[tuple[End, End]] = [(("s1", 2), ("s2", 1)), (("s1", 3), ("s3", 1))]


@dataclass
class Site:
    """A network that runs, and what its topology file says of it."""

    switches: Wired
    agent: FakeAgent
    folder: Path
    raw: dict[str, Any]
    notes: list[str] = field(default_factory=list[str])

    def attach(self, name: str = "rack", *, store: str = "", **options: Any) -> Attached:
        file = self.folder / "rack.json"
        file.write_text(json.dumps(self.raw))
        topology = load_topology(file)
        access = Access(store=store)
        return attach(topology, name, access, AttachOptions(**options), note=self.notes.append)

    def refused(self, **options: Any) -> list[str]:
        """The problems that an attach tells; nothing of it is left."""
        before = self.state()
        with pytest.raises(NetworkError) as told:
            self.attach(**options)
        assert told.value.exit_code == 5
        first, *problems = str(told.value).splitlines()
        assert first == "rack is not attached, nothing was changed:"
        self.is_as(before)
        return problems

    def state(self) -> dict[str, object]:
        """What an attach could change: pipelines and entries, workers, files here."""
        devices: dict[str, object] = {"workers": sorted(self.agent.specs)}
        for name, switch in self.switches.switches.items():
            rows = switch.read(*_EVERYTHING) if switch.pipeline is not None else ()
            devices[name] = (switch.pipeline, sorted(e.SerializeToString() for e in rows))
        return devices

    def is_as(self, before: dict[str, object]) -> None:
        assert self.state() == before
        assert list_inventories() == []
        assert not attached_dir("rack").exists()


def _everything() -> list[Any]:
    wanted = [p4r.Entity(), p4r.Entity()]
    wanted[0].table_entry.SetInParent()
    wanted[1].packet_replication_engine_entry.clone_session_entry.SetInParent()
    return wanted


_EVERYTHING = _everything()


def file_of(switches: Wired, agent_address: str) -> dict[str, Any]:
    host = {"gateways": ["10.0.1.1"]}
    return {
        "name": "rack",
        "switches": {name: {"address": switches.address(name)} for name in NAMES},
        "servers": {"v1": {"address": agent_address, "cores": 3, "reserved_cores": 1}},
        "hosts": {
            "h1": {**host, "addresses": ["10.0.1.11/24"]},
            "h2": {**host, "addresses": ["10.0.1.12/24"]},
        },
        "links": [
            {"a": "s1", "a_port": 1, "b": "h1"},
            {"a": "s2", "a_port": 2, "b": "h2"},
            {"a": "s3", "a_port": 2, "b": "v1"},
            *({"a": a, "a_port": p, "b": b, "b_port": q} for (a, p), (b, q) in LINKS),
        ],
    }


@pytest.fixture(scope="module")
def running() -> Iterator[Wired]:
    """Switches that run our pipeline already: loading it is what takes time."""
    build = SHIPPED.build("edge", "softswitch")
    with wired(NAMES, dict(LINKS)) as switches:
        for number, name in enumerate(NAMES, 1):
            with SwitchClient(name, switches.address(name), number) as session:
                session.set_pipeline(p4info_of(build), build.device_config, build.cookie)
        yield switches


@contextmanager
def site_of(switches: Wired, folder: Path, patch: pytest.MonkeyPatch) -> Generator[Site]:
    patch.setenv("XDG_STATE_HOME", str(folder / "state"))
    wires = dict(switches.wires)
    with agent("v1", folder) as (fake, address):
        switches.sinks["s3", 2] = fake.deliver
        yield Site(switches, fake, folder, file_of(switches, address))
    switches.wires, switches.limits, switches.sinks = wires, {}, {}


@pytest.fixture
def site(running: Wired, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site_of(running, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Without pipelines."""
    with (
        wired(NAMES, dict(LINKS)) as switches,
        site_of(switches, tmp_path, monkeypatch) as made,
    ):
        yield made


def test_all_is_found_and_written_down(fresh: Site) -> None:
    site = fresh
    done = site.attach()
    assert (done.links, done.loaded) == (2, NAMES)
    assert done.started == ("v1.1", "v1.2")
    inventory = load_inventory("rack")
    assert inventory == done.inventory
    assert {s.target for s in inventory.topology.switches.values()} == {"softswitch"}
    assert inventory.agents == {"v1": site.raw["servers"]["v1"]["address"]}
    assert [w.core.index for w in inventory.workers] == [0, 1]
    assert not look(LiveNetwork(inventory, Access())).silent
    # What the probes needed is gone again.
    for switch in site.switches.switches.values():
        assert list(switch.read(*_EVERYTHING)) == []
    assert attached_dir("rack").stat().st_mode & 0o777 == 0o700
    detach("rack")
    assert site.attach().loaded == ()  # they have it already


def test_what_is_attached_is_let_go(site: Site) -> None:
    site.attach()
    done = detach("rack")
    assert (done.in_force, done.stopped) == ((), ("v1.1", "v1.2"))
    assert site.agent.specs == {}
    assert list_inventories() == []
    assert not attached_dir("rack").exists()


def test_what_a_killed_attach_has_left_is_removed(site: Site) -> None:
    clone = CloneSession(100, 510, (1, 2))
    for number, name in enumerate(NAMES, 1):
        with SwitchClient(name, site.switches.address(name), number) as session:
            session.pipeline_cookie()
            ProbeReports(session, number, clone, (1, 2)).install()
    site.attach()
    for switch in site.switches.switches.values():
        assert list(switch.read(*_EVERYTHING)) == []


def test_names_do_not_collide(site: Site) -> None:
    site.attach()
    with pytest.raises(NetworkError, match="'rack' is attached already"):
        site.attach()
    state_file("lab").write_text("{}")
    with pytest.raises(NetworkError, match="'lab' is a network that was started here"):
        site.attach("lab")
    with pytest.raises(NetworkError, match="was started here, and not attached"):
        detach("lab")
    with pytest.raises(InputError, match="network name"):
        site.attach("../rack")


def test_commands_on_networks_know_attached_ones(site: Site) -> None:
    site.attach()
    (told,) = json.loads(CliRunner().invoke(app, ["net", "status", "--json"]).stdout)
    assert (told["name"], told["health"], told["silent"]) == ("rack", "attached", [])
    assert [(c["kind"], c["name"]) for c in told["components"]] == [
        *(("switch", name) for name in NAMES),
        ("agent", "v1"),
        ("worker", "v1.1"),
        ("worker", "v1.2"),
    ]
    for words, said in (
        (["net", "down", "rack"], "`orchestrator net detach rack` lets go of it"),
        (["net", "restart", "s1"], "s1 was not started here, so its owner must start it again"),
        (["net", "restart", "v1.9"], "unknown worker 'v1.9'; did you mean 'v1."),
    ):
        error = CliRunner().invoke(app, words).exception
        assert isinstance(error, NetworkError)
        assert said in str(error)
    assert CliRunner().invoke(app, ["net", "restart", "v1.2"]).exit_code == 0
    assert site.agent.asked[-1] == "restart v1.2"
    site.agent.workers["v1.1"].stop()
    (told,) = json.loads(CliRunner().invoke(app, ["net", "status", "--json"]).stdout)
    assert "v1.1: UNAVAILABLE" in told["silent"][0]


def test_a_watch_has_agents_restart_workers_and_watches_them_too(site: Site) -> None:
    site.attach()
    restarter = restarter_of("rack")
    assert restarter is not None
    restarter.restart("v1.1")
    assert site.agent.asked[-1] == "restart v1.1"
    everybody = {*(Subject("switch", name) for name in NAMES), Subject("agent", "v1")}
    everybody |= {Subject("worker", f"v1.{number}") for number in (1, 2)}
    with Watcher(LiveNetwork(load_inventory("rack"), Access()), 60.0) as watcher:

        def states(state: str) -> set[Subject]:
            return {s for s, c in watcher.conditions().items() if c.state == state}

        eventually(lambda: states(UP) >= everybody, what="all of them up")
        site.agent.description.name = "v2"
        eventually(lambda: states(SUSPECT) == {Subject("agent", "v1")}, what="another agent there")
        assert watcher.conditions()[Subject("agent", "v1")].why == "v2 answers there"


def test_a_graph_stays_in_force_when_it_is_let_go(site: Site, tmp_path: Path) -> None:
    site.attach()
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(OFFICE))
    assert CliRunner().invoke(app, ["deploy", str(graph), "--json"]).exit_code == 0
    before = site.state()
    done = detach("rack")
    assert (done.in_force, done.stopped) == (("office",), ())
    assert site.state() == before
    again = site.attach()
    assert (again.in_force, again.started) == ({1: "office"}, ())
    assert site.state() == before
    adopted = CliRunner().invoke(app, ["recover", "--adopt", str(graph)])
    assert adopted.exit_code == 0, adopted.output
    assert not json.loads(CliRunner().invoke(app, ["reconcile", "--dry-run", "--json"]).stdout)[
        "drifted"
    ]
    assert CliRunner().invoke(app, ["undeploy", "office"]).exit_code == 0


@NEEDS_ETCD
def test_its_journal_may_be_in_etcd(site: Site, tmp_path: Path) -> None:
    """It outlives `net detach`: others may have attached the network, too."""
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(OFFICE))
    with etcd_process(tmp_path / "etcd") as address:
        store = f"etcd://{address}/rack"
        site.attach(store=store)
        assert CliRunner().invoke(app, ["deploy", str(graph), "--json"]).exit_code == 0
        assert not sqlite_store("rack").read("")
        done = detach("rack")
        assert (done.in_force, done.journal) == (("office",), store)
        assert [path.name for path in attached_dir("rack").iterdir()] == ["store.key"]
        site.attach(store=store)
        assert set(LiveNetwork(load_inventory("rack"), Access()).journal.deployed()) == {"office"}
        told = CliRunner().invoke(app, ["reconcile", "--dry-run", "--json"])
        assert not json.loads(told.stdout)["drifted"]
        assert CliRunner().invoke(app, ["undeploy", "office"]).exit_code == 0


def test_everything_wrong_is_told_at_once(site: Site) -> None:
    site.raw["switches"]["s1"] = {}
    site.raw["switches"]["s2"]["address"] = "127.0.0.1:1"
    site.raw["switches"]["s3"]["device_id"] = 7
    site.agent.description.runtimes[:] = ["dpdk"]
    assert site.refused() == [
        "s1: the topology does not say where it is reached (switches.s1.address)",
        "s2: no answer from 127.0.0.1:1 (Connection refused); is it running?",
        f"s3: {site.switches.address('s3')}: device 7 is not here; this is device 3",
        "v1: its agent has no runtime 'python' (it has: 'dpdk')",
    ]


def test_an_unreachable_switch_and_agent(site: Site) -> None:
    site.raw["switches"]["s2"]["address"] = "127.0.0.1:1"
    site.raw["servers"]["v1"]["address"] = "127.0.0.1:2"
    one, other = site.refused()
    assert one == "s2: no answer from 127.0.0.1:1 (Connection refused); is it running?"
    assert other.startswith("agent of v1: UNAVAILABLE: no answer from 127.0.0.1:2")


def test_a_wrong_device_id(site: Site) -> None:
    site.raw["switches"]["s1"]["device_id"] = 1 << 60
    (problem,) = site.refused()
    assert problem.endswith(f"device {1 << 60} is not here; this is device 1")


def test_another_target(site: Site) -> None:
    site.raw["switches"]["s1"]["target"] = "bmv2"
    assert site.refused() == ["s1: it is a softswitch, the topology says bmv2"]


def test_another_controller_stays_primary(site: Site) -> None:
    address = site.switches.address("s2")
    with SwitchClient("theirs", address, 2) as theirs:
        (problem,) = site.refused()
        assert problem.startswith("s2: another controller is primary")
        assert theirs.is_primary


def test_a_role_beside_another_controller(site: Site) -> None:
    site.raw["switches"]["s2"]["role"] = "fabric"
    with SwitchClient("theirs", site.switches.address("s2"), 2) as theirs:
        inventory = site.attach().inventory
        assert theirs.is_primary
    assert inventory.pipelines["s2"].role == "fabric"
    network = LiveNetwork(inventory, Access())
    with network.leading(), network.device("s2") as session:
        assert session.is_primary
        session.pipeline_cookie()
        session.write([])


def test_a_role_that_finds_no_pipeline(fresh: Site) -> None:
    site = fresh
    site.raw["switches"]["s2"]["role"] = "fabric"
    (problem,) = site.refused()
    assert "role 'fabric' can load none" in problem


def test_a_pipeline_of_somebody_else(site: Site) -> None:
    info = text_format.Parse((PROGRAMS / "router.p4info.txtpb").read_text(), p4i.P4Info())
    with SwitchClient("theirs", site.switches.address("s2"), 2) as theirs:
        theirs.set_pipeline(info, (PROGRAMS / "router.json").read_bytes(), 42)
    (problem,) = site.refused()
    assert problem.startswith("s2: it runs a pipeline of somebody else (tables ")
    assert problem.endswith(
        ": --replace-pipelines loads 'edge' in its place, and its entries are gone"
    )
    assert site.attach(replace_pipelines=True).loaded == ("s2",)


def test_our_pipeline_of_another_version_is_replaced_by_deploy(site: Site, tmp_path: Path) -> None:
    build = SHIPPED.build("edge", "softswitch")
    with SwitchClient("theirs", site.switches.address("s2"), 2) as theirs:
        theirs.set_pipeline(p4info_of(build), build.device_config, build.cookie + 1)
    assert site.attach().loaded == ()
    (tmp_path / "graph.json").write_text(json.dumps(OFFICE))
    deployed = CliRunner().invoke(app, ["deploy", str(tmp_path / "graph.json"), "--json"])
    assert deployed.exit_code == 0, deployed.exception
    with SwitchClient("s2", site.switches.address("s2"), 2, primary=False) as reader:
        assert reader.pipeline_cookie() == build.cookie
    assert CliRunner().invoke(app, ["undeploy", "office"]).exit_code == 0


def test_wrong_wires(fresh: Site) -> None:
    site = fresh
    wires = site.switches.wires
    wires["s1", 2], wires["s1", 3] = ("s3", 1), ("s2", 1)
    wires["s3", 1], wires["s2", 1] = ("s1", 2), ("s1", 3)
    site.raw["switches"]["s1"]["ports"] = {"uplink": 2}
    with pytest.raises(NetworkError) as told:
        site.attach()
    first, *problems, kept = str(told.value).splitlines()
    assert first == "rack is not attached, nothing else was changed:"
    assert problems == [
        "s1 port 2 (uplink) reaches s3 port 1, the topology says s2 port 1",
        "s2 port 1 reaches s1 port 3, the topology says s1 port 2 (uplink)",
        "s1 port 3 reaches s2 port 1, the topology says s3 port 1",
        "s3 port 1 reaches s1 port 2 (uplink), the topology says s1 port 3",
    ]
    assert kept.startswith("s1, s2, s3: the empty pipeline stays that was loaded to probe links")
    assert all(not list(s.read(*_EVERYTHING)) for s in site.switches.switches.values())
    assert list_inventories() == []
    assert site.agent.asked == []


def test_a_link_that_carries_no_tagged_frame_of_full_size(site: Site) -> None:
    site.switches.limits["s1", 2] = 14 + 1500
    assert site.refused() == [
        "s1 port 2 to s2 port 1: frames of 128 bytes pass, those of 1552 do not: tagged frames need an "
        "MTU of 1538 or more at both ends"
    ]
    del site.switches.wires["s1", 2], site.switches.wires["s2", 1]
    assert [problem.partition(":")[0] for problem in site.refused()] == ["s1 port 2", "s2 port 1"]
    assert site.agent.asked == []


def test_a_server_behind_another_port(site: Site) -> None:
    site.switches.sinks["s2", 2] = site.switches.sinks.pop(("s3", 2))
    assert site.refused() == [
        f"s3 port 2 to v1.{core}: no frame arrived: the link is down or leads elsewhere, or "
        "servers.v1.interface is not the NIC at its end"
        for core in (1, 2)
    ]
    assert site.agent.asked[-2:] == ["stop v1.1", "stop v1.2"]


def test_a_link_to_a_server_that_carries_no_tagged_frame(site: Site) -> None:
    whole = site.agent.deliver
    site.switches.sinks["s3", 2] = lambda frame: whole(frame) if len(frame) < 1500 else None
    one, _ = site.refused()
    assert one.startswith("s3 port 2 to v1.1: frames of 128 bytes arrive, those of 1552 do not")


@pytest.mark.parametrize(
    ("hours", "way"), [(-3, "is 3 h 0 min behind"), (5, "is 5 h 0 min ahead of")]
)
def test_a_clock_that_is_off(site: Site, hours: int, way: str) -> None:
    site.agent.clock_offset_s = 3600.0 * hours
    (problem,) = site.refused()
    assert problem.startswith(f"v1: its clock {way} this machine's (at most 1 s")
    assert site.attach(max_clock_offset_s=6 * 3600).loaded == ()


def test_an_mtu_that_is_too_small(site: Site) -> None:
    site.agent.description.nics[0].mtu = 1500
    assert site.refused() == ["v1: 'ens1' has an MTU of 1500, tagged frames need 1538 or more"]


def test_an_agent_of_another_version(site: Site) -> None:
    site.agent.description.api_version = 9
    (problem,) = site.refused()
    assert "speaks version 9 of the agent's API, this orchestrator version 1" in problem


def test_a_server_that_is_less_than_the_topology_says(site: Site) -> None:
    said = site.agent.description
    said.name = "v2"
    del said.cpus[1:]
    said.nics.add(name="ens2", mtu=1600)
    assert site.refused() == [
        "v1: the agent there is that of 'v2': another address, or another name in the agent's "
        "configuration",
        "v1: workers may use 1 CPUs, the topology says 2 (cores 3, reserved_cores 1)",
        "v1: say which interface leads to the switches (servers.v1.interface; it has: 'ens1', 'ens2')",
    ]
    said.name = "v1"
    said.cpus.add(number=1)
    site.raw["servers"]["v1"]["interface"] = "ens2"
    assert site.refused() == ["v1: 'ens2' has no carrier"]
    site.raw["servers"]["v1"]["interface"] = "ens9"
    (problem,) = site.refused()
    assert problem.startswith("v1: unknown interface 'ens9'")


def test_workers_on_interfaces_of_their_own(site: Site) -> None:
    server, said = site.raw["servers"]["v1"], site.agent.description
    server["interfaces"] = ["vf0", "vf1"]
    (problem, other) = site.refused()
    assert problem.startswith("v1: unknown interface 'vf0'")
    assert other.startswith("v1: unknown interface 'vf1'")
    said.nics.add(name="vf0", mtu=1500, carrier=True, mac=device_mac(4, core=1))
    said.nics.add(name="vf1", mtu=1600, carrier=True, mac=device_mac(4, core=1))
    mac = "02:00:00:04:00:0"
    assert site.refused() == [
        "v1: 'vf0' has an MTU of 1500, tagged frames need 1538 or more",
        f"v1: 'vf1' has MAC {mac}1, v1.2 needs {mac}2: ip link set vf1 address {mac}2",
    ]
    said.nics[1].mtu, said.nics[2].mac = 1600, device_mac(4, core=2)
    sink = site.switches.sinks.pop(("s3", 2))
    assert [problem.rpartition(", or ")[2] for problem in site.refused()] == [
        f"servers.v1.interfaces[{n}] is not the NIC at its end" for n in (0, 1)
    ]
    site.switches.sinks["s3", 2] = sink
    site.attach()
    assert {(s.interface, s.macvlan_on) for s in site.agent.specs.values()} == {
        ("vf0", ""),
        ("vf1", ""),
    }


def test_a_smartnic_that_runs_already(site: Site) -> None:
    """s3 is the NIC of v1: a port for each of its workers, each tried by a frame."""
    nic = {"name": "s3", "device_id": 3, "port": 1, "core_ports": [2, 4]}
    nic["address"] = site.raw["switches"].pop("s3")["address"]
    server, said = site.raw["servers"]["v1"], site.agent.description
    server |= {"nics": [nic], "interfaces": ["vf0", "vf1"]}
    site.raw["links"] = [x for x in site.raw["links"] if "s3" not in (x["a"], x["b"])]
    site.raw["links"].append({"a": "s1", "a_port": 3, "b": "v1"})
    for core, name in enumerate(server["interfaces"], 1):
        said.nics.add(name=name, mtu=1600, carrier=True, mac=device_mac(3, core=core))
    # The second worker is at the third port.
    site.switches.sinks["s3", 3] = site.switches.sinks["s3", 2]
    (problem,) = site.refused()
    assert "v1.2" in problem
    assert "s3 port 4" in problem
    site.switches.sinks["s3", 4] = site.switches.sinks["s3", 2]
    inventory = site.attach().inventory
    assert inventory.pipelines["s3"].device_id == 3
    assert devices_of(inventory.topology)["s3"].kind == "nic"
    assert {(w.name, w.core.index) for w in inventory.workers} == {("v1.1", 0), ("v1.2", 1)}


def test_a_core_that_is_somebody_elses(site: Site) -> None:
    with agent("v1", site.folder) as (other, address):
        site.raw["servers"]["v1"]["address"] = address
        other.startWorker(agent_pb2.WorkerSpec(name="theirs", core=1), None)  # type: ignore[arg-type]
        with pytest.raises(NetworkError, match="worker 'theirs' of somebody else has the core 2"):
            site.attach()
        assert other.asked == ["start theirs"]


def test_workers_that_were_started_end_when_one_does_not(site: Site) -> None:
    site.agent.refuses = "v1.2"
    with pytest.raises(Exception, match="no interface could be made"):
        site.attach()
    assert site.agent.specs == {}
    assert list_inventories() == []


@pytest.mark.parametrize(
    ("issued", "said"),
    [
        ({"expired": True}, "certificate has expired"),
        ({"names": ("leaf9.example",)}, "certificate is not valid for '127.0.0.1'"),
    ],
)
def test_a_certificate_that_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, issued: dict[str, Any], said: str
) -> None:
    ours = Authority(tmp_path / "certs")
    names = issued.pop("names", ())
    certificate, key = ours.issue("device", *names, **issued)
    mine = ours.issue("controller")
    files = ServerTls(certificate, key, ours.ca, ("controller",))
    with (
        wired(NAMES, dict(LINKS), {"s2": files}) as switches,
        site_of(switches, tmp_path, monkeypatch) as site,
    ):
        site.raw["switches"]["s2"]["tls"] = {
            "ca": str(ours.ca),
            "certificate": str(mine[0]),
            "key": str(mine[1]),
        }
        (problem,) = site.refused()
        assert problem.startswith(
            f"s2: {site.switches.address('s2')}: its certificate is not valid"
        )
        assert said in problem

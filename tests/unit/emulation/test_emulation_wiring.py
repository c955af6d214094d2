"""From a topology to interfaces and the commands that set them up."""

from __future__ import annotations

import ipaddress
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.clients.agent import worker_specs
from orchestrator.emulation import commands, setup
from orchestrator.emulation.wiring import VethEnd, ends_of, wires
from orchestrator.errors import EnvironmentMissing, InputError, NetworkError
from orchestrator.model.topology import Host, Link, Server, Switch, Topology
from orchestrator.targets.bmv2 import SimpleSwitch
from orchestrator.targets.engine import Launch
from servernf.wire.addresses import device_mac, mac_text

HOST = Host(
    "h1",
    0x0A0000000001,
    (ipaddress.ip_interface("10.0.0.2/24"), ipaddress.ip_interface("fd00::2/64")),
    (ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fd00::1")),
)
SERVER = Server("server1", 9, 4, 2, 2_000_000_000, 1 << 30)


def topology(*links: tuple[str, int, str, int], target: str = "auto") -> Topology:
    return Topology(
        name="lab",
        switches={n: Switch(n, i, target, "edge", {}) for i, n in enumerate(("s1", "s2"), 1)},
        servers={"server1": SERVER},
        smartnics={},
        hosts={"h1": HOST},
        links=tuple(Link(*link, 10**9, 5) for link in links),
        trees=1,
    )


def test_wires() -> None:
    first, second, third, fourth = wires(
        topology(("s1", 7, "s2", 1), ("h1", 0, "s1", 2), ("s2", 3, "server1", 0),
                 ("s1", 4, "server1", 0)),
        "3fa2",
    )  # fmt: skip
    assert first.ends == (
        VethEnd("s1", 7, "o3fa2s1p7", 1664, None),
        VethEnd("s2", 1, "o3fa2s2p1", 1664, None),
    )
    assert second.a == VethEnd("h1", 0, "eth0", 1500, HOST.mac)
    assert second.b == VethEnd("s1", 2, "o3fa2s1p2", 1664, None)
    assert third.b == VethEnd("server1", 0, "eth0", 1664, device_mac(9))
    assert fourth.b == VethEnd("server1", 1, "eth1", 1664, None)
    plan = (first, second, third, fourth)
    assert [end.interface for end in ends_of("s1", plan)] == ["o3fa2s1p7", "o3fa2s1p2", "o3fa2s1p4"]


def test_a_link_to_nobody() -> None:
    with pytest.raises(NetworkError, match="no node is called 's9'"):
        wires(topology(("s1", 1, "s9", 1)), "3fa2")


def test_host_lines_have_addresses_and_gateways_but_no_neighbours() -> None:
    lines = setup.host_lines(HOST, [VethEnd("h1", 0, "eth0", 1500, HOST.mac)])
    assert lines == [
        "link set lo up",
        "link set eth0 up",
        "address add 10.0.0.2/24 dev eth0",
        "address add fd00::2/64 dev eth0 nodad",
        "route add 0.0.0.0/0 via 10.0.0.1 dev eth0 metric 100 onlink",
        "route add ::/0 via fd00::1 dev eth0 metric 101 onlink",
    ]


def test_a_host_without_a_link_has_lo_only() -> None:
    assert setup.host_lines(HOST, []) == ["link set lo up"]


def test_a_worker_for_each_core_that_is_not_reserved() -> None:
    specs = worker_specs(SERVER, "eth0")
    assert [(s.name, s.core, mac_text(s.mac), s.macvlan_on) for s in specs] == [
        (f"server1.{n}", n - 1, f"02:00:00:09:00:0{n}", "eth0") for n in (1, 2)
    ]


def test_a_servers_kernel_answers_nobody() -> None:
    lines = setup.server_lines(SERVER, [VethEnd("server1", 0, "eth0", 1664, device_mac(9))])
    assert lines == ["link set lo up", "link set eth0 arp off up"]


def test_interfaces_that_a_topology_gives_to_workers() -> None:
    server = replace(SERVER, interfaces=("eth0", "vf1"))
    assert [(s.interface, s.macvlan_on) for s in worker_specs(server, "eth0")] == [
        ("eth0", ""),
        ("vf1", ""),
    ]
    assert setup.server_lines(server, [VethEnd("server1", 0, "eth0", 1664, device_mac(9))])[2:] == [
        "link set eth0 address 02:00:00:09:00:01",
        "link add link eth0 name vf1 address 02:00:00:09:00:02 type macvlan mode private",
        "link set vf1 addrgenmode none arp off up",
    ]


@pytest.mark.parametrize(
    ("asked", "named", "present", "chosen"),
    [
        ("auto", "auto", True, "bmv2"),
        ("auto", "auto", False, "softswitch"),
        ("auto", "softswitch", True, "softswitch"),
        ("softswitch", "bmv2", True, "softswitch"),
        ("bmv2", "tofino", True, "bmv2"),
    ],
)
def test_targets(
    monkeypatch: pytest.MonkeyPatch, asked: str, named: str, present: bool, chosen: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/it" if present else None)  # pyright: ignore
    targets = commands.resolve_targets(topology(target=named), asked)
    assert targets == {"s1": chosen, "s2": chosen}


def test_bmv2_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)  # pyright: ignore
    with pytest.raises(EnvironmentMissing, match=r"not on PATH.*--switch softswitch"):
        commands.resolve_targets(topology(), "bmv2")


def test_a_target_that_is_no_process() -> None:
    with pytest.raises(InputError, match="switch 's2': target 'tofino' cannot be emulated"):
        commands.resolve_targets(topology(target="tofino"), "auto")


@pytest.mark.parametrize("thrift", [True, False])
def test_bmv2_gets_fixed_addresses_of_its_own(
    monkeypatch: pytest.MonkeyPatch, thrift: bool
) -> None:
    help_text = "--thrift-port arg --notifications-addr arg" if thrift else "--nanolog arg"
    monkeypatch.setattr("orchestrator.targets.bmv2.options", lambda: help_text)
    ports = {2: "b", 1: "a"}
    argv = SimpleSwitch().argv(Launch("s3", 3, ports, "unix:/r/s3.sock", 510, Path("/r"), 6000))
    assert ("--thrift-port" in argv, "ipc:///r/3.notifications" in argv) == (thrift, thrift)
    assert argv[:4] == ["simple_switch_grpc", "--no-p4", "--device-id", "3"]
    assert argv[-9:] == [
        "-i", "1@a", "-i", "2@b", "--", "--grpc-server-addr", "unix:/r/s3.sock", "--cpu-port", "510",
    ]  # fmt: skip


def test_a_networks_processes_become_one_user_who_is_nobody_else() -> None:
    users = {commands.user_of(i) for i in ("0000", "ffff", "3fa2")}
    assert all(60_706 <= int(user) < 61_184 for user in users)
    assert commands.user_of("3fa2") == commands.user_of("3fa2")


def test_bmv2_keeps_one_capability_where_setpriv_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/setpriv")
    argv = commands.with_raw_sockets_only(["simple_switch_grpc", "--x"])
    assert argv[0] == "setpriv"
    assert argv[-2:] == ["simple_switch_grpc", "--x"]
    assert argv[argv.index("--bounding-set") + 1] == "-all,+net_raw"
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert commands.with_raw_sockets_only(["a"]) == ["a"]

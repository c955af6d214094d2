"""Who one is, which certificates go where, and what another tenant may not do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority

from orchestrator.clients.channel import TlsFiles
from orchestrator.deployment.access import Access
from orchestrator.emulation.agents import agent_argv
from orchestrator.emulation.tls import check_tls, exposures, with_writers
from orchestrator.errors import InputError, NetworkError, OwnerError
from orchestrator.graph.topology import load_topology
from orchestrator.model.graph import ServiceGraph, Verification
from orchestrator.model.topology import Server, Tls, Topology
from orchestrator.targets.engine import Launch
from orchestrator.targets.softswitch import OurEngine

SINGLE = Path(__file__).resolve().parents[3] / "topologies" / "single.json"
FILES = {
    "ca": "ca.pem",
    "certificate": "me.pem",
    "key": "me.key",
    "device_certificate": "device.pem",
    "device_key": "device.key",
}


def single(folder: Path, tls: Any = None, switch: Any = None, server: Any = None) -> Topology:
    """The shipped topology `single` with TLS settings of its own."""
    raw = json.loads(SINGLE.read_text())
    if tls is not None:
        raw["tls"] = tls
    for device, given in (
        (raw["switches"]["switch1"], switch),
        (raw["servers"]["server1"], server),
    ):
        if given is not None:
            device["tls"] = given
    path = folder / "single.json"
    path.write_text(json.dumps(raw))
    return load_topology(path)


def test_a_device_says_its_own_before_the_network(tmp_path: Path) -> None:
    inventory = single(tmp_path, FILES, switch={"ca": "/etc/other.pem", "device_name": "leaf"})
    of_server = Tls(**{key: str(tmp_path / name) for key, name in FILES.items()})  # type: ignore[arg-type]
    assert inventory.servers["server1"].tls == of_server
    of_switch = inventory.switches["switch1"].tls
    assert of_switch is not None
    assert (of_switch.ca, of_switch.device_name) == ("/etc/other.pem", "leaf")
    assert of_switch.key == of_server.key
    assert single(tmp_path).switches["switch1"].tls is None
    assert single(tmp_path, server="required").servers["server1"].tls == Tls()


def test_problems_of_the_file_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        single(tmp_path, {"ca": "ca.pem", "key": "me.key"}, switch={"device_key": "d.key"})
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "switches.switch1.tls.key: certificate and key belong together",
        "switches.switch1.tls.device_key: device_certificate and device_key belong together",
        "tls.key: certificate and key belong together",
    ]
    with pytest.raises(InputError, match="tls: 'yes' is neither \"required\" nor an object"):
        single(tmp_path, "yes")


def test_required_without_files_is_refused() -> None:
    with pytest.raises(NetworkError) as caught:
        Access().tls_files("leaf1", Tls())
    assert str(caught.value).startswith("leaf1: the topology requires TLS, but there is: no CA")
    with pytest.raises(NetworkError, match=r"no certificate and key \(tls.certificate"):
        Access(ca="/ca.pem").tls_files("leaf1", Tls())
    assert Access(ca="/ca.pem").tls_files("leaf1", Tls(mutual=False)) == TlsFiles(Path("/ca.pem"))
    assert Access().tls_files("leaf1", Tls(required=False)) is None
    assert Access(ca="/ca.pem").tls_files("leaf1", None) is None


def test_files_of_ones_own_come_first() -> None:
    tls = Tls(ca="/t/ca", certificate="/t/me", key="/t/key")
    mine = Access(certificate="/my/me", key="/my/key").tls_files("leaf1", tls)
    assert mine == TlsFiles(Path("/t/ca"), Path("/my/me"), Path("/my/key"))
    assert Access().tls_files("leaf1", tls) == TlsFiles(
        Path("/t/ca"), Path("/t/me"), Path("/t/key")
    )


def softswitch_argv(tls: Tls | None) -> list[str]:
    return OurEngine().argv(Launch("s", 1, {}, "unix:/x", 510, Path("/r"), 0, tls))


def test_devices_get_their_certificates(tmp_path: Path) -> None:
    tls = Tls(ca="/ca", device_certificate="/cert", device_key="/key", writers=("me", "alice"))
    options = ["--tls-cert", "/cert", "--tls-key", "/key", "--tls-ca", "/ca"]
    options += ["--writer", "me", "--writer", "alice"]
    assert softswitch_argv(tls)[-10:] == options
    server = Server("s", 1, 2, 0, 1, 1, tls)
    config = json.loads(Path(agent_argv(server, tmp_path, "0000")[5]).read_text())
    files = {"certificate": "/cert", "key": "/key", "ca": "/ca", "writers": ["me", "alice"]}
    assert config["workers"]["tls"] == files
    listening = replace(tls, listeners=("collector",))
    heard = softswitch_argv(listening)
    assert heard[heard.index("--listener") + 1] == "collector"
    one_sided = Tls(mutual=False, device_certificate="/cert", device_key="/key")
    assert "--tls-ca" not in softswitch_argv(one_sided)
    assert not [word for word in softswitch_argv(None) if "tls" in word]


def test_net_up_names_what_devices_lack(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_tls(single(tmp_path, FILES, server="required"), {})
    assert caught.value.problems == tuple(
        f"TLS file {tmp_path / FILES[key]}: not there"
        for key in ("device_certificate", "device_key", "ca")
    )
    with pytest.raises(InputError) as caught:
        check_tls(single(tmp_path, "required"), {})
    assert [problem.partition(" (")[0] for problem in caught.value.problems] == [
        f"{name}: {told}"
        for name in ("switch1", "server1")
        for told in (
            "the topology requires TLS, but names no certificate for it",
            "mutual TLS needs the CA of client certificates",
        )
    ]
    check_tls(single(tmp_path, {"required": False}), {})


def test_who_may_write_devices(tmp_path: Path) -> None:
    """The topology says it; if not, its own controller does, or who starts the network."""
    authority = Authority(tmp_path)
    for name in ("me", "device", "ops"):
        authority.issue(name)

    def writers(tls: dict[str, Any], certificate: str = "") -> tuple[tuple[str, ...], ...]:
        site = with_writers(single(tmp_path, tls), certificate)
        devices = (site.switches["switch1"], site.servers["server1"])
        return tuple(d.tls.writers for d in devices if d.tls)

    ops = str(tmp_path / "ops.pem")
    without = {key: name for key, name in FILES.items() if key not in ("certificate", "key")}
    assert writers(FILES, ops) == (("me",), ("me",))
    assert writers(without, ops) == (("ops",), ("ops",))
    assert writers({**FILES, "writers": ["a", "b"]}, ops) == (("a", "b"), ("a", "b"))
    assert writers({**FILES, "mutual": False}) == ((), ())
    assert with_writers(single(tmp_path), ops) == single(tmp_path)
    with pytest.raises(InputError, match="switch1: with mutual TLS nobody could change it"):
        writers(without)
    with pytest.raises(InputError, match="made out to 'device', who may write"):
        writers({**FILES, "writers": ["device"]})
    with pytest.raises(InputError, match=r"tls\.writers: without mutual TLS"):
        single(tmp_path, {**FILES, "mutual": False, "writers": ["a"]})
    with pytest.raises(InputError, match=r"tls\.listeners: without mutual TLS"):
        single(tmp_path, {**FILES, "mutual": False, "listeners": ["a"]})
    for wrong in ([], [""], ["x" * 65], "me", [1]):
        with pytest.raises(InputError, match=r"tls\.writers"):
            single(tmp_path, {**FILES, "writers": wrong})


@pytest.mark.parametrize(
    ("tls", "target", "tcp", "told"),
    [
        (None, "softswitch", False, []),
        (None, "softswitch", True, ["switch1: TCP without TLS"]),
        (FILES, "softswitch", True, []),
        ({**FILES, "mutual": False}, "softswitch", False, ["switch1, server1: TLS without client"]),
        (FILES, "bmv2", False, ["BMv2 knows no writers", "built with Thrift"]),
        (None, "bmv2", False, ["built with Thrift"]),
    ],
)
def test_net_up_says_what_others_may_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tls: Any,
    target: Any,
    tcp: bool,
    told: list[str],
) -> None:
    monkeypatch.setattr("orchestrator.targets.bmv2.options", lambda: "--thrift-port arg")
    said = exposures(single(tmp_path, tls), {"switch1": target}, tcp=tcp)
    assert len(said) == len(told)
    assert all(text in line for text, line in zip(told, said, strict=True))


def test_who_one_is(tmp_path: Path) -> None:
    certificate, key = map(str, Authority(tmp_path).issue("alice"))
    mine = {"ORCHESTRATOR_TLS_CERTIFICATE": certificate, "ORCHESTRATOR_TLS_KEY": key}
    assert Access.from_environment({}).owner == ""
    assert Access.from_environment({"ORCHESTRATOR_OWNER": "bob"}).owner == "bob"
    assert Access.from_environment(mine).owner == "alice"
    with pytest.raises(InputError, match=r"--owner bob: the certificate .* is 'alice's"):
        Access.from_environment({**mine, "ORCHESTRATOR_OWNER": "bob"})
    with pytest.raises(InputError, match="belong together"):
        Access.from_environment({"ORCHESTRATOR_TLS_KEY": key})
    with pytest.raises(InputError, match=r"alice\.key: holds no certificate"):
        Access.from_environment({**mine, "ORCHESTRATOR_TLS_CERTIFICATE": key})


def test_graphs_of_others_are_left_alone() -> None:
    graphs = {"web": "alice", "edge": "carol"}
    Access().check_owner(graphs)
    Access("alice").check_owner({"web": "alice"})
    with pytest.raises(OwnerError, match=r"^edge belongs to carol; you are alice$"):
        Access("alice").check_owner(graphs)


def test_a_graph_that_names_no_owner_is_the_deployers() -> None:
    def graph(owner: str) -> ServiceGraph:
        return ServiceGraph("g", owner, {}, {}, (), (), Verification())

    assert Access("alice").claimed(graph("default")).owner == "alice"
    assert Access("alice").claimed(graph("bob")).owner == "bob"
    assert Access().claimed(graph("default")).owner == "default"

"""The agent's configuration: every problem of a file at once, and nobody is let in by oversight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import agents
import pytest
from certificates import Authority

from servernf.agent import config as configs
from servernf.agent.__main__ import main
from servernf.agent.bounds import PlainBounds
from servernf.agent.config import DEFAULT_USER, config_of, read_config
from servernf.agent.describing import warnings
from servernf.agent.installing import UNIT, install
from servernf.agent.runtimes import KNOWN, runtimes
from servernf.wire.errors import InputError


def plain(**changed: object) -> dict[str, Any]:
    return {
        "name": "server1",
        "listen": "unix:/run/agent.sock",
        "workers": {"listen": "unix:/run"},
        **changed,
    }


def written(folder: Path, data: object) -> Path:
    file = folder / "agent.json"
    file.write_text(json.dumps(data))
    file.chmod(0o600)
    return file


def test_what_is_not_said(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, plain()))
    assert (config.name, config.tls, config.folder) == ("server1", None, Path("/var/lib/servernf"))
    workers = config.workers
    assert (workers.pin, workers.restart, workers.tls) == (True, True, None)
    assert workers.cpus == tuple(sorted(os.sched_getaffinity(0)))
    assert workers.user == (DEFAULT_USER if os.geteuid() == 0 else None)
    assert workers.doors == Path("/var/lib/servernf/doors")
    assert config.exposures() == []


def test_cores_have_devices_of_their_own() -> None:
    devices = ["0000:3b:02.0", "net_ring0"]
    workers = config_of(plain(workers={"listen": "h:1", "devices": devices}), "f").workers
    spec, dpdk, python = agents.spec(1), KNOWN["dpdk"], KNOWN["python"]
    assert "--poll" not in dpdk.argv(spec, workers, None)
    polled = config_of(
        plain(workers={"listen": "h:1", "devices": devices, "poll": "always"}), "f"
    ).workers
    words = " ".join(dpdk.argv(spec, polled, None))
    assert "--device net_ring0 --mac 02:00:00:01:00:02 --poll always" in words
    assert "--interface" not in words
    # What knows no devices, and a core that has none, has an interface.
    assert "--interface vf1" in " ".join(python.argv(spec, polled, None))
    assert "--interface vf2" in " ".join(dpdk.argv(agents.spec(2), polled, None))


def test_a_device_that_is_not_here_is_warned_of() -> None:
    config = config_of(plain(workers={"listen": "h:1", "devices": ["0000:7f:1f.7"]}), "f")
    assert any(
        "workers.devices: 0000:7f:1f.7: no such PCI device here" in warning
        for warning in warnings(config, PlainBounds())
    )


def test_workers_have_addresses_for_good() -> None:
    assert config_of(plain(), "f").workers.api(2) == "unix:/run/core3.sock"
    on_tcp = config_of(plain(workers={"listen": "[fd00::5]:50100", "pin": False}), "f").workers
    assert on_tcp.api(2) == "[fd00::5]:50102"
    assert (
        config_of(plain(workers={"listen": "h:65534", "pin": False}), "f").workers.most_cores == 2
    )


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (plain(lisen="x"), "f.lisen: unknown key 'lisen'; did you mean 'listen'?"),
        (plain(listen="server1"), "f.listen: 'server1' is none of unix:/PATH, HOST:PORT"),
        (plain(listen="h:70000"), "f.listen: 'h:70000' is none of"),
        (plain(listen="unix:relative"), "is none of unix:/PATH"),
        (plain(name="a/b"), "f.name: 'a/b' is no name"),
        (plain(folder="here"), "f.folder: 'here' is no absolute path"),
        (plain(workers={}), "f.workers.listen: must be a non-empty string"),
        (plain(workers={"listen": "0.0.0.0:1"}), "is no address that a controller could dial"),
        (plain(workers={"listen": "h:1", "cpus": [4096]}), r"cpus\[0\]: 4096 is no CPU here"),
        (plain(workers={"listen": "h:1", "cpus": []}), "cpus: names none"),
        (plain(workers={"listen": "h:1", "pin": 1}), "pin: must be true or false"),
        (plain(workers={"listen": "h:1", "doors": "/d"}), "doors: are for workers that listen on"),
        (plain(workers={"listen": "unix:/run", "doors": "d"}), "doors: 'd' is no absolute path"),
        (
            plain(workers={"listen": "h:1", "devices": ["eth0"]}),
            r"f.workers.devices\[0\]: 'eth0' is no device of DPDK's",
        ),
        (
            plain(workers={"listen": "h:1", "devices": ["0000:3b:02.0"] * 2}),
            r"devices\[1\]: 0000:3b:02.0 is named twice: a core has it alone",
        ),
        (plain(workers={"listen": "h:1", "poll": "always"}), "poll: is for devices"),
        (
            plain(workers={"listen": "h:1", "devices": ["net_ring0"], "poll": True}),
            "poll: True is not 'always'",
        ),
        (plain(workers={"listen": "h:1", "user": 0}), "user: "),
        (plain(cle={"address": "x"}), "f.cle.address: 'x' is none of unix:/PATH"),
        (plain(cle={"address": "h:1", "to": 1}), "f.cle.to: unknown key"),
        (plain(tls={}), "f.tls.certificate: must be a non-empty string"),
        (
            plain(tls={"certificate": "/nowhere.pem", "key": "/nowhere.key"}),
            "f.tls.certificate: /nowhere.pem is not there",
        ),
    ],
)
def test_what_is_wrong_is_said(data: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        config_of(data, "f")


def test_records_that_anybody_could_change_are_told_of() -> None:
    assert config_of(plain(cle={"address": "unix:/run/cle.sock"}), "f").exposures() == []
    (told,) = config_of(plain(cle={"address": "192.0.2.1:9600"}), "f").exposures()
    assert "cle 192.0.2.1:9600: without tls" in told


def test_all_problems_at_once() -> None:
    with pytest.raises(InputError) as caught:
        config_of(plain(listen="x", folder="y", workers={"listen": "z", "q": 1}), "f")
    assert len(caught.value.problems) == 4


def test_files_that_are_not_taken(tmp_path: Path) -> None:
    file = written(tmp_path, plain())
    file.chmod(0o666)
    with pytest.raises(InputError, match="others than its owner may write it: chmod go-w"):
        read_config(file)
    with pytest.raises(InputError, match=r"no such file; `servernf agent --install`"):
        read_config(tmp_path / "absent.json")
    with pytest.raises(InputError, match="is no regular file"):
        read_config(Path("/dev/null"))
    file.chmod(0o600)
    file.write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_config(file)


def test_certificates_are_looked_at(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, _ = authority.issue("server1")
    _, key = authority.issue("server2")
    tls = {"certificate": str(certificate), "key": str(key), "ca": str(key)}
    with pytest.raises(InputError) as caught:
        config_of(plain(tls=tls), "f")
    assert caught.value.problems == (
        f"f.tls.certificate: {certificate} and {key}: no certificate and its unencrypted key (PEM)",
        f"f.tls.ca: {key}: holds no CA certificate (PEM)",
    )


@pytest.mark.parametrize("missing", ["tls", "ca", "workers"])
def test_nobody_is_let_in_by_oversight(
    tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On TCP without certificates of clients it does not start, unless that is asked for."""
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("server1")
    tls = {"certificate": str(certificate), "key": str(key), "ca": str(authority.ca)}
    data = plain(listen="127.0.0.1:50080", tls=tls, folder=str(tmp_path / "state"))
    data["workers"] = {"listen": "127.0.0.1:50100"}
    if missing == "workers":
        without = {name: path for name, path in tls.items() if name != "ca"}
        data["workers"]["tls"] = without
    elif missing == "ca":
        del tls["ca"]
    else:
        del data["tls"]
    assert main(["--config", str(written(tmp_path, data))]) == 2
    told = capsys.readouterr().err
    assert "whoever can connect may change everything" in told
    assert "--insecure" in told
    assert not (tmp_path / "state").exists()


def test_check_prints_what_is_offered(tmp_path: Path) -> None:
    file = written(tmp_path, plain())
    command = [
        sys.executable,
        "-m",
        "servernf",
        "agent",
        "--check",
        "--json",
        "--config",
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["name"], told["api_version"], told["runtimes"]) == ("server1", 1, list(runtimes()))
    assert [cpu["number"] for cpu in told["cpus"]] == sorted(os.sched_getaffinity(0))
    assert int(told["memory_bytes"]) > 1 << 20


def test_the_unit_and_an_example(tmp_path: Path) -> None:
    told = install(tmp_path)
    unit = (tmp_path / UNIT.relative_to("/")).read_text()
    assert f"ExecStart={sys.executable} -m servernf agent --config {configs.DEFAULT_CONFIG}" in unit
    assert "NoNewPrivileges=yes" in unit
    example = tmp_path / configs.DEFAULT_CONFIG.relative_to("/")
    assert example.stat().st_mode & 0o777 == 0o600
    example.write_text("mine")
    assert "systemctl enable --now servernf-agent" in told[-1]
    assert "is there already" in install(tmp_path)[1]
    assert example.read_text() == "mine"

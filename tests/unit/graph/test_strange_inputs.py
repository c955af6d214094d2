"""Inputs that are no files, lie elsewhere, or hold what no terminal should see: one short error."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError, ReportedError, quoted, readable
from orchestrator.graph import load_graph, load_topology
from orchestrator.nfs.files import ALLOW_FILES
from orchestrator.nfs.values import parse_address, parse_prefix
from orchestrator.observation.matching import parse_mac
from orchestrator.resources import shipped_topologies
from servernf.wire.addresses import parse_interface, parse_ip, parse_network

pytestmark = pytest.mark.slow

SECRET = "password=s3cr3t"


def graph(folder: Path, kind: str, config: dict[str, Any], **others: Any) -> Path:
    file = folder / "graph.json"
    ends = {"inside": {"hosts": ["h1"]}, "outside": {"hosts": ["h3"]}}
    raw = {
        "name": "g",
        "endpoints": ends,
        "nfs": {"nf": {"type": kind, "config": config}},
        "edges": [{"from": "inside", "to": "nf.inside"}, {"from": "nf.outside", "to": "outside"}],
        "traffic": [{"name": "t", "from": "inside", "to": "outside", "rate": 1}],
    }
    file.write_text(json.dumps(raw | others))
    return file


def refused(path: Path | str, load: Callable[[Any], Any] = load_graph) -> str:
    with pytest.raises(InputError) as caught:
        load(path)
    told = str(caught.value)
    assert SECRET not in told
    assert len(told) < 5000
    return told


NAMING = (("acl", "rules_file"), ("router", "routes_file"), ("ids", "signatures_file"))


@pytest.mark.parametrize(("kind", "key"), NAMING)
class TestFilesThatAGraphNames:
    def test_elsewhere(self, tmp_path: Path, kind: str, key: str) -> None:
        secret = tmp_path / "private" / "secret.txt"
        secret.parent.mkdir()
        secret.write_text(SECRET)
        folder = tmp_path / "tenant"
        folder.mkdir()
        (folder / "link").symlink_to(secret)
        (folder / "up").symlink_to("..")
        for name in ("../private/secret.txt", str(secret), "link", "up/private/secret.txt"):
            assert "is outside of the graph's folder" in refused(graph(folder, kind, {key: name}))
        told = refused(graph(folder, kind, {key: "../private/none"}))
        assert "is outside of the graph's folder" in told
        assert "secret.txt" not in told

    def test_allowed(
        self, tmp_path: Path, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared, folder = tmp_path / "shared", tmp_path / "tenant"
        shared.mkdir()
        folder.mkdir()
        (shared / "file").write_text("what is this\n")
        file = graph(folder, kind, {key: "../shared/file"})
        monkeypatch.setenv(ALLOW_FILES, f"/nowhere:{shared}")
        assert "../shared/file" in refused(file)
        assert "outside" not in refused(file)

    def test_no_files(self, tmp_path: Path, kind: str, key: str) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "folder").mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "socket"))
        for name, what in (
            ("pipe", "a named pipe"),
            ("folder", "a directory"),
            ("socket", "cannot be read"),
        ):
            assert what in refused(graph(tmp_path, kind, {key: name}))

    def test_a_device(
        self, tmp_path: Path, kind: str, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(ALLOW_FILES, "/dev")
        assert "is a device" in refused(graph(tmp_path, kind, {key: "/dev/zero"}))


@pytest.mark.parametrize("load", [load_graph, load_topology])
def test_graphs_and_topologies_are_files(tmp_path: Path, load: Callable[[Any], Any]) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    assert "is a named pipe; a regular file is expected" in refused(pipe, load)
    assert "is a device" in refused(Path("/dev/zero.json").with_suffix(""), load_graph)
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    assert "nested too deeply" in refused(deep, load)
    deep.write_text('{"name": 1e999}')
    assert "1e999 is not JSON" in refused(deep, load)


def test_megabytes_are_not_echoed(tmp_path: Path) -> None:
    huge = "x" * 10_000_000
    for others in (
        {"name": huge},
        {"owner": huge},
        {huge: 1},
        {"nfs": {"nf": {"type": huge}}},
        {"edges": [{"from": huge, "to": "nf.inside"}]},
        {"traffic": [{"name": "t", "from": "inside", "to": "outside", "rate": huge}]},
        {"endpoints": {"inside": {"hosts": [huge]}, "outside": {"hosts": ["h3"]}}},
    ):
        refused(graph(tmp_path, "acl", {"default": "permit"}, **others))
    (tmp_path / "rules").write_text(huge)
    refused(graph(tmp_path, "acl", {"rules_file": "rules"}))
    refused(graph(tmp_path, "acl", {"rules_file": huge}))


def test_errors_are_for_terminals() -> None:
    assert str(ReportedError("a\x1b[31mb\r\u202ec\nd")) == "a\\x1b[31mb\\r\\u202ec\nd"
    assert quoted("a\nb\x07") == "'a\\nb\\x07'"
    assert quoted(7) == "7"
    assert len(quoted("x" * 10_000)) < 120
    assert max(map(len, readable("y" * 10_000).split("\n"))) < 2100
    assert len(str(InputError(["p"] * 1000)).splitlines()) == 201


ZONED = ("fe80::1%x", "fe80::1%x\nlink set lo down", "fe80::1%", "fe80::%25eth0")


@pytest.mark.parametrize("text", ZONED)
def test_zones_are_refused(tmp_path: Path, text: str) -> None:
    for parse in (parse_ip, parse_network, parse_address):
        with pytest.raises(ValueError, match=r"."):
            parse(text)
    for parse in (parse_interface, parse_network, parse_prefix):
        with pytest.raises(ValueError, match=r"."):
            parse(f"{text}/64")
    shipped = json.loads(shipped_topologies()["single"].read_text())
    for key, value in (("addresses", [f"{text}/64"]), ("gateways", [text])):
        raw = json.loads(json.dumps(shipped))
        raw["hosts"]["h1"][key] = value
        file = tmp_path / "topology.json"
        file.write_text(json.dumps(raw))
        told = refused(file, load_topology)
        assert "link set" not in told.splitlines()
        assert f"hosts.h1.{key}[0]" in told
    refused(graph(tmp_path, "acl", {"rules": [{"src": f"{text}/64", "action": "permit"}]}))
    refused(graph(tmp_path, "napt", {"addresses": [text]}))


@pytest.mark.parametrize(
    "text", ["02:00:00:00:00:+1", "2:0:0:0:0:1", "02:00:00:00:00:0_1", " 02" * 6]
)
def test_odd_macs(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        parse_mac(text)

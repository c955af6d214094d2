"""TLS towards a real switch process and a worker: what fits works, all else is one clear error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from certificates import Authority

from orchestrator.cli import main
from orchestrator.clients.channel import TlsFiles
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.errors import InputError, ServerError, SwitchError
from servernf.python.runtime.peers import PeerTls
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Site:
    """Certificates of a switch, its controller and a stranger."""

    ca: Path
    switch: tuple[Path, Path]
    mine: TlsFiles
    strangers_ca: Path
    strangers: TlsFiles


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("ca")
    ours, theirs = Authority(folder / "ours"), Authority(folder / "theirs", "stranger's CA")
    return Site(
        ours.ca,
        ours.issue("leaf1"),
        TlsFiles(ours.ca, *ours.issue("controller")),
        theirs.ca,
        TlsFiles(ours.ca, *theirs.issue("controller")),
    )


@contextmanager
def switch_process(*options: str) -> Iterator[str]:
    """A softswitch process; its address."""
    argv = [sys.executable, "-m", "orchestrator.softswitch", "--grpc-addr", "127.0.0.1:0"]
    with subprocess.Popen([*argv, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["grpc_addr"]
        finally:
            process.terminate()


def tls_options(site: Site, *, mutual: bool) -> list[str]:
    certificate, key = site.switch
    options = ["--tls-cert", str(certificate), "--tls-key", str(key)]
    return [*options, "--tls-ca", str(site.ca)] if mutual else options


@pytest.fixture(scope="module")
def mutual(site: Site) -> Iterator[str]:
    with switch_process(*tls_options(site, mutual=True)) as address:
        yield address


@pytest.fixture(scope="module")
def one_sided(site: Site) -> Iterator[str]:
    with switch_process(*tls_options(site, mutual=False)) as address:
        yield address


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with switch_process() as address:
        yield address


def connect(address: str, tls: TlsFiles | None, *, primary: bool) -> None:
    with SwitchClient("leaf1", address, 1, tls=tls, primary=primary) as client:
        client.pipeline_cookie()


@pytest.mark.parametrize("primary", [True, False])
def test_the_right_certificates_work(
    mutual: str, one_sided: str, plain: str, site: Site, primary: bool
) -> None:
    connect(mutual, site.mine, primary=primary)
    connect(one_sided, TlsFiles(site.ca), primary=primary)
    connect(plain, None, primary=primary)


@pytest.mark.parametrize("primary", [True, False])
def test_one_clear_error(
    mutual: str, one_sided: str, plain: str, site: Site, primary: bool
) -> None:
    cases = [
        (one_sided, TlsFiles(site.strangers_ca), f"certificate is not valid for {site.strangers_ca}"),
        (mutual, replace(site.mine, ca=site.strangers_ca), "its certificate is not valid for"),
        (mutual, replace(site.mine, name="leaf9"), "Hostname mismatch.*leaf9"),
        (mutual, TlsFiles(site.ca), "asks for a client certificate: give `certificate` and `key`"),
        (mutual, site.strangers, f"refuses the client certificate {site.strangers.certificate}"),
        (mutual, None, "speaks TLS only: give `tls`"),
        (one_sided, None, "speaks TLS only: give `tls`"),
        (plain, site.mine, "speaks no TLS, but TLS is asked for"),
    ]  # fmt: skip
    for address, tls, told in cases:
        with pytest.raises(SwitchError, match=f"^leaf1: {address}:? .*{told}") as caught:
            connect(address, tls, primary=primary)
        assert "\n" not in str(caught.value)


def test_a_certificate_for_a_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("leaf1", "leaf1.example")
    with switch_process("--tls-cert", str(certificate), "--tls-key", str(key)) as address:
        connect(address, TlsFiles(authority.ca, name="leaf1.example"), primary=True)
        with pytest.raises(SwitchError, match="not valid for"):
            connect(address, TlsFiles(authority.ca), primary=True)


def test_files_are_named(site: Site, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("-----BEGIN nothing\n")
    gone = tmp_path / "gone.pem"
    _, another_key = Authority(tmp_path / "x").issue("another")
    for tls, told in (
        (TlsFiles(gone), rf"^TLS file {gone}: No such file or directory$"),
        (TlsFiles(rubbish), rf"^TLS file {rubbish}: holds no CA certificate \(PEM\)$"),
        (replace(site.mine, key=another_key), "no certificate and its unencrypted private key"),
        (replace(site.mine, certificate=gone, key=gone), str(gone)),
    ):
        with pytest.raises(InputError, match=told):
            SwitchClient("leaf1", "127.0.0.1:1", 1, tls=tls)


def test_worker_over_a_socket_of_its_own(site: Site, tmp_path: Path) -> None:
    certificate, key = site.switch
    tls = PeerTls(certificate.read_bytes(), key.read_bytes(), site.ca.read_bytes())
    server, _, address = serve(Worker("w", 1), f"unix:{tmp_path}/w.sock", tls)
    try:
        with WorkerClient("w", address, tls=site.mine) as worker:
            assert worker.status().name == "w"
        for files, told in (
            (None, "speaks TLS only"),
            (TlsFiles(site.ca), "asks for a client certificate"),
            (replace(site.mine, ca=site.strangers_ca), "its certificate is not valid for"),
        ):
            with (
                pytest.raises(ServerError, match=f"^w: UNAVAILABLE: {address}:? .*{told}"),
                WorkerClient("w", address, tls=files) as worker,
            ):
                worker.status()
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("command", [["tables", "s1"], ["explain", "s1", "--packet", "eth()"]])
def test_commands_with_an_address(
    mutual: str,
    site: Site,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*options: str) -> str:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("ORCHESTRATOR_")}
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", variables)
            patch.setattr(sys, "argv", ["orchestrator", *command, "--address", mutual, *options])
            with pytest.raises(SystemExit):
                main()
        return " ".join(capsys.readouterr().err.split())

    certificate, key = str(site.mine.certificate), str(site.mine.key)
    ours = ["--tls-ca", str(site.ca)]
    assert "no pipeline is loaded" in run(*ours, "--tls-certificate", certificate, "--tls-key", key)
    assert "asks for a client certificate" in run(*ours)
    assert "speaks TLS only" in run()
    assert "belong together" in run(*ours, "--tls-key", key)
    assert "needs --tls-ca" in run("--tls-certificate", certificate, "--tls-key", key)

"""Who may change a device, over real gRPC: by certificate and election id; streams are bounded."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from finsy.proto import p4r, p4r_grpc
from other_user import NOBODY, connects_as
from signed import signed
from support import eventually

from orchestrator.clients.channel import TlsFiles as ClientFiles
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.errors import ServerError, SwitchError
from orchestrator.model.manifest import SamplingSecret, manifest_entries
from orchestrator.softswitch import arbitration
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer, ServerTls
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.pipelines import SHIPPED, p4info
from servernf.proto import vnf_pb2, vnf_pb2_grpc
from servernf.python.runtime import peers, service
from servernf.python.runtime.peers import PeerTls
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker

pytestmark = pytest.mark.slow

DENIED = grpc.StatusCode.PERMISSION_DENIED
KEYS = (0x1234ABCD, 0x5678EF01, 0x0BADCAFE)


@dataclass(frozen=True)
class Site:
    """Certificates of one CA."""

    folder: Path
    ca: Path

    def files(self, name: str) -> ClientFiles:
        return ClientFiles(self.ca, self.folder / f"{name}.pem", self.folder / f"{name}.key")

    def channel(self, address: str, name: str) -> grpc.Channel:
        files = self.files(name)
        assert files.certificate
        assert files.key
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        named = [("grpc.ssl_target_name_override", "localhost")]
        return grpc.secure_channel(address, credentials, named)

    def device(self, *writers: str) -> ServerTls:
        files = self.files("leaf1")
        assert files.certificate
        assert files.key
        return ServerTls(files.certificate, files.key, self.ca, writers or ("controller",))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("ca")
    authority = Authority(folder)
    for name in ("controller", "cle", "alice", "mallory", "leaf1"):
        authority.issue(name)
    authority.issue("server-only", server_only=True)
    return Site(folder, authority.ca)


@contextmanager
def served(tls: ServerTls | None, address: str = "127.0.0.1:0") -> Generator[P4RuntimeServer]:
    server = P4RuntimeServer(PythonEngine(SoftSwitch(1, 510, name="leaf1")), address, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


@pytest.fixture(scope="module")
def secured(site: Site) -> Iterator[str]:
    """A softswitch over mutual TLS that `controller` and `alice` may change; with sampling keys."""
    with served(site.device("controller", "alice")) as server:
        built = SHIPPED.build("edge", "bmv2")
        with SwitchClient("leaf1", server.address, 1, tls=site.files("controller")) as client:
            client.set_pipeline(p4info(built), built.device_config, built.cookie)
            assert client.schema
            (entry,) = manifest_entries(SamplingSecret(3, KEYS[2], KEYS[0], KEYS[1]))
            secret = client.schema.encode(entry, "g")
            update = p4r.Update(type=p4r.Update.INSERT, entity=p4r.Entity(table_entry=secret))
            client.write([update])
        yield server.address


def failure(call: Any, *args: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as e:
        next(call(*args, timeout=120))
    error: Any = e.value
    return error.code(), error.details()


def arbitration_of(election_id: int) -> p4r.StreamMessageRequest:
    update = p4r.MasterArbitrationUpdate(device_id=1)
    update.election_id.high, update.election_id.low = election_id >> 64, election_id & (1 << 64) - 1
    return p4r.StreamMessageRequest(arbitration=update)


# ---- certificates


@pytest.mark.parametrize("name", ["mallory", "leaf1"])
def test_who_is_no_writer_changes_nothing_on_a_switch(site: Site, secured: str, name: str) -> None:
    """`leaf1` is the certificate of a switch: signed by the same CA, without an EKU."""
    told = f"the certificate of '{name}' may read this device, not change it"
    highest = p4r.Uint128(high=(1 << 64) - 1, low=(1 << 64) - 1)
    with site.channel(secured, name) as channel:
        stub = p4r_grpc.P4RuntimeStub(channel)
        assert failure(stub.StreamChannel, iter([arbitration_of((1 << 128) - 1)])) == (DENIED, told)
        write = p4r.WriteRequest(device_id=1, election_id=highest)
        assert failure(stub.Write, write) == (DENIED, told)
        for action in p4r.SetForwardingPipelineConfigRequest.Action.values():
            request = p4r.SetForwardingPipelineConfigRequest(
                device_id=1, election_id=highest, action=action
            )
            assert failure(stub.SetForwardingPipelineConfig, request) == (DENIED, told)
    with (
        pytest.raises(SwitchError, match=f"^leaf1: .*{told}$"),
        SwitchClient("leaf1", secured, 1, tls=site.files(name)),
    ):
        pass
    with SwitchClient("leaf1", secured, 1, tls=site.files(name), primary=False) as reader:
        assert reader.pipeline_cookie()
    for writer in ("controller", "alice"):
        with SwitchClient("leaf1", secured, 1, tls=site.files(writer)) as client:
            assert client.is_primary
            client.write([])


def test_a_certificate_for_servers_only_is_no_clients(site: Site, secured: str) -> None:
    with (
        pytest.raises(SwitchError, match="refuses the client certificate"),
        SwitchClient("leaf1", secured, 1, tls=site.files("server-only"), primary=False) as client,
    ):
        client.pipeline_cookie()


def test_readers_see_no_sampling_keys_of_a_switch(site: Site, secured: str) -> None:
    def read(name: str) -> tuple[list[p4r.TableEntry], bytes]:
        with SwitchClient("leaf1", secured, 1, tls=site.files(name), primary=False) as client:
            client.pipeline_cookie()
            entities = list(client.read_entities(p4r.Entity(table_entry=p4r.TableEntry())))
        whole = b"".join(e.SerializeToString() for e in entities)
        return [
            e.table_entry for e in entities if len(e.table_entry.action.action.params) == 3
        ], whole

    (theirs,), whole = read("mallory")
    assert [p.value for p in theirs.action.action.params] == [b"\0"] * 3
    assert not [key for key in KEYS if key.to_bytes(4) in whole]
    (ours,), whole = read("alice")
    assert {int.from_bytes(p.value) for p in ours.action.action.params} == set(KEYS)
    assert (ours.table_id, ours.match) == (theirs.table_id, theirs.match)


def worker_tls(site: Site, *peer_names: str) -> PeerTls:
    pem = site.files("leaf1")
    assert pem.certificate
    assert pem.key
    return PeerTls(
        pem.certificate.read_bytes(),
        pem.key.read_bytes(),
        site.ca.read_bytes(),
        ("controller",),
        peer_names,
    )


ACL = vnf_pb2.NfConfig(name="g/fw", type="acl", config_json='{"default": "permit"}')
GONE = vnf_pb2.RemoveGraphRequest(graph="g")
CONFIGURE = vnf_pb2.ConfigureRequest(graph="g", nfs=[ACL])
CHAIN = vnf_pb2.ServiceChainRequest(
    nf="g/fw",
    scope=vnf_pb2.Scope(spi=5, si=9, in_port="inside"),
    next=[vnf_pb2.Hop(exit=vnf_pb2.ExitHop(dst_mac=2, spi=5, si=8))],
)


def test_who_is_no_writer_changes_nothing_on_a_worker(site: Site, tmp_path: Path) -> None:
    worker = Worker("w", 1)
    server, _, address = serve(worker, f"unix:{tmp_path}/w.sock", worker_tls(site, "alice"))
    try:
        with WorkerClient("w", address, tls=site.files("controller")) as client:
            client.configure(
                "g", {"fw": ("acl", {"default": "permit"})}, SamplingSecret(1, 2, 3, 4)
            )
            assert client.samples(0) == ([], 0)
        with site.channel(address, "mallory") as channel:
            plain = vnf_pb2_grpc.VnfStub(channel)
            stub = vnf_pb2_grpc.VnfStub(signed(channel, (1 << 128) - 1))
            for call, request in (
                (stub.configure, CONFIGURE),
                (stub.removeGraph, vnf_pb2.RemoveGraphRequest(graph="g")),
                (stub.serviceChain, CHAIN),
                (stub.serviceChainUpdate, CHAIN),
                (plain.readSamples, vnf_pb2.ReadSamplesRequest()),
            ):
                code, told = failure(call, request)
                assert (code, "may read this device" in told) == (DENIED, True), told
            assert [nf.name for nf in plain.getStatus(vnf_pb2.StatusRequest()).nfs] == ["g/fw"]
        with (
            pytest.raises(ServerError, match="PERMISSION_DENIED: the certificate of 'leaf1'"),
            WorkerClient("w", address, tls=site.files("leaf1")) as switch,
        ):
            switch.remove_graph("g")
    finally:
        server.stop(0).wait()


def test_only_the_witness_says_what_is_witnessed(site: Site, tmp_path: Path) -> None:
    """Not even the controller, so that the provider chooses no key; removing the graph leaves it."""
    worker = Worker("w", 1)
    request = vnf_pb2.WitnessRequest(graph="g")
    request.epochs.add(number=1, key0=0xABCDEF01, key1=2, threshold=3)
    server, _, address = serve(worker, f"unix:{tmp_path}/w.sock", worker_tls(site, "alice"))
    try:
        for name in ("controller", "alice", "mallory"):
            with site.channel(address, name) as channel:
                code, told = failure(vnf_pb2_grpc.VnfStub(channel).setWitness, request)
                assert (code, told) == (DENIED, f"the certificate of '{name}' is no witness's")
        with site.channel(address, "cle") as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            stub.setWitness(request)
            assert failure(vnf_pb2_grpc.VnfStub(signed(channel)).removeGraph, GONE)[0] == DENIED
            wrong = vnf_pb2.WitnessRequest(graph="g", headers=1 << 20)
            wrong.epochs.add(number=0)
            code, told = failure(stub.setWitness, wrong)
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert "number" in told
            assert "headers" in told
        with WorkerClient("w", address, tls=site.files("controller")) as client:
            client.remove_graph("g")
            assert list(client.status().witnessed_graphs) == ["g"]
            assert str(0xABCDEF01) not in str(client.status())
    finally:
        server.stop(0).wait()


def test_peers_of_a_worker_pass_chains_on_and_change_nothing_else(
    site: Site, tmp_path: Path
) -> None:
    server, _, address = serve(Worker("w", 1), f"unix:{tmp_path}/w.sock", worker_tls(site, "alice"))
    try:
        with WorkerClient("w", address, tls=site.files("controller"), election_id=7) as client:
            client.configure("g", {"fw": ("acl", {"default": "permit"})}, None)
        with site.channel(address, "alice") as channel:
            stub = vnf_pb2_grpc.VnfStub(signed(channel, 7))
            late = vnf_pb2_grpc.VnfStub(signed(channel, 6))
            passed_on = [(peers.CHAIN_FROM, "v")]
            assert failure(stub.serviceChain, CHAIN)[0] == DENIED
            with pytest.raises(grpc.RpcError, match="a later controller"):
                late.serviceChain(CHAIN, metadata=passed_on)
            assert stub.serviceChain(CHAIN, metadata=passed_on).mac == 1
            with pytest.raises(grpc.RpcError, match="may read this device"):
                stub.configure(CONFIGURE, metadata=passed_on)
    finally:
        server.stop(0).wait()


# ---- the election fence of workers, and their peers


def test_every_changing_call_of_a_worker_needs_an_election_id(tmp_path: Path) -> None:
    server, _, address = serve(Worker("w", 1), f"unix:{tmp_path}/w.sock")
    try:
        with grpc.insecure_channel(address) as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            calls: list[tuple[Any, Any]] = [
                (stub.configure, CONFIGURE),
                (stub.removeGraph, vnf_pb2.RemoveGraphRequest(graph="g")),
                (stub.serviceChain, CHAIN),
                (stub.serviceChainUpdate, CHAIN),
            ]
            for call, request in calls:
                assert failure(call, request)[0] == DENIED
                for wrong in (b"", b"\1", b"\1" * 17):
                    with pytest.raises(grpc.RpcError, match="16 bytes of metadata"):
                        call(request, metadata=[(peers.ELECTION_ID, wrong)])
                with pytest.raises(grpc.RpcError, match="16 bytes of metadata"):
                    call(request, metadata=[(peers.CHAIN_FROM, "v")])
            assert not stub.getStatus(vnf_pb2.StatusRequest()).nfs
    finally:
        server.stop(0).wait()


def test_a_chain_goes_to_known_peers_only(tmp_path: Path) -> None:
    """Whom a worker dials is told at its start; a listener that a message names hears nothing."""
    told = f"unix:{tmp_path}/told/far.sock"
    server, _, address = serve(Worker("w", 1), f"unix:{tmp_path}/w.sock", peers=["far:1", told])
    heard: list[str] = []
    (tmp_path / "told").mkdir()
    (tmp_path / "else").mkdir()
    stranger = P4RuntimeServer(PythonEngine(SoftSwitch()), f"unix:{tmp_path}/else/x.sock")
    stranger.service.Capabilities = lambda *_: heard.append("x")  # type: ignore[method-assign]
    stranger.start()
    try:
        with grpc.insecure_channel(address) as channel:
            stub = vnf_pb2_grpc.VnfStub(signed(channel))
            stub.configure(CONFIGURE)
            request = vnf_pb2.ServiceChainRequest(nf="g/fw", scope=CHAIN.scope)
            hop = request.next.add().nf
            hop.name, hop.port = "g/nat", "inside"
            request.next.add().exit.CopyFrom(CHAIN.next[0].exit)
            for unknown in (
                "127.0.0.1:1",
                "far:2",
                "dns:///far:1",
                f"unix:{tmp_path}/else/x.sock",
                f"unix:{tmp_path}/../w.sock",
                f"unix:{tmp_path}/..",
                f"unix-abstract:{tmp_path}/w.sock",
            ):
                hop.worker = unknown
                code, text = failure(stub.serviceChain, request)
                assert code == grpc.StatusCode.INVALID_ARGUMENT
                assert text == (
                    f"next.worker: '{unknown}' is no peer of this worker "
                    f"(known: far:1, {told}, sockets in {tmp_path}/)"
                )
            for peer in (told, f"unix:{tmp_path}/v.sock"):
                hop.worker = peer
                assert failure(stub.serviceChain, request)[0] == grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop(0).wait()
        stranger.stop(0)


# ---- streams


def test_idle_streams_take_nobodys_place(tmp_path: Path) -> None:
    """A stranger opens 40 streams and says nothing; controllers come and go, and calls are answered."""
    with served(None, f"unix:{tmp_path}/s.sock") as server, ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        stub = p4r_grpc.P4RuntimeStub(channel)
        silence: queue.Queue[Any] = queue.Queue()
        streams: list[Any] = [stub.StreamChannel(iter(silence.get, None)) for _ in range(40)]
        undecided = server.service.arbiter.undecided
        stub.Capabilities(p4r.CapabilitiesRequest(), timeout=120)
        for _ in range(3):
            with SwitchClient("leaf1", server.address, 1) as client:
                assert client.is_primary
        eventually(lambda: sum(s.done() for s in streams) >= 40 - arbitration.MAX_UNDECIDED)
        assert len(undecided) <= arbitration.MAX_UNDECIDED
        ended = next(s for s in streams if s.done())
        assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_streams_that_do_not_arbitrate_are_ended() -> None:
    now = [100.0]
    arbiter = arbitration.Arbiter(1, lambda: now[0])
    waits, decides = arbitration.ControllerStream(), arbitration.ControllerStream()
    for connection in (waits, decides):
        arbiter.enter(connection)
    arbiter.arbitrate(decides, arbitration_of(1).arbitration)
    now[0] += arbitration.UNDECIDED_S / 2
    later = arbitration.ControllerStream()
    arbiter.enter(later)
    now[0] += arbitration.UNDECIDED_S / 2
    arbiter.end_idle()
    assert waits.failure
    assert waits.failure[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (later.failure, decides.failure) == (None, None)
    arbiter.arbitrate(waits, arbitration_of(2).arbitration)
    assert arbiter.primary() is decides, "what has been ended does not come back"
    arbiter.leave(waits)
    arbiter.leave(later)
    assert arbiter.undecided == []


def test_streams_of_metrics_leave_threads_for_calls(tmp_path: Path) -> None:
    server, running, address = serve(Worker("w", 1), f"unix:{tmp_path}/w.sock")
    try:
        with grpc.insecure_channel(address) as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            request = vnf_pb2.ReportMetricsRequest(milliseconds=4_000_000_000)
            streams: list[Any] = [stub.reportMetrics(request) for _ in range(3 * service.THREADS)]
            stub.getStatus(vnf_pb2.StatusRequest(), timeout=120)
            eventually(lambda: sum(s.done() for s in streams) == len(streams) - service.MAX_REPORTS)
            for stream in streams:
                stream.cancel()
            once = vnf_pb2.ReportMetricsRequest(milliseconds=10)
            assert eventually(lambda: _answers(stub, once)), "cancelled streams free their places"
    finally:
        running.stopping.set()
        server.stop(0).wait()


def _answers(stub: vnf_pb2_grpc.VnfStub, request: vnf_pb2.ReportMetricsRequest) -> bool:
    try:
        return bool(next(stub.reportMetrics(request, timeout=120)).timestamp_us)
    except grpc.RpcError:
        return False


# ---- sockets and warnings


@contextmanager
def started(*options: str) -> Generator[subprocess.Popen[str]]:
    """A softswitch process that listens."""
    argv = [sys.executable, "-m", "orchestrator.softswitch", "--grpc-addr", *options]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            process.stdout.readline()
            yield process
        finally:
            process.terminate()


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process: needs root")
def test_another_user_cannot_open_the_socket() -> None:
    """A second uid, and a folder that everybody may enter: the socket is its maker's alone."""
    with tempfile.TemporaryDirectory(prefix="b") as name, started(f"unix:{name}/s") as process:
        os.chmod(name, 0o755)
        assert connects_as(NOBODY, Path(name) / "s") == "PermissionError"
        assert connects_as(0, Path(name) / "s") == ""
        process.terminate()
        assert process.stderr
        assert process.stderr.read() == ""


def test_a_socket_that_is_served_is_not_taken_away(tmp_path: Path) -> None:
    with served(None, f"unix:{tmp_path}/s.sock") as server:
        with pytest.raises(SwitchError, match=r"s\.sock: in use"):
            P4RuntimeServer(PythonEngine(SoftSwitch()), server.address)
        with SwitchClient("leaf1", server.address, 1) as client:
            assert client.is_primary
    for wrong, told in (
        ("unix:", "unix:PATH is expected"),
        ("127.0.0.1", "HOST:PORT or unix:PATH"),
        (f"unix:{tmp_path}/{'x' * 120}", "longer than 107 bytes"),
        (f"unix:{tmp_path}/nowhere/s.sock", "no folder for it"),
    ):
        with pytest.raises(SwitchError, match=told):
            P4RuntimeServer(PythonEngine(SoftSwitch()), wrong)


@pytest.mark.parametrize(
    ("options", "told"),
    [((), "without TLS"), (("tls",), "without client certificates"), (("tls", "ca"), "")],
)
def test_tcp_without_client_certificates_is_warned_of(
    site: Site, options: tuple[str, ...], told: str
) -> None:
    argv = ["127.0.0.1:0"]
    if "tls" in options:
        argv += ["--tls-cert", f"{site.folder}/leaf1.pem", "--tls-key", f"{site.folder}/leaf1.key"]
    if "ca" in options:
        argv += ["--tls-ca", str(site.ca)]
    with started(*argv) as process:
        process.terminate()
        assert process.stderr
        said = process.stderr.read()
    assert (told in said) if told else said == "", said

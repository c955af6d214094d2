"""P4Runtime over real gRPC: arbitration, pipeline config, writes, reads, packets, TLS."""

from __future__ import annotations

import queue
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4r, p4r_grpc, rpc_code, rpc_status
from softswitch_client import TIMEOUT, Config, Controller
from softswitch_support import PROGRAMS, Names, p4info, udp_frame

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import SwitchError
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer, ServerTls
from orchestrator.softswitch.switch import SoftSwitch

pytestmark = pytest.mark.slow


@pytest.fixture
def switch() -> SoftSwitch:
    return SoftSwitch(1)


@pytest.fixture
def server(switch: SoftSwitch) -> Iterator[P4RuntimeServer]:
    server = P4RuntimeServer(PythonEngine(switch), "127.0.0.1:0")
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def controller(server: P4RuntimeServer) -> Iterator[Controller]:
    c = Controller(server.address, 1)
    assert c.next().arbitration.status.code == rpc_code.OK
    yield c
    c.close()


@pytest.fixture
def names() -> Names:
    return Names(p4info("router"))


def route(names: Names, value: int = 0x0A000000, length: int = 8, port: int = 2) -> p4r.Update:
    return names.entry("ig.ipv4_lpm", {"dst": (value, length)}, "ig.route", (port, 3))


def failure(call: Any, *args: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as e:
        call(*args)
    error: Any = e.value
    return error.code(), error.details()


# ---- arbitration


def test_highest_election_id_is_primary_and_the_next_takes_over(server: P4RuntimeServer) -> None:
    low = Controller(server.address, 5)
    assert low.next().arbitration.status.code == rpc_code.OK
    high = Controller(server.address, 0)
    first = high.next().arbitration
    assert first.status.code == rpc_code.ALREADY_EXISTS
    assert first.election_id.low == 5
    high.arbitrate(1 << 64)
    for c in (low, high):
        update = c.next().arbitration
        assert (update.election_id.high, update.election_id.low) == (1, 0)
        assert update.status.code == (rpc_code.OK if c is high else rpc_code.ALREADY_EXISTS)
    assert failure(low.set_config) == (grpc.StatusCode.PERMISSION_DENIED, "Not primary")
    high.set_config()
    high.close()
    assert low.next().arbitration.status.code == rpc_code.OK
    low.set_config()
    low.close()


def test_a_used_election_id_is_refused(controller: Controller, server: P4RuntimeServer) -> None:
    second = Controller(server.address, 1)
    code, text = failure(second.next)
    assert (code, "election id 1 is in use" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    second.close()


def test_another_device_is_not_here(server: P4RuntimeServer) -> None:
    c = Controller(server.address, 1, device_id=9)
    code, text = failure(c.next)
    assert (code, text) == (
        grpc.StatusCode.NOT_FOUND,
        "device 9 is not here; this is device 1",
    )
    c.close()


def unsigned(stub: p4r_grpc.P4RuntimeStub, election_id: p4r.Uint128 | None = None) -> list[str]:
    """What is said to every changing call, without an election id or with one that no stream has."""
    calls: list[tuple[Any, Any]] = [(stub.Write, p4r.WriteRequest(device_id=1))]
    for action in Config.Action.values():
        request = Config(device_id=1, action=action)
        request.config.p4info.CopyFrom(p4info("router"))
        request.config.p4_device_config = (PROGRAMS / "router.json").read_bytes()
        calls.append((stub.SetForwardingPipelineConfig, request))
    said: list[str] = []
    for call, request in calls:
        if election_id is not None:
            request.election_id.CopyFrom(election_id)
        code, text = failure(call, request)
        assert code == grpc.StatusCode.PERMISSION_DENIED
        said.append(text)
    return said


def test_every_changing_call_needs_an_election_id(
    server: P4RuntimeServer, switch: SoftSwitch
) -> None:
    """Without a stream, and beside one: PI lets the first of these through."""
    with grpc.insecure_channel(server.address) as channel:
        stub = p4r_grpc.P4RuntimeStub(channel)
        assert all("has no election id" in text for text in unsigned(stub))
        assert set(unsigned(stub, p4r.Uint128(low=1))) == {"Not primary"}
        assert set(unsigned(stub, p4r.Uint128())) == {"Not primary"}
        controller = Controller(server.address, 1)
        assert controller.next().arbitration.status.code == rpc_code.OK
        assert all("has no election id" in text for text in unsigned(stub))
        controller.close()
    assert switch.pipeline is None


# ---- pipeline config


def test_config_actions(controller: Controller, switch: SoftSwitch) -> None:
    controller.set_config(Config.VERIFY)
    assert switch.pipeline is None
    code, text = failure(controller.set_config, Config.COMMIT)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "VERIFY_AND_SAVE" in text
    controller.set_config(Config.VERIFY_AND_SAVE)
    assert switch.pipeline is None
    controller.set_config(Config.COMMIT)
    assert switch.pipeline is not None
    controller.set_config(Config.RECONCILE_AND_COMMIT)
    code, text = failure(controller.set_config, Config.UNSPECIFIED)
    assert (code, "VERIFY_AND_COMMIT" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_get_config(controller: Controller) -> None:
    kind = p4r.GetForwardingPipelineConfigRequest

    def get(response_type: int) -> p4r.ForwardingPipelineConfig:
        request = kind(device_id=1, response_type=response_type)  # type: ignore[arg-type]
        return controller.stub.GetForwardingPipelineConfig(request).config

    assert get(kind.ALL) == p4r.ForwardingPipelineConfig()
    controller.set_config()
    full = get(kind.ALL)
    assert (len(full.p4info.tables), bool(full.p4_device_config)) == (6, True)
    cookie = get(kind.COOKIE_ONLY)
    assert (cookie.cookie.cookie, len(cookie.p4info.tables), cookie.p4_device_config) == (
        42,
        0,
        b"",
    )
    assert not get(kind.P4INFO_AND_COOKIE).p4_device_config
    assert not get(kind.DEVICE_CONFIG_AND_COOKIE).p4info.tables


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"not json", "p4_device_config is not JSON of p4c-bm2-ss"),
        (b"{}", "no 'pipelines' section"),
        (b'{"pipelines": []}', "headers: field standard_metadata.ingress_port is missing"),
    ],
)
def test_bad_config_is_invalid_argument(controller: Controller, raw: bytes, text: str) -> None:
    request = controller.config()
    request.config.p4_device_config = raw
    code, details = failure(controller.stub.SetForwardingPipelineConfig, request)
    assert (code, text in details) == (grpc.StatusCode.INVALID_ARGUMENT, True), details


def test_capabilities(controller: Controller) -> None:
    response = controller.stub.Capabilities(p4r.CapabilitiesRequest())
    assert response.p4runtime_api_version == "1.4.0"


def test_drops_outside_the_pipeline_are_told_by_capabilities(
    server: P4RuntimeServer,
    controller: Controller,
    switch: SoftSwitch,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    controller.set_config()
    controller.write(names.entry("ig.acl", {"port": 1}, "ig.to_cpu", (), 1))
    with SwitchClient("s", server.address, 1, primary=False) as client:
        assert client.drops() == {}
        (stream,) = server.service.arbiter.connections
        # Its queue is full: it does not read.
        monkeypatch.setattr(type(stream), "send", lambda *_: False)
        switch.process(1, udp_frame())
        monkeypatch.setattr(server.service.engine, "port_drops", lambda: {"receive_queue_full": 3})
        assert client.drops() == {"stream_queue_full": 1, "receive_queue_full": 3}


# ---- writes and reads


def test_failed_updates_come_back_one_error_each(controller: Controller, names: Names) -> None:
    controller.set_config()
    with pytest.raises(grpc.RpcError) as e:
        controller.write(route(names), route(names), route(names, 5, 8))
    error: Any = e.value
    assert error.code() == grpc.StatusCode.UNKNOWN
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = rpc_status.Status.FromString(details)
    errors: list[p4r.Error] = []
    for detail in status.details:
        one = p4r.Error()
        assert detail.Unpack(one)
        errors.append(one)
    assert [x.canonical_code for x in errors] == [
        rpc_code.OK,
        rpc_code.ALREADY_EXISTS,
        rpc_code.INVALID_ARGUMENT,
    ]
    assert "table ig.ipv4_lpm: field 'dst'" in errors[2].message


def test_many_failures_reach_a_client_with_default_limits(
    controller: Controller, names: Names
) -> None:
    controller.set_config()
    with pytest.raises(grpc.RpcError) as e:
        controller.write(*[route(names, 5, 8)] * 100)
    error: Any = e.value
    assert error.code() == grpc.StatusCode.UNKNOWN
    assert error.details().startswith("100 of 100 updates failed: update 0: table ig.ipv4_lpm")
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert len(rpc_status.Status.FromString(details).details) == 100


def test_only_continue_on_error(controller: Controller) -> None:
    controller.set_config()
    request = p4r.WriteRequest(device_id=1, election_id=controller.id())
    request.atomicity = p4r.WriteRequest.ROLLBACK_ON_ERROR
    code, text = failure(controller.stub.Write, request)
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "ROLLBACK_ON_ERROR" in text
    assert "CONTINUE_ON_ERROR" in text


def test_many_entries_are_read_in_chunks(controller: Controller, names: Names) -> None:
    controller.set_config()
    controller.write(*[route(names, i << 8, 24) for i in range(2500)])
    table = p4r.TableEntry(table_id=names.id("ig.ipv4_lpm"))
    chunks = controller.read(p4r.Entity(table_entry=table))
    assert [len(c.entities) for c in chunks] == [1000, 1000, 500]


def test_read_refusal_has_its_code(controller: Controller) -> None:
    controller.set_config()
    code, text = failure(controller.read, p4r.Entity(table_entry=p4r.TableEntry(table_id=5)))
    assert (code, "unknown table id 5" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, _ = failure(controller.read, p4r.Entity(extern_entry=p4r.ExternEntry()))
    assert code == grpc.StatusCode.UNIMPLEMENTED


def test_read_before_config(controller: Controller) -> None:
    code, _ = failure(controller.read, p4r.Entity(table_entry=p4r.TableEntry()))
    assert code == grpc.StatusCode.FAILED_PRECONDITION


# ---- packets


def test_packet_in_goes_to_the_primary(
    controller: Controller, switch: SoftSwitch, names: Names
) -> None:
    controller.set_config()
    controller.write(names.entry("ig.acl", {"port": 1}, "ig.to_cpu", (), 1))
    frame = udp_frame()
    assert switch.process(1, frame) == []
    packet = controller.next().packet
    assert packet.payload == frame
    assert packet.metadata[0].value == b"\x01"


def test_packet_out_leaves_by_its_port(controller: Controller, switch: SoftSwitch) -> None:
    controller.set_config()
    sent: queue.Queue[list[tuple[int, bytes]]] = queue.Queue()
    switch.transmit = sent.put
    request = p4r.StreamMessageRequest()
    request.packet.payload = udp_frame()
    request.packet.metadata.add(metadata_id=1, value=b"\x03")
    controller.requests.put(request)
    assert sent.get(timeout=TIMEOUT) == [(3, udp_frame())]
    request.packet.metadata[0].metadata_id = 7
    controller.requests.put(request)
    error = controller.next().error
    assert error.canonical_code == rpc_code.INVALID_ARGUMENT
    assert "unknown metadata id 7" in error.message


# ---- addresses and TLS


def test_a_used_address_is_one_clear_error(server: P4RuntimeServer) -> None:
    with pytest.raises(SwitchError, match=f"cannot listen on {server.address}"):
        P4RuntimeServer(PythonEngine(SoftSwitch()), server.address)


def certificates(folder: Path) -> dict[str, Path]:
    """A CA, and a server and a client certificate signed by it, made with openssl."""

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=test CA")  # fmt: skip
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "san")  # fmt: skip
    return {p.name: p for p in folder.iterdir()}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_mutual_tls(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    tls = ServerTls(files["server.pem"], files["server.key"], files["ca.pem"])
    server = P4RuntimeServer(PythonEngine(SoftSwitch()), "127.0.0.1:0", tls)
    server.start()
    ca = files["ca.pem"].read_bytes()
    with_certificate = grpc.ssl_channel_credentials(
        ca, files["client.key"].read_bytes(), files["client.pem"].read_bytes()
    )
    try:
        for credentials, works in (
            (with_certificate, True),
            (grpc.ssl_channel_credentials(ca), False),
        ):
            with grpc.secure_channel(server.address, credentials) as channel:
                stub = p4r_grpc.P4RuntimeStub(channel)
                if works:
                    stub.Capabilities(p4r.CapabilitiesRequest(), timeout=TIMEOUT)
                else:
                    code, _ = failure(stub.Capabilities, p4r.CapabilitiesRequest())
                    assert code == grpc.StatusCode.UNAVAILABLE
    finally:
        server.stop(0)


def test_missing_tls_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.pem"
    with pytest.raises(SwitchError, match=r"none\.pem"):
        P4RuntimeServer(PythonEngine(SoftSwitch()), "127.0.0.1:0", ServerTls(missing, missing))

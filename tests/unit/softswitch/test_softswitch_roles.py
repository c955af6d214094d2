"""Roles (P4Runtime, 5): one primary each, and who listens beside the controller.

Oracle: the specification's rules; the controller's writes go on.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from finsy.proto import p4r, p4r_grpc
from softswitch_client import Controller
from softswitch_support import Names, p4info, udp_frame
from support import eventually
from toy_engine import ToyEngine

from orchestrator.clients.channel import TlsFiles as ClientFiles
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import SwitchError
from orchestrator.model.topology import Switch, Tls, Topology
from orchestrator.network.inventory import Inventory, PipelineAddress
from orchestrator.softswitch.arbitration import MAX_CONNECTIONS, MAX_LISTENERS
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer, ServerTls
from orchestrator.softswitch.switch import SoftSwitch

DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def switch() -> SoftSwitch:
    return SoftSwitch(1)


@pytest.fixture
def server(switch: SoftSwitch) -> Iterator[P4RuntimeServer]:
    made = P4RuntimeServer(PythonEngine(switch), "127.0.0.1:0")
    made.start()
    yield made
    made.stop(0)


def arbitration(
    role: str, election_id: int, *, configured: bool = False
) -> p4r.StreamMessageRequest:
    request = p4r.StreamMessageRequest()
    request.arbitration.device_id = 1
    request.arbitration.election_id.low = election_id
    if role:
        request.arbitration.role.name = role
    if configured:
        request.arbitration.role.config.type_url = "type.googleapis.com/p4.v1.Entity"
    return request


def test_several_listen_while_the_controller_writes(
    server: P4RuntimeServer, switch: SoftSwitch
) -> None:
    names = Names(p4info("router"))
    controller = Controller(server.address, 1 << 70)
    controller.next()
    try:
        with (
            SwitchClient("s", server.address, 1).listening() as one,
            SwitchClient("s", server.address, 1).listening() as other,
        ):
            controller.set_config()
            controller.write(names.entry("ig.acl", {"port": 1}, "ig.to_cpu", (), 1))
            switch.process(1, udp_frame())
            assert controller.next().packet.payload
            for listener in (one, other):
                heard = listener.packet_in(10)
                assert heard is not None
                assert heard.payload
                with pytest.raises(SwitchError, match="reading only"):
                    listener.write([])
        # They have gone, and still nobody has pushed the controller aside.
        controller.write(names.entry("ig.acl", {"port": 2}, "ig.to_cpu", (), 1))
        assert server.service.stream_faults == 0, "a client that goes is no fault"
    finally:
        controller.close()


def test_each_role_has_its_own_election(server: P4RuntimeServer) -> None:
    controller = Controller(server.address, 7)
    assert controller.next().arbitration.status.message == "Is primary"
    with grpc.insecure_channel(server.address) as channel:
        stub = p4r_grpc.P4RuntimeStub(channel)
        streams: list[Any] = []  # one that nobody holds is cancelled

        def answer(request: p4r.StreamMessageRequest) -> p4r.MasterArbitrationUpdate:
            streams.append(stub.StreamChannel(_open(request), timeout=120))
            return next(streams[-1]).arbitration

        def refusal(request: p4r.StreamMessageRequest) -> str:
            with pytest.raises(grpc.RpcError) as error:
                answer(request)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
            return error.value.details()  # type: ignore[attr-defined]

        assert "election id 7 is in use" in refusal(arbitration("", 7))
        first = answer(arbitration("a", 7))
        assert (first.role.name, first.status.message) == ("a", "Is primary")
        assert answer(arbitration("a", 6)).status.message == "Is backup"
        assert answer(arbitration("b", 6)).status.message == "Is primary"
        told = refusal(arbitration("c", 9, configured=True))
        assert told.startswith("role 'c': no kind of role configuration is known here")
        write = p4r.WriteRequest(device_id=1, role="a")
        write.election_id.low = 6
        with pytest.raises(grpc.RpcError) as error:
            stub.Write(write, timeout=120)
        assert error.value.code() is DENIED  # type: ignore[attr-defined]
    controller.close()


def test_digests_and_idle_timeouts_reach_every_roles_primary() -> None:
    toy = ToyEngine(1)
    server = P4RuntimeServer(toy, "127.0.0.1:0")
    server.start()
    channels = [grpc.insecure_channel(server.address) for _ in range(2)]
    streams = [
        p4r_grpc.P4RuntimeStub(channel).StreamChannel(_open(arbitration(role, 1)), timeout=120)
        for channel, role in zip(channels, ("", "collector"), strict=True)
    ]
    try:
        for stream in streams:
            assert next(stream).arbitration.status.code == 0
        assert toy.events is not None
        toy.events.digest(p4r.DigestList(digest_id=3))
        toy.events.idle_timeout(p4r.IdleTimeoutNotification(timestamp=5))
        for stream in streams:
            assert next(stream).digest.digest_id == 3
            assert next(stream).idle_timeout_notification.timestamp == 5
    finally:
        for channel in channels:
            channel.close()
        server.stop(0)


def _open(request: p4r.StreamMessageRequest) -> Iterator[p4r.StreamMessageRequest]:
    """A stream that stays open: its requests never end by themselves."""
    requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
    requests.put(request)
    return iter(requests.get, None)


# ---- certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    for name in ("controller", "collector", "worker", "leaf1"):
        authority.issue(name)
    return authority.folder


@pytest.fixture
def toy() -> ToyEngine:
    made = ToyEngine(1)
    made.running = b"toy"
    return made


@pytest.fixture
def secured(folder: Path, toy: ToyEngine) -> Iterator[P4RuntimeServer]:
    tls = ServerTls(
        folder / "leaf1.pem", folder / "leaf1.key", folder / "ca.pem", listeners=("collector",)
    )
    made = P4RuntimeServer(toy, "127.0.0.1:0", tls)
    made.start()
    yield made
    made.stop(0)


def files(folder: Path, name: str) -> ClientFiles:
    return ClientFiles(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key")


def stub(folder: Path, address: str, name: str) -> tuple[grpc.Channel, p4r_grpc.P4RuntimeStub]:
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(),
        (folder / f"{name}.key").read_bytes(),
        (folder / f"{name}.pem").read_bytes(),
    )
    channel = grpc.secure_channel(
        address, credentials, [("grpc.ssl_target_name_override", "localhost")]
    )
    return channel, p4r_grpc.P4RuntimeStub(channel)


def test_a_listeners_certificate_hears_and_changes_nothing(
    folder: Path, secured: P4RuntimeServer, toy: ToyEngine
) -> None:
    channel, calls = stub(folder, secured.address, "collector")
    requests: queue.SimpleQueue[p4r.StreamMessageRequest | None] = queue.SimpleQueue()
    with SwitchClient("s", secured.address, 1, tls=files(folder, "controller")) as controller:
        stream = calls.StreamChannel(iter(requests.get, None), timeout=120)
        requests.put(arbitration("collector", (1 << 64) - 1))
        assert next(stream).arbitration.status.message == "Is primary"
        assert controller.is_primary
        assert toy.events is not None
        toy.events.packet_in(p4r.PacketIn(payload=b"sample"))
        assert next(stream).packet.payload == b"sample"
        assert controller.packet_in(10) is not None

        requests.put(p4r.StreamMessageRequest(packet=p4r.PacketOut(payload=b"out")))
        refused = next(stream).error
        assert refused.canonical_code == DENIED.value[0]
        assert refused.packet_out.packet_out.payload == b"out"
        requests.put(p4r.StreamMessageRequest(digest_ack=p4r.DigestListAck(list_id=4)))
        assert next(stream).error.digest_list_ack.digest_list_ack.list_id == 4
        assert toy.acked == []
        assert controller.packet_in(0) is None, "a packet went out"
        write = p4r.WriteRequest(device_id=1, role="collector")
        write.election_id.low = (1 << 64) - 1
        with pytest.raises(grpc.RpcError) as error:
            calls.Write(write, timeout=120)
        assert error.value.code() is DENIED  # type: ignore[attr-defined]
    requests.put(None)
    channel.close()


def test_a_networks_listener_takes_the_role_of_its_certificate(
    folder: Path, secured: P4RuntimeServer, toy: ToyEngine
) -> None:
    tls = Tls(ca=str(folder / "ca.pem"), listeners=("collector",))
    leaf = Switch("leaf1", 1, "softswitch", "edge", {}, tls)
    topology = Topology("t", {"leaf1": leaf}, {}, {}, {}, (), 1)
    at = {"leaf1": PipelineAddress(secured.address, 1)}
    inventory = Inventory("t", topology, at, (), str(folder))
    own = Access(certificate=f"{folder}/collector.pem", key=f"{folder}/collector.key")
    with LiveNetwork(inventory, own).listener("leaf1") as session:
        assert toy.events is not None
        toy.events.packet_in(p4r.PacketIn(payload=b"sample"))
        heard = session.packet_in(120)
        assert heard is not None
        assert heard.payload == b"sample"


@pytest.mark.parametrize(
    ("name", "role"),
    [("collector", ""), ("collector", "other"), ("worker", "worker"), ("worker", "")],
)
def test_a_certificate_takes_no_other_role(
    folder: Path, secured: P4RuntimeServer, name: str, role: str
) -> None:
    channel, calls = stub(folder, secured.address, name)
    with pytest.raises(grpc.RpcError) as error:
        next(calls.StreamChannel(iter([arbitration(role, 5)]), timeout=120))
    channel.close()
    told = f"the certificate of '{name}' may read this device, not change it"
    if name == "collector":
        told += "; it may listen in role 'collector'"
    assert (error.value.code(), error.value.details()) == (DENIED, told)  # type: ignore[attr-defined]


def test_listeners_take_no_controllers_place(folder: Path, secured: P4RuntimeServer) -> None:
    channel, calls = stub(folder, secured.address, "collector")
    streams = [
        calls.StreamChannel(_open(arbitration("collector", n)), timeout=120)
        for n in range(1, MAX_LISTENERS + 2)
    ]
    connections = secured.service.arbiter.connections
    eventually(lambda: len(connections) == MAX_LISTENERS)
    eventually(lambda: sum(s.done() for s in streams) == 1)
    (ended,) = (s for s in streams if s.done())
    assert ended.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert MAX_LISTENERS < MAX_CONNECTIONS
    with SwitchClient("s", secured.address, 1, tls=files(folder, "controller")) as controller:
        assert controller.is_primary
    channel.close()

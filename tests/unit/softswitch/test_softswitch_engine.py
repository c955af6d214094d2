"""Any engine stands behind the P4Runtime server, which knows nothing of one but the protocol.

Oracle: a toy engine in a file of its own, driven by the orchestrator's client over real gRPC.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from finsy.proto import p4i, p4r, p4r_grpc
from softswitch_client import Controller
from support import eventually
from toy_engine import ToyEngine

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import SwitchError, WriteRefused
from orchestrator.softswitch.engine import Engine
from orchestrator.softswitch.server import P4RuntimeServer

INFO = p4i.P4Info(
    tables=[p4i.Table(preamble=p4i.Preamble(id=0x02000001, name="toys", alias="toys"), size=8)]
)


@pytest.fixture
def toy() -> ToyEngine:
    return ToyEngine(9)


@pytest.fixture
def server(toy: ToyEngine) -> Iterator[P4RuntimeServer]:
    engine: Engine = toy
    made = P4RuntimeServer(engine, "127.0.0.1:0")
    made.start()
    yield made
    made.stop(0)


def entry(priority: int) -> p4r.Update:
    update = p4r.Update(type=p4r.Update.INSERT)
    update.entity.table_entry.table_id = INFO.tables[0].preamble.id
    update.entity.table_entry.priority = priority
    return update


def test_a_client_drives_an_engine_of_another_kind(server: P4RuntimeServer, toy: ToyEngine) -> None:
    with SwitchClient("toy", server.address, 9) as client:
        assert client.pipeline_cookie() is None
        with pytest.raises(SwitchError, match="INVALID_ARGUMENT: not a toy's program"):
            client.set_pipeline(INFO, b"tea", 5)
        assert not toy.configured
        client.set_pipeline(INFO, b"toy 1", 5)
        assert [c for c in toy.calls if c != "tick"] == ["save", "commit"]
        assert client.pipeline_cookie() == 5
        assert client.write([entry(1), entry(2)]) == 2
        with pytest.raises(WriteRefused, match="ALREADY_EXISTS"):
            client.write([entry(2)])
        asked = p4r.Entity(table_entry=p4r.TableEntry())
        assert [e.table_entry.priority for e in client.read_entities(asked)] == [1, 2]
        with pytest.raises(SwitchError, match="UNIMPLEMENTED: toys have entries only"):
            list(client.read_entities(p4r.Entity(meter_entry=p4r.MeterEntry())))
        assert client.drops() == {"toy_box_full": 2}
        eventually(lambda: "tick" in toy.calls)
        with SwitchClient("toy", server.address, 9):  # the later one is primary
            eventually(lambda: not client.is_primary)
            with pytest.raises(SwitchError, match="not primary any more"):
                client.write([entry(3)])
    assert len(toy.entries) == 2


def test_pipeline_actions_are_the_engines_two_steps(
    server: P4RuntimeServer, toy: ToyEngine
) -> None:
    kind = p4r.SetForwardingPipelineConfigRequest
    client = Controller(server.address, 4, 9)
    client.next()

    def ask(action: Any, program: bytes = b"toy") -> grpc.StatusCode:
        request = kind(device_id=9, election_id=client.id(), action=action)
        request.config.p4_device_config = program
        try:
            client.stub.SetForwardingPipelineConfig(request, timeout=120)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        return grpc.StatusCode.OK

    try:
        assert ask(kind.COMMIT) is grpc.StatusCode.FAILED_PRECONDITION
        assert ask(kind.VERIFY) is grpc.StatusCode.OK
        assert ask(kind.VERIFY_AND_SAVE, b"toy 1") is grpc.StatusCode.OK
        assert ask(kind.VERIFY_AND_SAVE, b"tea") is grpc.StatusCode.INVALID_ARGUMENT
        assert ask(kind.COMMIT) is grpc.StatusCode.OK
        assert toy.running == b"toy 1"
        assert ask(kind.RECONCILE_AND_COMMIT, b"toy 2") is grpc.StatusCode.OK
    finally:
        client.close()
    assert [c for c in toy.calls if c != "tick"] == ["save", "commit", "save", "reconcile"]


def test_packets_go_both_ways_and_a_fault_is_said_and_counted(
    server: P4RuntimeServer, toy: ToyEngine, caplog: pytest.LogCaptureFixture
) -> None:
    client = Controller(server.address, 4, 9)
    client.next()
    try:
        client.requests.put(p4r.StreamMessageRequest(packet=p4r.PacketOut(payload=b"ball")))
        assert client.next().packet.payload == b"ball"
        wrong = p4r.PacketOut(payload=b"x", metadata=[p4r.PacketMetadata(metadata_id=1)])
        client.requests.put(p4r.StreamMessageRequest(packet=wrong))
        error = client.next().error
        assert (error.canonical_code, error.message) == (3, "a toy has no metadata")
        ack = p4r.DigestListAck(digest_id=1, list_id=7)
        client.requests.put(p4r.StreamMessageRequest(digest_ack=ack))
        eventually(lambda: toy.acked == [7])
        client.requests.put(p4r.StreamMessageRequest(packet=p4r.PacketOut(payload=b"bug")))
        with pytest.raises(grpc.RpcError) as ended:
            client.next()
        assert ended.value.code() is grpc.StatusCode.INTERNAL  # type: ignore[attr-defined]
        channel = grpc.insecure_channel(server.address)
        _, call = p4r_grpc.P4RuntimeStub(channel).Capabilities.with_call(
            p4r.CapabilitiesRequest(), timeout=10
        )
        assert ("dropped-stream-fault", "1") in [(k, v) for k, v in call.trailing_metadata()]
        channel.close()
    finally:
        client.close()
    assert "a fault of the toy" in caplog.text


@pytest.mark.parametrize("module", ["server", "ir", "architectures.v1model"])
def test_what_engines_share_imports_nothing_of_the_python_engine(module: str) -> None:
    code = (
        f"import json, sys, orchestrator.softswitch.{module}\n"
        "print(json.dumps([m for m in sys.modules if m.startswith('orchestrator.softswitch.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[2] for name in json.loads(done.stdout)}
    assert loaded <= {
        *("server", "service", "arbitration", "secrecy", "engine", "entity_errors"),
        *("ir", "architectures"),
    }
    assert ("ir" in loaded) == (module == "ir")

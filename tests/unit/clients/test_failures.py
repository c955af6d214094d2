"""Refused updates, as a switch tells them that says as little as BMv2 does.

Oracle: the real codes and the real tables of the softswitch behind it. Texts: golden_errors/*.txt
(`pytest --rewrite-golden` rewrites them). Blind spot: what BMv2 really says (tests/emulated).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from finsy.proto import p4r, p4r_grpc, rpc_code, rpc_status
from google.protobuf import any_pb2

from orchestrator.clients.encoding import RawUpdate
from orchestrator.clients.p4info import Schema, clone_session_update
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import SwitchError, WriteRefused
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.softswitch.entity_errors import WriteError
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.service import P4RuntimeService
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.pipelines import SHIPPED, p4info

pytestmark = pytest.mark.slow

EDGE = SHIPPED.build("edge", "softswitch")
SCHEMA = Schema(p4info(EDGE))
INSERT, MODIFY, DELETE = p4r.Update.INSERT, p4r.Update.MODIFY, p4r.Update.DELETE
PORTS = SCHEMA.table("port.ports").size
GOLDEN = Path(__file__).parent / "golden_errors"
LOST = "received metadata size exceeds hard limit"


class Terse(P4RuntimeService):
    """Answers UNKNOWN for every refused update; without details, or with none that arrive."""

    details = True
    most_updates = 0
    """Refused updates of a batch whose details still fit; 0: any number."""
    batches: list[int]

    def Write(self, request: p4r.WriteRequest, context: Any) -> p4r.WriteResponse:
        """As BMv2: every update is tried, the refused ones are UNKNOWN."""
        self.batches.append(len(request.updates))
        try:
            self.engine.write(request.updates, lambda: None)
        except WriteError as error:
            refused = [e is not None for e in error.errors]
            if self.most_updates and sum(refused) > self.most_updates:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, LOST)
            if self.details:
                context.set_trailing_metadata((("grpc-status-details-bin", _status(refused)),))
            context.abort(grpc.StatusCode.UNKNOWN, "")
        return p4r.WriteResponse()


def _status(refused: Sequence[bool]) -> bytes:
    status = rpc_status.Status(code=rpc_code.UNKNOWN)
    for bad in refused:
        item = any_pb2.Any()
        item.Pack(
            p4r.Error(canonical_code=rpc_code.UNKNOWN if bad else 0, space="ALL-sswitch-p4org")
        )
        status.details.append(item)
    return status.SerializeToString()


@pytest.fixture
def service() -> Terse:
    made = Terse(PythonEngine(SoftSwitch(3, name="leaf1")))
    made.batches = []
    return made


@contextmanager
def serving(service: P4RuntimeService) -> Generator[SwitchClient]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_metadata_size", 1 << 20)])
    p4r_grpc.add_P4RuntimeServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with SwitchClient("leaf1", f"127.0.0.1:{port}", 3) as client:
            client.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie)
            yield client
    finally:
        server.stop(0)


@pytest.fixture
def client(service: Terse) -> Iterator[SwitchClient]:
    with serving(service) as opened:
        yield opened


def port(number: int, switch_id: int = 7) -> TableEntry:
    key = (("ingress_port", Exact(number)),)
    origin = f"link to h{number}"
    return TableEntry("port.ports", key, "port.host_facing", (("switch_id", switch_id),), 0, origin)


def updates(kind: int, *entries: TableEntry) -> list[RawUpdate]:
    return [RawUpdate(kind, SCHEMA.identified(entry, "campus")[1]) for entry in entries]


def wrong_action() -> RawUpdate:
    entity = SCHEMA.encode(port(1), "campus")
    entity.action.action.action_id = SCHEMA.actions["route.ipv4.unreachable"].id
    return RawUpdate.of(p4r.Update(type=INSERT, entity=p4r.Entity(table_entry=entity)))


def wrong_table() -> RawUpdate:
    entry = SCHEMA.encode(port(1), "campus")
    entry.table_id = 0x0212_3456
    return RawUpdate.of(p4r.Update(type=INSERT, entity=p4r.Entity(table_entry=entry)))


FULL = updates(INSERT, *map(port, range(PORTS)))
SESSION = clone_session_update(100, 510, (1, 2), INSERT)
CASES: dict[str, tuple[Sequence[RawUpdate | p4r.Update], Sequence[RawUpdate | p4r.Update]]] = {
    "doubled": (updates(INSERT, port(4)), updates(INSERT, port(3), port(4, 8), port(5))),
    "full": (FULL, updates(INSERT, port(PORTS + 1))),
    "not_there_to_delete": ([], updates(DELETE, port(9))),
    "not_there_to_change": ([], updates(MODIFY, port(9))),
    "action_of_another_table": ([], [wrong_action()]),
    "no_such_table": ([], [wrong_table()]),
    "priority_0": (
        [],
        updates(
            INSERT,
            TableEntry(
                "acl.ipv4", (("segment", Exact(1)),), "acl.ipv4.deny", (), 0, "fw: rules[7]"
            ),
        ),
    ),
    "session_doubled": ([SESSION], [SESSION]),
    "session_not_there": ([], [clone_session_update(100, 510, (1, 2), DELETE)]),
    "many": (FULL, updates(INSERT, *(port(n, 8) for n in range(20)))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("details", [True, False], ids=["details", "no-details"])
def test_golden(
    case: str, details: bool, service: Terse, client: SwitchClient, pytestconfig: pytest.Config
) -> None:
    """The same words whether the switch tells which updates failed or not."""
    before, tried = CASES[case]
    client.write(before)
    service.details = details
    with pytest.raises(WriteRefused) as caught:
        client.write(tried)
    file = GOLDEN / f"{case}.txt"
    text = str(caught.value) + "\n"
    if pytestconfig.getoption("--rewrite-golden"):
        file.write_text(text)
    assert text == file.read_text()


def test_offenders_are_found_when_details_do_not_arrive(
    service: Terse, client: SwitchClient
) -> None:
    service.most_updates = 3
    client.write(updates(INSERT, *(port(n, 8) for n in range(0, 200, 10))))
    with pytest.raises(WriteRefused) as caught:
        client.write(updates(INSERT, *map(port, range(200))))
    assert str(caught.value).count("is there already") == 5
    assert "and 15 more updates failed" in str(caught.value)
    assert all(f"[ingress_port {n}]" in str(caught.value) for n in range(0, 50, 10))
    there = {i.entry for i in client.entries("port.ports")}
    assert there == {port(n, 8 if n % 10 == 0 else 7) for n in range(200)}, "the others are done"


def test_without_details_the_same_entries_twice_cannot_be_told_apart(
    service: Terse, client: SwitchClient
) -> None:
    client.write(FULL)
    service.details = False
    with pytest.raises(SwitchError, match=r"writing 20 updates.*inserts what was there before"):
        client.write(FULL[:20])


def test_details_beyond_grpcs_own_limit_arrive(client: SwitchClient) -> None:
    """500 refused updates: far more than the 16 kB that gRPC takes unless told otherwise."""
    entries = [port(n) for n in range(500)]
    client.write(updates(INSERT, *entries))
    with pytest.raises(WriteRefused, match="and 495 more updates failed"):
        client.write(updates(INSERT, *entries))


def test_a_switch_that_is_gone_is_no_refusal(service: Terse) -> None:
    with serving(service) as client:
        channel_of = client.address
    with pytest.raises(SwitchError) as caught, SwitchClient("leaf1", channel_of, 3):
        pass
    assert not isinstance(caught.value, WriteRefused)

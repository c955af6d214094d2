"""SwitchClient against our own P4Runtime server, over real gRPC.

Blind spot: BMv2's server, which tests/emulated meets.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from edge_frames import FRAME, HOST_PORT, sampling
from finsy.proto import p4r
from support import eventually

from orchestrator.clients.encoding import InsertRun
from orchestrator.clients.p4info import clone_session_update
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import SwitchError, WriteRefused
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.pipelines import SHIPPED, p4info

pytestmark = pytest.mark.slow

EDGE = SHIPPED.build("edge", "softswitch")


@pytest.fixture
def switch() -> SoftSwitch:
    return SoftSwitch(3, name="leaf1")


@pytest.fixture
def server(switch: SoftSwitch) -> Iterator[P4RuntimeServer]:
    made = P4RuntimeServer(PythonEngine(switch), "127.0.0.1:0")
    made.start()
    yield made
    made.stop(0)


@pytest.fixture
def client(server: P4RuntimeServer) -> Iterator[SwitchClient]:
    with SwitchClient("leaf1", server_address(server), 3) as opened:
        opened.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie)
        yield opened


def server_address(server: P4RuntimeServer) -> str:
    return server.address


def port_entry(port: int) -> TableEntry:
    return TableEntry(
        "port.ports",
        (("ingress_port", Exact(port)),),
        "port.host_facing",
        (("switch_id", 7),),
        0,
        f"link to h{port}",
    )


def insert(client: SwitchClient, *entries: TableEntry, batch: int = 500) -> int:
    assert client.schema is not None
    updates = client.schema.updates(entries, "campus", p4r.Update.INSERT)
    return client.write(updates, batch=batch)


class TestPipeline:
    def test_a_new_switch_has_none(self, server: P4RuntimeServer) -> None:
        with SwitchClient("leaf1", server_address(server), 3) as client:
            assert client.pipeline_cookie() is None
            client.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie)
            assert client.pipeline_cookie() == EDGE.cookie

    def test_the_cookie_brings_the_names(
        self, server: P4RuntimeServer, client: SwitchClient
    ) -> None:
        insert(client, port_entry(1))
        with SwitchClient("leaf1", server_address(server), 3) as other:
            other.pipeline_cookie()
            assert [i.entry for i in other.entries("port.ports")] == [port_entry(1)]

    def test_a_bad_config_is_told(self, client: SwitchClient) -> None:
        with pytest.raises(SwitchError, match="leaf1: loading the pipeline: INVALID_ARGUMENT"):
            client.set_pipeline(p4info(EDGE), b"no json", 1)


class TestEntries:
    def test_written_and_read_with_counters(self, client: SwitchClient, switch: SoftSwitch) -> None:
        assert insert(client, *(port_entry(port) for port in range(1, 8)), batch=3) == 7
        installed = {i.entry.keys[0][1]: i for i in client.entries("port.ports")}
        assert len(installed) == 7
        assert {i.graph for i in installed.values()} == {"campus"}
        assert installed[Exact(1)].packets == 0
        switch.process(1, FRAME)
        (one,) = (i for i in client.entries() if i.entry == port_entry(1))
        assert (one.packets, one.bytes) == (1, len(FRAME))

    def test_progress_is_reported_by_batch(self, client: SwitchClient) -> None:
        assert client.schema is not None
        entries = [port_entry(port) for port in range(1, 8)]
        told: list[int] = []
        updates = client.schema.updates(entries, "campus", p4r.Update.INSERT)
        client.write(updates, batch=3, progress=told.append)
        assert told == [3, 3, 1]

    def test_serialised_ones_among_others(self, client: SwitchClient) -> None:
        """In batches of their own, cut to size, in order."""
        assert client.schema is not None
        ready = client.schema.inserts([port_entry(port) for port in range(1, 8)], "campus")
        told: list[int] = []
        session = clone_session_update(100, 510, (1, 2), p4r.Update.INSERT)
        alone = list(client.schema.updates([port_entry(9)], "campus", p4r.Update.INSERT))
        updates = [session, InsertRun(ready, 0, 5), InsertRun(ready, 6, 7), *alone]
        assert client.write(updates, batch=3, progress=told.append) == 8
        assert told == [1, 3, 2, 1, 1]
        ports = sorted(key.value for i in client.entries() for _, key in i.entry.keys)  # type: ignore[union-attr]
        assert ports == [1, 2, 3, 4, 5, 7, 9]


class TestErrors:
    """Not UNKNOWN: which entry of which table, of which graph, from which rule, and why."""

    def test_a_doubled_entry(self, client: SwitchClient) -> None:
        insert(client, port_entry(4))
        with pytest.raises(SwitchError) as caught:
            insert(client, port_entry(3), port_entry(4), port_entry(5))
        text = str(caught.value)
        assert text.startswith("leaf1: insert port.ports [ingress_port 4] -> port.host_facing(")
        for part in ("graph campus", "link to h4", "ALREADY_EXISTS"):
            assert part in text
        assert "link to h3" not in text
        left = sorted(i.entry.keys[0][1].value for i in client.entries("port.ports"))  # type: ignore[union-attr]
        assert left == [3, 4, 5], "the others of the batch are installed"

    def test_a_doubled_entry_in_serialised_ones(self, client: SwitchClient) -> None:
        assert client.schema is not None
        insert(client, port_entry(4))
        ready = client.schema.inserts([port_entry(port) for port in range(8)], "campus")
        with pytest.raises(WriteRefused, match=r"\[ingress_port 4\].*link to h4.*ALREADY_EXISTS"):
            client.write([InsertRun(ready, 2, 6)])

    def test_an_entry_that_is_not_there(self, client: SwitchClient) -> None:
        assert client.schema is not None
        updates = client.schema.updates([port_entry(9)], "campus", p4r.Update.DELETE)
        with pytest.raises(SwitchError, match=r"delete port\.ports .*link to h9.*NOT_FOUND"):
            client.write(updates)

    def test_priority_0(self, client: SwitchClient) -> None:
        entry = TableEntry(
            "acl.ipv4", (("segment", Exact(1)),), "acl.ipv4.deny", (), 0, "fw: rules[7]"
        )
        with pytest.raises(
            SwitchError,
            match=r"acl\.ipv4.*graph campus, NF fw, rules\).*INVALID_ARGUMENT.*priority",
        ):
            insert(client, entry)

    def test_a_full_table(self, client: SwitchClient) -> None:
        ports = client.schema.tables["port.ports"].size  # type: ignore[union-attr]
        insert(client, *(port_entry(port) for port in range(ports - 1)))
        extra = [port_entry(ports - 1), port_entry(ports)]
        with pytest.raises(
            SwitchError, match=r"port\.ports.*(RESOURCE_EXHAUSTED|INVALID_ARGUMENT)"
        ):
            insert(client, *extra)

    def test_something_else_than_a_table_entry(self, client: SwitchClient) -> None:
        update = clone_session_update(100, 510, (1, 2), p4r.Update.DELETE)
        with pytest.raises(SwitchError, match=r"leaf1: delete clone session 100.*NOT_FOUND"):
            client.write([update])

    def test_a_long_batch_of_failures_still_has_words(self, client: SwitchClient) -> None:
        entries = [port_entry(port) for port in range(400)]
        insert(client, *entries)
        with pytest.raises(SwitchError, match="ALREADY_EXISTS"):
            insert(client, *entries)

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(SwitchError, match=rf"leaf9: .*{address}"),
            SwitchClient("leaf9", address, 3),
        ):
            pass

    def test_another_device(self, server: P4RuntimeServer) -> None:
        with (
            pytest.raises(SwitchError, match="leaf1: "),
            SwitchClient("leaf1", server_address(server), 4),
        ):
            pass


class TestArbitration:
    def test_the_later_client_wins(self, server: P4RuntimeServer, client: SwitchClient) -> None:
        with SwitchClient("leaf1", server_address(server), 3) as later:
            later.pipeline_cookie()
            insert(later, port_entry(1))
            with pytest.raises(SwitchError, match="is not primary any more, so it writes nothing"):
                insert(client, port_entry(2))
            assert [i.entry for i in client.entries()] == [port_entry(1)], "reading is for all"

    def test_and_leaves_its_place(self, server: P4RuntimeServer, client: SwitchClient) -> None:
        with SwitchClient("leaf1", server_address(server), 3):
            pass
        with SwitchClient("leaf1", server_address(server), 3) as third:
            third.pipeline_cookie()
            insert(third, port_entry(1))

    def test_a_client_that_cannot_be_primary_says_so(self, server: P4RuntimeServer) -> None:
        with SwitchClient("leaf1", server_address(server), 3) as first:
            earlier = first._election - 1
            second = SwitchClient("leaf1", server_address(server), 3, election_id=earlier)
            with pytest.raises(SwitchError, match=r"leaf1: .*primary"):
                second.open()


def test_packets_come_up_with_names(switch: SoftSwitch, client: SwitchClient) -> None:
    insert(client, port_entry(HOST_PORT), *sampling())
    client.write([clone_session_update(100, 510, (1, 2), p4r.Update.INSERT)])
    switch.process(HOST_PORT, FRAME)
    packet = eventually(lambda: client.packet_in(0.1), what="a packet-in")
    assert packet.metadata["ingress_port"] == HOST_PORT
    assert packet.metadata["reason"] == 1
    assert packet.metadata["label"] > 0
    assert packet.payload == FRAME
    assert client.packet_in(0) is None

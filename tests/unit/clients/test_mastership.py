"""P4Runtime arbitration (5): terms decide, a backup takes over, a lost primary never writes.

Oracle: what our own switch then holds. BMv2's arbitration is met in tests/emulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from finsy.proto import p4r
from support import eventually

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.errors import LeadershipLost, MastershipLost, ServerError, SwitchError
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.pipelines import SHIPPED, p4info
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker

pytestmark = pytest.mark.slow

EDGE = SHIPPED.build("edge", "softswitch")


@pytest.fixture
def server() -> Iterator[P4RuntimeServer]:
    made = P4RuntimeServer(PythonEngine(SoftSwitch(3, name="leaf1")), "127.0.0.1:0")
    made.start()
    with SwitchClient("leaf1", made.address, 3) as client:
        client.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie)
    yield made
    made.stop(0)


def in_term(server: P4RuntimeServer, term: int, number: int = 0) -> SwitchClient:
    return SwitchClient("leaf1", server.address, 3, election_id=term << 64 | number)


def write(client: SwitchClient, *ports: int, batch: int = 500) -> None:
    if client.schema is None:
        client.pipeline_cookie()
    assert client.schema is not None
    entries = [
        TableEntry(
            "port.ports",
            (("ingress_port", Exact(port)),),
            "port.host_facing",
            (("switch_id", 7),),
            0,
            f"port {port}",
        )
        for port in ports
    ]
    client.write(client.schema.updates(entries, "g", p4r.Update.INSERT), batch=batch)


def ports(server: P4RuntimeServer) -> list[int]:
    with SwitchClient("leaf1", server.address, 3, primary=False) as reader:
        reader.pipeline_cookie()
        keys = [dict(row.entry.keys)["ingress_port"] for row in reader.entries("port.ports")]
    return sorted(key.value for key in keys if isinstance(key, Exact))


def test_the_later_term_wins_whatever_the_clock_says(server: P4RuntimeServer) -> None:
    with in_term(server, 2) as leader:
        with pytest.raises(SwitchError, match="leaf1: another controller is primary"):
            in_term(server, 1, (1 << 64) - 1).open()
        with pytest.raises(SwitchError, match="leaf1: another controller is primary"):
            SwitchClient("leaf1", server.address, 3).open()
        write(leader, 1)
        with in_term(server, 2, 1) as same_leader:
            write(same_leader, 2)
    assert ports(server) == [1, 2]


def test_a_lost_primary_never_writes_again(server: P4RuntimeServer) -> None:
    with in_term(server, 1) as deposed:
        with in_term(server, 2) as leader:
            write(leader, 1)
            with pytest.raises(
                MastershipLost, match="is not primary any more, so it writes nothing"
            ):
                write(deposed, 2)
        # The switch promotes who is left; that one has missed changes, and must not write on.
        eventually(lambda: deposed.is_primary, what="promotion by the switch")
        with pytest.raises(MastershipLost):
            write(deposed, 2)
        with pytest.raises(MastershipLost):
            deposed.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie)
    assert ports(server) == [1]


def test_the_switch_refuses_whoever_has_not_heard_of_it(server: P4RuntimeServer) -> None:
    with in_term(server, 1) as deposed, in_term(server, 2):
        eventually(lambda: not deposed.is_primary)
        for action in (
            lambda: write(deposed, 2),
            lambda: deposed.set_pipeline(p4info(EDGE), EDGE.device_config, EDGE.cookie),
        ):
            deposed._primary.set()
            deposed._deposed = False  # as if the news were still on their way
            with pytest.raises(MastershipLost):
                action()
            deposed._primary.set()
            with pytest.raises(MastershipLost):
                write(deposed, 3)
    assert ports(server) == []


def test_a_backup_takes_over(server: P4RuntimeServer) -> None:
    leader = in_term(server, 4)
    leader.open()
    with in_term(server, 1).standing_by(1 << 64) as backup:
        assert not backup.is_primary
        write(leader, 1)
        leader.close()
        eventually(lambda: backup.is_primary, what="the backup to be primary")
        write(backup, 2)
    assert ports(server) == [1, 2]


def test_leadership_is_asked_for_before_every_batch(server: P4RuntimeServer) -> None:
    asked = 0

    def may_write() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise LeadershipLost("another leads")

    guarded = SwitchClient("leaf1", server.address, 3, may_write=may_write)
    with guarded, pytest.raises(LeadershipLost):
        write(guarded, 1, 2, 3, 4, batch=1)
    assert ports(server) == [1]  # asked once before all, then before each


def test_a_broken_stream_ends_mastership(server: P4RuntimeServer) -> None:
    with in_term(server, 1) as client:
        write(client, 1)
        server.stop(0)
        eventually(lambda: not client.is_primary)
        with pytest.raises(MastershipLost):
            write(client, 2)


def test_workers_refuse_a_deposed_controller_too(tmp_path: Path) -> None:
    server, _, address = serve(Worker("w", 1), f"unix:{tmp_path}/w.sock")
    acl = {"acl": ("acl", {"rules": [], "default": "permit"})}

    def as_of(election_id: int | None) -> WorkerClient:
        return WorkerClient("w", address, election_id=election_id)

    try:
        with as_of(1 << 64) as deposed, as_of(2 << 64) as leader, as_of(None) as stranger:
            deposed.configure("g", acl, None)
            leader.remove_graph("g")
            with pytest.raises(ServerError, match="PERMISSION_DENIED: a later controller"):
                deposed.configure("g", acl, None)
            assert not leader.status().nfs
            assert not deposed.status().nfs, "reading is for all"
            with pytest.raises(ServerError, match="PERMISSION_DENIED: a later controller"):
                stranger.configure("g", acl, None)  # its id comes from the clock
            leader.remove_graph("g")
    finally:
        server.stop(0).wait()

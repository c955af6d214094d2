"""Who only reads takes no primacy; what the sessions' errors say.

Oracle: a controller that can (or cannot) still write.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from finsy.proto import p4r
from inspection_support import PROGRAMS, foreign, served, served_leaf1
from support import eventually

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import InputError, SwitchError
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.observation.sessions import at_address, read_rows
from orchestrator.observation.shell import GUARD_ELECTION_ID, READER_ELECTION_ID, shell_argv
from orchestrator.softswitch.python_engine import PythonEngine
from orchestrator.softswitch.server import P4RuntimeServer

pytestmark = pytest.mark.slow

PORT = TableEntry(
    "port.ports", (("ingress_port", Exact(77)),), "port.host_facing", (("switch_id", 1),), 0, "t"
)


def test_reading_leaves_the_primary_its_place() -> None:
    with served_leaf1() as address, SwitchClient("leaf1", address, 1) as primary:
        primary.pipeline_cookie()
        with at_address("leaf1", address, 1) as reader:
            rows = read_rows(reader, ["port.ports"])
            assert len(rows) == 5
            with pytest.raises(SwitchError, match="reading only"):
                reader.write([])
        assert primary.schema is not None
        primary.write(primary.schema.updates([PORT], "", p4r.Update.INSERT))


def test_a_low_election_id_fails_beside_a_controller_and_a_guard_stands_by() -> None:
    with served_leaf1() as address:
        with SwitchClient("leaf1", address, 1) as primary:
            with pytest.raises(SwitchError):
                SwitchClient("leaf1", address, 1, election_id=1).open()
            with SwitchClient("leaf1", address, 1).standing_by(GUARD_ELECTION_ID) as guard:
                assert primary.is_primary
                assert not guard.is_primary
        with SwitchClient("leaf1", address, 1).standing_by(GUARD_ELECTION_ID) as guard:
            eventually(lambda: guard.is_primary)
            with pytest.raises(SwitchError):
                SwitchClient("leaf1", address, 1, election_id=READER_ELECTION_ID).open()


def test_no_switch_at_an_address_is_said_in_words() -> None:
    client = at_address("gone", "127.0.0.1:1", 1)
    client.connect_seconds = 0.3
    with pytest.raises(SwitchError, match=r"gone: no answer from 127\.0\.0\.1:1"):
        client.open()
    for wrong in ("nowhere", "unix:", ":9559", "127.0.0.1:"):
        with pytest.raises(InputError, match="HOST:PORT or unix:PATH"):
            at_address("s", wrong, 1)


def test_a_switch_on_a_socket_is_read(tmp_path: Path) -> None:
    soft, info = foreign("externs")
    server = P4RuntimeServer(PythonEngine(soft), f"unix:{tmp_path}/s.sock")
    server.preload((PROGRAMS / "externs.json").read_bytes(), info)
    server.start()
    try:
        with at_address("s", server.address, 7) as client:
            assert read_rows(client) == []
        told = r"^s: no answer from unix:/.*/t\.sock \(No such file or directory\)"
        with pytest.raises(SwitchError, match=told):
            at_address("s", f"unix:{tmp_path}/t.sock", 7).open()
    finally:
        server.stop(0)


def test_a_wrong_device_id_is_said_in_words() -> None:
    with (
        served_leaf1() as address,
        SwitchClient("leaf1", address, 9, primary=False) as client,
        pytest.raises(SwitchError, match="device 9 is not here"),
    ):
        client.pipeline_cookie()


def test_action_profiles_of_foreign_switches_are_shown() -> None:
    soft, info = foreign("externs")
    with served(soft) as server:
        server.preload((PROGRAMS / "externs.json").read_bytes(), info)
        with SwitchClient("x", server.address, 7) as client:
            client.pipeline_cookie()
            assert client.schema is not None
            table = client.schema.tables["ig.profiled"]
            member = p4r.Update(type=p4r.Update.INSERT)
            profile = next(p for p in info.action_profiles if table.id in p.table_ids)
            member.entity.action_profile_member.action_profile_id = profile.preamble.id
            member.entity.action_profile_member.member_id = 3
            forward = next(a for a in info.actions if a.preamble.name == "ig.forward")
            action = member.entity.action_profile_member.action
            action.action_id = forward.preamble.id
            action.params.add(param_id=1, value=b"\x02")
            entry = p4r.Update(type=p4r.Update.INSERT)
            entry.entity.table_entry.table_id = table.id
            match = entry.entity.table_entry.match.add(field_id=1)
            match.exact.value = b"\x05"
            entry.entity.table_entry.action.action_profile_member_id = 3
            client.write([member, entry])
            rows = read_rows(client, ["ig.profiled"])
    assert [row.entry.action for row in rows] == ["member 3"]


def test_the_shell_never_gets_a_pipeline() -> None:
    argv = shell_argv(Path("/venv/python"), "127.0.0.1:9559", 2, READER_ELECTION_ID)
    assert "--config" not in argv
    assert argv[argv.index("--election-id") + 1] == "0,1"
    big = shell_argv(Path("/venv/python"), "127.0.0.1:9559", 2, (5 << 64) + 7)
    assert big[big.index("--election-id") + 1] == "5,7"
    assert READER_ELECTION_ID < GUARD_ELECTION_ID

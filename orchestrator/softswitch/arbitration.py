"""Controllers' streams: who is primary of each role, and how many streams there may be.

A stream takes a thread of the server for as long as it is open. Those that have said who they are
(arbitrated) are bounded by `MAX_CONNECTIONS`; of those that have not, only the `MAX_UNDECIDED` latest
stay, for `UNDECIDED_S` at most: so nobody who just opens streams keeps a controller out, or takes
the threads that other calls need.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
from finsy.proto import p4r, rpc_code

from orchestrator.softswitch.entity_errors import EntityError

MAX_CONNECTIONS = 16
"""Streams of clients that may change the device: those that may not take no place of theirs."""
MAX_LISTENERS = 8
"""Streams beside those of clients whose certificate only lets them listen."""
MAX_UNDECIDED = 8
UNDECIDED_S = 5.0
"""How long a stream may be open without a first arbitration message."""
MAX_QUEUED = 8192
"""Stream messages queued for one controller; more (it does not read) are dropped."""


class ControllerStream:
    """A controller's stream; `queue` feeds the thread that writes it, None ends it."""

    __slots__ = (
        "election_id",
        "failure",
        "ident",
        "listens_as",
        "opened",
        "queue",
        "refusal",
        "role",
    )

    _idents = itertools.count(1)

    def __init__(self, refusal: str = "", listens_as: str = "") -> None:
        self.ident = next(self._idents)
        self.refusal = refusal
        """Why this client may change nothing, empty if it may."""
        self.listens_as = listens_as
        """The one role in which it may listen all the same, empty if in none."""
        self.opened = 0.0
        self.election_id: int | None = None
        self.role = ""
        self.queue: queue.SimpleQueue[p4r.StreamMessageResponse | None] = queue.SimpleQueue()
        self.failure: tuple[grpc.StatusCode, str] | None = None

    def send(self, message: p4r.StreamMessageResponse) -> bool:
        """Queue a message; False when the controller does not read and it is dropped."""
        if self.queue.qsize() >= MAX_QUEUED:
            return False
        self.queue.put(message)
        return True

    def end(self, code: grpc.StatusCode, why: str) -> None:
        self.failure = (code, why)
        self.queue.put(None)


class Arbiter:
    """Who is primary of each role: the stream with the highest election id (P4Runtime, 5).

    The empty role is the default one, with access to everything. Other roles have no configuration
    (5.3: that is full access), so they may write and read everything too, but not set the pipeline;
    what they should leave alone is for controllers to agree on. A client that may change nothing
    takes the one role that it may listen in, or none. Each role's primary hears packets, digests
    and idle timeouts.
    """

    def __init__(self, device_id: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.device_id = device_id
        self.connections: list[ControllerStream] = []
        self.undecided: list[ControllerStream] = []
        """Open streams without an arbitration message yet, the oldest first."""
        self.lock = threading.Lock()
        self.dropped = 0
        """Stream messages for no primary."""
        self.overflowed = 0
        """Stream messages that a primary did not read in time."""
        self._clock = clock

    def enter(self, connection: ControllerStream) -> None:
        """A stream has been opened; of too many that wait, the oldest is ended."""
        connection.opened = self._clock()
        with self.lock:
            self.undecided.append(connection)
            extra = self.undecided[:-MAX_UNDECIDED]
            del self.undecided[:-MAX_UNDECIDED]
        for old in extra:
            old.end(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"more than {MAX_UNDECIDED} streams wait without an arbitration message: "
                "the oldest is ended",
            )

    def end_idle(self) -> None:
        """End the streams that have not arbitrated in time."""
        latest = self._clock() - UNDECIDED_S
        with self.lock:
            late = [c for c in self.undecided if c.opened <= latest]
            self.undecided = [c for c in self.undecided if c.opened > latest]
        for connection in late:
            connection.end(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"no arbitration message within {UNDECIDED_S:g} s of opening the stream",
            )

    def of_role(self, role: str) -> list[ControllerStream]:
        """The role's streams, the primary first."""
        return [c for c in self.connections if c.role == role]

    def primary(self, role: str = "") -> ControllerStream | None:
        return next((c for c in self.connections if c.role == role), None)

    def refusal(self, request: Any) -> str:
        """Why a changing call may not pass: only those with the primary's election id do. Or empty.

        PI also takes calls without an election id as long as there is no stream: not here
        (docs/decisions/0060).
        """
        if not request.HasField("election_id"):
            return "Not primary: the call has no election id; open a stream and say its id"
        with self.lock:
            primary = self.primary(request.role)
            wanted = request.election_id.high << 64 | request.election_id.low
            if primary is not None and primary.election_id == wanted:
                return ""
            return "Not primary"

    def arbitrate(self, connection: ControllerStream, m: p4r.MasterArbitrationUpdate) -> None:
        """Take a stream's election id in; tells the streams that need to know."""
        role = m.role.name
        if connection.refusal and (not role or role != connection.listens_as):
            where = f"; it may listen in role '{connection.listens_as}'" * bool(
                connection.listens_as
            )
            raise EntityError(rpc_code.PERMISSION_DENIED, connection.refusal + where)
        if m.role.HasField("config"):
            raise EntityError(
                rpc_code.INVALID_ARGUMENT,
                f"role '{role}': no kind of role configuration is known here (valid: none, which "
                "is full access)",
            )
        election_id = m.election_id.high << 64 | m.election_id.low
        with self.lock:
            connected = connection in self.connections
            if not connected and connection not in self.undecided:
                return  # it has been ended
            if connected and connection.role != role:
                raise EntityError(
                    rpc_code.FAILED_PRECONDITION,
                    f"this stream has role '{connection.role}' and cannot change to '{role}'; "
                    "open another stream",
                )
            if connected and connection.election_id == election_id:
                self.notify(connection)
                return
            if any(
                c is not connection and c.election_id == election_id for c in self.of_role(role)
            ):
                raise EntityError(
                    rpc_code.INVALID_ARGUMENT,
                    f"election id {election_id} is in use by another controller of device "
                    f"{self.device_id}; choose another",
                )
            if not connected:
                self._check_room(connection)
            was_primary = connected and self.primary(role) is connection
            if not connected:
                self.undecided.remove(connection)
                connection.role = role
                self.connections.append(connection)
            connection.election_id = election_id
            self.connections.sort(key=lambda c: -(c.election_id or 0))
            if (self.primary(role) is connection) != was_primary:
                for c in self.of_role(role):
                    self.notify(c)
            else:
                self.notify(connection)

    def _check_room(self, connection: ControllerStream) -> None:
        listens = bool(connection.refusal)
        most, who = (MAX_LISTENERS, "listeners") if listens else (MAX_CONNECTIONS, "controllers")
        if sum(bool(c.refusal) == listens for c in self.connections) >= most:
            raise EntityError(
                rpc_code.RESOURCE_EXHAUSTED, f"{most} {who} are connected, no more are accepted"
            )

    def leave(self, connection: ControllerStream) -> None:
        """A stream has ended."""
        with self.lock:
            if connection in self.undecided:
                self.undecided.remove(connection)
            if connection not in self.connections:
                return
            was_primary = self.primary(connection.role) is connection
            self.connections.remove(connection)
            if was_primary:
                for c in self.of_role(connection.role):
                    self.notify(c)

    def notify(self, connection: ControllerStream) -> None:
        primary = self.primary(connection.role)
        assert primary is not None
        assert primary.election_id is not None
        update = p4r.MasterArbitrationUpdate(device_id=self.device_id)
        if connection.role:
            update.role.name = connection.role
        update.election_id.high = primary.election_id >> 64
        update.election_id.low = primary.election_id & 0xFFFFFFFFFFFFFFFF
        if connection is primary:
            update.status.code = rpc_code.OK
            update.status.message = "Is primary"
        else:
            update.status.code = rpc_code.ALREADY_EXISTS
            update.status.message = "Is backup"
        connection.send(p4r.StreamMessageResponse(arbitration=update))

    def to_primaries(self, message: p4r.StreamMessageResponse) -> None:
        """To the primary of every role; counted as dropped if there is none."""
        with self.lock:
            roles = {c.role for c in self.connections}
            primaries = [p for role in roles if (p := self.primary(role)) is not None]
        if not primaries:
            self.dropped += 1
        for primary in primaries:
            if not primary.send(message):
                self.overflowed += 1

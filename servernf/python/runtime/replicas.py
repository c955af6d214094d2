"""Replications at their primary: a standby has what packets have changed before others see them.

What leaves in a batch waits in a queue until the standby has acknowledged as much as the variant asks
for, and while it has not answered for a while: a primary that was only asleep sends nothing once its
standby owns the scope. A thread of each replication asks the data path's for what has changed
(`jobs`), and pushes it; where no thread treats packets, whoever does pushes at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from servernf.proto import vnf_pb2 as vnf
from servernf.python.packet import TCP, PacketView
from servernf.python.runtime.arrivals import Arrivals, TransferHost, buckets_of
from servernf.python.runtime.changed import Changed, ChangedRecords
from servernf.python.runtime.errors import NotFound, Unreachable
from servernf.python.runtime.gates import Gate
from servernf.python.runtime.standbys import LEASE_US, Standbys
from servernf.python.runtime.tables import Instance
from servernf.python.runtime.tag import TAG_BYTES
from servernf.python.runtime.transfers import Dial
from servernf.python.scope import Buckets
from servernf.python.variants import check_variant
from servernf.wire.configs import config_digest
from servernf.wire.errors import InputError, ServerError, quoted
from servernf.wire.variants import ON_SYN_FIN, PER_N, PER_PACKET

PERIOD_US = 100_000
"""What has changed is sent after so long at the latest, and the standby is asked whether it is there."""
PATIENCE_US = 2_000_000
"""So long packets wait for a standby that does not answer; then the primary goes on alone."""
EVERY = 256
_MOST_ID = 64
_MOST_ENDED = 256
"""Replications that are over and still told of."""
_MOST_WAITING = 65_536
_FIN_SYN_RST = 7
_AGAIN_S = 0.02
FOLLOWING, FENCED = "following", "fenced"


class _Fenced(Exception):
    """The standby has been promoted."""


class Replica:
    """A replication at its primary."""

    def __init__(self, request: vnf.ReplicateRequest, dial: Dial, now_us: int) -> None:
        self.id, self.variant = request.id, request.variant
        self.every = request.every or EVERY
        self.nfs, self.buckets = frozenset(request.nfs), buckets_of(request.scope)
        self.secret = request.secret
        self.redial = lambda: dial(request.destination, request.destination_name)
        self.peer = self.redial()
        self.told = vnf.ReplicateResponse(state="copying")
        self.changed: list[Changed] = []
        self.gate = Gate(self.nfs, self.buckets, self._drops, follows=True)
        self.heard_us = now_us
        """When it was asked what was answered last."""
        self.acked = 0
        """Updates of so many packets of the worker are at the standby."""
        self.unsent: vnf.StateDelta | None = None
        """What was sent, and not answered."""
        self.asked = threading.Event()
        self.over = threading.Event()

    def _drops(self, frame: bytes) -> bool:
        self.told.dropped += 1
        return True

    @property
    def is_following(self) -> bool:
        """Whether packets wait for it."""
        return self.told.state == FOLLOWING

    @property
    def is_dirty(self) -> bool:
        """Whether there is something to send."""
        return self.unsent is not None or any(changed.is_dirty for changed in self.changed)

    def needed(self, total: int, opens: bool) -> int:
        """How much must be acknowledged before what leaves in a batch does, which ends with `total`."""
        if self.variant == PER_PACKET or (self.variant == ON_SYN_FIN and opens):
            return total
        return total - self.every if self.variant == PER_N else 0

    def wants(self, total: int, opens: bool) -> bool:
        """Whether to send at once, and not only by time."""
        if self.variant == PER_N:
            return total - self.acked >= (self.every + 1) // 2
        return self.needed(total, opens) > self.acked

    def opened(self) -> bool:
        """Whether records have come or gone since this was last asked."""
        opened = any(changed.opened for changed in self.changed)
        for changed in self.changed:
            changed.opened = False
        return opened

    def lease_holds(self, now_us: int) -> bool:
        """Whether the standby has certainly not begun to send."""
        return now_us - self.heard_us < LEASE_US

    def chunk(self, now_us: int) -> vnf.StateDelta | None:
        """The next part of what has been gathered."""
        for changed in self.changed:
            chunk = changed.chunk(now_us)
            if chunk is not None:
                return vnf.StateDelta(nfs=[chunk])
        return None

    def tell(self, part: vnf.PushStateRequest) -> vnf.PushStateResponse:
        """Send a part to the standby."""
        part.id, part.secret = self.id, self.secret
        return self.peer.push_state(part)

    def push(self, delta: vnf.StateDelta, now_us: int) -> None:
        """Send a part, or ask whether the standby is there."""
        self.unsent = delta
        answer = self.tell(vnf.PushStateRequest(delta=delta))
        if answer.promoted:
            raise _Fenced
        self.unsent = None
        self.heard_us = max(self.heard_us, now_us)
        self.told.pushes += 1
        self.told.records += answer.records


class _Waiting(NamedTuple):
    """Frames to send once these replications have acknowledged so much."""

    frames: list[bytes]
    needs: list[tuple[Replica, int]]


class Replicas:
    """Those whose primary is one worker; its standbys of others' are `standbys`."""

    def __init__(self, host: TransferHost, arrivals: Arrivals) -> None:
        self._host, self._arrivals = host, arrivals
        self.standbys = Standbys(host, arrivals)
        self.all: dict[str, Replica] = {}
        self.total = 0
        """Packets that have come since there are replications."""
        self.is_under_way = False
        """Whether `after` has to be asked what leaves."""
        self._waiting: deque[_Waiting] = deque()
        self._frames = 0
        self._packet = PacketView()

    # Calls.

    def pushed(self, request: vnf.PushStateRequest, by: str = "") -> vnf.PushStateResponse:
        """pushState: a part of a replication, or of a transfer; `by`: as `Arrivals.pushed`."""
        standbys = self.standbys
        is_mine = request.WhichOneof("part") in ("follow", "delta")
        if is_mine or standbys.told(request.id) is not None:
            return self._host.jobs.do(lambda: standbys.pushed(request, by))
        return self._arrivals.pushed(request, by)

    def replicate(self, request: vnf.ReplicateRequest, dial: Dial) -> vnf.ReplicateResponse:
        """replicate: one phase of it."""
        if not 1 <= len(request.id.encode()) <= _MOST_ID:
            raise InputError(f"id: must have 1 to {_MOST_ID} bytes, not {len(request.id.encode())}")
        self._host.jobs.do(self._host.gates.fetch)
        if request.phase == vnf.ReplicateRequest.PROMOTE:
            return self.standbys.promote(request.id)
        replica = self.all.get(request.id)
        if request.phase == vnf.ReplicateRequest.START:
            if replica is not None and replica.told.state in ("copying", FOLLOWING):
                return self._told(replica)
            return self._start(request, dial)
        if request.phase == vnf.ReplicateRequest.STOP:
            if replica is not None:
                self._stop(replica)
                return replica.told
            self._host.jobs.do(lambda: self.standbys.forget(request.id))
        if replica is not None:
            return self._told(replica)
        return self.standbys.told(request.id) or vnf.ReplicateResponse(state="none")

    def listed(self) -> dict[str, vnf.ReplicateResponse]:
        """How all that are not forgotten are, by id."""
        mine = {name: self._told(replica) for name, replica in list(self.all.items())}
        return self.standbys.listed() | mine

    def _told(self, replica: Replica) -> vnf.ReplicateResponse:
        replica.told.behind = max(0, self.total - replica.acked) if replica.is_dirty else 0
        return replica.told

    def _start(self, request: vnf.ReplicateRequest, dial: Dial) -> vnf.ReplicateResponse:
        check_variant("replicate", request.variant)
        if not request.nfs:
            raise InputError("nfs: name at least one NF instance")
        instances = self._host.instances
        for name in request.nfs:
            if name not in instances:
                names = ", ".join(sorted(instances))
                raise NotFound(f"nfs: no NF instance '{name}' (known: {names})")
        jobs = self._host.jobs
        replica = Replica(request, dial, self._host.now_us())
        jobs.do(lambda: self._enlist(replica))
        try:
            opening = vnf.PushStateRequest()
            opening.follow.scope.CopyFrom(request.scope)
            opening.follow.variant = request.variant
            for name in dict.fromkeys(request.nfs):
                mine = instances[name]
                digest = config_digest(mine.config_json)
                opening.follow.nfs.add(name=name, type=mine.type_name, config_digest=digest)
            if replica.tell(opening).promoted:
                raise InputError(f"id: {quoted(request.id)} has been promoted at its standby")
            for changed in replica.changed:
                while jobs.do(changed.scan):
                    self._send(replica, jobs.do(lambda: self._gathered(replica)))
            jobs.do(lambda: self._follow(replica))
        except BaseException:
            jobs.do(lambda: self._end(replica, "stopped"))
            del self.all[replica.id]
            raise
        if jobs.has_thread:
            threading.Thread(target=self._run, args=(replica,), daemon=True).start()
        return replica.told

    def _enlist(self, replica: Replica) -> None:
        """Job: begin to note what changes; InputError when others have the same state."""
        before = self.all.get(replica.id)
        if before is not None:
            self._end(before, "stopped")
        self._arrivals.check_free(replica.nfs, replica.buckets, follows=True)
        instances = self._host.instances
        replica.changed = [
            self._changed_of(instances[name], replica.buckets) for name in replica.nfs
        ]
        for changed in replica.changed:
            changed.begin()
        ended = [name for name, other in self.all.items() if other.over.is_set()]
        for name in ended[:-_MOST_ENDED]:
            del self.all[name]
        self.all[replica.id] = replica
        self._arrivals.taken[replica.id] = replica.gate
        self._host.settle()

    def _changed_of(self, instance: Instance, buckets: Buckets | None) -> Changed:
        """What of an instance changes."""
        return ChangedRecords(instance, buckets)

    def _follow(self, replica: Replica) -> None:
        """Job: what leaves from now on waits for the standby."""
        replica.acked = self.total  # what is dirty has left already
        replica.heard_us = self._host.now_us()
        replica.told.state = FOLLOWING
        replica.opened()
        self.is_under_way = True

    def _stop(self, replica: Replica, state: str = "stopped") -> None:
        if replica.over.is_set():
            return
        self._host.jobs.do(lambda: self._end(replica, state))
        with suppress(ServerError):  # it is gone, or has forgotten
            replica.tell(vnf.PushStateRequest(release=vnf.Release(commit=False)))

    def _end(self, replica: Replica, state: str, why: str = "") -> None:
        """Job: go on alone, or, fenced, with nothing of the scope any more."""
        if replica.over.is_set():
            return
        replica.told.state, replica.told.why = state, why
        replica.over.set()
        replica.asked.set()
        for changed in replica.changed:
            changed.end()
        self._arrivals.taken.pop(replica.id, None)
        if state == FENCED:
            self._host.gates.all.append(replica.gate)
        self._host.settle()

    # Sending what has changed.

    def _gathered(self, replica: Replica) -> vnf.StateDelta | None:
        """Job: a part of what has changed until now."""
        for changed in replica.changed:
            changed.gather()
        return replica.chunk(self._host.now_us())

    def _send(self, replica: Replica, part: vnf.StateDelta | None) -> None:
        """Send a part and what follows it; None: nothing has changed, so only ask."""
        jobs, now_us = self._host.jobs, self._host.now_us
        replica.push(part or vnf.StateDelta(), now_us())
        while part is not None:
            part = jobs.do(lambda: replica.chunk(now_us()))
            if part is not None:
                replica.push(part, now_us())

    def _push(self, replica: Replica) -> None:
        """Have the standby know all that has changed until now."""

        def begin() -> tuple[int, vnf.StateDelta | None]:
            return self._count(), self._gathered(replica)

        jobs = self._host.jobs
        if replica.unsent is not None:
            replica.push(replica.unsent, self._host.now_us())
        total, part = jobs.do(begin)
        self._send(replica, part)
        jobs.do(lambda: self._acked(replica, total))

    def _count(self) -> int:
        """Job: packets that have come so far."""
        return self.total

    def _acked(self, replica: Replica, total: int) -> None:
        """Job: the standby has all updates of so many packets."""
        replica.acked = total

    def _run(self, replica: Replica) -> None:
        """Thread: push what has changed when it is asked to, and by time."""
        failing_us: int | None = None
        now_us = self._host.now_us
        while not replica.over.is_set():
            if failing_us is None:
                replica.asked.wait(PERIOD_US / 1e6)
            else:
                replica.over.wait(_AGAIN_S)
            replica.asked.clear()
            if replica.over.is_set():
                return
            failing_us = self._tried(replica, failing_us, now_us())

    def _tried(self, replica: Replica, failing_us: int | None, now_us: int) -> int | None:
        """Push; since when that fails, None: it does not."""
        jobs = self._host.jobs
        try:
            if failing_us is not None:
                replica.peer = replica.redial()
            self._push(replica)
        except _Fenced:
            jobs.do(lambda: self._end(replica, FENCED, "its standby has been promoted"))
        except Unreachable as error:
            since_us = now_us if failing_us is None else failing_us
            if jobs.has_thread and self._host.now_us() - since_us < PATIENCE_US:
                return since_us
            why = str(error)
            jobs.do(lambda: self._end(replica, "lost", why))
        except (ServerError, InputError, TimeoutError) as error:  # it is no standby any more
            why = str(error)
            jobs.do(lambda: self._end(replica, "lost", why))
        return None

    # The data path.

    def after(self, frames: Sequence[bytes], out: list[bytes], now_us: int) -> list[bytes]:
        """What leaves now, when a batch has been treated and `out` is to leave for it."""
        self.total += len(frames)
        following = [replica for replica in self.all.values() if replica.is_following]
        has_thread = self._host.jobs.has_thread
        needs: list[tuple[Replica, int]] = []
        for replica in following:
            opens = replica.variant == ON_SYN_FIN and (replica.opened() or self._opens(frames))
            if not replica.is_dirty and replica.acked == self.total - len(frames):
                replica.acked = self.total
            needed = replica.needed(self.total, opens)
            wants = replica.wants(self.total, opens) or not replica.lease_holds(now_us)
            if has_thread:
                if wants:
                    replica.asked.set()
            elif wants or (replica.is_dirty and now_us - replica.heard_us >= PERIOD_US):
                self._tried(replica, None, now_us)
            needs.append((replica, needed))
        if out:
            if self._frames + len(out) > _MOST_WAITING:
                drops = self._host.drops
                drops["standby_behind"] = drops.get("standby_behind", 0) + len(out)
            else:
                self._frames += len(out)
                self._waiting.append(_Waiting(out, needs))
        return self._released(now_us)

    def _released(self, now_us: int) -> list[bytes]:
        frames_out: list[bytes] = []
        while self._waiting and self._is_ready(self._waiting[0], now_us):
            frames, needs = self._waiting.popleft()
            self._frames -= len(frames)
            fenced = [replica for replica, _ in needs if replica.told.state == FENCED]
            for replica in fenced:
                replica.told.dropped += len(frames)
            frames_out += [] if fenced else frames
        if not self._waiting:
            self.is_under_way = any(replica.is_following for replica in self.all.values())
        return frames_out

    @staticmethod
    def _is_ready(waiting: _Waiting, now_us: int) -> bool:
        for replica, needed in waiting.needs:
            if replica.is_following:
                if replica.acked < needed:
                    return False
                if not replica.lease_holds(now_us):
                    replica.asked.set()
                    return False
        return True

    def _opens(self, frames: Iterable[bytes]) -> bool:
        """Whether one of some frames opens or closes a TCP connection."""
        packet = self._packet
        return any(
            packet.load(frame, TAG_BYTES)
            and packet.protocol == TCP
            and packet.l4
            and packet.data[packet.l4 + 13] & _FIN_SYN_RST
            for frame in frames
        )

    def wait_us(self, now_us: int) -> int | None:
        """How long until something leaves, or is to be sent, although no packet comes; None: nothing."""
        if self._waiting and self._is_ready(self._waiting[0], now_us):
            return 0
        waits = [] if (due := self.standbys.wait_us()) is None else [due]
        if not self._host.jobs.has_thread:
            dirty = (r for r in self.all.values() if r.is_following and r.is_dirty)
            waits += [max(0, r.heard_us + PERIOD_US - now_us) for r in dirty]
        return min(waits, default=None)

    def settled(self) -> None:
        """Called when there is another configuration, before its steps are compiled."""
        instances = self._host.instances
        for replica in list(self.all.values()):
            if replica.over.is_set():
                continue
            there = [changed.watch(instances.values()) for changed in replica.changed]
            if not all(there):
                for changed in replica.changed:
                    changed.end()
                self._arrivals.taken.pop(replica.id, None)
                replica.told.state, replica.told.why = "stopped", "its NF is there no more"
                replica.over.set()
                replica.asked.set()
        self.standbys.settled(instances)

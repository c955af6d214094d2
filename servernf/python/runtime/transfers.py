"""Transfers of a worker: called by the manager at the source, which calls the destination.

The manager only says what; state goes from worker to worker. Threads of callers have the data path do
what touches state (`jobs`), a part between two batches of packets each.

State has one owner. It is the source until it asks the destination to go on; from then on until an
answer it is in doubt which of them is, and nobody goes on here: a destination that is only silent may.
What has ended owns nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from secrets import randbits
from typing import Protocol

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.arrivals import Arrivals, TransferHost, buckets_of
from servernf.python.runtime.arriving import MOST_FRAMES
from servernf.python.runtime.departing import Chunk, Leaving
from servernf.python.runtime.errors import ChainExists, Gone, NotFound, Unreachable
from servernf.python.runtime.gates import Gate
from servernf.python.runtime.moving import all_buckets
from servernf.python.runtime.tables import Instance
from servernf.python.variants import check_variant
from servernf.wire.configs import config_digest
from servernf.wire.errors import InputError, ServerError, quoted
from servernf.wire.state import MOST_BYTES
from servernf.wire.variants import FORWARD, STOP_COPY

_MOST_ID = 64
_MOST_PATHS = 65_536
_MOST_ENDED = 256
"""Transfers that are over and still told of."""
_ROUNDS = 5
"""How often what has changed is sent again before the switches change, at most."""
_FEW = 64
"""Records that may change while the switches do: another round would not be shorter."""
_KEEP_S, _FORWARD_S = 0.25, 0.005
_FORGET_S = 1.0
"""How often a destination that does not answer is told to forget what has come to it."""
_NO_ROOM = "transfer_queue_full"
COPYING, READY, IN_DOUBT, DONE, ABORTED = "copying", "ready", "in doubt", "done", "aborted"
LATE_S = 2.0
"""So long after a transfer packets may still come to its source."""


class StatePeer(Protocol):
    """Another worker, as the source of a transfer calls it."""

    def push_state(self, request: vnf.PushStateRequest) -> vnf.PushStateResponse:
        """pushState."""
        ...


Dial = Callable[[str, str], StatePeer]
"""The worker at an address, whose certificate is made out to a name ("": to its address)."""


class _Departure:
    """A transfer at its source."""

    def __init__(
        self, request: vnf.TransferRequest, peer: StatePeer, drops: dict[str, int]
    ) -> None:
        self.request = request
        self._drops = drops
        self.peer = peer
        self.nfs = frozenset(request.nfs)
        self.buckets = buckets_of(request.scope)
        self.told = vnf.TransferResponse(state=COPYING)
        self.departing: Leaving | None = None
        self.gate = Gate(self.nfs, self.buckets, self.takes)
        self.late: list[bytes] = []
        self.frozen_ns = 0
        """When the last record was written (perf_counter_ns)."""
        self.is_over = threading.Event()
        self.told.marker = randbits(32)
        self.paths: set[int] = set()
        """Those by which no packet comes any more."""
        self.turn = threading.Lock()
        """One phase after the other."""

    def push(self, part: vnf.PushStateRequest) -> vnf.PushStateResponse:
        """Send a part to the destination."""
        part.id, part.secret = self.request.id, self.request.secret
        return self.peer.push_state(part)

    def takes(self, frame: bytes) -> bool:
        """Once all has been written, frames go on to the destination."""
        if len(self.late) < MOST_FRAMES:
            self.late.append(frame)
        else:
            self._drops[_NO_ROOM] = self._drops.get(_NO_ROOM, 0) + 1
        return True


class Transfers:
    """Those that leave one worker."""

    def __init__(self, host: TransferHost, arrivals: Arrivals) -> None:
        self._host = host
        self._departures: dict[str, _Departure] = {}
        self._arrivals = arrivals
        self._ended: OrderedDict[str, vnf.TransferResponse] = OrderedDict()

    @property
    def markers(self) -> list[int]:
        """The numbers of markers that may come."""
        return [departure.told.marker for departure in list(self._departures.values())]

    def mark(self, marker: tuple[int, int] | None) -> bool:
        """A marker has come; False: it is none, or of no transfer that is under way from here."""
        if marker is None:
            return False
        number, path = marker
        for departure in self._departures.values():
            if departure.told.marker == number:
                if len(departure.paths) < _MOST_PATHS:
                    departure.paths.add(path)
                departure.told.markers = len(departure.paths)
                return True
        return False

    def transfer(self, request: vnf.TransferRequest, dial: Dial) -> vnf.TransferResponse:
        """transfer: one phase of it."""
        if not 1 <= len(request.id.encode()) <= _MOST_ID:
            raise InputError(f"id: must have 1 to {_MOST_ID} bytes, not {len(request.id.encode())}")
        self._host.jobs.do(self._host.gates.fetch)
        there = self._departures.get(request.id)
        match request.phase:
            case vnf.TransferRequest.BEGIN:
                if there is not None and there.told.state != DONE:
                    return there.told
                self.settled(request.id)  # the same once more, after it has come back
                return self._begin(request, dial)
            case vnf.TransferRequest.FINISH:
                if there is None:
                    return self._told(request.id, must=DONE)
                return self._finish(there)
            case vnf.TransferRequest.ABORT:
                if there is not None:
                    return self._abort(there)
                told = self._arrivals.ended(request.id, commit=False)
                return told or self._told(request.id)
            case vnf.TransferRequest.ADOPT:
                told = self._arrivals.ended(request.id, commit=True)
                return told or vnf.TransferResponse(state="none")
            case _:
                if there is None:
                    return self._told(request.id)
                with there.turn:
                    self._attended(there)
                return there.told

    def _told(self, name: str, must: str = "") -> vnf.TransferResponse:
        response = self._ended.get(name, vnf.TransferResponse(state="none"))
        if must and response.state != must:
            raise NotFound(
                f"id: no transfer {quoted(name)} has begun here (it is '{response.state}')"
            )
        return response

    def _begin(self, request: vnf.TransferRequest, dial: Dial) -> vnf.TransferResponse:
        check_variant("transfer", request.variant)
        if not request.nfs:
            raise InputError("nfs: name at least one NF instance")
        instances = [self._instance(name) for name in dict.fromkeys(request.nfs)]
        host = self._host
        peer = dial(request.destination, request.destination_name)
        departure = _Departure(request, peer, host.drops)
        host.jobs.do(lambda: self._enlist(departure, instances))
        self._ended.pop(request.id, None)
        try:
            departure.push(self._opening(request, instances))
            if departure.departing is not None and request.variant != STOP_COPY:
                self._copy(departure, departure.departing)
        except BaseException:
            self._give_up(departure)
            self._ended.pop(request.id, None)  # it has not begun
            raise
        departure.told.state = READY
        if host.jobs.has_thread:
            threading.Thread(target=self._keep, args=(departure,), daemon=True).start()
        return departure.told

    def _instance(self, name: str) -> Instance:
        instances = self._host.instances
        if name not in instances:
            raise NotFound(f"nfs: no NF instance '{name}' (known: {', '.join(sorted(instances))})")
        return instances[name]

    def _enlist(self, departure: _Departure, instances: list[Instance]) -> None:
        """Job: begin to note what changes; InputError when other transfers have the same state."""
        self._arrivals.check_free(departure.nfs, departure.buckets)
        buckets = departure.buckets or all_buckets(instances)
        if buckets is not None:
            departing = self._host.departing(instances, buckets)
            departing.begin()
            departure.departing = departing
        self._departures[departure.request.id] = departure
        self._arrivals.taken[departure.request.id] = departure.gate
        self._host.settle()

    @staticmethod
    def _opening(
        request: vnf.TransferRequest, instances: Iterable[Instance]
    ) -> vnf.PushStateRequest:
        opening = vnf.PushStateRequest()
        opening.open.scope.CopyFrom(request.scope)
        opening.open.variant = request.variant
        for instance in instances:
            digest = config_digest(instance.config_json)
            opening.open.nfs.add(name=instance.name, type=instance.type_name, config_digest=digest)
        return opening

    def _copy(self, departure: _Departure, departing: Leaving) -> None:
        """Send everything, and again what has changed, until that is little or becomes no less."""
        jobs, now_us = self._host.jobs, self._host.now_us
        last = 0
        while True:
            while (chunk := jobs.do(lambda: departing.next(now_us()))) is not None:
                self._send(departure, chunk)
            changed = jobs.do(departing.again)
            if changed <= _FEW or departure.told.rounds >= _ROUNDS or 0 < last <= changed:
                return
            last = changed
            departure.told.rounds += 1

    def _send(self, departure: _Departure, chunk: Chunk) -> None:
        if not chunk.groups and not chunk.batches:
            return
        part = vnf.StateChunk(nf=chunk.nf, groups=chunk.groups, batches=chunk.batches)
        size = sum(map(len, chunk.batches))
        if size > MOST_BYTES:
            raise InputError(f"{chunk.nf}: state that belongs together has {size:,} bytes")
        answer = departure.push(vnf.PushStateRequest(chunk=part))
        departure.told.records += answer.records
        departure.told.bytes += size

    def _finish(self, departure: _Departure) -> vnf.TransferResponse:
        with departure.turn:
            if departure.told.state == IN_DOUBT:
                self._ask_back(departure)
            if departure.told.state != READY:
                return departure.told
            departure.frozen_ns = time.perf_counter_ns()
            chunks = self._host.jobs.do(lambda: self._freeze(departure))
            try:
                for chunk in chunks:
                    self._send(departure, chunk)
            except BaseException:
                if not self._give_up(departure):
                    raise
                return departure.told
            departure.told.state = IN_DOUBT
            try:
                self._handed_over(departure, self._committed(departure))
            except ServerError:
                if not self._ask_back(departure):
                    raise
            return departure.told

    def _handed_over(self, departure: _Departure, answer: vnf.PushStateResponse) -> None:
        """The destination goes on: there is nothing of it here any more."""
        told = departure.told
        told.pause_us = (time.perf_counter_ns() - departure.frozen_ns) // 1000
        told.held, told.waited_us = answer.held, answer.waited_us
        told.state = DONE
        departure.gate.is_over = True
        self._leave(departure)
        moved = {"event": "moved", "nfs": [*departure.request.nfs], "records": told.records}
        self._host.shim.tell(moved)

    def _freeze(self, departure: _Departure) -> list[Chunk]:
        """Job: write the rest; packets that come from now on go after it."""
        host, departing = self._host, departure.departing
        host.gates.all.append(departure.gate)
        host.settle()
        if departing is not None:
            if departure.request.variant == STOP_COPY:
                while departing.next(host.now_us()) is not None:
                    pass  # found and sent below, all at once
                departing.touch_all()
            return [*departing.rest(host.now_us()), *self._common(departure)]
        return [
            Chunk(name, (), tuple(self._host.export_state(name))) for name in departure.request.nfs
        ]

    def _common(self, departure: _Departure) -> list[Chunk]:
        """What goes along where all flows do."""
        if departure.buckets is not None:
            return []
        return [
            Chunk(name, (), tuple(self._host.common_state(name))) for name in departure.request.nfs
        ]

    def _committed(self, departure: _Departure) -> vnf.PushStateResponse:
        """Ask again when there was no answer: a destination says the same once more."""
        try:
            return self._push_release(departure, commit=True)
        except Unreachable:
            return self._push_release(departure, commit=True)

    def _ask_back(self, departure: _Departure) -> bool:
        """Go on with everything, or learn that it is too late (true): the destination owns it, and its
        answer was lost. Unreachable while that is in doubt."""
        try:
            answer = self._push_release(departure, commit=False)
        except ChainExists:
            self._handed_over(departure, vnf.PushStateResponse())
            return True
        except Gone:
            answer = vnf.PushStateResponse()
        except Unreachable as error:
            raise Unreachable(f"{error}; it may own the state, so nobody goes on here") from None
        except ServerError:  # another process, which knows nothing of it
            answer = vnf.PushStateResponse()
        self._take_back(departure, answer)
        return False

    def _take_back(self, departure: _Departure, answer: vnf.PushStateResponse) -> None:
        """Go on with everything, also with what the destination has held back."""
        self._host.jobs.do(lambda: self._close(departure))
        departure.told.held = answer.held
        self._treat(departure, answer.frames)

    def _leave(self, departure: _Departure) -> None:
        """All is over there: take it out here, some at a time; late packets go after it."""
        host, departing = self._host, departure.departing
        if departing is not None:
            host.jobs.do(departing.end)
            while host.jobs.do(departing.forget):
                pass
        if departure.buckets is None:
            for name in departure.request.nfs:
                host.jobs.do(lambda n=name: host.delete_state(n))
        self._flush(departure)

    def _abort(self, departure: _Departure) -> vnf.TransferResponse:
        with departure.turn:
            if departure.told.state == IN_DOUBT:
                self._ask_back(departure)
            elif departure.told.state in (COPYING, READY):
                self._give_up(departure)
            return departure.told

    def _give_up(self, departure: _Departure) -> bool:
        """Have a destination forget that was not asked to go on. It owns nothing, unless a controller
        has said that it does (true)."""
        try:
            answer = self._push_release(departure, commit=False)
        except ChainExists:
            self._handed_over(departure, vnf.PushStateResponse())
            return True
        except ServerError as error:
            answer = vnf.PushStateResponse()
            is_silent = isinstance(error, Unreachable) and not isinstance(error, Gone)
            if is_silent and self._host.jobs.has_thread:
                threading.Thread(target=self._forgotten, args=(departure,), daemon=True).start()
        self._take_back(departure, answer)
        return False

    def _forgotten(self, departure: _Departure) -> None:
        """Thread: have a destination that did not answer forget, unless the same begins anew."""
        answer: vnf.PushStateResponse | None = None
        while answer is None:
            time.sleep(_FORGET_S)
            if self._departures.get(departure.request.id) not in (None, departure):
                return
            try:
                answer = self._push_release(departure, commit=False)
            except ServerError as error:
                if isinstance(error, Gone) or not isinstance(error, Unreachable):
                    return
        self._treat(departure, answer.frames)

    @staticmethod
    def _push_release(departure: _Departure, *, commit: bool) -> vnf.PushStateResponse:
        return departure.push(vnf.PushStateRequest(release=vnf.Release(commit=commit)))

    def _close(self, departure: _Departure) -> None:
        """Job: go on with everything, as if nothing had been begun."""
        host = self._host
        host.gates.fetch()
        if departure.departing is not None:
            departure.departing.end()
        if departure.gate in host.gates.all:
            host.gates.all.remove(departure.gate)
        host.gates.released += departure.late
        departure.late = []
        self._over(departure, ABORTED)
        host.settle()

    def _over(self, departure: _Departure, state: str) -> None:
        departure.told.state = state
        departure.is_over.set()
        self._departures.pop(departure.request.id, None)
        self._arrivals.taken.pop(departure.request.id, None)
        self._ended[departure.request.id] = departure.told
        while len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def _treat(self, departure: _Departure, frames: Iterable[bytes]) -> None:
        """Frames that the destination has held back are treated by the source."""
        listed = list(frames)
        departure.told.forwarded += len(listed)

        def release() -> None:
            self._host.gates.give(listed)
            self._host.settle()

        if listed:
            self._host.jobs.do(release)

    def _flush(self, departure: _Departure) -> None:
        """Send late packets after the state."""

        def taken() -> list[bytes]:
            self._host.gates.fetch()
            late, departure.late = departure.late, []
            return late

        late = self._host.jobs.do(taken)
        if late:
            departure.told.late += len(late)
            part = vnf.PulledFrames(frames=late)
            with suppress(Unreachable):  # they are lost with it
                departure.push(vnf.PushStateRequest(late=part))

    def _attend(self, departure: _Departure) -> None:
        """Have the destination know that the source is there, and take what is too much for it."""
        if departure.told.state == DONE:
            self._flush(departure)
        elif departure.told.state == IN_DOUBT:
            self._ask_back(departure)
        elif departure.told.state == READY:
            most = 0 if departure.request.variant == FORWARD else MOST_FRAMES // 2
            answer = departure.push(vnf.PushStateRequest(pull=most))
            departure.told.held = answer.held
            self._treat(departure, answer.frames)

    def _attended(self, departure: _Departure) -> None:
        """`_attend`, and what follows for a transfer whose destination does not."""
        try:
            self._attend(departure)
        except ChainExists:  # a controller took this worker for dead, and had the destination go on
            departure.frozen_ns = time.perf_counter_ns()
            self._handed_over(departure, vnf.PushStateResponse())
        except ServerError:
            if departure.told.state == READY:
                self._give_up(departure)

    def _keep(self, departure: _Departure) -> None:
        """Thread: attend to a transfer until it is over."""
        forward = departure.request.variant == FORWARD
        left_s = LATE_S
        while left_s > 0 and not departure.is_over.wait(_FORWARD_S if forward else _KEEP_S):
            if departure.told.state == DONE:
                left_s -= _FORWARD_S if forward else _KEEP_S
            with departure.turn:
                self._attended(departure)
        if self._departures.get(departure.request.id) is departure:
            self.settled(departure.request.id)

    def settled(self, name: str) -> None:
        """No packet of a finished transfer comes to its source any more."""
        departure = self._departures.get(name)
        if departure is None or departure.told.state != DONE:
            return

        def end() -> None:
            if departure.gate in self._host.gates.all:
                self._host.gates.all.remove(departure.gate)
            self._over(departure, DONE)
            self._host.settle()

        self._host.jobs.do(end)

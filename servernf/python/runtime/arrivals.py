"""Transfers at their destination: what other workers push (pushState)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.arriving import Arriving
from servernf.python.runtime.departing import Leaving
from servernf.python.runtime.errors import ChainExists, NotFound, NotPermitted
from servernf.python.runtime.gates import Gate, Gates
from servernf.python.runtime.held import HeldFrames
from servernf.python.runtime.jobs import Jobs
from servernf.python.runtime.shim import Shim
from servernf.python.runtime.tables import CompiledCall, Instance
from servernf.python.scope import Buckets
from servernf.python.variants import check_variant
from servernf.wire.buckets import MOST_SPACES
from servernf.wire.configs import config_digest
from servernf.wire.errors import InputError, quoted
from servernf.wire.state import Batch

_MOST_ENDED = 256
"""Transfers that are over and still told of."""
_MOST_ANNOUNCED = 1024
_LEAST_SECRET, _MOST_SECRET = 16, 64


class TransferHost(Protocol):
    """What transfers need of their worker."""

    held: HeldFrames
    drops: dict[str, int]
    shim: Shim

    @property
    def jobs(self) -> Jobs:
        """What the data path's thread is asked to do."""
        ...

    @property
    def gates(self) -> Gates:
        """Of frames whose state is on its way."""
        ...

    @property
    def instances(self) -> Mapping[str, Instance]:
        """By name."""
        ...

    @property
    def steps(self) -> Mapping[int, CompiledCall]:
        """The first step of every path."""
        ...

    def now_us(self) -> int:
        """By the clock of the data path."""
        ...

    def departing(self, instances: Iterable[Instance], buckets: Buckets) -> Leaving:
        """Some buckets of some instances, that are about to leave."""
        ...

    def arriving(self, instances: Mapping[str, Instance], buckets: Buckets | None) -> Arriving:
        """Instances of which some buckets, or all (None), arrive."""
        ...

    def export_state(self, nf: str) -> list[bytes]:
        """Batches of all state of an instance."""
        ...

    def delete_state(self, nf: str) -> int:
        """Forget all state of an instance; how many records."""
        ...

    def common_state(self, nf: str) -> list[bytes]:
        """Batches of what is of no flow, and the counters."""
        ...

    def enter_state(self, nf: str, batches: Sequence[Batch], now_us: int) -> int:
        """Enter records that were read; how many. InputError: nothing has changed."""
        ...

    def settle(self) -> None:
        """Compile the steps anew, and look at frames while there are gates."""
        ...


@dataclass(slots=True)
class Announced:
    """Whom a controller has told this worker to take state from, and what."""

    secret: bytes
    source: str
    nfs: frozenset[str]
    scope: vnf.StateScope
    is_open: bool = True
    """Whether it may still begin."""

    def check(self, name: str, opening: vnf.OpenTransfer) -> None:
        """Refused when it is something else that is opened."""
        nfs = frozenset(told.name for told in opening.nfs)
        if not self.is_open or self.scope != opening.scope or self.nfs != nfs:
            raise NotPermitted(f"open: is not what was announced for transfer {quoted(name)}")


class Arrivals:
    """Those that come to one worker, from whom a controller has announced."""

    def __init__(self, host: TransferHost) -> None:
        self._host = host
        self._announced: OrderedDict[str, Announced] = OrderedDict()
        self._arrivals: dict[str, tuple[Arriving, Gate]] = {}
        self._arrived: OrderedDict[str, int] = OrderedDict()
        """How many frames were held back for those that are over; -1: given up."""
        self.taken: dict[str, Gate] = {}
        """Of all transfers that are under way, from here and to here."""

    @property
    def is_under_way(self) -> bool:
        """Whether some state is on its way here."""
        return bool(self._arrivals)

    def check_free(
        self, nfs: frozenset[str], buckets: Buckets | None, *, follows: bool = False
    ) -> None:
        """InputError when a transfer or a replication, from here or to here, has some of the same state.

        `follows`: it is for a replication, of which an NF has one with its primary here."""
        spaces = {g.buckets.space for g in self.taken.values() if g.buckets and g.buckets.is_space}
        if (
            buckets is not None
            and buckets.is_space
            and buckets.space not in spaces
            and len(spaces) >= MOST_SPACES
        ):
            # Each costs every packet a look.
            raise InputError(f"scope: {MOST_SPACES} flow spaces are taken, more are not at a time")
        for name, mine in list(self.taken.items()):
            theirs = None if follows and mine.follows else mine.buckets
            if not nfs.isdisjoint(mine.nfs) and (
                buckets is None or theirs is None or buckets.meets(theirs)
            ):
                if mine.is_over:
                    self._host.gates.all.remove(mine)
                    del self.taken[name]
                    continue
                what = "replication" if mine.follows else "transfer"
                raise InputError(
                    f"scope: {what} {quoted(name)} of {', '.join(sorted(nfs & mine.nfs))} is under"
                    " way, and some of its state is the same"
                )

    def expect(self, request: vnf.ExpectStateRequest, *, certified: bool = False) -> None:
        """expectState; `certified`: other workers show certificates."""
        problems: list[str] = []
        if not request.id:
            problems.append("id: must not be empty")
        if not _LEAST_SECRET <= len(request.secret) <= _MOST_SECRET:
            problems.append(
                f"secret: must have {_LEAST_SECRET} to {_MOST_SECRET} bytes, not {len(request.secret)}"
            )
        if certified and not request.source:
            problems.append("source: name whom its certificate is made out to")
        if not request.nfs:
            problems.append("nfs: name at least one NF instance")
        if problems:
            raise InputError(problems)
        scope = vnf.StateScope()
        scope.CopyFrom(request.scope)
        buckets_of(scope)
        announced = Announced(request.secret, request.source, frozenset(request.nfs), scope)
        self._host.jobs.do(lambda: self._announce(request.id, announced))

    def _announce(self, name: str, announced: Announced) -> None:
        self._announced.pop(name, None)
        self._announced[name] = announced
        over = [name for name in self._announced if name not in self.taken]
        for name in over[: max(0, len(self._announced) - _MOST_ANNOUNCED)]:
            del self._announced[name]

    def check(self, request: vnf.PushStateRequest, by: str) -> Announced:
        """What was announced of a part that another worker sends; Refused: it was not."""
        announced = self._announced.get(request.id)
        if (
            announced is None
            or not compare_digest(announced.secret, request.secret)
            or (by and by != announced.source)
        ):
            raise NotPermitted(
                f"id: no controller has announced transfer {quoted(request.id)} of yours"
                " (expectState)"
            )
        return announced

    def pushed(self, request: vnf.PushStateRequest, by: str = "") -> vnf.PushStateResponse:
        """pushState: a part of a transfer that another worker sends; `by`: whom its certificate is made
        out to, where it shows one."""
        jobs = self._host.jobs

        def work() -> vnf.PushStateResponse:
            self._host.gates.fetch()
            return self._pushed(request, by)

        answer = jobs.do(work)
        if request.WhichOneof("part") == "open":  # the source sends nothing before it is answered
            arriving, _ = self._arrivals[request.id]
            while jobs.do(arriving.clear):
                pass
        return answer

    def _pushed(self, request: vnf.PushStateRequest, by: str) -> vnf.PushStateResponse:
        announced = self.check(request, by)
        part = request.WhichOneof("part")
        host = self._host
        if part == "open":
            return self._open(request.id, request.open, announced)
        if part == "late":
            host.gates.give(request.late.frames)
            host.settle()
            return vnf.PushStateResponse()
        if request.id not in self._arrivals:
            held = self._arrived.get(request.id, -1)
            if held >= 0:
                if part == "release" and request.release.commit:
                    return vnf.PushStateResponse(held=held)
                raise ChainExists(f"id: {quoted(request.id)} is over: its state is owned here")
            if part == "release" and not request.release.commit:
                return vnf.PushStateResponse()
            raise NotFound(f"id: no transfer {quoted(request.id)} is open here")
        arriving, gate = self._arrivals[request.id]
        answer = vnf.PushStateResponse()
        if part == "chunk":
            answer.records = self._entered(arriving, request.chunk)
        elif part == "pull":
            answer.frames.extend(arriving.pull(request.pull))
        elif part == "release":
            answer.waited_us = arriving.waited_us(host.now_us())
            frames = self._let_go(request.id, arriving, gate, commit=request.release.commit)
            answer.frames.extend(frames)
        answer.held = arriving.held
        return answer

    def _open(
        self, name: str, opening: vnf.OpenTransfer, announced: Announced
    ) -> vnf.PushStateResponse:
        announced.check(name, opening)
        there = self._arrivals.get(name)
        if there is not None:  # the source begins anew
            there[0].forget(self._host.held)
            return vnf.PushStateResponse(held=there[0].held)
        instances, buckets = self.opened(opening, "transfer")
        arriving = self._host.arriving(instances, buckets)

        def takes(frame: bytes) -> bool:
            arriving.hold(frame, self._host.now_us())
            return True

        gate = Gate(frozenset(instances), buckets, takes)
        self._arrivals[name] = arriving, gate
        self.taken[name] = gate
        self._host.gates.all.append(gate)
        self._host.settle()
        return vnf.PushStateResponse()

    def opened(
        self, opening: vnf.OpenTransfer, operation: str
    ) -> tuple[dict[str, Instance], Buckets | None]:
        """The instances here of what another worker opens, and their buckets; all is checked."""
        check_variant(operation, opening.variant)
        problems: list[str] = []
        instances: dict[str, Instance] = {}
        for told in opening.nfs:
            mine = self._host.instances.get(told.name)
            if mine is None or mine.type_name != told.type:
                kind = "there is none here" if mine is None else f"is {mine.type_name} here"
                problems.append(f"nfs: {quoted(told.name)} ({quoted(told.type)}): {kind}")
            elif config_digest(mine.config_json) != told.config_digest:
                problems.append(f"nfs: {quoted(told.name)} has another configuration here")
            else:
                instances[told.name] = mine
        if problems:
            raise InputError(problems)
        buckets = buckets_of(opening.scope)
        self.check_free(frozenset(instances), buckets)
        return instances, buckets

    def _entered(self, arriving: Arriving, chunk: vnf.StateChunk) -> int:
        host = self._host
        if arriving.buckets is not None or chunk.groups:
            return arriving.enter(chunk.nf, chunk.groups, chunk.batches, host.now_us())
        return arriving.enter_all(chunk.nf, chunk.batches, host.held, host.steps, host.now_us())

    def ended(self, name: str, *, commit: bool) -> vnf.TransferResponse | None:
        """End a transfer whose source has ended: own what has come, or forget it; None: it is none that
        comes here."""

        def end() -> vnf.TransferResponse | None:
            self._host.gates.fetch()
            if name in self._arrivals:
                self._let_go(name, *self._arrivals[name], commit=commit)
            held = self._arrived.get(name)
            if held is None:
                return None
            return vnf.TransferResponse(state="aborted" if held < 0 else "done", held=max(0, held))

        return self._host.jobs.do(end)

    def _let_go(self, name: str, arriving: Arriving, gate: Gate, *, commit: bool) -> list[bytes]:
        """The transfer is over: frames for the source to treat, when it goes on with everything."""
        host = self._host
        host.gates.all.remove(gate)
        del self._arrivals[name], self.taken[name]
        if name in self._announced:
            self._announced[name].is_open = False
        self._arrived[name] = arriving.held if commit else -1
        while len(self._arrived) > _MOST_ENDED:
            self._arrived.popitem(last=False)
        frames = arriving.pull(0)
        if commit:
            host.shim.tell({"event": "arrived", "nfs": [*arriving.instances]})
            host.gates.released += frames
            frames = []
        else:
            arriving.forget(host.held)
        arriving.end()
        host.settle()
        return frames


def buckets_of(scope: vnf.StateScope) -> Buckets | None:
    """The buckets that a call names; None: everything."""
    narrow = scope.inside or scope.outside or scope.without
    if not scope.key and not scope.of and not scope.buckets and not narrow:
        return None
    without = [(space.inside, space.outside) for space in scope.without]
    return Buckets.checked(scope.key, scope.of, scope.buckets, scope.inside, scope.outside, without)

"""Replications at their standby: records of a primary, kept as they are written until they are needed.

What comes is of a peer: it is measured and read when it comes, and entered when the standby is promoted,
by groups, so that what does not fit together costs its own group only. Until then packets of the scope
go nowhere and nothing counts them. Every method is a job of the data path's thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.arrivals import Announced, Arrivals, TransferHost
from servernf.python.runtime.changed import group_of
from servernf.python.runtime.errors import NotFound
from servernf.python.runtime.gates import Gate
from servernf.python.runtime.moving import all_buckets, check_divided
from servernf.python.runtime.tables import Instance
from servernf.python.scope import Buckets
from servernf.python.state import CHUNK
from servernf.wire.errors import InputError, quoted, unknown
from servernf.wire.state import Batch, StateRecord, decode

LEASE_US = 250_000
"""So long after a question that was answered a primary may send."""
MOST_RECORDS = 1 << 20
MOST_BYTES = 256 << 20
"""Of a replication."""
MOST_HELD = 65_536
_MOST_ENDED = 256
_Place = tuple[str, str, bytes]
"""NF, table and key, as they are written."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A record, the group that it is of, and when it came."""

    group: int
    body: bytes
    at_us: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A group of an instance."""

    nf: str
    batches: list[Batch]
    records: int


@dataclass(slots=True)
class StandbyRecords:
    """One replication; `buckets` None: everything."""

    instances: Mapping[str, Instance]
    buckets: Buckets | None
    answered_us: int
    gate: Gate
    announced: Announced
    entered: Callable[[str, Sequence[Batch], int], int]
    """Has an instance enter records, of a time."""
    kept: dict[_Place, _Kept] = field(default_factory=dict[_Place, _Kept])
    """Those that came longest ago first."""
    of_group: dict[tuple[str, int], set[_Place]] = field(
        default_factory=dict[tuple[str, int], "set[_Place]"]
    )
    """The same by NF and group."""
    size: int = 0
    dropped: int = 0
    is_promoted: bool = False
    is_entered: bool = False
    held: deque[bytes] = field(default_factory=deque[bytes])
    told: vnf.ReplicateResponse = field(default_factory=vnf.ReplicateResponse)

    def apply(self, delta: vnf.StateDelta, now_us: int) -> int:
        """Keep what a primary says; how many records. InputError: nothing has changed."""
        come: dict[_Place, _Kept] = {}
        gone: set[_Place] = set()
        for part in delta.nfs:
            if part.nf not in self.instances:
                raise InputError(f"delta.nf: {unknown('NF', part.nf, sorted(self.instances))}")
            instance = self.instances[part.nf]
            come |= self._read(instance, part.batches, now_us)
            for told in part.gone:
                if told.table not in instance.nf.state.tables:
                    raise InputError(f"delta.gone: {instance.type_name} has no table {told.table}")
                gone |= {(part.nf, told.table, key) for key in told.keys}
            for group in part.groups:
                gone |= self.of_group.get((part.nf, group), set())
        self._check_room(come)
        for place in gone | come.keys():
            was = self.kept.pop(place, None)
            if was is not None:
                self.size -= len(was.body) + len(place[2])
                self._part(place, was).discard(place)
        for place, record in come.items():
            self.kept[place] = record
            self.size += len(record.body) + len(place[2])
            self._part(place, record).add(place)
        return len(come)

    def _part(self, place: _Place, record: _Kept) -> set[_Place]:
        return self.of_group.setdefault((place[0], record.group), set())

    def _read(
        self, instance: Instance, batches: Iterable[bytes], now_us: int
    ) -> dict[_Place, _Kept]:
        state = instance.nf.state
        buckets = self.buckets or all_buckets([instance])
        records: dict[_Place, _Kept] = {}
        for data in batches:
            batch = decode(data, lambda _: state.layouts)
            declared = state.tables.get(batch.table)
            if batch.nf_type != instance.type_name or declared is None:
                raise InputError(f"delta.batches: is no table of {instance.name}: {batch.table}")
            for record in batch.records:
                key = declared.kind.unpack_key(record.key)
                made, _ = declared.kind.unpack(record.body, now_us)
                group = group_of(declared, buckets, key, made)
                if group is None and self.buckets is None:
                    group = 0  # of no flow
                if group is None:
                    raise InputError(
                        f"delta.batches: a record of {instance.name}'s {batch.table} is in none of"
                        " the buckets that were opened"
                    )
                place = instance.name, batch.table, record.key
                records[place] = _Kept(group, record.body, now_us)
        return records

    def _check_room(self, come: Mapping[_Place, _Kept]) -> None:
        size = self.size + sum(len(at[2]) + len(record.body) for at, record in come.items())
        if size > MOST_BYTES:
            raise InputError(
                f"delta: {size:,} bytes are too much; at most {MOST_BYTES:,} are valid"
            )
        if len(self.kept) + sum(place not in self.kept for place in come) > MOST_RECORDS:
            raise InputError(f"delta: more than {MOST_RECORDS:,} records are not kept")

    def parts(self) -> list[_Part]:
        """What to enter at a time: whole groups, their tables in the order in which to enter them."""
        order = {
            (name, table): at
            for name, instance in self.instances.items()
            for at, table in enumerate(instance.nf.state.tables)
        }
        by_group: dict[tuple[str, int], list[tuple[_Place, _Kept]]] = {}
        for place, stored in self.kept.items():
            by_group.setdefault((place[0], stored.group), []).append((place, stored))
        parts: list[_Part] = []
        for (nf, _), listed in by_group.items():
            kind = self.instances[nf].nf
            listed.sort(key=lambda item: order[item[0][:2]])
            batches: list[Batch] = []
            for table, records in groupby(listed, key=lambda item: item[0][1]):
                stored = tuple(
                    StateRecord(place[2], kept.body, self.answered_us - kept.at_us)
                    for place, kept in records
                )
                layout = kind.state.layouts[table]
                batches.append(Batch(kind.type_name, table, layout.version, stored))
            parts.append(_Part(nf, batches, len(listed)))
        return parts

    def enter(self, parts: list[_Part]) -> None:
        """Enter some parts, as many of them as fit; they are taken off the list."""
        chosen: list[_Part] = []
        while parts and parts[-1].nf == (chosen or parts)[-1].nf:
            chosen.append(parts.pop())
            if sum(part.records for part in chosen) >= CHUNK:
                break
        self._enter(chosen)

    def _enter(self, parts: list[_Part]) -> None:
        count = sum(part.records for part in parts)
        batches = [batch for part in parts for batch in part.batches]
        try:
            self.entered(parts[0].nf, batches, self.answered_us)
            self.told.records += count
        except InputError as error:
            if len(parts) > 1:
                for part in parts:
                    self._enter([part])
                return
            self.told.left_out += count
            self.told.why = self.told.why or error.problems[0]


class Standbys:
    """Those of one worker. `host` and `arrivals`: as transfers have them."""

    def __init__(self, host: TransferHost, arrivals: Arrivals) -> None:
        self._host, self._arrivals = host, arrivals
        self.all: dict[str, StandbyRecords] = {}
        self._promoted: OrderedDict[str, StandbyRecords] = OrderedDict()
        """Those that are over since their scopes are this worker's own."""

    def pushed(self, request: vnf.PushStateRequest, by: str) -> vnf.PushStateResponse:
        """pushState of a primary: follow, delta, or release (it goes on alone)."""
        announced = self._arrivals.check(request, by)
        part, name = request.WhichOneof("part"), request.id
        over = self._promoted.get(name)
        standby = self.all.get(name) or over
        if standby is not None and standby.is_promoted:
            if over is None or announced is over.announced:
                return vnf.PushStateResponse(promoted=True)
            del self._promoted[name]  # it is announced anew: the scope has another owner since
            standby = None
        if part == "follow":
            announced.check(name, request.follow)
            self._open(name, request.follow, announced)
            return vnf.PushStateResponse()
        if standby is None:
            raise NotFound(f"id: no replication {quoted(name)} has this standby")
        if part == "release":
            self.forget(name)
            return vnf.PushStateResponse()
        count = standby.apply(request.delta, self._host.now_us())
        standby.answered_us = self._host.now_us()
        return vnf.PushStateResponse(records=count)

    def _open(self, name: str, opening: vnf.OpenTransfer, announced: Announced) -> None:
        if name in self.all:
            self.forget(name)  # the primary begins anew
        instances, buckets = self._arrivals.opened(opening, "replicate")
        for instance in instances.values():
            if buckets is not None:
                check_divided(instance, buckets)
        gate = Gate(frozenset(instances), buckets, lambda frame: self._takes(name, frame))
        self.all[name] = StandbyRecords(
            instances, buckets, self._host.now_us(), gate, announced, self._host.enter_state
        )
        self._arrivals.taken[name] = gate
        self._host.gates.all.append(gate)
        self._host.settle()

    def _takes(self, name: str, frame: bytes) -> bool:
        standby = self.all[name]
        if standby.is_promoted and len(standby.held) < MOST_HELD:
            standby.held.append(frame)
        else:
            standby.dropped += 1
        return True

    def told(self, name: str) -> vnf.ReplicateResponse | None:
        """How a replication is here; None: there is none."""
        standby = self.all.get(name) or self._promoted.get(name)
        if standby is None:
            return None
        standby.told.state = "promoted" if standby.is_promoted else "standby"
        standby.told.dropped = standby.dropped
        if not standby.is_promoted:
            standby.told.records = len(standby.kept)
        return standby.told

    def listed(self) -> dict[str, vnf.ReplicateResponse]:
        """How all are that this worker is, or was, the standby of."""
        names = (*list(self._promoted), *list(self.all))
        return {name: told for name in names if (told := self.told(name)) is not None}

    def promote(self, name: str) -> vnf.ReplicateResponse:
        """Own the scope from now on, once its primary may not send any more."""
        jobs = self._host.jobs
        standby = self.all.get(name) or self._promoted.get(name)
        if standby is None:
            raise NotFound(f"id: no replication {quoted(name)} has this standby")
        if not standby.is_promoted:
            standby.is_promoted = True  # what its primary says from now on is refused
            standby.told.records = 0
            standby.gate.opens = lambda: self._opens(name)
            parts = jobs.do(standby.parts)
            while parts:
                jobs.do(lambda: standby.enter(parts))
            standby.kept.clear()
            standby.is_entered = True
            jobs.do(self._host.settle)
        told = self.told(name)
        assert told is not None
        return told

    def _opens(self, name: str) -> None:
        """Let packets in, if the primary may not send any more."""
        standby = self.all[name]
        if not standby.is_entered or self._left_us(standby) > 0:
            return
        self._host.gates.released += standby.held
        standby.held.clear()
        self._promoted[name] = standby
        while len(self._promoted) > _MOST_ENDED:
            self._promoted.popitem(last=False)
        self.forget(name)

    def _left_us(self, standby: StandbyRecords) -> int:
        return standby.answered_us + LEASE_US - self._host.now_us()

    def wait_us(self) -> int | None:
        """How long until packets of a scope are let in; None: none waits for that."""
        waits = [self._left_us(s) for s in self.all.values() if s.is_entered and s.held]
        return max(0, min(waits)) if waits else None

    def forget(self, name: str) -> None:
        """Be no standby of it any more."""
        standby = self.all.pop(name, None)
        if standby is None:
            return
        self._arrivals.taken.pop(name, None)
        if standby.gate in self._host.gates.all:
            self._host.gates.all.remove(standby.gate)
        self._host.settle()

    def settled(self, instances: Mapping[str, Instance]) -> None:
        """After another configuration: what lacks its instances is over."""
        for name, standby in list(self.all.items()):
            if any(instances.get(nf) is not mine for nf, mine in standby.instances.items()):
                del self.all[name]
                self._arrivals.taken.pop(name, None)
                if standby.gate in self._host.gates.all:
                    self._host.gates.all.remove(standby.gate)

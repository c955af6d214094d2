"""State of instances on the C side as it moves: records by group, written and entered in whole batches.

What tables there are, how a record is written and by what it may be divided, Python's declaration says
(`servernf.python.state`); what is of no flow (the health of backends, counters) is Python's own record
of words that both sides have.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

from servernf.dpdk.engine import NfEngine
from servernf.dpdk.process import ProcessGone, ProcessRequest
from servernf.dpdk.tables import StateTable
from servernf.python.runtime.tables import Instance
from servernf.python.scope import EVERYTHING, Buckets, StateScope
from servernf.python.state import COUNTERS, Snapshot
from servernf.wire.buckets import HASH_BITS, KEYS
from servernf.wire.errors import InputError, ServerError
from servernf.wire.state import Batch, RecordLayout, StateRecord, encode_written

SCANNED = 4096
"""Records that are looked at between two bursts."""
_GROUPS = 1 << HASH_BITS
_NO_MORE = 0xFFFF_FFFF
_ADDRESS_BITS = 128


def bits_of(buckets: Buckets) -> bytes:
    """A bit for each hash that is in one of the buckets."""
    each = _GROUPS // buckets.of
    mask = sum(((1 << each) - 1) << bucket * each for bucket in buckets.chosen)
    return mask.to_bytes(_GROUPS // 8, "little")


def spaces_of(buckets: Buckets | None) -> bytes:
    """Which flows of them are meant, as c/spaces.h reads it."""
    if buckets is None or not buckets.is_narrow:
        return struct.pack("=I", 0)
    spaces = (buckets.space, *buckets.without)
    prefixes = [_prefix(prefix) for space in spaces for prefix in space]
    return struct.pack("=I", len(spaces)) + b"".join(prefixes)


def _prefix(prefix: IPv4Network | IPv6Network | None) -> bytes:
    if prefix is None:
        return struct.pack("=IQQ", _ADDRESS_BITS, 0, 0)
    shift = prefix.max_prefixlen - prefix.prefixlen
    high, low = divmod(int(prefix.network_address) >> shift, 1 << 64)
    return struct.pack("=IQQ", shift, high, low)


class InstanceState:
    """What an instance has on the C side, by group once `group` was called."""

    def __init__(
        self, engine: NfEngine, instance: Instance, buckets: Buckets | None = None
    ) -> None:
        """`buckets`: of which groups are meant, where groups are."""
        self._engine, self.instance = engine, instance
        self._spaces = spaces_of(buckets)
        made = {table.name: table for table in engine.tables_of(instance)}
        self.tables: list[StateTable] = [
            made[name] for name in instance.nf.state.tables if name in made
        ]
        """In the order in which to enter their records."""
        self._watches: dict[int, int] = {}

    def layout(self, table: str) -> RecordLayout:
        """Of a table of the instance."""
        return self.instance.nf.state.layouts[table]

    def _ask(self, kind: ProcessRequest, payload: bytes = b"", number: int = 0) -> bytes:
        return self._engine.ask(kind, payload, number)

    # Groups.

    def group(self, key: str) -> None:
        """Have records known by the hash of an address; `ungroup` once for it."""
        done: list[StateTable] = []
        try:
            for table in self.tables:
                self._ask(ProcessRequest.GROUP, struct.pack("=I", KEYS.index(key)), table.number)
                done.append(table)
        except ServerError:
            for table in done:
                self._ask(ProcessRequest.UNGROUP, number=table.number)
            raise

    def ungroup(self) -> None:
        """They need not be known any more."""
        for table in self.tables:
            self._ask(ProcessRequest.UNGROUP, number=table.number)

    def build(self) -> bool:
        """Look at some records; whether all are known by group."""
        for table in self.tables:
            (done,) = struct.unpack(
                "=I", self._ask(ProcessRequest.BUILD, _SCANNED_WORD, table.number)
            )
            if not done:
                return False
        return True

    def watch(self, scope: bytes) -> None:
        """Note from now on which groups of a scope (`bits_of`) are touched."""
        for table in self.tables:
            (at,) = struct.unpack("=I", self._ask(ProcessRequest.FOLLOW, scope, table.number))
            self._watches[table.number] = at

    def unwatch(self) -> None:
        """Note nothing any more."""
        for number, at in self._watches.items():
            self._ask(ProcessRequest.UNFOLLOW, struct.pack("=I", at), number)
        self._watches.clear()

    def touched(self, *, every: bool = False) -> tuple[dict[int, int], bool]:
        """Groups touched since this was last asked (or all of the scope) and how many records they have
        now; whether records have come or gone."""
        groups: dict[int, int] = {}
        opened = False
        for number, at in self._watches.items():
            answer = self._ask(ProcessRequest.TOUCHED, struct.pack("=II", at, every), number)
            opened |= bool(int.from_bytes(answer[:4], "little"))
            for group, count in struct.iter_unpack("=II", answer[4:]):
                groups[group] = groups.get(group, 0) + count
        return groups, opened

    def written(self, groups: Sequence[int], now_us: int) -> list[bytes]:
        """Batches of all records of groups."""
        return [
            encode_written(self.instance.type_name, self.layout(table.name), count, raw)
            for table, count, raw in self._written(groups, now_us)
            if count
        ]

    def _written(
        self, groups: Sequence[int], now_us: int
    ) -> Iterable[tuple[StateTable, int, bytes]]:
        if not self.tables or not groups:
            return
        answer = self._ask(
            ProcessRequest.WRITE, struct.pack("=Q", now_us) + self._asked(self.tables, groups)
        )
        at = 0
        for table in self.tables:
            count, size = struct.unpack_from("=II", answer, at)
            at += 8
            yield table, count, answer[at : at + size]
            at += size

    def discard(self, groups: Sequence[int]) -> int:
        """Take all records of groups out; how many."""
        if not self.tables or not groups:
            return 0
        asked = self._asked(self.tables[::-1], groups)
        return int.from_bytes(self._ask(ProcessRequest.DISCARD, asked), "little")

    def _asked(self, tables: Sequence[StateTable], groups: Sequence[int]) -> bytes:
        numbers = [len(tables), *(table.number for table in tables), len(groups), *groups]
        return struct.pack(f"={len(numbers)}I", *numbers) + self._spaces

    # Entering.

    def enter(self, batches: Sequence[Batch], now_us: int, groups: Sequence[int] = ()) -> int:
        """Enter records that were read, of these groups if any are said; how many. InputError: nothing
        has changed."""
        nf = self.instance.nf
        numbers = {table.name: table.number for table in self.tables}
        parts = [struct.pack(f"={1 + len(groups)}I", len(groups), *groups), self._spaces]
        told: list[bytes] = []
        others: list[Batch] = []
        for batch in batches:
            if batch.nf_type != nf.type_name:
                raise InputError(f"state: is of '{batch.nf_type}', not of {nf.type_name}")
            if batch.table not in numbers:
                others.append(batch)
                continue
            for before_us, records in _by_time(batch.records):
                raw = b"".join(part for r in records for part in (r.key, r.body))
                at_us = now_us - before_us
                head = struct.pack("=IQII", numbers[batch.table], at_us, len(records), len(raw))
                told.append(head + raw)
        parts += [struct.pack("=I", len(told)), *told]
        number = self._engine.number_of(self.instance)
        try:
            answer = self._ask(ProcessRequest.ENTER, b"".join(parts), number)
        except ProcessGone:
            raise
        except ServerError as error:
            raise InputError(f"state of {nf.type_name}: a record: {error}") from None
        count = int.from_bytes(answer, "little")
        if others:
            count += self._engine.entered(
                self.instance, lambda: nf.state.enter(others, now_us), self._counters(others)
            )
        return count

    @staticmethod
    def _counters(batches: Iterable[Batch]) -> dict[str, int]:
        counters: dict[str, int] = {}
        for batch in batches:
            if batch.table != COUNTERS.table:
                continue
            for record in batch.records:
                (name,), (count,) = COUNTERS.unpack_key(record.key), COUNTERS.unpack(record.body)
                assert isinstance(name, bytes)
                assert isinstance(count, int)
                counters[name.decode("utf-8", "replace")] = count
        return counters

    # All of it.

    def records(self, scope: StateScope, now_us: int) -> dict[str, list[StateRecord]]:
        """The records of a scope by table, those longest unused first, and the counters."""
        state = self.instance.nf.state
        state.check_scope(scope)
        if scope.buckets is not None:
            raise InputError("scope.buckets: there are no buckets here")
        self._engine.refresh()
        records = state.records(scope, now_us)  # of what is Python's own
        for table in self.tables:
            kind, layout = table.declared.kind, self.layout(table.name)
            listed: list[tuple[int, StateRecord]] = []
            at = 0
            while at != _NO_MORE:
                asked = struct.pack("=QII", now_us, at, SCANNED)
                answer = self._ask(ProcessRequest.SCAN, asked, table.number)
                (at,) = struct.unpack_from("=I", answer)
                place = 4
                while place < len(answer):
                    turn, size = struct.unpack_from("=QI", answer, place)
                    place += 12
                    record = layout.read_one(answer[place : place + size])
                    place += size
                    if scope.is_narrow and kind.flow_of is not None:
                        key = kind.unpack_key(record.key)
                        made, _ = kind.unpack(record.body, now_us)
                        if not scope.holds(kind.flow_of(key, made)):
                            continue
                    listed.append((turn, record))
            records[table.name] = [record for _, record in sorted(listed, key=lambda item: item[0])]
        return {name: records[name] for name in (*state.tables, COUNTERS.table) if name in records}

    def export(self, scope: StateScope, now_us: int, chunk: int) -> list[bytes]:
        """Batches of the records of a scope, in the order in which to enter them."""
        kind = self.instance.type_name
        return [
            encode_written(
                kind,
                self.layout(name),
                len(some),
                b"".join(part for record in some for part in (record.key, record.body)),
            )
            for name, records in self.records(scope, now_us).items()
            for at in range(0, len(records), chunk)
            if (some := records[at : at + chunk])
        ]

    def snapshot(self, now_us: int) -> Snapshot:
        """All records, to compare."""
        tables = self.records(EVERYTHING, now_us)
        tables.pop(COUNTERS.table, None)
        return {name: {r.key: r.body for r in records} for name, records in tables.items()}

    def clear(self) -> int:
        """Take all records out; how many."""
        gone, _ = self.size()
        for table in reversed(self.tables):
            self._ask(ProcessRequest.CLEAR, number=table.number)
        return gone

    def size(self) -> tuple[int, int]:
        """How many records there are, and how many bytes they take at least when they are written."""
        self._engine.state.refresh()
        counts = [(table.counts.count, self.layout(table.name).least) for table in self.tables]
        return sum(count for count, _ in counts), sum(count * least for count, least in counts)


_SCANNED_WORD = struct.pack("=I", SCANNED)


def _by_time(records: Sequence[StateRecord]) -> Iterable[tuple[int, Sequence[StateRecord]]]:
    """Records that follow each other and are of one time."""
    first = 0
    for at in range(1, len(records) + 1):
        if at == len(records) or records[at].before_us != records[first].before_us:
            yield records[first].before_us, records[first:at]
            first = at


def states_of(
    engine: NfEngine, instances: Mapping[str, Instance], buckets: Buckets | None
) -> dict[str, InstanceState]:
    """Of instances by name."""
    return {name: InstanceState(engine, instance, buckets) for name, instance in instances.items()}

"""DNS guard: from and to DNS servers only well-formed, permitted and asked for DNS passes over UDP.

An answer is asked for if its sockets, transaction id and question are those of a query that passed
(RFC 5452, 9.1) less than the timeout ago; it answers once. Case does not matter (RFC 4343). Those who
ask share the table of queries.
"""

from __future__ import annotations

import struct

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import FLOW, ends, host_of
from servernf.python.network_function import INSIDE, OTHER, NetworkFunction, network_function
from servernf.python.packet import UDP, PacketView
from servernf.python.state import EntryKind
from servernf.python.tables import RecordFlow
from servernf.python.telling import ALERT, Alert
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField

_HEADER = struct.Struct("!6H")
_RESPONSE, _OPCODE = 0x8000, 0x7800


class _Malformed(Exception):
    pass


class _Query(FairEntry):
    __slots__ = ("asked_us", "is_inside", "question")

    def __init__(self, question: bytes = b"", asked_us: int = 0, is_inside: bool = True) -> None:
        self.question = question
        self.asked_us = asked_us
        self.is_inside = is_inside
        """Whether who asks is."""


def _flow(key: bytes, query: _Query) -> RecordFlow:
    half = len(key) // 2 - 1
    client = key[: half - 2], key[half - 2] << 8 | key[half - 1]
    server = key[half:-4], key[-4] << 8 | key[-3]
    return (
        RecordFlow(*client, *server, UDP) if query.is_inside else RecordFlow(*server, *client, UDP)
    )


_QUERIES = EntryKind(
    "queries",
    _Query,
    (
        RecordField("asked_us", "age"),
        RecordField("is_inside", "bool"),
        RecordField("question", "bytes", 512),
    ),
    key_sizes=(14, 38),
    flow_of=_flow,
    looks_at=FLOW,
)


@network_function("dns_guard")
class DnsGuard(NetworkFunction):
    """Drops what is malformed, blocked or not asked for."""

    _queries: FairTable[_Query]
    """By client's end, server's end and id."""

    def setup(self, config: Fields) -> None:
        self._served = config.port_set("ports")
        self._blocked: dict[bytes, int] = {}
        for index, item in enumerate(config.items("block", required=False)):
            if isinstance(item, str) and item and not item.startswith("."):
                self._blocked.setdefault(item.lower().removesuffix(".").encode(), index)
            else:
                config.problem(
                    f"block[{index}]", f"must be a domain like ads.example, not {item!r}"
                )
        self._checks_answers = config.choice("answers", ("asked", "any"), "asked") == "asked"
        self._max = config.integer("max_queries", 1, 1 << 20, 65_536)
        self._timeout_us = config.seconds("timeout_s", 10)
        self.state.declare("_queries", _QUERIES, FairTable[_Query](self._max))

    def metrics(self) -> dict[str, int]:
        return {"queries": len(self._queries)}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        source, destination = packet.source_port, packet.destination_port
        if packet.protocol != UDP or source < 0:
            return OTHER[port]
        if not (self._served[source] or self._served[destination]):
            return OTHER[port]
        data, l4 = packet.data, packet.l4
        end = l4 + (data[l4 + 4] << 8 | data[l4 + 5])
        if end < l4 + 20 or (end > packet.end and not packet.first_fragment):
            return self.drop("malformed")
        message = bytes(data[l4 + 8 : min(end, packet.end)])
        try:
            name, question = _parse(message, is_whole=not packet.first_fragment)
        except _Malformed:
            return self.drop("malformed")
        here, there = ends(packet)
        if message[2] & 0x80:
            if not self._served[source]:
                return self.drop("malformed")
            if self._checks_answers:
                key = there + here + message[:2]
                if not self._is_asked(key, question, message[3] & 15, now_us):
                    return self.drop("not_asked")
            return OTHER[port]
        if not self._served[destination]:
            return self.drop("malformed")
        blocked = self._blocked_by(name)
        if blocked >= 0:
            rule = f"block[{blocked}]"
            told = Alert(blocked, "blocked domain", rule, blocked=True, rrname=b".".join(name))
            self.events.tell(ALERT, packet, told)
            return self.drop("blocked", rule)
        if self._checks_answers:
            self._remember(here, there + message[:2], _Query(question, now_us, port == INSIDE))
        return OTHER[port]

    def _blocked_by(self, name: list[bytes]) -> int:
        """Which of the blocked domains the name is in; -1: in none."""
        blocked, tail = self._blocked, b""
        for label in reversed(name):
            # A dot within a label is no separator.
            tail = label.replace(b".", b"\\.") + (b"." + tail if tail else b"")
            if tail in blocked:
                return blocked[tail]
        return -1

    def _remember(self, client: bytes, of: bytes, new: _Query) -> None:
        queries = self._queries
        query = queries.get(client + of)
        if query is None:
            queries.size = self._max
            queries.add(client + of, new, host_of(client))
        else:
            queries.refresh(query)
            query.question, query.asked_us = new.question, new.asked_us

    def _is_asked(self, key: bytes, question: bytes, rcode: int, now_us: int) -> bool:
        query = self._queries.get(key)
        if query is None or query.asked_us + self._timeout_us <= now_us:
            return False
        # A server that could not read the question need not repeat it.
        if (question and question != query.question) or not (question or rcode):
            return False
        self._queries.remove(query)
        return True


def _parse(message: bytes, *, is_whole: bool) -> tuple[list[bytes], bytes]:
    """Labels of the question's name in lower case, and the whole question; empty without one."""
    if len(message) < 12:
        raise _Malformed
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & _OPCODE or questions > 1:
        raise _Malformed
    if not flags & _RESPONSE and (questions != 1 or answers or authorities or not is_whole):
        raise _Malformed
    at = 12
    name: list[bytes] = []
    question = b""
    if questions:
        at = _walk(message, at, name)
        fixed = message[at : at + 4]
        if len(fixed) < 4:
            raise _Malformed
        at += 4
        question = b"".join(bytes((len(label),)) + label for label in name) + b"\0" + fixed
    if not is_whole:
        return name, question
    size = len(message)
    for _ in range(answers + authorities + additional):
        at = _walk(message, at, None)
        if at + 10 > size:
            raise _Malformed
        at += 10 + (message[at + 8] << 8 | message[at + 9])
    if at != size:
        raise _Malformed
    return name, question


def _walk(message: bytes, at: int, labels: list[bytes] | None) -> int:
    """Read a name into `labels`; the offset behind it."""
    behind = 0
    floor = at  # where this run of labels began: a pointer must lead to before it
    room = 255 - 1
    try:
        while length := message[at]:
            if length < 64:
                room -= length + 1
                if room < 0 or at + length >= len(message):
                    raise _Malformed
                if labels is not None:
                    labels.append(message[at + 1 : at + 1 + length].lower())
                at += length + 1
                continue
            if length < 0xC0:
                raise _Malformed
            target = (length & 0x3F) << 8 | message[at + 1]
            behind = behind or at + 2
            if not 12 <= target < floor:
                raise _Malformed
            at = floor = target
    except IndexError:
        raise _Malformed from None
    return behind or at + 1

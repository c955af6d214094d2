"""dns_guard: well-formed DNS over UDP only, no blocked names, no answers that nobody asked for."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field

from orchestrator.errors import quoted
from orchestrator.model.elements import (
    FLOW_FIELDS,
    CostProfile,
    ElementGraph,
    FilterProgram,
    StateKey,
)
from orchestrator.model.headers import UDP
from orchestrator.model.match import PortRange
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    Talk,
    network_function,
)
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.inspecting import (
    OPPOSITE,
    PASS,
    ServedPorts,
    inspected,
    port_rules,
    within,
)

HEADER_BYTES = 12
MAX_NAME_BYTES = 255
_DOMAIN = re.compile(r"[!-\-/-\[\]-~]{1,63}(\.[!-\-/-\[\]-~]{1,63})*")


def _checked_domain(text: str) -> str:
    name = text.removesuffix(".").lower()
    if not _DOMAIN.fullmatch(name) or len(name) > MAX_NAME_BYTES - 2 or "*" in name:
        raise ValueError(
            f"{quoted(text)} is not a domain like 'ads.example' (it blocks what is below, too)"
        )
    return name


class DnsGuardConfig(NfConfig):
    """`block`: domains, with all that is below them."""

    block: tuple[Annotated[str, AfterValidator(_checked_domain)], ...] = ()
    ports: ServedPorts = (PortRange(53, 53),)
    answers: Literal["asked", "any"] = "asked"
    max_queries: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 65_536
    timeout_s: Annotated[int, Field(gt=0, strict=True)] = 10


@network_function("dns_guard")
class DnsGuard(NetworkFunction[DnsGuardConfig]):
    """Elements of each port: `prefilter` (stateless: UDP from or to one of the ports), `guard`."""

    Config = DnsGuardConfig
    state_key = StateKey(frozenset(FLOW_FIELDS))
    keeps_state_when_changed = frozenset({"block", "ports", "answers", "max_queries", "timeout_s"})
    cost = CostProfile(
        900,
        3.0,
        "our estimate: a lookup as Lemur's NAT (519) and 3 cycles for each byte of the names",
        state_entry_bytes=797,  # measured (CPython 3.11, tracemalloc), own sources, names of 30 bytes
    )

    @property
    def state_entries(self) -> int:
        return self.config.max_queries

    def elements(self, port: str) -> ElementGraph:
        rules = port_rules(("udp", UDP), self.config.ports, "guard")
        prefilter = "prefilter", FilterProgram(tuple(rules), PASS)
        guard = "guard", "reads DNS messages and remembers the queries"
        return inspected(prefilter, guard, (OPPOSITE[port],))

    def reference(self) -> Reference:
        return DnsGuardReference(self.config)

    def talk(self, protocol: int, rng: random.Random) -> Talk | None:
        if protocol != UDP:
            return None
        name = rng.choice((*self.config.block, "www.example", "ok.test"))
        name = rng.choice((name, f"a.{name}".upper(), f"x{name}"))
        query = struct.pack("!6H", rng.randrange(65536), 0x0100, 1, 0, 0, 0)
        labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
        query += labels + b"\0\0\1\0\1"
        answer = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:]
        answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1"
        odd = rng.random()
        if odd < 0.1:
            answer = bytes([answer[0] ^ 1]) + answer[1:]
        elif odd < 0.2:
            answer = answer[:-3]
        elif odd < 0.3:
            query += b"!"
        return Talk(rng.choice(self.config.ports).low, query, answer)


class Question(NamedTuple):
    """`name`: the labels in lower case."""

    name: tuple[bytes, ...]
    type: int
    class_: int


@dataclass(frozen=True, slots=True)
class Message:
    """What the guard asks of a message."""

    id: int
    is_answer: bool
    rcode: int
    question: Question | None


class MalformedMessage(ValueError):
    """No DNS message as the architecture has it."""


def read_message(data: bytes, *, complete: bool) -> Message:
    """Header, question and, if `complete`, all records to the last byte (RFC 1035, 4.1)."""
    if len(data) < HEADER_BYTES:
        raise MalformedMessage("shorter than a header")
    number, flags, *counts = struct.unpack("!6H", data[:HEADER_BYTES])
    is_answer = bool(flags & 0x8000)
    if flags & 0x7800:
        raise MalformedMessage("not a standard query")
    most = (1, 0xFFFF, 0xFFFF, 0xFFFF) if is_answer else (1, 0, 0, 0xFFFF)
    if any(count > limit for count, limit in zip(counts, most, strict=True)):
        raise MalformedMessage("too many records of a section")
    if not is_answer and (counts[0] != 1 or not complete):
        raise MalformedMessage("a query has one question, in one packet")
    at, question = HEADER_BYTES, None
    if counts[0]:
        name, at = _name(data, at)
        if at + 4 > len(data):
            raise MalformedMessage("ends in its question")
        question = Question(name, *struct.unpack("!2H", data[at : at + 4]))
        at += 4
    if complete:
        for _ in range(sum(counts[1:])):
            _, at = _name(data, at)
            if at + 10 > len(data):
                raise MalformedMessage("ends in a record")
            at += 10 + int.from_bytes(data[at + 8 : at + 10], "big")
        if at != len(data):
            raise MalformedMessage("does not end with its last record")
    return Message(number, is_answer, flags & 15, question)


def _name(data: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    """The labels of a name, and where what follows it begins."""
    labels: list[bytes] = []
    start, end, size = at, None, 1
    while at < len(data):
        length = data[at]
        if length == 0:
            return tuple(labels), at + 1 if end is None else end
        if length >= 0xC0:
            target = int.from_bytes(data[at : at + 2], "big") & 0x3FFF
            # A pointer leads to a prior name, so each one goes further back and none can loop.
            if at + 2 > len(data) or not HEADER_BYTES <= target < start:
                raise MalformedMessage("a pointer that does not lead back")
            end = at + 2 if end is None else end
            at = start = target
            continue
        size += length + 1
        if length > 63 or size > MAX_NAME_BYTES:
            raise MalformedMessage("a name or label that is too long")
        labels.append(data[at + 1 : at + 1 + length].lower())
        at += length + 1
    raise MalformedMessage("ends in a name")


class DnsGuardReference(Reference):
    """`asked`: (client, server, id) -> question and when, the oldest query first."""

    def __init__(self, config: DnsGuardConfig) -> None:
        self.config = config
        self._blocked = {tuple(d.encode().split(b".")) for d in config.block}
        self.asked = FairTable[tuple[int, ...], tuple[Question | None, int]](config.max_queries)

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        ports, is_udp = self.config.ports, packet.has_ports and packet.protocol == UDP
        to_server = is_udp and within(ports, packet.dst_port)
        from_server = is_udp and within(ports, packet.src_port)
        passes = ((OPPOSITE[port], packet),)
        if not (to_server or from_server):
            return passes
        length = int.from_bytes(packet.data[packet.layout.l4 + 4 : packet.layout.l4 + 6], "big")
        whole, data = not packet.more_fragments, packet.payload
        if length < 8 or (whole and length - 8 > len(data)):
            return ()
        try:
            message = read_message(data[: length - 8], complete=whole)
        except MalformedMessage:
            return ()
        client, server = (packet.src, packet.src_port or 0), (packet.dst, packet.dst_port or 0)
        if message.is_answer:
            client, server = server, client
        key = (packet.version, *client, *server, message.id)
        if message.is_answer:
            fits = from_server and self._is_answer(key, message, env.now_us)
        else:
            fits = to_server and self._may_ask(key, message, env.now_us)
        return passes if fits else ()

    def _may_ask(self, key: tuple[int, ...], message: Message, now_us: int) -> bool:
        assert message.question is not None
        name = message.question.name
        if any(name[start:] in self._blocked for start in range(len(name))):
            return False
        if self.config.answers == "asked":
            if self.asked.get(key) is not None:
                self.asked.remove(key)
            client = source_of(key[0], key[1])
            self.asked.add(key, (message.question, now_us), client)
        return True

    def _is_answer(self, key: tuple[int, ...], message: Message, now_us: int) -> bool:
        if self.config.answers == "any":
            return True
        question, since = self.asked.get(key) or (None, 0)
        if question is None or now_us - since >= self.config.timeout_s * 1_000_000:
            return False
        # Servers that refuse may leave the question out (RFC 1035, 4.1.1; seen with FORMERR).
        fits = message.rcode != 0 if message.question is None else message.question == question
        if fits:
            self.asked.remove(key)
        return fits

"""The customer's own taps: what went in at one end and came out at another, of packets that nobody
inside can know to be watched, since no device of the provider has the key.

A packet is known again by what a chain leaves alone: protocol, fragment, lengths, TCP's numbers and
flags, ICMP's type and sequence, the first bytes of a datagram. Whether it is watched is a keyed hash of
that, so both ends watch the same packets. Addresses, ports, TTL, checksums and options may change on
the way; what follows the L4 header may not, and each end keeps its digest. ICMP errors, whose quotes a
NAT rewrites, multicast and frames without IP are not followed.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from orchestrator.errors import InputError
from orchestrator.model.headers import (
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    ICMPV6_ERRORS,
    TCP,
    UDP,
    Malformed,
    layout_of,
)
from orchestrator.verification.statistics import FAMILY_WISE, too_many

FORMAT = 1
ID_BYTES = 16
SENT, RECEIVED = "sent", "received"
_BEGINNING = 8
"""Bytes of a datagram that it is known by."""
_NEIGHBOURS = range(130, 138)
_ICMP_ALONE = {ICMP: ICMP_ERRORS, ICMPV6: ICMPV6_ERRORS | frozenset(_NEIGHBOURS)}
"""Types that are not followed: errors, and what stays on its link (RFC 4861)."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A watched packet at an end: when (us, that end's clock), whether it was sent there or received,
    by what it is known, and the digest of what may not change."""

    at_us: int
    way: str
    packet: str
    digest: str


@dataclass(frozen=True, slots=True)
class Tap:
    """What an end saw; `missed`: frames that its queue had no room for."""

    interface: str
    commitment: str
    rate: float
    began_us: int
    ended_us: int
    missed: int
    sights: tuple[Sight, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """What became of watched packets from one end to another. Delays in us, by both ends' clocks."""

    sent: int
    lost: int
    changed: int
    injected: int
    delays_us: tuple[int, ...]
    missed: int
    problems: tuple[str, ...]

    def delay_us(self, percent: int) -> int | None:
        """A percentile of the delays (nearest rank); None: nothing came."""
        count = len(self.delays_us)
        return self.delays_us[max(0, -(-percent * count // 100) - 1)] if count else None


class TapWatcher:
    """Decides which frames are watched at an end, and what is kept of them."""

    def __init__(self, key: bytes, rate: float) -> None:
        self._key = key
        self._below = round(rate * (1 << 32))

    def saw(self, frame: bytes, at_us: int, way: str) -> Sight | None:
        """What is kept of a frame; None: it is not watched, or cannot be followed."""
        sight = followed(frame)
        if sight is None:
            return None
        marks, rest = sight
        made = blake2b(marks, digest_size=4 + ID_BYTES, key=self._key).digest()
        if int.from_bytes(made[:4], "big") >= self._below:
            return None
        digest = blake2b(rest, digest_size=ID_BYTES).hexdigest()
        return Sight(at_us, way, made[4:].hex(), digest)


def followed(frame: bytes) -> tuple[bytes, bytes] | None:
    """By what a packet is known at both ends, and what may not change; None: it is not followed."""
    try:
        at = layout_of(frame)
    except Malformed:
        return None
    if not at.version or at.protocol is None or frame[0] & 1:
        return None
    l4, end = at.l4, at.end
    if at.version == 4:
        fragment = frame[at.l3 + 4 : at.l3 + 8]
    else:
        fragment = frame[at.fragment + 2 : at.fragment + 8] if at.fragment else b""
    marks = bytes((at.version, at.protocol)) + fragment + (end - l4).to_bytes(4, "big")
    if at.protocol == TCP and not at.later_fragment:
        return marks + frame[l4 + 4 : l4 + 14], frame[l4 + 4 * (frame[l4 + 12] >> 4) : end]
    if at.protocol == UDP and not at.later_fragment:
        return marks + frame[l4 + 8 : min(end, l4 + 8 + _BEGINNING)], frame[l4 + 8 : end]
    if at.protocol in _ICMP_ALONE and not at.later_fragment:
        if frame[l4] in _ICMP_ALONE[at.protocol]:
            return None
        return marks + frame[l4 : l4 + 2] + frame[l4 + 6 : l4 + 8], frame[l4 + 8 : end]
    return marks, frame[l4:end]


def compare(one: Tap, other: Tap, loss_bound: float, settle_us: int) -> Ends:
    """From one end to the other: lost, changed and injected, of what was sent and came so long (us)
    after both had begun and before either ended. That also covers how far their clocks are apart."""
    if one.commitment != other.commitment or one.rate != other.rate:
        raise InputError("the taps have other keys or rates: what they watch is not the same")
    first = max(one.began_us, other.began_us)
    last = min(one.ended_us, other.ended_us)
    waiting: dict[str, deque[Sight]] = defaultdict(deque)
    for sight in one.sights:
        if sight.way == SENT:
            waiting[sight.packet].append(sight)
    delays: list[int] = []
    changed = injected = 0
    for sight in other.sights:
        if sight.way != RECEIVED:
            continue
        there = waiting[sight.packet]
        sent = next((s for s in there if s.digest == sight.digest), there[0] if there else None)
        if sent is None:
            injected += first + settle_us <= sight.at_us <= last - settle_us
            continue
        there.remove(sent)
        changed += sent.digest != sight.digest
        delays.append(sight.at_us - sent.at_us)
    lost = sum(
        first <= sight.at_us <= last - settle_us for left in waiting.values() for sight in left
    )
    count = lost + len(delays)
    missed = one.missed + other.missed
    ends = Ends(count, lost, changed, injected, tuple(sorted(delays)), missed, ())
    return replace(ends, problems=tuple(_problems(ends, loss_bound)))


def _problems(ends: Ends, loss_bound: float) -> Iterator[str]:
    level = FAMILY_WISE / 3
    if too_many(max(0, ends.lost - ends.missed), ends.sent, loss_bound, level):
        yield f"{ends.lost} of {ends.sent} watched packets did not come; the bound is {loss_bound:g}"
    if ends.changed:
        yield f"{ends.changed} of {ends.sent} watched packets came with other contents"
    if ends.injected > ends.missed:
        yield f"{ends.injected} packets came that nobody had sent"


def header(interface: str, commitment: str, rate: float, began_us: int) -> dict[str, Any]:
    """The first line of a tap's file."""
    return {
        "tap": FORMAT, "interface": interface, "key": commitment, "rate": rate, "began_us": began_us,
    }  # fmt: skip


def line(sight: Sight) -> str:
    """A packet's line: time, way, by what it is known, digest."""
    return json.dumps([sight.at_us, sight.way, sight.packet, sight.digest]) + "\n"


def read(path: Path) -> Tap:
    """The file of a tap; one that was cut short ends with its last whole line."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    documents = list(_documents(lines))
    head = documents[0] if documents else None
    if not isinstance(head, dict) or cast("Mapping[str, Any]", head).get("tap") != FORMAT:
        raise InputError(f"{path}: is no file of `verify tap`")
    said = cast("dict[str, Any]", head)
    sights: list[Sight] = []
    ended, missed, number = said.get("began_us", 0), 0, 1
    try:
        for document in documents[1:]:
            number += 1
            if isinstance(document, dict):
                ended, missed = int(document["ended_us"]), int(document["missed"])
            else:
                at_us, way, packet, digest = document
                if way not in (SENT, RECEIVED):
                    raise ValueError(f"'{way}' is neither {SENT} nor {RECEIVED}")
                sights.append(Sight(int(at_us), way, str(packet), str(digest)))
                ended = max(ended, int(at_us))
        return Tap(
            str(said["interface"]), str(said["key"]), float(said["rate"]), int(said["began_us"]),
            ended, missed, tuple(sights),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: line {number}: {error}") from None


def _documents(lines: Iterable[str]) -> Iterator[Any]:
    for text in lines:
        try:
            yield json.loads(text)
        except ValueError:
            return  # cut short

"""The reference of TCP acceptance: which segments the receiver would take, as far as can be known.

By the letter of docs/functions, "TCP acceptance" (RFC 9293, 3.10.7.4; RFC 5961; RFC 7323).
Sequence numbers are compared as distances (RFC 9293, 3.4): more than 2^31 of them have no order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Self

from orchestrator.model.checksums import internet_checksum
from orchestrator.model.headers import ACK, FIN, RST, SYN, TCP
from orchestrator.model.packet import Packet

OLD_BYTES = 65_535
LARGEST_WINDOW = 1 << 30
MAX_SCALE = 14
_HALF, _ALL = 1 << 31, (1 << 32) - 1


class Verdict(Enum):
    """What becomes of a segment."""

    REFUSED = auto()
    PASSES = auto()
    """It counts for nothing, its payload neither."""
    ACCEPTED = auto()
    BEGINS = auto()
    """Accepted, and all that was known is of an earlier connection."""
    RESET = auto()


def distance(start: int, seq: int) -> int:
    """Sequence numbers from `start` to `seq`, negative when `seq` is older."""
    return (seq - start + _HALF & _ALL) - _HALF


def _later(sequence: int | None, seq: int) -> int:
    return seq if sequence is None or distance(sequence, seq) > 0 else sequence


class Segment(NamedTuple):
    """What a segment says. `end` is the sequence number plus the payload's length; `scale` a SYN's."""

    flags: int
    seq: int
    end: int
    ack: int
    window: int
    scale: int | None

    @classmethod
    def of(cls, packet: Packet) -> Self | None:
        """None of a packet that is no whole TCP segment with right checksums."""
        if packet.tcp_flags is None or packet.more_fragments or not _is_intact(packet):
            return None
        at, data, flags = packet.layout, packet.data, packet.tcp_flags
        behind = at.l4 + (data[at.l4 + 12] >> 4) * 4
        if not at.l4 + 20 <= behind <= at.end:
            return None
        seq, ack = packet.tcp_seq or 0, packet.tcp_ack or 0
        length = at.end - behind
        window = int.from_bytes(data[at.l4 + 14 : at.l4 + 16], "big")
        scale = _scale(bytes(data[at.l4 + 20 : behind])) if flags & SYN else None
        return cls(flags, seq, seq + length & _ALL, ack, window, scale)


def _is_intact(packet: Packet) -> bool:
    """Whether nothing is cut off, and the IPv4 header's checksum and TCP's are right."""
    at, data = packet.layout, packet.data
    size = 4 if packet.version == 4 else 16
    start, length_at = (at.l3, 2) if packet.version == 4 else (at.l3 + 40, 4)
    length = int.from_bytes(data[at.l3 + length_at : at.l3 + length_at + 2], "big")
    if start + length != at.end:
        return False
    if packet.version == 4:
        header = bytes(data[at.l3 : at.l3 + (data[at.l3] & 15) * 4])
        if internet_checksum(header):
            return False
    pseudo = b"".join(
        (
            packet.src.to_bytes(size, "big"),
            packet.dst.to_bytes(size, "big"),
            (at.end - at.l4).to_bytes(4, "big"),
            TCP.to_bytes(4, "big"),
        )
    )
    return internet_checksum(pseudo + bytes(data[at.l4 : at.end])) == 0


def _scale(options: bytes) -> int | None:
    """The window scale option (RFC 7323, 2.2)."""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            return None
        if options[at] == 3 and length == 3:
            return min(options[at + 2], MAX_SCALE)
        at += length
    return None


@dataclass(slots=True)
class Side:
    """What is known of a sender; `edge` and `acked` by what its receiver has said. None is unknown."""

    isn: int | None = None
    next: int | None = None
    acked: int | None = None
    edge: int | None = None
    scale: int | None = None
    largest: int = 0
    fin: int | None = None
    candidate: Segment | None = None
    has_reset: bool = False

    @classmethod
    def starting(cls, syn: Segment) -> Self:
        """A side that starts by a SYN."""
        return cls(syn.seq, syn.end + 1 & _ALL, syn.seq, None, syn.scale, syn.window)

    def acknowledges_syn(self, ack: int) -> bool:
        """Whether it is of what this side has sent since its SYN, the SYN included."""
        if self.isn is None or self.next is None:
            return False
        return 0 < (ack - self.isn & _ALL) <= (self.next - self.isn & _ALL)


class TcpConnection:
    """Both sides, by names that the caller gives."""

    def __init__(self, one: object, other: object) -> None:
        self._one, self._other = one, other
        self.sides = {one: Side(), other: Side()}

    @property
    def is_half_open(self) -> bool:
        """Whether a SYN waits for its first answer."""
        one, other = self.sides.values()
        return any(x.isn is not None and y.next is None for x, y in ((one, other), (other, one)))

    @property
    def is_over(self) -> bool:
        """Both sides have sent FIN, or one a reset."""
        sides = self.sides.values()
        return all(side.fin is not None for side in sides) or any(s.has_reset for s in sides)

    @property
    def is_established(self) -> bool:
        """Both sides have sent, SYNs of theirs are acknowledged, and it is not over."""
        heard = all(side.acked != side.isn for side in self.sides.values())
        established = all(side.next is not None for side in self.sides.values())
        return heard and established and not self.is_over

    def judge(self, packet: Packet, sender: object) -> Verdict:
        """What its receiver makes of a TCP packet, and so what is known from now on."""
        segment = Segment.of(packet)
        if segment is None:
            return Verdict.REFUSED
        x, y = self.sides[sender], self.sides[self._peer(sender)]
        kind = segment.flags & (SYN | RST | FIN | ACK)
        contradicts = kind & SYN and kind & (RST | FIN)
        if contradicts or not kind & (ACK | SYN | RST):
            return Verdict.REFUSED
        if kind & RST:
            return _reset(segment, x, y)
        if kind == SYN:
            return self._syn(segment, sender)
        if kind & SYN:
            return self._syn_ack(segment, sender)
        return _first(segment, x, y) if x.next is None else _further(segment, x, y)

    def _peer(self, side: object) -> object:
        return self._other if side == self._one else self._one

    def _start(self, syn: Segment, sender: object) -> None:
        """`sender` starts by its SYN."""
        side, peer = Side.starting(syn), self.sides[self._peer(sender)]
        if peer.isn is not None and peer.largest:
            side.edge = syn.seq + 1 + peer.largest & _ALL
        self.sides[sender] = side

    def _syn(self, syn: Segment, sender: object) -> Verdict:
        x, y = self.sides[sender], self.sides[self._peer(sender)]
        if syn.seq == x.isn and y.next is None:
            x.next = _later(x.next, syn.end + 1 & _ALL)
            return Verdict.ACCEPTED
        if y.next is None and (x.next is None or x.isn is not None):
            self.sides[self._peer(sender)] = Side()
            self._start(syn, sender)
            return Verdict.BEGINS
        if x.next is None and y.isn is not None:
            self._start(syn, sender)
            return Verdict.ACCEPTED
        if syn.end != syn.seq:
            return Verdict.REFUSED
        if syn.seq != x.isn:
            x.candidate = syn
        return Verdict.PASSES

    def _syn_ack(self, segment: Segment, sender: object) -> Verdict:
        x, y = self.sides[sender], self.sides[self._peer(sender)]
        candidate = y.candidate
        if segment.ack == y.isn:
            segment = segment._replace(ack=segment.ack + 1 & _ALL)
        if x.next is None and y.isn is not None:
            if not y.acknowledges_syn(segment.ack):
                return Verdict.REFUSED
            verdict = Verdict.ACCEPTED
        elif (
            candidate is not None
            and segment.ack == candidate.seq + 1 & _ALL
            and segment.seq != x.isn
        ):
            self.sides[sender] = Side()
            self._start(candidate._replace(window=0), self._peer(sender))
            verdict = Verdict.BEGINS
        elif x.next is None and y.next is None:
            segment = segment._replace(scale=segment.scale or 0)
            verdict = Verdict.BEGINS
        else:
            return self._repeated_syn_ack(segment, x, y)
        self._start(segment, sender)
        x, y = self.sides[sender], self.sides[self._peer(sender)]
        if y.isn is not None:
            _agree(x, y)
        y.acked, y.edge = segment.ack, segment.ack + segment.window & _ALL
        return verdict

    def _repeated_syn_ack(self, segment: Segment, x: Side, y: Side) -> Verdict:
        acknowledges = y.isn is None or y.acknowledges_syn(segment.ack)
        if segment.seq != x.isn or segment.end != segment.seq or not acknowledges:
            return Verdict.REFUSED
        y.acked = _later(y.acked, segment.ack)
        if y.edge is None:
            _agree(x, y)
            y.edge = segment.ack + segment.window & _ALL
        return Verdict.PASSES


def _agree(x: Side, y: Side) -> None:
    """Windows are scaled if both SYNs say so (RFC 7323, 1.3)."""
    if x.scale is None or y.scale is None:
        x.scale = y.scale = 0


def _reset(segment: Segment, x: Side, y: Side) -> Verdict:
    if x.next is not None:
        assert x.acked is not None
        if (segment.seq - x.acked & _ALL) > (x.next - x.acked & _ALL):
            opening = y.next is None and x.isn is not None
            return Verdict.PASSES if opening else Verdict.REFUSED
    elif y.isn is None:
        return Verdict.PASSES
    elif not segment.flags & ACK or not y.acknowledges_syn(segment.ack):
        return Verdict.REFUSED
    x.has_reset = True
    return Verdict.RESET


def _first(segment: Segment, x: Side, y: Side) -> Verdict:
    """The first segment of a side, without SYN."""
    if y.isn is not None:
        carries = segment.end != segment.seq or segment.flags & FIN
        return Verdict.REFUSED if carries else Verdict.PASSES
    if x.acked is not None:
        ahead = distance(x.acked, segment.end)
        if not -OLD_BYTES <= ahead <= LARGEST_WINDOW:
            return Verdict.REFUSED
        if ahead < 0:
            return Verdict.PASSES
    if y.next is not None and distance(y.next, segment.ack) > 0:
        return Verdict.REFUSED
    x.acked = segment.seq if x.acked is None else x.acked
    x.next = segment.end
    _take_fin(segment, x)
    y.acked = _later(y.acked, segment.ack)
    return Verdict.ACCEPTED


def _further(segment: Segment, x: Side, y: Side) -> Verdict:
    expected = x.next if y.next is None else x.acked
    assert expected is not None
    if not (_lies_well(segment, x, expected) and _acknowledges_well(segment, x, y)):
        return Verdict.REFUSED
    x.has_reset = False
    if y.isn is not None and y.acked == y.isn:
        y.acked = y.isn + 1 & _ALL
    if segment.end != segment.seq:
        x.next = _later(x.next, segment.end)
    if x.fin is None:
        _take_fin(segment, x)
    if distance(expected, segment.end) >= 0:
        y.acked = _later(y.acked, segment.ack)
        if x.scale is not None:
            window = segment.window << x.scale
            x.largest = max(x.largest, window)
            y.edge = _later(y.edge, segment.ack + window & _ALL)
    return Verdict.ACCEPTED


def _take_fin(segment: Segment, x: Side) -> None:
    if segment.flags & FIN:
        x.fin, x.next = segment.end, segment.end + 1 & _ALL


def _lies_well(segment: Segment, x: Side, expected: int) -> bool:
    """Whether it is neither long behind what is known, nor beyond the window, nor beyond the end."""
    assert x.next is not None
    end = segment.end
    if distance(expected, end) < -OLD_BYTES:
        return False
    limit = expected + LARGEST_WINDOW if x.edge is None else x.edge + 1
    if distance(limit & _ALL, end) > 0:
        return False
    fin = segment.flags & FIN
    if x.fin is None:
        return not (fin and distance(x.next, end) < 0)
    last = x.fin if end != segment.seq else x.fin + 1
    return distance(last & _ALL, end) <= 0 and not (fin and end != x.fin)


def _acknowledges_well(segment: Segment, x: Side, y: Side) -> bool:
    """RFC 5961, 5.2: neither what has not been sent nor what is long known."""
    if y.next is not None and distance(y.next, segment.ack) > 0:
        return False
    oldest = LARGEST_WINDOW if x.scale is None else x.largest
    return y.acked is None or distance(y.acked, segment.ack) >= -oldest

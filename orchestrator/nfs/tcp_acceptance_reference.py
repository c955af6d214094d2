"""The reference of TCP acceptance: which segments the receiver would take, as far as can be known.

By the letter of docs/architecture.md, "TCP acceptance" (RFC 9293, 3.10.7.4; RFC 5961; RFC 7323).
Sequence numbers are compared as distances (RFC 9293, 3.4): more than 2^31 of them have no order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Self

from orchestrator.model.packet import ACK, FIN, RST, SYN, TCP, Packet, internet_checksum

OLDEST_DUPLICATE = 65_535
"""How far behind what is acknowledged a segment may end."""
MAX_SCALE = 14
"""RFC 7323, 2.3; assumed where the SYNs have not been seen."""
_HALF, _ALL = 1 << 31, (1 << 32) - 1


def distance(start: int, seq: int) -> int:
    """Sequence numbers from `start` to `seq`, negative when `seq` is older."""
    return (seq - start + _HALF & _ALL) - _HALF


def _later(known: int | None, seq: int) -> int:
    return seq if known is None or distance(known, seq) > 0 else known


class Segment(NamedTuple):
    """What a segment says. `end` is behind its last byte or flag, `scale` the option of a SYN."""

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
        length = at.end - behind + bool(flags & SYN) + bool(flags & FIN)
        window = int.from_bytes(data[at.l4 + 14 : at.l4 + 16], "big")
        scale = _scale(bytes(data[at.l4 + 20 : behind])) if flags & SYN else None
        return cls(flags, seq, seq + length & _ALL, ack, window, scale)


def _is_intact(packet: Packet) -> bool:
    """Whether the IPv4 header's checksum and TCP's, over the pseudo header, are right."""
    at, data = packet.layout, packet.data
    size = 4 if packet.version == 4 else 16
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
    """What is known of what one side has sent, and of what the other has said about it."""

    syn: Segment | None = None
    """The SYN that this life of the connection began with."""
    next: int | None = None
    acked: int | None = None
    edge: int | None = None
    window: int = 0
    """The largest that it has advertised."""
    fin: int | None = None
    candidate: Segment | None = None
    """A SYN on a living connection, until the other side answers it."""


@dataclass(slots=True)
class TcpConnection:
    """Both sides by name; `lives` counts how often it has begun anew."""

    sides: dict[object, Side] = field(default_factory=dict[object, Side])
    reset_by: object = None
    """The side that has sent an RST, unless it has sent anything else since: then it was no reset."""
    reset_for_sure: bool = False
    """As far as can be known: nothing that it had sent was unacknowledged."""
    lives: int = 0

    @property
    def over(self) -> bool:
        """Whether a SYN begins it anew at once."""
        known = any(side.next is not None for side in self.sides.values())
        return not known or self.finished or (self.reset_by is not None and self.reset_for_sure)

    @property
    def established(self) -> bool:
        """Each side has acknowledged something of the other, and none has ended it."""
        both = len(self.sides) == 2 and all(s.acked is not None for s in self.sides.values())
        return both and self.reset_by is None and not self.finished

    @property
    def finished(self) -> bool:
        """A FIN has come from both sides."""
        return len(self.sides) == 2 and all(s.fin is not None for s in self.sides.values())

    def accepts(self, packet: Packet, sender: object, receiver: object) -> bool:
        """Whether the receiver would take it; if so, what it says is known from now on."""
        segment = Segment.of(packet)
        if segment is None:
            return False
        if not self.sides:
            self.sides = {sender: Side(), receiver: Side()}
        ours, theirs = self.sides[sender], self.sides[receiver]
        kind = segment.flags & (SYN | RST | FIN | ACK)
        if kind & SYN and kind & (RST | FIN):
            return False
        if kind & RST:
            return self._reset(segment, sender, ours, theirs)
        if kind == SYN:
            self._open(segment, sender, receiver)
            return True
        if not kind & ACK:
            return False
        taken = (
            self._answer(segment, sender, receiver)
            if kind & SYN
            else self._continue(segment, ours, theirs)
        )
        if taken and self.reset_by == sender:
            self.reset_by = None  # who goes on has not given up
        return taken

    def _open(self, segment: Segment, sender: object, receiver: object) -> None:
        """A SYN without ACK."""
        ours = self.sides[sender]
        if self.over:
            self._begin(segment, sender, receiver)
        elif ours.syn is None or ours.syn.seq != segment.seq:
            ours.candidate = segment

    def _begin(self, syn: Segment, sender: object, receiver: object) -> None:
        ours = Side(syn=syn, next=syn.end, window=syn.window)
        self.sides = {sender: ours, receiver: Side()}
        self.reset_by = None
        self.lives += 1

    def _answer(self, segment: Segment, sender: object, receiver: object) -> bool:
        """A SYN with ACK: of the SYN that began it, or of a candidate, which then begins it anew."""
        theirs = self.sides[receiver]
        candidate = theirs.candidate
        if candidate is not None and segment.ack == candidate.seq + 1 & _ALL:
            self._begin(candidate, receiver, sender)
        ours, theirs = self.sides[sender], self.sides[receiver]
        if theirs.syn is None or theirs.next is None:
            return False
        if ours.syn is None:
            if (
                not 0
                < distance(theirs.syn.seq, segment.ack)
                <= distance(theirs.syn.seq, theirs.next)
            ):
                return False
            ours.syn = segment
        elif ours.syn.seq != segment.seq or not self._acknowledges(segment, ours, theirs):
            return False
        self._learn(segment, ours, theirs)
        return True

    def _continue(self, segment: Segment, ours: Side, theirs: Side) -> bool:
        """A segment with ACK and without SYN and RST."""
        if ours.next is None and theirs.syn is not None:
            return False  # a SYN is answered by a SYN
        if theirs.next is None and ours.syn is not None:
            return False  # acknowledges what nobody has sent
        if ours.edge is not None and distance(ours.edge, segment.end) > 1:
            return False
        if ours.acked is not None and distance(ours.acked, segment.end) < -OLDEST_DUPLICATE:
            return False
        if not self._acknowledges(segment, ours, theirs):
            return False
        self._learn(segment, ours, theirs)
        if ours.fin is not None and ours.next != ours.fin:
            ours.fin = None  # it was not the end
        if segment.flags & FIN and segment.end == ours.next:
            ours.fin = segment.end
        return True

    def _acknowledges(self, segment: Segment, ours: Side, theirs: Side) -> bool:
        """RFC 5961, 5.2: neither what has not been sent nor what is long known."""
        if theirs.acked is None:
            # Picked up in mid-stream, it may know of more than has been seen since.
            return theirs.syn is None or (
                theirs.next is not None and distance(theirs.next, segment.ack) <= 0
            )
        assert theirs.next is not None
        if distance(theirs.next, segment.ack) > 0:
            return False
        return distance(theirs.acked, segment.ack) >= -ours.window

    def _learn(self, segment: Segment, ours: Side, theirs: Side) -> None:
        """Take over what an accepted segment says."""
        scale = 0
        if not segment.flags & SYN:
            scale = MAX_SCALE
            if ours.syn is not None and theirs.syn is not None:
                scale = 0 if None in (ours.syn.scale, theirs.syn.scale) else ours.syn.scale or 0
        window = segment.window << scale
        ours.window = max(ours.window, window)
        ours.next = _later(ours.next, segment.end)
        theirs.next = _later(theirs.next, segment.ack)
        theirs.acked = _later(theirs.acked, segment.ack)
        theirs.edge = _later(theirs.edge, segment.ack + window & _ALL)

    def _reset(self, segment: Segment, sender: object, ours: Side, theirs: Side) -> bool:
        """RFC 5961, 3.2; the answer to a SYN is told by what it acknowledges (RFC 9293, 3.10.7.3)."""
        if ours.next is None:
            if theirs.syn is None or theirs.next is None or not segment.flags & ACK:
                return False
            ahead = distance(theirs.syn.seq, segment.ack)
            if not 0 < ahead <= distance(theirs.syn.seq, theirs.next):
                return False
            self.reset_for_sure = True
        else:
            first = ours.next if ours.acked is None else ours.acked
            if not distance(first, segment.seq) >= 0 >= distance(ours.next, segment.seq):
                return False
            self.reset_for_sure = segment.seq == ours.next
        self.reset_by = sender
        return True

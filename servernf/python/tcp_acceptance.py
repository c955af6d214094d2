"""Whether the receiver of a TCP segment can take it, as far as a middlebox between the ends can know.

What a receiver ignores must change nothing in a middlebox either, or one forged segment makes the two
disagree (Ptacek and Newsham 1998). The test is RFC 9293, 3.10.7.4 and RFC 5961, made lenient where only
the ends know: docs/functions, "TCP acceptance", is binding.

Sequence numbers are as on the wire and wrap (RFC 9293, 3.4); -1 is unknown, and of a side of which
nothing is known nothing is asked.
"""

from __future__ import annotations

import struct

from servernf.python.checksum import words
from servernf.python.packet import TCP, PacketView
from servernf.wire.state import RecordField

REFUSED = 0
"""The receiver would ignore it. Nothing has changed."""
PASSES = 1
"""Of no account: an end answers it or ignores it. Its payload, if any, is that of a reset."""
ACCEPTED = 2
"""It counts, payload (behind a SYN: from the next sequence number on) and FIN included."""
BEGINS = 3
"""As ACCEPTED, and both streams are new: what was kept of the connection is of an earlier one."""
RESET = 4
"""An RST that the receiver may believe: the connection is transitory, but not over."""

OLD_BYTES = 65_535
"""How far behind what is acknowledged a retransmission may still lie."""
MAX_AHEAD = 1 << 30
"""The largest window there is (RFC 7323, 2.3); asked where none is known."""
MAX_SCALE = 14

FIN, SYN, RST, ACK = 1, 2, 4, 16
_MASK, _HALF = 0xFFFF_FFFF, 0x8000_0000
NEVER = -1
_HEADER = struct.Struct("!IIBBH")


class Side:
    """What is known of one end as a sender, and (`edge`) how far its receiver lets it go."""

    __slots__ = (
        "acked",
        "edge",
        "fin",
        "isn",
        "largest",
        "next",
        "scale",
        "syn",
        "syn_scale",
        "was_reset",
    )

    def __init__(self) -> None:
        self.isn = NEVER
        """Of its SYN; unknown where the connection was picked up in mid-stream."""
        self.next = NEVER
        """Behind the last byte or flag accepted from it."""
        self.acked = NEVER
        """What the other side has acknowledged."""
        self.edge = NEVER
        """Behind the last byte that the other side's window has had room for."""
        self.scale = NEVER
        """Shift of the windows that it advertises (RFC 7323, 2.2); unknown without its SYN."""
        self.largest = 0
        """Of the windows that it has advertised."""
        self.fin = NEVER
        """Where its stream ends."""
        self.syn = NEVER
        """Of a SYN amid the connection, until the other side answers it."""
        self.syn_scale = NEVER
        self.was_reset = False

    @property
    def is_done(self) -> bool:
        """Whether it has sent its FIN or a reset."""
        return self.fin >= 0 or self.was_reset

    def begin(self, isn: int, length: int, window: int, scale: int) -> None:
        """A SYN of it with `length` bytes of payload."""
        self.isn = self.acked = isn
        self.next = isn + 1 + length & _MASK
        self.edge = self.fin = self.syn = NEVER
        self.scale, self.largest = scale, window
        self.was_reset = False

    def forget(self) -> None:
        """Nothing is known of it any more."""
        self.isn = self.next = self.acked = self.edge = self.fin = self.syn = NEVER
        self.scale, self.largest, self.was_reset = NEVER, 0, False


_NUMBERS = ("isn", "next", "acked", "edge", "fin", "syn")
_SCALES = ("scale", "syn_scale")


def side_fields(of: str) -> tuple[RecordField, ...]:
    """The fields of a side as they are written; `of`: the path of its attribute."""
    numbers = (*_NUMBERS, *_SCALES, "largest")
    return (
        *(RecordField(f"{of}.{name}", "i64") for name in numbers),
        RecordField(f"{of}.was_reset", "bool"),
    )


def side_problem(side: Side) -> str:
    """What is wrong with a side that another instance has written; "": nothing."""
    for names, most in ((_NUMBERS, _MASK), (_SCALES, MAX_SCALE)):
        for name in names:
            if not NEVER <= getattr(side, name) <= most:
                return f"{name} must be {NEVER} to {most}, not {getattr(side, name)}"
    if not 0 <= side.largest <= 0xFFFF << MAX_SCALE:
        return f"largest must be 0 to {0xFFFF << MAX_SCALE}, not {side.largest}"
    return ""


def is_over(one: Side, other: Side) -> bool:
    """Whether both sides have sent FIN, or one a reset: what is left is transitory."""
    return one.was_reset or other.was_reset or (one.fin >= 0 and other.fin >= 0)


def is_open(one: Side, other: Side) -> bool:
    """Whether no SYN waits for its first answer: not half-open."""
    return not (one.isn >= 0 and other.next < 0) and not (other.isn >= 0 and one.next < 0)


def is_established(one: Side, other: Side) -> bool:
    """Whether both have sent, SYNs of theirs are acknowledged, and it is not over (RFC 5382, 4)."""
    if one.next < 0 or other.next < 0 or one.acked == one.isn or other.acked == other.isn:
        return False
    return not is_over(one, other)


def is_intact(packet: PacketView) -> bool:
    """Whether a TCP packet is whole and its checksums are right (those of IPv4 and TCP), and its data
    offset lies in it. For what has ports and is no first fragment."""
    data, l3, l4, end = packet.data, packet.l3, packet.l4, packet.end
    length = end - l4
    if not 20 <= data[l4 + 12] >> 4 << 2 <= length:
        return False
    if packet.version == 4:
        if l3 + (data[l3 + 2] << 8 | data[l3 + 3]) != end:
            return False
        if int.from_bytes(data[l3:l4]) % 0xFFFF:
            return False
    elif l3 + 40 + (data[l3 + 4] << 8 | data[l3 + 5]) != end:
        return False
    # An address counts as the sum of its words, too.
    pseudo = packet.source + packet.destination + TCP + length
    return not (words(data[l4:end]) + pseudo) % 0xFFFF


def accept_packet(sender: Side, receiver: Side, packet: PacketView) -> int:
    """`accept` for a packet that is intact."""
    data, l4 = packet.data, packet.l4
    seq, ack, offset, flags, window = _HEADER.unpack_from(data, l4 + 4)
    header = offset >> 4 << 2
    options = data[l4 + 20 : l4 + header] if flags & SYN else b""
    length = packet.end - l4 - header
    return accept(sender, receiver, seq, ack, flags, window, options, length)


def accept(
    sender: Side,
    receiver: Side,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes | bytearray,
    length: int,
) -> int:
    """Judge a segment whose checksums are right, and learn from it; see the constants.

    `window` is the field, `options` what follows the fixed header (read of a SYN only), `length` the
    number of payload bytes.
    """
    if flags & (SYN | RST):
        if flags & RST:
            return REFUSED if flags & SYN else _reset(sender, receiver, seq, ack, flags)
        if flags & FIN:
            return REFUSED
        scale = window_scale(options)
        if flags & ACK:
            return _syn_ack(sender, receiver, seq, ack, window, scale, length)
        return _syn(sender, receiver, seq, window, scale, length)
    if not flags & ACK:
        return REFUSED
    end = seq + length & _MASK
    if sender.next < 0:
        return _first(sender, receiver, seq, ack, flags, window, length)
    # Where it lies: the last byte not too far back, none beyond the window (but a probe's).
    expected = (
        sender.next if receiver.next < 0 else sender.acked
    )  # nobody acknowledges what goes one way
    ahead = (end - expected + _HALF & _MASK) - _HALF
    if ahead < -OLD_BYTES:
        return REFUSED
    if sender.edge < 0:
        if ahead > MAX_AHEAD:
            return REFUSED
    elif (end - sender.edge + _HALF & _MASK) - _HALF > 1:
        return REFUSED
    is_new = (end - sender.next + _HALF & _MASK) - _HALF > 0
    if sender.fin >= 0:
        beyond = (end - sender.fin + _HALF & _MASK) - _HALF
        if beyond > (0 if length else 1) or (flags & FIN and beyond):
            return REFUSED
    elif flags & FIN and not is_new and end != sender.next:
        return REFUSED  # it takes back what it has sent
    # What it acknowledges: nothing that was never sent, nothing too old (RFC 5961, 5.2).
    acked = receiver.acked
    if receiver.next >= 0 and (ack - receiver.next + _HALF & _MASK) - _HALF > 0:
        return REFUSED
    newly = (ack - acked + _HALF & _MASK) - _HALF if acked >= 0 else 0
    if newly < 0 and newly < (-sender.largest if sender.scale >= 0 else -MAX_AHEAD):
        return REFUSED
    if sender.was_reset:
        sender.was_reset = False  # it goes on: its reset was not its own, or has not arrived
    if 0 <= acked == receiver.isn:
        receiver.acked = acked + 1 & _MASK  # who sends without SYN has had the other's
    if length and is_new:
        sender.next = end
    if flags & FIN and sender.fin < 0:
        sender.fin = end
        sender.next = end + 1 & _MASK
    if ahead >= 0:  # of what the receiver takes for old it reads no acknowledgment
        if acked < 0 or newly > 0:
            receiver.acked = ack
        if sender.scale >= 0:
            window <<= sender.scale
            if window > sender.largest:
                sender.largest = window
            edge = ack + window & _MASK
            if receiver.edge < 0 or (edge - receiver.edge + _HALF & _MASK) - _HALF > 0:
                receiver.edge = edge
    return ACCEPTED


def _first(
    sender: Side, receiver: Side, seq: int, ack: int, flags: int, window: int, length: int
) -> int:
    """A segment without SYN from a side that has sent none."""
    end = seq + length & _MASK
    if receiver.isn >= 0:
        # Not the answer to a SYN, but maybe a challenge (RFC 5961, 4): it carries nothing.
        return REFUSED if length or flags & FIN else PASSES
    if sender.acked >= 0:
        ahead = (end - sender.acked + _HALF & _MASK) - _HALF
        if not -OLD_BYTES <= ahead <= MAX_AHEAD:
            return REFUSED
        if ahead < 0:
            return PASSES  # the receiver has it
    if receiver.next >= 0 and (ack - receiver.next + _HALF & _MASK) - _HALF > 0:
        return REFUSED
    if sender.acked < 0:
        sender.acked = seq
    sender.next = end
    if flags & FIN:
        sender.fin, sender.next = end, end + 1 & _MASK
    if receiver.acked < 0 or (ack - receiver.acked + _HALF & _MASK) - _HALF > 0:
        receiver.acked = ack
    return ACCEPTED


def _syn(sender: Side, receiver: Side, seq: int, window: int, scale: int, length: int) -> int:
    if sender.isn == seq and receiver.next < 0:
        end = seq + 1 + length & _MASK
        if (end - sender.next + _HALF & _MASK) - _HALF > 0:
            sender.next = end
        return ACCEPTED
    if receiver.next < 0 and (sender.next < 0 or sender.isn >= 0):
        # Nobody has answered yet: an opening, or another attempt.
        receiver.forget()
        sender.begin(seq, length, window, scale)
        return BEGINS
    if sender.next < 0 and receiver.isn >= 0:  # simultaneous open
        _begin_answering(sender, receiver, seq, window, scale, length)
        return ACCEPTED
    if length:
        return (
            REFUSED  # the receiver, if it believes the SYN, would take bytes that nobody has seen
        )
    if seq != sender.isn:
        sender.syn, sender.syn_scale = seq, scale
    return PASSES


def _syn_ack(
    sender: Side, receiver: Side, seq: int, ack: int, window: int, scale: int, length: int
) -> int:
    if ack == receiver.isn:
        ack = ack + 1 & _MASK  # test tools often do not count the SYN
    if sender.next < 0 and receiver.isn >= 0:
        if not _lies_within(receiver.isn, ack, receiver.next):
            return REFUSED
        _begin_answering(sender, receiver, seq, window, scale, length)
        _agree_on_scale(sender, receiver)
        receiver.acked, receiver.edge = ack, ack + window & _MASK
        return ACCEPTED
    if receiver.syn >= 0 and ack == receiver.syn + 1 & _MASK and seq != sender.isn:
        receiver.begin(receiver.syn, 0, 0, receiver.syn_scale)
        sender.forget()
        sender.begin(seq, length, window, scale)
        _agree_on_scale(sender, receiver)
        receiver.acked, receiver.edge = ack, ack + window & _MASK
        return BEGINS
    if sender.next < 0 and receiver.next < 0:  # its SYN went another way
        sender.begin(seq, length, window, max(scale, 0))
        receiver.acked, receiver.edge = ack, ack + window & _MASK
        return BEGINS
    acknowledges = receiver.isn < 0 or _lies_within(receiver.isn, ack, receiver.next)
    if seq == sender.isn and not length and acknowledges:  # again, or after a simultaneous open
        if receiver.acked < 0 or (ack - receiver.acked + _HALF & _MASK) - _HALF > 0:
            receiver.acked = ack
        if receiver.edge < 0:
            _agree_on_scale(sender, receiver)
            receiver.edge = ack + window & _MASK
        return PASSES
    return REFUSED


def _begin_answering(
    sender: Side, receiver: Side, seq: int, window: int, scale: int, length: int
) -> None:
    sender.begin(seq, length, window, scale)
    if receiver.largest:
        sender.edge = seq + 1 + receiver.largest & _MASK


def _agree_on_scale(one: Side, other: Side) -> None:
    """Windows are scaled only if both SYNs say so (RFC 7323, 1.3)."""
    if one.scale < 0 or other.scale < 0:
        one.scale = other.scale = 0


def _reset(sender: Side, receiver: Side, seq: int, ack: int, flags: int) -> int:
    """An RST counts at exactly the number that its receiver expects (RFC 5961, 3.2), which is none
    before what is acknowledged and none behind what was sent."""
    if sender.next < 0:
        if receiver.isn < 0:
            return PASSES
        if not flags & ACK or not _lies_within(receiver.isn, ack, receiver.next):
            return REFUSED  # RFC 9293, 3.10.7.3
        sender.was_reset = True
        return RESET
    if (seq - sender.acked & _MASK) <= (sender.next - sender.acked & _MASK):
        sender.was_reset = True
        return RESET
    # Nobody has answered its SYN: perhaps the end of an earlier connection, challenged by it.
    return PASSES if receiver.next < 0 and sender.isn >= 0 else REFUSED


def _lies_within(low: int, number: int, high: int) -> bool:
    """Whether low < number <= high."""
    return low >= 0 and 0 < (number - low & _MASK) <= (high - low & _MASK)


def window_scale(options: bytes | bytearray) -> int:
    """The shift in a SYN's options, at most 14 (RFC 7323, 2.3); NEVER without the option."""
    at, size = 0, len(options)
    while at < size:
        kind = options[at]
        if kind == 0:
            break
        if kind == 1:
            at += 1
            continue
        if at + 1 >= size or options[at + 1] < 2 or at + options[at + 1] > size:
            break
        if kind == 3 and options[at + 1] == 3:
            return min(options[at + 2], MAX_SCALE)
        at += options[at + 1]
    return NEVER

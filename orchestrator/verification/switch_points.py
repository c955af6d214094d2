"""What a switch tells a witness, of frames as they come to it and leave it.

Pipelines do not make these records yet, so this stands beside the switches of a simulation. It knows
nothing that a pipeline would not: the frame that came, those that left, and the epochs.

First what came: ENTRY is a host's frame that leaves with a tag, HOP a tagged one for this switch. Behind
it what became of it: OUT is with a tag again, `port_out` says where to ("MAC SPI/SI"), EXIT without (the
chain's last output), DROP none. `path` is that of the tag, of a host's frame the new one's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from servernf.wire import nsh
from servernf.wire.addresses import mac_text
from servernf.wire.nsh import Tag
from servernf.wire.records import CUT, Record, RecordKind, event, frame_digest, point_id
from servernf.wire.witness import Witness

_DEVICE = 0xFFFF_0000


class SwitchPoint:
    """The witness beside a switch; `sink` takes its records."""

    def __init__(
        self,
        name: str,
        mac: int,
        boot: int,
        wall_us: Callable[[], int],
        sink: Callable[[bytes], object],
    ) -> None:
        self._name, self._mac = name, mac
        self._wall_us, self._sink = wall_us, sink
        self._point, self._boot, self._sequence = point_id(name), boot, 0
        self._witness: Witness | None = None
        self._tell({"event": "boot", "point": name})

    def witness(self, graph: str, witness: Witness | None) -> None:
        """Watch by these epochs from now on."""
        if witness != self._witness:
            self._witness = witness
            epochs = [epoch.number for epoch in witness.epochs] if witness else []
            self._tell({"event": "witness", "graph": graph, "epochs": epochs})

    def saw(self, frame: bytes, sent: Sequence[bytes]) -> None:
        """A frame came, and these left."""
        came = nsh.decode(frame)
        left = [nsh.decode(some) for some in sent]
        if came is None:
            tagged = [out for out in left if out is not None]
            for out, _ in tagged[:1]:
                self._record(RecordKind.ENTRY, out, 0, frame)
            for number, (out, packet) in enumerate(tagged):
                self._record(RecordKind.OUT, tagged[0][0], number, packet, _next(out))
            return
        tag, packet = came
        if (tag.dst_mac ^ self._mac) & _DEVICE:
            return  # in transit
        self._record(RecordKind.HOP, tag, 0, packet)
        for number, (out, some) in enumerate(zip(left, sent, strict=True)):
            if out is not None:
                self._record(RecordKind.OUT, tag, number, out[1], _next(out[0]))
            else:
                self._record(RecordKind.EXIT, tag, number, some)
        if not sent:
            self._record(RecordKind.DROP, tag, 0, packet, "", "switch")

    def _record(
        self,
        kind: RecordKind,
        tag: Tag,
        branch: int,
        packet: bytes,
        port_out: str = "",
        reason: str = "",
    ) -> None:
        epoch = self._epoch(tag)
        if self._witness is None or not epoch:
            return
        kept = packet[: self._witness.headers] if self._witness.headers else packet
        cut = len(kept) < len(packet)
        made = Record(
            kind, self._point, self._boot, self._sequence, tag.label, tag.ingress_us,
            tag.spi << 8 | tag.si, epoch, branch, CUT if cut else 0, tag.flow, len(packet),
            wall_us=self._wall_us(), context_in=tag.nf_labels,
            digest=frame_digest(packet) if cut else bytes(16), port_out=port_out, reason=reason,
            frame=kept,
        )  # fmt: skip
        self._put(made)

    def _epoch(self, tag: Tag) -> int:
        """The earliest by which a packet is watched; 0: it is not."""
        for e in self._witness.epochs if self._witness else ():
            if e.watches(tag.label, tag.ingress_us, tag.flow):
                return e.number
        return 0

    def _tell(self, said: dict[str, object]) -> None:
        self._put(event(self._point, self._boot, self._sequence, self._wall_us(), said))

    def _put(self, record: Record) -> None:
        self._sequence += 1
        self._sink(record.pack())


def _next(tag: Tag) -> str:
    return f"{mac_text(tag.dst_mac)} {tag.spi}/{tag.si}"

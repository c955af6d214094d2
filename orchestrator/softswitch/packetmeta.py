"""PacketIn and PacketOut: controller headers in front of a frame."""

from __future__ import annotations

from finsy.proto import p4i, p4r

from orchestrator.errors import SwitchError


def canonical(value: int) -> bytes:
    """Shortest big-endian bytes of a value, at least one (P4Runtime, 8.4)."""
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


class ControllerHeaders:
    """Encodes packet_out and decodes packet_in as P4Info describes them."""

    def __init__(self, p4info: p4i.P4Info) -> None:
        self.packet_in: tuple[tuple[int, str, int], ...] = ()
        self.packet_out: tuple[tuple[int, str, int], ...] = ()
        for header in p4info.controller_packet_metadata:
            fields = tuple((m.id, m.name, m.bitwidth) for m in header.metadata)
            if header.preamble.name == "packet_in":
                self.packet_in = fields
            elif header.preamble.name == "packet_out":
                self.packet_out = fields
        self.in_bits = sum(w for _, _, w in self.packet_in)
        self.out_bits = sum(w for _, _, w in self.packet_out)

    def decode(self, frame: bytes) -> p4r.PacketIn:
        """Split a frame that left by the CPU port; too short a frame has no metadata."""
        size = (self.in_bits + 7) // 8
        if len(frame) < size:
            return p4r.PacketIn(payload=frame)
        packet = p4r.PacketIn(payload=frame[size:])
        number = int.from_bytes(frame[:size], "big")
        shift = size * 8
        for ident, _, width in self.packet_in:
            shift -= width
            packet.metadata.add(
                metadata_id=ident, value=canonical(number >> shift & ((1 << width) - 1))
            )
        return packet

    def encode(self, packet: p4r.PacketOut) -> bytes:
        """The frame that enters at the CPU port; absent metadata is 0 (as BMv2)."""
        values: dict[int, int] = {}
        fields = {ident: (name, width) for ident, name, width in self.packet_out}
        for m in packet.metadata:
            if m.metadata_id not in fields:
                valid = ", ".join(f"{i} ({n})" for i, (n, _) in fields.items()) or "none"
                raise SwitchError(
                    f"PacketOut: unknown metadata id {m.metadata_id} (valid: {valid})"
                )
            name, width = fields[m.metadata_id]
            value = int.from_bytes(m.value, "big")
            if value >> width:
                raise SwitchError(
                    f"PacketOut: metadata {name}: value {value} does not fit {width} bits"
                )
            values[m.metadata_id] = value
        size = (self.out_bits + 7) // 8
        number = 0
        for ident, _, width in self.packet_out:
            number = number << width | values.get(ident, 0)
        number <<= size * 8 - self.out_bits
        return number.to_bytes(size, "big") + packet.payload

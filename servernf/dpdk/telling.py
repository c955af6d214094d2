"""What NFs in C tell people (c/events.h), in the Python runtime's words."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager

from servernf.dpdk.engine import NfEngine, Teller
from servernf.python.runtime.events import Events
from servernf.python.telling import Nat, Said, ToldDrop, ToldPacket

EVENT = 3
"""Of `enum told` (c/boundary.h)."""
_DROP, _ALERT, _NAT = range(3)
_EVENT = struct.Struct("=Q4I16s16s3Hh3B2sB2x")


class ToldEvents(Events):
    """Events that the C side has told; `turn` is held by who writes them, `catch_up` has what it
    has told so far written."""

    def __init__(
        self,
        clock: Callable[[], int],
        wall_clock: Callable[[], int],
        engine: NfEngine,
        turn: AbstractContextManager[object],
        catch_up: Callable[[], object],
    ) -> None:
        super().__init__(clock, wall_clock)
        self._engine, self._turn, self._catch_up = engine, turn, catch_up

    def take(self, told_as: int, said: bytes) -> None:
        """Enter an event; who calls holds the turn."""
        teller = self._engine.teller(told_as)
        if teller is not None:
            at_us, flow, words = _read(teller, said)
            past_us = max(0, self._clock() - at_us)
            self.put(teller.name, teller.type_name, flow, words, self._wall_clock() - past_us)

    def settle(self) -> None:
        self._catch_up()
        with self._turn:
            self._engine.refresh_events()
            super().settle()

    def metrics(self) -> dict[str, int]:
        self._engine.refresh_events()
        return super().metrics()


def _read(teller: Teller, event: bytes) -> tuple[int, ToldPacket | None, Said]:
    """When it was (us), the packet, what is said."""
    (
        now_us, kind, number, rule, length, source, destination, ether_type, source_port,
        destination_port, protocol, version, has_ports, is_icmp, type_and_code, ttl,
    ) = _EVENT.unpack(event)  # fmt: skip
    if kind == _NAT:
        inside, outside = (int.from_bytes(end[:4], "big") for end in (source, destination))
        ends = inside, source_port, outside, destination_port
        return now_us, None, Nat(number, protocol, *ends)
    flow = ToldPacket(
        ether_type,
        version,
        protocol,
        int.from_bytes(source, "big"),
        int.from_bytes(destination, "big"),
        source_port if has_ports else -1,
        destination_port if has_ports else -1,
        type_and_code if is_icmp else b"",
        length,
        ttl,
    )
    said: Said
    if kind == _ALERT:
        said = teller.alert(number)
    else:
        assert kind == _DROP
        rules: tuple[str, ...] = teller.rules
        said = ToldDrop(teller.reasons[number], rules[rule] if rule < len(rules) else "")
    return now_us, flow, said

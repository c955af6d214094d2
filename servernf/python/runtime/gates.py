"""Which frames are of buckets whose state is on its way: they wait here, or go after it.

Only while state moves are frames looked at before their NFs; otherwise nothing of this is in their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from servernf.python.network_function import INSIDE, OUTSIDE
from servernf.python.packet import PacketView
from servernf.python.runtime.tables import CompiledCall, CompiledExit
from servernf.python.runtime.tag import TAG_BYTES
from servernf.python.scope import Buckets

_PATH = slice(18, 22)


@dataclass(slots=True)
class Gate:
    """What a transfer, or a replication, does with frames that come to its NFs; `buckets` None: all of
    these are its own."""

    nfs: frozenset[str]
    buckets: Buckets | None
    takes: Callable[[bytes], bool]
    """Whether it has kept a frame of its flows, so that no NF sees it now."""
    is_over: bool = False
    """Whether it is for packets that come too late only: another transfer ends it."""
    follows: bool = False
    """Whether it is of a replication, at its primary."""
    opens: Callable[[], None] | None = None
    """Called before each batch, to open it once it is time."""


class Gates:
    """All gates of a worker."""

    def __init__(self, core_mac: int) -> None:
        self._mac = core_mac.to_bytes(6, "big")
        self.all: list[Gate] = []
        self.released: list[bytes] = []
        """Frames that were held back, and come before all others."""
        self._packet = PacketView()

    def fetch(self) -> None:
        """Have gates take what has come for them; here they have, frame by frame."""

    def give(self, frames: Iterable[bytes]) -> None:
        """Frames that came to another worker are for this one."""
        self.released += [self._mac + frame[6:] for frame in frames]

    def let(self, frames: Sequence[bytes], steps: Mapping[int, CompiledCall]) -> list[bytes]:
        """The frames that NFs see now, those that have waited first."""
        for gate in list(self.all):
            if gate.opens is not None:
                gate.opens()
        passed, self.released = self.released, []
        passed += [frame for frame in frames if not self._keeps(frame, steps)]
        return passed

    def _keeps(self, frame: bytes, steps: Mapping[int, CompiledCall]) -> bool:
        step = steps.get(int.from_bytes(frame[_PATH], "big"))
        if step is None or not self._packet.load(frame, TAG_BYTES):
            return False
        reached = [call.instance.name for call in steps_behind(step)]
        for gate in self.all:
            if not gate.nfs.isdisjoint(reached) and (
                gate.buckets is None or is_of(step, self._packet, gate.buckets)
            ):
                return gate.takes(frame)
        return False


def is_of(step: CompiledCall, packet: PacketView, buckets: Buckets) -> bool:
    """Whether the switches send a packet that enters an NF to who owns one of the buckets.

    As they do: by the addresses of its flow, and by a pool's where the packet still shows that.
    """
    source, destination = packet.flow()
    if step.port == INSIDE:
        return buckets.group(source, destination) is not None
    if buckets.key == "inside_address" and step.port == OUTSIDE:
        for call in steps_behind(step):
            answer = call.instance.nf.hash_of_answer(packet, call.port)
            if answer is not None:
                return buckets.holds(answer)
    return buckets.group(destination, source) is not None


def steps_behind(step: CompiledCall) -> list[CompiledCall]:
    """A step and all that follow on this worker, the nearest first."""
    calls: list[CompiledCall] = []
    ways: list[CompiledCall | CompiledExit] = [step]
    while ways:
        way = ways.pop(0)
        if isinstance(way, CompiledCall) and way not in calls:
            calls.append(way)
            ways += way.next.values()
    return calls

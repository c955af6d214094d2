"""Scenarios against several systems at once, in step, with a comparison after every packet.

A conversation is a generator written for ONE system: it yields (host, frame) to send and is sent back
what hosts received. The driver runs a copy of it for every system, so that a server's answer goes to the
address that it saw there, whatever port that system's NAPT chose. Copies make the same random choices
because each makes its own `random.Random` from the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.oracle.comparison import Comparator
from orchestrator.oracle.network import Delivery

Conversation = Generator[Delivery, list[Delivery], None]
System = Callable[[str, bytes], Sequence[Delivery]]
"""Sends a frame from a host; what hosts then receive."""


@dataclass(frozen=True, slots=True)
class NamedConversation:
    """A named conversation that can be begun anew for every system."""

    name: str
    begin: Callable[[], Conversation]


@dataclass(frozen=True, slots=True)
class PacketDifference:
    """One packet that a system treated otherwise than the reference."""

    scenario: str
    number: int
    """The packet's number in the run, from 1."""
    host: str
    frame: bytes
    why: str

    def __str__(self) -> str:
        return f"packet {self.number} ({self.scenario}, from {self.host}): {self.why}"


@dataclass(slots=True)
class _Running:
    """A scenario in progress: one conversation a system, and what each sends next."""

    name: str
    conversations: tuple[Conversation, ...]
    next: list[Delivery | None]


@dataclass(slots=True)
class Driver:
    """Runs scenarios interleaved; the first of `systems` is the reference.

    `width` scenarios are in progress at a time. A scenario ends at its first difference.
    """

    systems: Sequence[System]
    comparator: Comparator | None = None
    seed: int = 0
    width: int = 8
    packets: int = 0
    delivered: int = 0
    uncompared: int = 0
    """Packets whose outcome depends on a choice that cannot be known (`Comparator.translated`)."""
    sent: list[Delivery] = field(default_factory=list[Delivery])
    """Every (host, frame) as the reference was sent it, in order."""
    differences: list[PacketDifference] = field(default_factory=list[PacketDifference])

    def run(
        self, scenarios: Iterable[NamedConversation], packets: int, stop_after: int = 20
    ) -> None:
        """Send at most about `packets` more packets; stop early after so many differences."""
        rng = random.Random(self.seed)
        source = iter(scenarios)
        running: list[_Running] = []
        last = self.packets + packets
        while self.packets < last and len(self.differences) < stop_after:
            while len(running) < self.width:
                scenario = next(source, None)
                if scenario is None:
                    break
                started = self._start(scenario)
                if started is not None:
                    running.append(started)
            if not running:
                return
            index = rng.randrange(len(running))
            if not self._step(running[index]):
                running.pop(index)

    def _start(self, scenario: NamedConversation) -> _Running | None:
        conversations = tuple(scenario.begin() for _ in self.systems)
        sends = [next(conversation, None) for conversation in conversations]
        if all(send is None for send in sends):
            return None
        return _Running(scenario.name, conversations, sends)

    def _step(self, running: _Running) -> bool:
        """One packet in every system; whether the scenario goes on."""
        sends = running.next
        if sends[0] is None:
            return False
        self.packets += 1
        self.sent.append(sends[0])
        results: list[list[Delivery]] = []
        compared: list[list[Delivery]] = []
        for system, send in zip(self.systems, sends, strict=True):
            comparable = True
            if send is not None and results and send == sends[0] and self.comparator is not None:
                frame = self.comparator.translated(send[1])
                comparable = frame is not None
                send = (send[0], send[1] if frame is None else frame)
            results.append(list(system(*send)) if send is not None else [])
            if comparable:
                compared.append(results[-1])
            else:
                self.uncompared += 1
        self.delivered += bool(results[0])
        if self.comparator is not None:
            for got in compared[1:]:
                why = self.comparator.difference(results[0], got)
                if why is not None and self.comparator.tolerates(results[0], got):
                    self.uncompared += 1
                    return False
                if why is not None:
                    host, frame = sends[0]
                    self.differences.append(
                        PacketDifference(running.name, self.packets, host, frame, why)
                    )
                    return False
        if len(compared) < len(results) and any(result != results[0] for result in results):
            return False  # what the hosts do from here on would not be the same
        running.next = [
            _resume(conversation, result)
            for conversation, result in zip(running.conversations, results, strict=True)
        ]
        ended = [send is None for send in running.next]
        if any(ended) and not all(ended):
            host, frame = sends[0] or ("", b"")
            why = "after this packet the hosts behave differently: the deliveries only look alike"
            self.differences.append(PacketDifference(running.name, self.packets, host, frame, why))
        return not any(ended)


def _resume(conversation: Conversation, result: list[Delivery]) -> Delivery | None:
    try:
        return conversation.send(result)
    except StopIteration:
        return None

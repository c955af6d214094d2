"""What the P4Runtime server needs of that which executes packets.

An engine may be this process (`python_engine`) or another one behind a socket: what passes here are
P4Runtime's own messages, numbers and texts, nothing that lives in an engine's memory. Who may
ask for what (arbitration, certificates, secrets) is the server's; an engine does as it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from finsy.proto import p4r


class EngineEvents(Protocol):
    """What an engine reports, from whatever thread; none of it may wait."""

    def packet_in(self, packet: p4r.PacketIn) -> None: ...

    def digest(self, digest: p4r.DigestList) -> None: ...

    def idle_timeout(self, notification: p4r.IdleTimeoutNotification) -> None: ...


class Engine(Protocol):
    """One device. Methods are called from several threads at once.

    Refusals are `EntityError` (with google.rpc's code), `WriteError` (one for each update) and, for a
    configuration, any `ReportedError` whose text says what is wrong with it.
    """

    @property
    def device_id(self) -> int: ...

    @property
    def target(self) -> str:
        """The name of the target that a device with this engine is."""
        ...

    @property
    def configured(self) -> bool:
        """Whether a pipeline runs."""
        ...

    def connect(self, events: EngineEvents) -> None:
        """Report to `events` from now on, and to nobody else."""
        ...

    # -- pipeline: a configuration is made ready, then put in force ------------------------------

    def verify(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Raise what is wrong with a configuration; changes nothing, and packets do not wait for it."""
        ...

    def save(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Make a configuration ready, in place of the one that was; one that is refused leaves that."""
        ...

    def commit(self) -> None:
        """Put what was saved in force, without entries."""
        ...

    def reconcile(self) -> None:
        """Put what was saved in force and keep all entries; SwitchError if one does not fit it."""
        ...

    # -- entities ------------------------------------------------------------------------------

    def write(self, updates: Iterable[p4r.Update], admit: Callable[[], None]) -> None:
        """Apply updates, each on its own; no packet sees half of them. WriteError if any failed.

        `admit` is called when it is this write's turn, and raises if it may not be applied any more.
        SwitchError if the pipeline was replaced meanwhile.
        """
        ...

    def read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        """What the given entities select, as P4Runtime's wildcards say."""
        ...

    # -- packets and time ----------------------------------------------------------------------

    def packet_out(self, packet: p4r.PacketOut) -> None:
        """A controller's packet; SwitchError if its metadata are not the pipeline's."""
        ...

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        """The controller has a digest list."""
        ...

    def tick(self) -> None:
        """Report digests and idle timeouts that are due."""
        ...

    def drops(self) -> Mapping[str, int]:
        """Frames dropped outside the pipeline so far, by reason (sockets, ports that are not there)."""
        ...

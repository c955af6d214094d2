"""The fast engine as the P4Runtime server sees it: a `FastSwitch` whose process has ports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from finsy.proto import p4r

from orchestrator.errors import SwitchError
from orchestrator.softswitch.engine import EngineEvents
from orchestrator.softswitch.fast.switch import FastSwitch, Loaded
from orchestrator.softswitch.ir import program_of


class Checking(Protocol):
    """Finds what is wrong with a configuration elsewhere, and leaves there what is compiled."""

    def check(self, config: p4r.ForwardingPipelineConfig) -> None: ...


class FastEngine:
    """`switch` is open. What its process tells is handed on in a thread; `on_end` hears of its end.

    Programs are read and compiled by `compiling` first, in another process, then taken from the cache.
    """

    def __init__(
        self,
        switch: FastSwitch,
        compiling: Checking,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.switch = switch
        self._compiling = compiling
        self.on_end = on_end
        self._saved: Loaded | None = None
        self._teller = threading.Thread(target=self._tell, name="fast-told", daemon=True)

    def start(self) -> None:
        self._teller.start()

    def _tell(self) -> None:
        child = self.switch.child
        while child.take_told(wait=True):
            pass
        self.on_end()

    @property
    def device_id(self) -> int:
        return self.switch.device_id

    @property
    def target(self) -> str:
        return "dpdk"

    @property
    def configured(self) -> bool:
        return self.switch.configured

    def connect(self, events: EngineEvents) -> None:
        self.switch.on_packet_in = events.packet_in
        self.switch.on_digest = events.digest
        self.switch.on_idle_timeout = events.idle_timeout

    def verify(self, config: p4r.ForwardingPipelineConfig) -> None:
        self._compiling.check(config)

    def save(self, config: p4r.ForwardingPipelineConfig) -> None:
        self._compiling.check(config)
        made = self.switch.prepare(program_of(config.p4_device_config), config.p4info)
        before, self._saved = self._saved, made
        if before is not None:
            self.switch.forget(before)

    def commit(self) -> None:
        self.switch.install(self._take_saved())

    def reconcile(self) -> None:
        self.switch.reconcile(self._take_saved())

    def _take_saved(self) -> Loaded:
        if self._saved is None:
            raise SwitchError(f"{self.switch.name}: no configuration is saved")
        saved, self._saved = self._saved, None
        return saved

    def write(self, updates: Iterable[p4r.Update], admit: Callable[[], None]) -> None:
        self.switch.write(updates, admit)

    def read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        return self.switch.read(*entities)

    def packet_out(self, packet: p4r.PacketOut) -> None:
        self.switch.send_packet_out(packet)

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        self.switch.ack_digest(ack)

    def tick(self) -> None:
        self.switch.tick()

    def drops(self) -> Mapping[str, int]:
        return self.switch.drops()

"""The Python engine: a `SoftSwitch` of this process, as the P4Runtime server sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from finsy.proto import p4r

from orchestrator.errors import SwitchError
from orchestrator.softswitch.engine import EngineEvents
from orchestrator.softswitch.ir import check_size
from orchestrator.softswitch.pipeline import RunningPipeline
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.softswitch.verifier import Verifier


class PythonEngine:
    """`verifier` is the process that programs are verified in; without one it is this process.

    `port_drops` says what the ports' sockets have dropped, by reason.
    """

    def __init__(
        self,
        switch: SoftSwitch,
        verifier: Verifier | None = None,
        port_drops: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self.switch = switch
        self.verifier = verifier
        self.port_drops = port_drops
        self._saved: tuple[p4r.ForwardingPipelineConfig, RunningPipeline] | None = None

    @property
    def device_id(self) -> int:
        return self.switch.device_id

    @property
    def target(self) -> str:
        return "softswitch"

    @property
    def configured(self) -> bool:
        return self.switch.pipeline is not None

    def connect(self, events: EngineEvents) -> None:
        self.switch.on_packet_in = events.packet_in
        self.switch.on_digest = events.digest
        self.switch.on_idle_timeout = events.idle_timeout

    def verify(self, config: p4r.ForwardingPipelineConfig) -> None:
        if self.verifier is None:
            self.switch.prepare(config)
        else:
            check_size(config.p4_device_config)
            self.verifier.check(config)

    def save(self, config: p4r.ForwardingPipelineConfig) -> None:
        self._saved = (config, self.switch.prepare(config))

    def commit(self) -> None:
        config, pipeline = self._take_saved()
        self.switch.install(pipeline, config.p4info)

    def reconcile(self) -> None:
        config, pipeline = self._take_saved()
        self.switch.reconcile(pipeline, config.p4info)

    def _take_saved(self) -> tuple[p4r.ForwardingPipelineConfig, RunningPipeline]:
        if self._saved is None:
            raise SwitchError(f"{self.switch.name}: no configuration is saved")
        saved, self._saved = self._saved, None
        return saved

    def write(self, updates: Iterable[p4r.Update], admit: Callable[[], None]) -> None:
        self.switch.write(updates, admit)

    def read(self, entities: Iterable[p4r.Entity]) -> Iterator[p4r.Entity]:
        return self.switch.read(*entities)

    def packet_out(self, packet: p4r.PacketOut) -> None:
        switch = self.switch
        with switch.locked():
            frames = switch.packet_out(packet)
            if switch.transmit is not None:
                switch.transmit(frames)

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        self.switch.ack_digest(ack)

    def tick(self) -> None:
        self.switch.tick()

    def drops(self) -> Mapping[str, int]:
        return self.port_drops()

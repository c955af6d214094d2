"""Meters: two rates, three colors, as BMv2 computes them.

RFC 2698 color-blind, with BMv2's arithmetic (meters.cpp, by behaviour): each
rate's tokens since time 0 are `int(microseconds * rate)`, so no fraction is
lost between packets; the peak rate is tried first, and a packet that it
refuses takes no committed tokens. A meter without a configuration marks green.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finsy.proto import p4r, rpc_code

from orchestrator.softswitch.entity_errors import EntityError

GREEN, YELLOW, RED = 0, 1, 2
MAX_BURST = 0xFFFFFFFF
_UNSET = -1


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """Rates a second and bursts, in the meter's unit."""

    cir: int
    cburst: int
    pir: int
    pburst: int


class RunningMeter:
    """One meter; `execute` takes a packet's length and returns its color."""

    __slots__ = (
        "_committed",
        "_committed_seen",
        "_now",
        "_peak",
        "_peak_seen",
        "config",
        "packets",
    )

    def __init__(self, packets: bool, now: Callable[[], int]) -> None:
        self.packets = packets
        self._now = now
        self.config: MeterConfig | None = None
        self._peak = self._peak_seen = 0
        self._committed = self._committed_seen = 0

    def configure(self, config: MeterConfig | None) -> None:
        """Both buckets start full; None makes every packet green."""
        self.config = config
        if config is not None:
            self._peak, self._committed = config.pburst, config.cburst
            self._peak_seen = self._committed_seen = 0

    def execute(self, length: int) -> int:
        config = self.config
        if config is None:
            return GREEN
        now = self._now()
        size = 1 if self.packets else length
        total = int(now * (config.pir / 1e6))
        peak = min(self._peak + total - self._peak_seen, config.pburst)
        self._peak_seen = total
        if peak < size:
            self._peak = peak
            return RED
        self._peak = peak - size
        total = int(now * (config.cir / 1e6))
        committed = min(self._committed + total - self._committed_seen, config.cburst)
        self._committed_seen = total
        if committed < size:
            self._committed = committed
            return YELLOW
        self._committed = committed - size
        return GREEN


class MeterCells:
    """An array of meters, made as they are configured."""

    def __init__(self, size: int, packets: bool, now: Callable[[], int]) -> None:
        self.size = size
        self.packets = packets
        self._now = now
        self.cells: dict[int, RunningMeter] = {}

    def execute(self, index: int, length: int) -> int:
        meter = self.cells.get(index)
        return GREEN if meter is None else meter.execute(length)

    def configure(self, index: int, config: MeterConfig | None) -> None:
        if config is None:
            self.cells.pop(index, None)
        else:
            self.cells.setdefault(index, RunningMeter(self.packets, self._now)).configure(config)

    def config(self, index: int) -> MeterConfig | None:
        meter = self.cells.get(index)
        return None if meter is None else meter.config


def decode_meter_config(what: str, config: p4r.MeterConfig) -> MeterConfig | None:
    """Checked configuration; all fields -1 is the default, as for BMv2."""
    named = {
        "cir": config.cir,
        "cburst": config.cburst,
        "pir": config.pir,
        "pburst": config.pburst,
    }
    if all(v == _UNSET for v in named.values()):
        return None
    for name, value in named.items():
        if value < 0:
            raise EntityError(
                rpc_code.INVALID_ARGUMENT,
                f"{what}: {name} {value} is negative; leave the config out to mark all green",
            )
    for name in ("cburst", "pburst"):
        if named[name] > MAX_BURST:
            raise EntityError(
                rpc_code.UNIMPLEMENTED,
                f"{what}: {name} {named[name]} is too large (largest: {MAX_BURST})",
            )
    if config.eburst:
        raise EntityError(
            rpc_code.INVALID_ARGUMENT,
            f"{what}: eburst is for single-rate meters; v1model's have two rates "
            "(valid: cir, cburst, pir, pburst)",
        )
    if config.pir < config.cir:
        raise EntityError(
            rpc_code.INVALID_ARGUMENT,
            f"{what}: peak rate {config.pir} is below committed rate {config.cir}; "
            "pir >= cir is needed",
        )
    return MeterConfig(config.cir, config.cburst, config.pir, config.pburst)


def encode_meter_config(config: MeterConfig, out: p4r.MeterConfig) -> None:
    out.cir, out.cburst = config.cir, config.cburst
    out.pir, out.pburst = config.pir, config.pburst

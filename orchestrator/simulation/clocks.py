"""What a device takes for the time: virtual time, from elsewhere and at another pace."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import InputError

_SLOWEST_PPM = -1_000_000.0


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock that showed `offset_us` when virtual time began, and is `skew_ppm` millionths too fast."""

    offset_us: int = 0
    skew_ppm: float = 0.0

    def __post_init__(self) -> None:
        if self.offset_us < 0:
            raise InputError(f"clock: offset_us {self.offset_us}: 0 or more is expected")
        if self.skew_ppm <= _SLOWEST_PPM:
            raise InputError(f"clock: skew_ppm {self.skew_ppm}: more than -1,000,000 is expected")

    def read_ns(self, now_ns: int) -> int:
        """What it shows at a virtual time."""
        shown = now_ns + self.offset_us * 1000
        return shown + round(now_ns * self.skew_ppm / 1e6) if self.skew_ppm else shown

    def lasting_ns(self, shown_ns: int) -> int:
        """How long it takes in virtual time until it shows so much more."""
        return -int(-shown_ns // (1 + self.skew_ppm / 1e6)) if self.skew_ppm else shown_ns

"""Where and when something is measured."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.profiles import Measurement


def measured_now(software: str) -> Measurement:
    """This machine, today, with this software."""
    return Measurement(
        cpu=_line("model name") or platform.machine(),
        cycles_per_second=_cycles(),
        system=f"{platform.system()} {platform.release()}",
        when=datetime.now(UTC).date().isoformat(),
        software=software,
    )


def _line(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _cycles() -> int:
    """What the CPU says of itself, Hz; 1 GHz where it says nothing."""
    said = _line("cpu MHz")
    return round(float(said) * 1e6) if said else 10**9

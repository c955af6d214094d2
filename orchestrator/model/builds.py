"""Compiled pipelines as data: what p4c made, and of which instances."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Slot:
    """One instance of a block, in pipeline order; with `nf` only for that NF."""

    instance: str
    block: str
    nf: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """A loadable pipeline: P4Info text and device config; `cookie` is a digest of both."""

    name: str
    p4info_text: bytes
    device_config: bytes
    slots: tuple[Slot, ...]

    @property
    def cookie(self) -> int:
        """Tells whether a switch runs this very pipeline (P4Runtime, 7.2)."""
        return _cookie(self.p4info_text, self.device_config)


@lru_cache(maxsize=64)
def _cookie(p4info_text: bytes, device_config: bytes) -> int:
    """Asked for with every device, and a program is half a megabyte."""
    digest = hashlib.sha256(p4info_text + b"\0" + device_config).digest()
    return int.from_bytes(digest[:8], "big")

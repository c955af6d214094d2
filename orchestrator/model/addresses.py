"""Addresses at which devices are managed: what gRPC calls a target, of the three kinds that are used."""

from __future__ import annotations

import re

ADDRESS_FORMS = "HOST:PORT, [IPv6]:PORT, unix:/PATH"
_ADDRESS = re.compile(r"unix:/\S+|(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*)|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


def is_address(text: str) -> bool:
    """Whether it is one of `ADDRESS_FORMS`, with a port from 1 to 65535."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and (match[1] is None or 0 < int(match[1]) < 1 << 16)

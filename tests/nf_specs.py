"""NF instances as a controller configures them, for tests that call a worker of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servernf.python.runtime.worker import NfSpec
from servernf.wire.configs import config_text


def spec(name: str, type_name: str, config: Mapping[str, Any]) -> NfSpec:
    """An NF as a controller configures it."""
    return NfSpec(name, type_name, config_text(config))

"""An NF's configuration as bytes: what a controller sends, and the digest that a worker tells of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

DIGEST_BYTES = 16


def config_text(config: Mapping[str, Any]) -> str:
    """The one text that a controller sends for a configuration of JSON values: keys sorted, ASCII."""
    return json.dumps(dict(config), sort_keys=True)


def config_digest(config_json: str) -> str:
    """BLAKE2b-128 (RFC 7693) of the text as it was sent, UTF-8, in hex (vnf.proto, NfStatus)."""
    return blake2b(config_json.encode(), digest_size=DIGEST_BYTES).hexdigest()

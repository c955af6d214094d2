"""The ids on DPDK beside Hyperscan alone: 10,000 signatures, 1,500-byte segments of 4,096 connections.

Both look at the same bytes, in turns within one process, from memory; time is CPU time of the thread,
the least of seven rounds. The ids reads tags, judges segments and their checksums, holds bytes until
they are acknowledged, and sees an acknowledgment for every second segment.
"""

from __future__ import annotations

import json
import random
import string
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from dpdk_nfs import MAC, executable_of, recorded
from figures import Missing, Result, figure

from servernf.host.compiling import hyperscan_flags
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.changes import NfSpec

SIGNATURES, CONNECTIONS, PAYLOAD = 10_000, 4096, 1460
TEXT_BYTES = 1 << 20
NEXT = 0x0200_0002_0000
_LETTERS = string.ascii_letters + string.digits + "/.=&%-"


def _contents(rng: random.Random) -> list[str]:
    """Literals of 8 to 32 bytes, as rules have them."""
    return ["".join(rng.choices(_LETTERS, k=rng.randrange(8, 33))) for _ in range(SIGNATURES)]


def _text(rng: random.Random) -> bytes:
    """What connections say: words, markup, bytes that are anything."""
    words = [
        "".join(rng.choices(string.ascii_lowercase, k=rng.randrange(2, 11))) for _ in range(999)
    ]
    parts: list[bytes] = []
    size = 0
    while size < TEXT_BYTES:
        part = f"<{rng.choice(words)}>{' '.join(rng.choices(words, k=20))}\r\n".encode()
        part = rng.randbytes(100) if rng.random() < 0.1 else part
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def measured() -> dict[str, Any]:
    """Nanoseconds a segment, alone and in the ids."""
    if not hyperscan_flags():
        raise Missing("Hyperscan is not installed (Debian: apt-get install libhyperscan-dev)")
    rng = random.Random(1)
    contents = _contents(rng)
    config = {
        "signatures": [{"id": n, "content": c, "protocol": "tcp"} for n, c in enumerate(contents)]
    }
    executable = executable_of("dpdk_ids.c")

    def configure(worker: Any) -> None:
        worker.configure("g", [NfSpec("g/ids", "ids", json.dumps(config))])
        for spi, port in ((1, "inside"), (2, "outside")):
            worker.service_chain("g/ids", ChainScope(spi, 255, port), [ExitHop(NEXT, spi, 254)])

    memory, messages = recorded(configure)
    said = [struct.pack("=I", len(contents))]
    said += [struct.pack("=3I", n, 0, len(c)) + c.encode() for n, c in enumerate(contents)]
    with tempfile.TemporaryDirectory() as folder:
        parts = {"memory": memory, "messages": messages, "said": b"".join(said), "text": _text(rng)}
        paths = [Path(folder) / name for name in parts]
        for path, part in zip(paths, parts.values(), strict=True):
            path.write_bytes(part)
        words = [executable, *paths, str(CONNECTIONS)]
        run = subprocess.run(words, capture_output=True, text=True, check=True)
    alone, ours, came, left = map(float, run.stdout.split())
    assert came == left > 0, "packets are dropped"
    return {"alone_ns": alone, "ids_ns": ours}


@figure("dpdk_ids_ratio", unit="ratio", goal=0.6)
def dpdk_ids_ratio() -> Result:
    """Bytes a second that the ids looks at, over Hyperscan's own scan of the same streams."""
    figures = measured()
    alone, ours = figures["alone_ns"], figures["ids_ns"]
    return {
        "value": round(alone / ours, 3),
        "compared_with": {"hyperscan_gbps": round(PAYLOAD * 8 / alone, 2)},
        "gbps": round(PAYLOAD * 8 / ours, 2),
        **figures,
    }


assert MAC == 0x0200_0001_0001  # dpdk_ids.c has it, too

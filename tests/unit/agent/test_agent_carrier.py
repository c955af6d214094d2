"""The agent's carrier: rings that come are shipped to the CLE, also after the shipper has died."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support import eventually

from orchestrator.verification.cle.intake import Intake
from orchestrator.verification.cle.segments import Log
from orchestrator.verification.cle.service import serve
from servernf.agent.carrier import Carrier
from servernf.agent.config import Config, config_of
from servernf.wire.records import event, point_id
from servernf.wire.ring import Ring


def config(folder: Path) -> Config:
    return config_of(
        {
            "name": "server1",
            "listen": f"unix:{folder}/agent.sock",
            "folder": str(folder),
            "workers": {"listen": f"unix:{folder}"},
            "cle": {"address": f"unix:{folder}/cle.sock"},
        },
        "f",
    )


@contextmanager
def cle(folder: Path) -> Generator[None]:
    log = Log(folder / "log", Ed25519PrivateKey.generate())
    intake = Intake(log)
    intake.start([])
    server, _ = serve(intake, f"unix:{folder}/cle.sock")
    try:
        yield
    finally:
        server.stop(0).wait()
        intake.end()
        log.close()


def told(folder: Path, name: str, sequence: int) -> Ring:
    """A point's ring with a record."""
    ring = Ring(folder / "rings" / f"{name}.ring", create=1 << 16)
    assert ring.put(event(point_id(name), 1, sequence, 5, {"event": "boot", "point": name}).pack())
    return ring


@pytest.mark.slow
def test_rings_are_shipped_also_those_that_come_later(tmp_path: Path) -> None:
    said: list[str] = []
    carrier = Carrier(config(tmp_path), said.append)
    try:
        first = told(tmp_path, "server1.1", 0)  # nobody listens yet: it waits in the ring
        with cle(tmp_path):
            eventually(lambda: first.peek(1) == b"", what="the first ring is shipped")
            second = told(tmp_path, "server1.2", 0)
            eventually(lambda: second.peek(1) == b"", what="the second ring is shipped")
            assert said == []
            pid = carrier.pid
            os.kill(pid, signal.SIGKILL)
            told(tmp_path, "server1.1", 1)
            eventually(lambda: first.peek(1) == b"", what="shipped by another process")
            assert carrier.pid != pid
            assert len(said) == 1
    finally:
        carrier.end()
    with pytest.raises(ProcessLookupError):
        os.kill(carrier.pid, 0)


def test_without_a_cle_there_is_nothing_to_carry(tmp_path: Path) -> None:
    plain = config_of(
        {"listen": f"unix:{tmp_path}/a", "workers": {"listen": f"unix:{tmp_path}"}}, "f"
    )
    carrier = Carrier(plain, lambda line: None)
    carrier.end()
    assert (carrier.pid, list(tmp_path.iterdir())) == (0, [])

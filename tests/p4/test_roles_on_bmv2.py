"""What BMv2 makes of a P4Runtime role: nothing, so a listener there must not push a controller aside.

Oracle: simple_switch_grpc itself. docs/LIMITATIONS.md says what is seen here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import eventually

from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.errors import SwitchError

BMV2 = shutil.which("simple_switch_grpc")

pytestmark = pytest.mark.skipif(BMV2 is None, reason="simple_switch_grpc is not on PATH")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    address = f"unix:{tmp_path}/bmv2.sock"
    argv = [str(BMV2), "--no-p4", "--device-id", "1", "--", "--grpc-server-addr", address]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually((tmp_path / "bmv2.sock").exists)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def test_a_listener_yields_to_a_controller_and_listens_alone(address: str) -> None:
    with SwitchClient("s", address, 1) as controller:
        told = r"s: another controller is primary .*, and this switch knows no roles"
        with pytest.raises(SwitchError, match=told):
            SwitchClient("s", address, 1).listening("collector").open()
        assert controller.is_primary
    with SwitchClient("s", address, 1).listening("collector") as listener:
        assert listener.is_primary
        with SwitchClient("s", address, 1) as controller:
            assert controller.is_primary
            eventually(lambda: not listener.is_primary)

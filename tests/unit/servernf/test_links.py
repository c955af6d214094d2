"""Carrier changes as the kernel counts them. Oracle: sysfs, of the same namespace."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from servernf.host.links import LinkWatch


@pytest.mark.parametrize("interface", [name for _, name in socket.if_nameindex()])
def test_the_count_is_the_kernels(interface: str) -> None:
    watch = LinkWatch(interface)
    try:
        expected = int(Path(f"/sys/class/net/{interface}/carrier_changes").read_text())
        assert watch.changes() == expected
        assert watch.changes() == expected
    finally:
        watch.close()


def test_an_interface_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match="no interface"):
        LinkWatch("nosuch0")

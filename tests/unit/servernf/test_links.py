"""Carrier changes as the kernel counts them. Oracle: sysfs, of the same namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from servernf.host.links import LinkWatch


def test_the_count_is_the_kernels() -> None:
    interface = "lo"  # others may be a running test's, and go
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

"""Names of networks and interfaces."""

from __future__ import annotations

import pytest

from orchestrator.emulation.naming import (
    MAX_INTERFACE,
    network_of_interface,
    new_network_id,
    switch_interface,
)
from orchestrator.errors import InputError, NetworkError
from orchestrator.network.names import check_network_name


@pytest.mark.parametrize("name", ["leaf-spine", "a", "9.lab_2", "x" * 40])
def test_valid_names(name: str) -> None:
    assert check_network_name(name) == name


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "-x", "x" * 41, "a b", "a\n"])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="network name"):
        check_network_name(name)


def test_the_longest_interface_name_fits_and_is_recognised() -> None:
    name = switch_interface("ffff", 65535, 999)
    assert len(name) == MAX_INTERFACE
    assert network_of_interface(name) == "ffff"


def test_an_interface_name_that_does_not_fit_is_refused() -> None:
    with pytest.raises(NetworkError, match="longer than 15"):
        switch_interface("ffff", 65535, 1000)


@pytest.mark.parametrize("name", ["eth0", "lo", "o12s1p1", "oxyzws1p1", "o3fa2s1p1x", "xo3fa2s1p1"])
def test_others_interfaces_are_never_ours(name: str) -> None:
    assert network_of_interface(name) is None


def test_a_network_id_is_free() -> None:
    taken = {f"{i:04x}" for i in range(0, 0x10000, 2)}
    assert not {new_network_id(taken) for _ in range(100)} & taken


def test_no_network_id_is_left() -> None:
    with pytest.raises(NetworkError, match="no free network id"):
        new_network_id({f"{i:04x}" for i in range(0x10000)})

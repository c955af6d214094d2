"""What a worker is to be: every problem with it at once, against what the server has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from agents import message, spec

from servernf.agent.machine import Nic
from servernf.agent.specs import MIN_MEMORY, Offer, spec_of
from servernf.proto import agent_pb2
from servernf.wire.addresses import device_mac
from servernf.wire.errors import InputError

MAC = device_mac(1, core=1)
NICS = (
    Nic("eth0", 0x0A_00_00_00_00_01, 1600, True, True, 0, "", -1),
    Nic("vf0", MAC, 1600, True, True, 0, "", -1),
    Nic("vf1", MAC, 1600, False, False, 0, "", -1),
)
OFFER = Offer(("python",), NICS, (2, 3), 2, 1 << 30)


def test_a_message_is_the_specification() -> None:
    specification = spec_of(message(cpu=3, memory_bytes=MIN_MEMORY), OFFER)
    assert specification == spec(macvlan_on="eth0", interface="", cpu=3, memory_bytes=MIN_MEMORY)
    assert (specification.device, specification.place) == ("core1", "a macvlan on eth0")
    assert spec_of(message(), OFFER).cpu is None, "CPU 0 is not the same as none"


def test_an_interface_is_used_as_it_is() -> None:
    asked = message()
    asked.interface = "vf0"
    assert spec_of(asked, OFFER).device == "vf0"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (message(name="../etc"), "name: '../etc' is no name of a worker"),
        (message(name=""), "name: '' is no name"),
        (message(2), "core: 2: this server has cores 0 to 1"),
        (message(runtime="pyton"), "unknown runtime 'pyton'; did you mean 'python'?"),
        (message(mac=5), "mac: '5' is no device's MAC"),
        (message(mac=(1 << 63) + MAC), "is no device's MAC"),
        (message(mac=device_mac(1, core=2)), "mac: 02:00:00:01:00:02 is not that of core 0"),
        (message(memory_bytes=1), "memory_bytes: 1: give 0"),
        (message(memory_bytes=1 << 60), f"or {MIN_MEMORY} to {1 << 30}"),
        (message(cpu=0), r"cpu: 0 is none that workers may use here \(2, 3\)"),
        (message(nic="eth1"), "macvlan_on: unknown interface 'eth1'; did you mean 'eth0'?"),
        (message(nic=""), "give macvlan_on"),
    ],
)
def test_what_a_server_cannot_do(asked: agent_pb2.WorkerSpec, told: str) -> None:
    with pytest.raises(InputError, match=told):
        spec_of(asked, OFFER)


@pytest.mark.parametrize(
    ("interface", "told"),
    [
        ("vf9", "interface: unknown interface 'vf9'"),
        ("eth0", "eth0 has MAC 0a:00:00:00:00:01, not 02:00:00:01:00:01; .* ip link set eth0 addr"),
        ("vf1", "vf1 is down; it is used as it is: ip link set vf1 up"),
    ],
)
def test_interfaces_that_cannot_be_used(interface: str, told: str) -> None:
    asked = message()
    asked.interface = interface
    with pytest.raises(InputError, match=told):
        spec_of(asked, OFFER)


def test_all_problems_at_once() -> None:
    asked = message(7, name="a b", runtime="x", cpu=9, nic="y")
    with pytest.raises(InputError) as caught:
        spec_of(asked, OFFER)
    assert len(caught.value.problems) == 5


def test_differences_are_told_in_words() -> None:
    other = replace(spec(), mac=device_mac(2, core=1), cpu=3)
    assert spec().differences(other) == [
        "mac 02:00:00:01:00:01, not 02:00:00:02:00:01",
        "cpu None, not 3",
    ]

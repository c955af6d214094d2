"""Workers on devices of DPDK's: how EAL is told of them, runs on virtual ones, and that packets pass
while rules are built.

Blind spot: a NIC. What its driver makes of the flow rule is seen where there is one.
"""

from __future__ import annotations

import json
import random
import threading
import time
from ipaddress import IPv4Address
from itertools import groupby
from pathlib import Path
from typing import Any

import agents
import pytest
from dpdk_support import MAC, NEEDS_COMPILER, NEXT, running, tagged
from servernf_support import udp
from support import eventually

from servernf.agent.bounds import PlainBounds
from servernf.agent.fleet import Fleet
from servernf.agent.keeper import RunState
from servernf.agent.memory import WorkerMemory
from servernf.agent.starter import Starter
from servernf.host.compiling import dpdk_missing
from servernf.host.devices import CoreDevice, device
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.changes import NfSpec
from servernf.wire.errors import InputError, ServerError

NEEDS_DPDK = pytest.mark.skipif(bool(dpdk_missing()), reason=dpdk_missing())
NULL = CoreDevice("net_null0", ",size=98", polled=True)
PERMIT: dict[str, Any] = {"rules": [], "default": "permit"}


def test_eal_is_told_of_a_nics_function_and_of_a_virtual_device() -> None:
    nic = device("0000:3b:02.0", polled=False)
    assert nic.words == ("wakes", "0000:3b:02.0", "--in-memory", "-a", "0000:3b:02.0")
    with_arguments = device("0000:3b:02.0,rxq_cqe_comp_en=0", polled=True)
    assert with_arguments.words[0::4] == ("always", "0000:3b:02.0,rxq_cqe_comp_en=0")
    assert with_arguments.words[1] == "0000:3b:02.0"
    ring = device("net_ring0", polled=True)
    assert ring.words[:2] == ("always", "net_ring0")
    assert ring.words[-2:] == ("--no-pci", "--vdev=net_ring0")


@pytest.mark.parametrize(
    "name", ["3b:02.0", "0000:3b:02.8", "eth0", "net_ring0 --vdev=x", "net_ring0,", "--vdev=a", ""]
)
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"is no device of DPDK's: give a PCI address"):
        device(name, polled=True)


def acl(*rules: dict[str, Any]) -> NfSpec:
    return NfSpec("g/nf", "acl", json.dumps({"rules": rules, "default": "permit"}))


@pytest.mark.slow
@NEEDS_COMPILER
@NEEDS_DPDK
def test_frames_come_and_go_by_a_virtual_device() -> None:
    """What leaves by the ring comes by it: to the core itself, then to somebody else."""
    frame = udp("10.0.0.1", 7, "198.51.100.9", 9)
    with running(device=device("net_ring0", polled=True)) as worker:
        worker.configure("g", [acl(), NfSpec("g/last", "acl", json.dumps(PERMIT))])
        worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [ExitHop(MAC, 41, 255)])
        worker.service_chain("g/last", ChainScope(41, 255, "inside"), [ExitHop(NEXT, 42, 255)])
        worker.process([tagged(frame, 40)] * 50)
        eventually(lambda: worker.metrics().get("drop.not_mine") == 50)
        counts = worker.metrics()
        assert (counts["g/nf.packets"], counts["g/last.packets"]) == (50, 50)
        assert (counts["frames_in"], counts["frames_out"]) == (150, 100)


@pytest.mark.slow
@NEEDS_COMPILER
@NEEDS_DPDK
def test_an_agent_gives_a_core_its_device(tmp_path: Path) -> None:
    """Without a macvlan, though the controller names a NIC as ever."""
    workers = {
        "listen": f"unix:{tmp_path}",
        "pin": False,
        "devices": ["net_ring0"],
        "poll": "always",
    }
    config = agents.configuration(tmp_path, workers=workers)
    (tmp_path / "doors").mkdir()
    starter = Starter(config, PlainBounds())
    memory = WorkerMemory(tmp_path)
    fleet = Fleet(starter, memory, restarts=False)
    spec = agents.spec(runtime="dpdk", interface="", macvlan_on="lo")
    try:
        assert fleet.start(spec).state is RunState.RUNNING
        assert starter.place(spec) == "net_ring0"
        assert not Path("/sys/class/net", spec.device).exists()
    finally:
        fleet.end()
        memory.close()


@pytest.mark.slow
@NEEDS_COMPILER
@NEEDS_DPDK
@pytest.mark.parametrize(
    ("name", "polled", "words"),
    [
        ("net_null0", False, "it does not wake who waits for frames: poll it always"),
        ("net_nobody0", True, "DPDK has no such device, or no driver for it|DPDK: "),
        ("0000:7f:1f.7", True, "DPDK has no such device, or no driver for it|DPDK: "),
    ],
)
def test_a_device_that_cannot_be_had_is_said(name: str, polled: bool, words: str) -> None:
    with pytest.raises(ServerError, match=words), running(device=device(name, polled=polled)):
        pass


@pytest.mark.slow
@NEEDS_COMPILER
@NEEDS_DPDK
def test_packets_pass_while_thousands_of_rules_are_built() -> None:
    """The counter rises again and again while the answer is waited for; it would stand still nearly all
    the time if who moves packets built rules."""
    rng = random.Random(8)
    rules = [
        {
            "src": f"{IPv4Address(rng.randrange(1 << 32) & 0xFFFF_FF00)}/24",
            "dst": f"{IPv4Address(rng.randrange(1 << 32) & 0xFFFF_FF00)}/24",
            "dst_port": rng.randrange(1 << 16),
            "protocol": rng.choice(("tcp", "udp")),
            "action": "deny",
        }
        for _ in range(8_000)
    ]
    with running(device=NULL) as worker:
        process = worker.engine.process
        building = threading.Event()
        asked = process.ask

        def ask(kind: Any, payload: bytes = b"", number: int = 0) -> bytes:
            if len(payload) < 100_000:
                return asked(kind, payload, number)
            building.set()
            try:
                return asked(kind, payload, number)
            finally:
                building.clear()

        process.ask = ask  # type: ignore[method-assign]
        configuring = threading.Thread(target=worker.configure, args=("g", [acl(*rules)]))
        configuring.start()
        assert building.wait(60)
        looks: list[int] = []
        while building.is_set():
            looks.append(worker.engine.frames()[0])
            time.sleep(0.002)
        configuring.join()
        still = max(len(list(same)) for _, same in groupby(looks))
        assert len(looks) > 20
        assert still < len(looks) / 2, looks
        worker.service_chain("g/nf", ChainScope(40, 255, "inside"), [ExitHop(NEXT, 50, 7)])
        assert worker.metrics()["process_restarts"] == 0

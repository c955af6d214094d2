"""mirror: what a rule matches leaves twice, unchanged; reference and runtime against each other."""

from __future__ import annotations

from typing import Any

import pytest
from nf_bench import Both, ether, mixed_frames
from nf_specs import spec
from pydantic import ValidationError
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP

from orchestrator.model.elements import COPY, MirrorProgram
from orchestrator.nfs.mirror import Mirror, MirrorConfig
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh


def test_copies_by_rules() -> None:
    nf = Both("mirror", rules=[{"protocol": "udp", "dst_port": 53}], reverse="mirror")
    asked, answer = ether(IP() / UDP(dport=53, sport=9)), ether(IP() / UDP(dport=9, sport=53))
    assert nf.send("inside", asked) == [("outside", bytes(asked)), ("mirror", bytes(asked))]
    assert nf.send("outside", answer) == [("inside", bytes(answer)), ("mirror", bytes(answer))]
    for frame in (answer, ether(IP() / TCP(dport=53)), ether(ARP())):
        assert nf.send("inside", frame) == [("outside", bytes(frame))]


def test_all_is_copied_without_rules_and_nothing_enters_by_mirror() -> None:
    nf, frame = Both("mirror"), bytes(ether(ARP()))
    assert nf.send("inside", frame) == [("outside", frame), ("mirror", frame)]
    assert nf.send("outside", frame) == [("inside", frame)]
    assert nf.send("mirror", frame) == []


@pytest.mark.parametrize("reverse", ["pass", "mirror", "same"])
def test_runtime_equals_reference(reverse: str) -> None:
    rules = [{"protocol": "tcp", "dst_port": "3-5"}, {"later_fragment": True}]
    nf = Both("mirror", rules=rules, reverse=reverse)
    for frame in mixed_frames(300, 12):
        for port in ("inside", "outside"):
            nf.send(port, frame)


def test_a_worker_runs_the_copy_through_its_own_chain() -> None:
    mac, out_mac, copy_mac = 0x0200_0009_0001, 0x0200_0001_0000, 0x0200_0002_0000
    worker = Worker("w", mac)
    marking = {"rules": [], "default": 1, "reverse": "pass"}
    specs = [
        spec("g/m", "mirror", {"rules": [{}], "reverse": "pass"}),
        spec("g/seen", "dscp_marker", marking),
    ]
    worker.configure("g", specs)
    worker.service_chain("g/m", ChainScope(5, 254, "inside", "outside"), [ExitHop(out_mac, 5, 253)])
    hops = [NfHop("g/seen", "inside", out_port="outside"), ExitHop(copy_mac, 6, 253)]
    worker.service_chain("g/m", ChainScope(5, 254, "inside", "mirror"), hops)
    frame = bytes(ether(IP() / UDP() / b"x"))
    sent = worker.process([nsh.encode(nsh.Tag(mac, 0x0200_0001_0000, 5, 254, label=77), frame)])
    (tag, first), (copy_tag, copy) = (nsh.decode(data) for data in sent)
    assert (tag.dst_mac, tag.spi, tag.label, first) == (out_mac, 5, 77, frame)
    assert (copy_tag.dst_mac, copy_tag.spi, copy_tag.label) == (copy_mac, 6, 77)
    assert copy == bytes(ether(IP(tos=4) / UDP() / b"x"))
    assert worker.metrics("g/seen")["g/seen.packets"] == 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rules": [{"dst_prot": 5}]}, "rules.0.dst_prot"),
        ({"rules": [{"protocol": "tcp", "version": 5}]}, "4 or 6"),
        ({"reverse": "all"}, "'pass', 'mirror' or 'same'"),
    ],
)
def test_wrong_configs(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        MirrorConfig.model_validate(config)
    assert told in str(error.value)


def test_elements() -> None:
    always = Mirror("nf", MirrorConfig()).elements("inside")
    assert list(always.elements) == ["copy"]
    assert always.elements["copy"].outputs == ("outside", COPY)
    assert isinstance(always.elements["copy"].program, MirrorProgram)
    assert list(Mirror("nf", MirrorConfig()).elements("outside").elements) == ["select"]

"""Checking vectors: frames through one NF of a worker, by every port."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from servernf.conformance import stateful, stateless
from servernf.conformance.device import GRAPH, Left, NotConforming, WorkerUnderTest
from servernf.conformance.vectors import Exchange, Vector
from servernf.proto import vnf_pb2 as vnf

VECTORS: tuple[Vector, ...] = (*stateless.VECTORS, *stateful.VECTORS)
_ENTERED, _LEFT = 100, 200
"""A port's number beside these is the SPI of frames that enter or leave by it."""


def check(device: WorkerUnderTest, vector: Vector) -> None:
    """NotConforming tells the first step that went otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in vector.files.items():
            path = Path(folder) / name
            path.touch(mode=0o600)
            path.write_text(text)
        _configure(device, vector, folder)
        before = device.metrics()
        for index, step in enumerate(vector.steps):
            _check_step(device, vector, f"step {index + 1}", step)
        _check_counters(vector, before, device.metrics())


def _configure(device: WorkerUnderTest, vector: Vector, folder: str) -> None:
    text = json.dumps(vector.config).replace("{folder}", folder)
    nf = vnf.NfConfig(name=f"{GRAPH}/nf", type=vector.nf, config_json=text)
    device.begin()
    device.change(device.stub.configure, vnf.ConfigureRequest(graph=GRAPH, nfs=[nf]))
    for number, entered in enumerate(vector.ports):
        for other, left in enumerate(vector.ports):
            # The first tells where the path enters, the others are branches of it.
            by = entered if other == 0 else ""
            device.chain("nf", _ENTERED + number, by, left, _LEFT + other)


def _check_step(device: WorkerUnderTest, vector: Vector, where: str, step: Exchange) -> None:
    device.send(step.frame, _ENTERED + vector.ports.index(step.port), nf_labels=step.label)
    came = device.receive(len(step.out))
    told = [(vector.ports[left.tag.spi - _LEFT], left.frame) for left in came]
    if [port for port, _ in told] != [port for port, _ in step.out]:
        wanted = ", ".join(port for port, _ in step.out) or "nothing"
        got = ", ".join(port for port, _ in told) or "nothing"
        raise NotConforming(f"{where}: entered by {step.port}, left by {got}; should be {wanted}")
    for (_, frame), (_, wanted) in zip(told, step.out, strict=True):
        if callable(wanted):
            if problem := wanted(frame):
                raise NotConforming(f"{where}: {problem}: {frame.hex()}")
        elif frame != wanted:
            raise NotConforming(f"{where}: {frame.hex()} left; should be {wanted.hex()}")
    _check_labels(where, step, came)


def _check_labels(where: str, step: Exchange, came: Sequence[Left]) -> None:
    for left in came:
        if left.tag.nf_labels != step.label_out:
            raise NotConforming(
                f"{where}: left with label {left.tag.nf_labels}; should be {step.label_out}"
            )


def _check_counters(vector: Vector, before: dict[str, int], after: dict[str, int]) -> None:
    wanted = {
        f"{GRAPH}/nf.packets": len(vector.steps),
        f"{GRAPH}/nf.drops": sum(not step.out for step in vector.steps),
    }
    for name, count in wanted.items():
        grown = after.get(name, 0) - before.get(name, 0)
        if grown != count:
            raise NotConforming(f"{name} has grown by {grown}; should be {count}")
    for name, value in vector.metrics.items():
        told = after.get(f"{GRAPH}/nf.{name}")
        if told != value:
            raise NotConforming(f"{GRAPH}/nf.{name} is {told}; should be {value}")

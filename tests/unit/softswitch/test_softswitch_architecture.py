"""An architecture is a value: what it names exists, and another one is another value.

Oracle: BMv2's behaviour where names alone differ; the value's own words where steps do.
"""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import pytest
from softswitch_support import loaded, program, udp_frame

from orchestrator.errors import MalformedProgram, UnsupportedFeature
from orchestrator.softswitch import codegen, hashes
from orchestrator.softswitch.architectures import Architecture, Control, TrafficStep
from orchestrator.softswitch.architectures.v1model import V1MODEL
from orchestrator.softswitch.ir import read_program
from orchestrator.softswitch.pipeline import RunningPipeline
from orchestrator.softswitch.state.pipeline import PipelineState

TOY = dataclasses.replace(
    V1MODEL,
    name="toy",
    ingress=dataclasses.replace(V1MODEL.ingress, name="first"),
    egress=dataclasses.replace(V1MODEL.egress, name="second"),
)


def toy_program() -> Any:
    raw = program("router")
    names = {"ingress": "first", "egress": "second"}
    for pipeline in raw["pipelines"]:
        pipeline["name"] = names[pipeline["name"]]
    return raw


def runs(architecture: Architecture, raw: Any) -> list[tuple[int, bytes]]:
    read = read_program(raw, architecture)
    pipeline = RunningPipeline(PipelineState(read, lambda: 0), 511)
    out: list[tuple[int, bytes]] = []
    pipeline.run(1, udp_frame(), pipeline.from_port, None, out, [])
    return out


def test_all_that_v1model_names_is_implemented() -> None:
    assert V1MODEL.algorithms == {*hashes.ALGORITHMS, *hashes.STATEFUL}
    implemented = codegen.primitives_implemented()
    assert set(V1MODEL.externs) <= implemented
    for step, externs in V1MODEL.asked_by.items():
        assert externs <= set(V1MODEL.externs), step


def test_another_architecture_is_another_value() -> None:
    assert runs(TOY, toy_program()) == runs(V1MODEL, program("router"))
    with pytest.raises(UnsupportedFeature, match="only toy's first and second"):
        read_program(program("router"), TOY)
    with pytest.raises(UnsupportedFeature, match="only v1model's ingress and egress"):
        read_program(toy_program())


def test_metadata_and_externs_are_the_architectures() -> None:
    other = dataclasses.replace(V1MODEL.metadata, required=("egress_spec", "weather"))
    with pytest.raises(MalformedProgram, match=r"standard_metadata\.weather is missing"):
        read_program(program("router"), dataclasses.replace(V1MODEL, metadata=other))
    fewer = {name: kinds for name, kinds in V1MODEL.externs.items() if name != "mark_to_drop"}
    with pytest.raises(UnsupportedFeature, match="primitive 'mark_to_drop' is not implemented"):
        read_program(program("router"), dataclasses.replace(V1MODEL, externs=fewer))


def test_steps_are_taken_where_the_architecture_says() -> None:
    # Without multicast between its controls, a packet's group means nothing.
    after = tuple(step for step in V1MODEL.ingress.after if step is not TrafficStep.MULTICAST)
    ingress = Control("ingress", after)
    read = read_program(program("router"), dataclasses.replace(V1MODEL, ingress=ingress))
    assert "groups.get" in codegen.generate(read_program(program("router"))).source
    assert "groups.get" not in codegen.generate(read).source
    plain = dataclasses.replace(V1MODEL, behind_deparser=(TrafficStep.SEND,))
    for raw, architecture in ((program("features"), V1MODEL), (program("features"), plain)):
        source = codegen.generate(read_program(raw, architecture)).source
        assert ("if recirc:" in source) == (architecture is V1MODEL)
    egress = Control("egress", (TrafficStep.DIGEST, TrafficStep.FORWARD))
    read = read_program(program("router"), dataclasses.replace(V1MODEL, egress=egress))
    with pytest.raises(UnsupportedFeature, match="'digest' at this place of v1model"):
        codegen.generate(read)


def test_switches_of_one_program_share_its_code_and_no_state() -> None:
    one, other = loaded("router"), loaded("router")
    assert one.pipeline is not None
    assert other.pipeline is not None
    assert one.pipeline.generated is other.pipeline.generated
    assert one.pipeline.state is not other.pipeline.state
    before = other.pipeline.state.tables
    assert all(table is not before[name] for name, table in one.pipeline.state.tables.items())


def test_what_is_made_of_a_program_goes_with_it() -> None:
    read = read_program(program("router"))
    made = codegen.generate(read)
    assert codegen.generate(read) is made
    assert codegen.generate(read, trace=True) is not made
    gone = weakref.ref(read)
    del read
    gc.collect()
    assert gone() is None

"""VERIFY in a process of its own: what a program does to it, it does not do to the switch."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from bmv2_programs import call, field, number, operation, small
from finsy.proto import p4i, p4r
from softswitch_support import p4info, program

from orchestrator.errors import SwitchError
from orchestrator.softswitch import verifier as module
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.softswitch.verifier import Verifier

pytestmark = pytest.mark.slow


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    made = Verifier(SoftSwitch().prepare)
    yield made
    made.close()


def config(raw: Any, info: p4i.P4Info | None = None) -> p4r.ForwardingPipelineConfig:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return p4r.ForwardingPipelineConfig(p4_device_config=data, p4info=info)


def test_says_what_the_switch_would_say(verifier: Verifier) -> None:
    verifier.check(config(program("router"), p4info("router")))
    verifier.check(config(small()))
    raw = small()
    raw["actions"][0]["id"] = "0"
    with pytest.raises(SwitchError, match=r"actions\[0\]\.id: \"0\" is not an integer"):
        verifier.check(config(raw))
    with pytest.raises(SwitchError, match="is not in the BMv2 JSON"):
        verifier.check(config(program("features"), p4info("router")))
    with pytest.raises(SwitchError, match="not JSON"):
        verifier.check(config(b"{"))


def test_a_program_that_takes_too_much_is_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_CPU_S", 1)
    monkeypatch.setattr(module, "_error", lambda *_: sum(iter(int, 1)))  # for ever
    made = Verifier(SoftSwitch().prepare)
    with pytest.raises(SwitchError, match="to verify it takes more than 1 s or"):
        made.check(config(small()))
    made.close()


def test_a_check_that_dies_is_an_answer_and_the_next_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    first = tmp_path / "first"
    real = module._error  # pyright: ignore[reportPrivateUsage]

    def dies_once(*about: Any) -> bytes:
        if not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*about)

    monkeypatch.setattr(module, "_error", dies_once)
    made = Verifier(SoftSwitch().prepare)
    with pytest.raises(SwitchError, match="to verify it takes more than"):
        made.check(config(small()))
    made.check(config(small()))
    made.close()
    with pytest.raises(SwitchError, match="the verifying process is gone"):
        made.check(config(small()))


def test_a_deep_program_is_an_answer(verifier: Verifier) -> None:
    raw = small()
    value: Any = field("scalars", "x")
    for _ in range(250):
        value = operation("+", value, number(1))
    raw["actions"][0]["primitives"].append(call("assign", field("scalars", "x"), value))
    with pytest.raises(SwitchError, match=r"nested|deeply"):
        verifier.check(config(raw))

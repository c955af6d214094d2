"""Devices asked at once: order, failures, and Ctrl-C."""

from __future__ import annotations

import threading

import pytest

from orchestrator.errors import SwitchError
from orchestrator.observation import at_once as module
from orchestrator.observation.at_once import at_once


def test_results_are_in_order() -> None:
    assert at_once(lambda n: -n, range(100)) == [-n for n in range(100)]
    assert at_once(str, []) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SwitchError])
def test_after_an_interrupt_or_a_failure_nothing_more_is_begun(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    answer = threading.Event()

    def waited(futures: object) -> None:
        assert error is SwitchError
        answer.set()  # of what has begun

    monkeypatch.setattr(module, "wait", waited)

    def ask(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise error("no answer")
        answer.wait()

    with pytest.raises(error):
        at_once(ask, range(1000))
    answer.set()
    for thread in [t for t in threading.enumerate() if t.name == "at-once"]:
        thread.join()
    assert len(begun) <= 17  # one of each thread, and one of the thread that failed

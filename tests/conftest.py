"""Options of the whole test suite. That this file is here makes `tests/*.py` importable by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

_OURS = "ORCHESTRATOR_"

# Plans of tests do not change when somebody measures: NFs cost what their files estimate.
os.environ.setdefault("ORCHESTRATOR_PROFILES", "none")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As under nohup. Children inherit that, and those that tests interrupt would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Options of commands become environment variables, which a process keeps: a test's are its own."""
    before = {key: value for key, value in os.environ.items() if key.startswith(_OURS)}
    yield
    for key in [key for key in os.environ if key.startswith(_OURS)]:
        if key not in before:
            del os.environ[key]
    os.environ.update(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write what the golden tests get as what they expect; review the diff",
    )

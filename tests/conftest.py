"""Options of the whole test suite. That this file is here makes `tests/*.py` importable by name."""

from __future__ import annotations

import signal

import hypothesis
import pytest

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As under nohup. Children inherit that, and those that tests interrupt would never end.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write what the golden tests get as what they expect; review the diff",
    )

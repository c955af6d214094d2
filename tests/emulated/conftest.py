"""What the devices said is shown with every test that fails beside them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from live import device_logs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (logs := device_logs()):
        report.sections.append(("Logs of the devices", logs))
    return report

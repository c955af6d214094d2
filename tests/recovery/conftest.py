"""One set of devices for all tests of this folder, for each engine; a journal of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from recovery_site import Site, recovery_site

from orchestrator.targets import lookup

NO_DPDK = lookup("dpdk").engine.missing()
DPDK = pytest.param(
    "dpdk",
    marks=(pytest.mark.exhaustive, pytest.mark.skipif(bool(NO_DPDK), reason=NO_DPDK)),
)


@pytest.fixture(scope="session", params=["python", DPDK])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    before = os.environ.get("XDG_STATE_HOME")
    if request.param == "dpdk":
        lookup("dpdk").engine.prepare()
    with recovery_site(tmp_path_factory.mktemp("site"), request.param) as started:
        yield started
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before

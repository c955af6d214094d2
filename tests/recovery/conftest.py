"""One set of devices for all tests of this folder; a journal of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from recovery_site import Site, recovery_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    before = os.environ.get("XDG_STATE_HOME")
    with recovery_site(tmp_path_factory.mktemp("site")) as found:
        yield found
    if before is None:
        del os.environ["XDG_STATE_HOME"]
    else:
        os.environ["XDG_STATE_HOME"] = before

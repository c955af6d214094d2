"""`move --runtime`: a core of a server of that runtime, or a word why there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.deployment import relocating
from orchestrator.errors import InputError
from orchestrator.model.plan import Core

CORES = [Core("a", 0), Core("b", 0), Core("b", 1), Core("c", 0)]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Servers a (python), b and c (dpdk); b's first core is another graph's."""

    def hindrance(_network: Any, name: str, core: Core, _graph: str) -> str:
        return f"{name} is taken" if core == CORES[1] else ""

    monkeypatch.setattr(relocating, "_hindrance", hindrance)
    runtimes = {"a": "python", "b": "dpdk", "c": "dpdk"}
    servers = {name: SimpleNamespace(runtime=runtime) for name, runtime in runtimes.items()}
    return SimpleNamespace(
        cores=CORES,
        topology=SimpleNamespace(servers=servers),
        journal=SimpleNamespace(deployed=dict),
        worker_name=lambda core: f"{core.server}.{core.index + 1}",
    )


def test_the_first_core_that_is_free(network: Any) -> None:
    assert relocating.core_of_runtime(network, "dpdk", "g") == Core("b", 1)
    assert relocating.core_of_runtime(network, "python", "g") == Core("a", 0)


def test_a_runtime_that_no_server_has(network: Any) -> None:
    with pytest.raises(InputError, match="runtime: unknown runtime 'dpkd'; did you mean 'dpdk'"):
        relocating.core_of_runtime(network, "dpkd", "g")


def test_no_core_is_free(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relocating, "_hindrance", lambda *_: "all are taken")
    with pytest.raises(InputError, match="to: all are taken"):
        relocating.core_of_runtime(network, "dpdk", "g")

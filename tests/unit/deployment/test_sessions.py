"""How often a transaction opens a session with a device when it can keep none open."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from networks import both_ways, make_graph, permits
from update_support import WatchedNetwork, compiled_beside, update

from orchestrator.deployment import execution
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.sessions import DeviceSessions
from orchestrator.deployment.transaction import WriteEntries
from orchestrator.errors import SwitchError
from orchestrator.model.graph import ServiceGraph

pytestmark = pytest.mark.slow


class Counting(WatchedNetwork):
    """Counts sessions by device."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.opened: Counter[str] = Counter()

    def device(self, name: str) -> AbstractContextManager[Any]:
        self.opened[name] += 1
        return super().device(name)


def filtering(port: int) -> ServiceGraph:
    rules = [{"protocol": "tcp", "dst_port": port, "action": "deny"}]
    nfs = {"fw": ("acl", {"rules": rules, "default": "permit"}), "late": permits()}
    return make_graph(nfs, both_ways("inside", *nfs, "outside"))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Counting:
    monkeypatch.setattr(execution, "DeviceSessions", partial(DeviceSessions, most=0))
    return Counting("leaf-spine")


def test_a_device_is_looked_at_once_and_opened_again_only_to_be_written(network: Counting) -> None:
    old = compiled_beside(filtering(80), "leaf-spine", None)
    network.run(plan(None, Version(old, None, True)))
    transaction = update(old, compiled_beside(filtering(443), "leaf-spine", old))
    network.opened.clear()
    network.run(transaction)
    steps = [step for step in transaction.steps if isinstance(step, WriteEntries)]
    writes = Counter(step.device for step in steps)
    assert writes
    assert network.opened == writes + Counter(writes.keys())


def test_nothing_is_begun_where_a_device_has_lost_its_pipeline(network: Counting) -> None:
    old = compiled_beside(filtering(80), "leaf-spine", None)
    network.run(plan(None, Version(old, None, True)))
    transaction = update(old, compiled_beside(filtering(443), "leaf-spine", old))
    lost = transaction.devices[-1]
    network.memory.switches[lost] = Counting("leaf-spine").memory.switches[lost]
    writes: list[str] = []
    network.after = lambda: writes.append("written")
    with pytest.raises(SwitchError, match=f"{lost}: runs no pipeline"):
        network.run(transaction)
    assert not writes


def test_a_pipeline_that_runs_already_is_not_looked_for_again(network: Counting) -> None:
    """As on a network that was attached, or that had another graph."""
    old = compiled_beside(filtering(80), "leaf-spine", None)
    network.run(plan(None, Version(old, None, True)))
    network.run(plan(Version(old, None, True), None))
    again = plan(None, Version(old, None, True))
    network.opened.clear()
    network.run(again)
    steps = [step for step in again.steps if isinstance(step, WriteEntries)]
    writes = Counter(step.device for step in steps)
    assert network.opened == writes + Counter(writes.keys())

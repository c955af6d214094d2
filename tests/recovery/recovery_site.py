"""Two versions of a graph on real devices, and which of them the devices are in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from networks import campus, ids, long_acl, make_graph, napt, one_way, router, topology
from recovery_controller import Job, do, state_home
from recovery_devices import State, devices, read_state

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.journal import Journal
from orchestrator.linker.sharing import share
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.network.inventory import Inventory


@dataclass(frozen=True)
class Site:
    """Devices, versions of a graph, and what devices have with each; "": not deployed."""

    network: Inventory
    versions: dict[str, Bundle | None]
    states: dict[str, State]

    def job(self, version: str) -> Job:
        """The change to a version."""
        return Job.change(self.network, "campus", self.versions[version])

    def go(self, version: str) -> None:
        """Without faults."""
        if self.now != version:
            do(self.job(version))
        assert self.now == version

    @property
    def now(self) -> str:
        """The version that the devices are in, none between; the journal must know of it."""
        now_there = read_state(self.network)
        here = [name for name, state in self.states.items() if state == now_there]
        assert here, self._between(now_there)
        journal = Journal(self.network.name)
        assert journal.intent() is None
        deployed, expected = journal.deployed().get("campus"), self.versions[here[0]]
        assert _entries(deployed and deployed.bundle) == _entries(expected)
        return here[0]

    def _between(self, there: State) -> str:
        return "between the versions: " + "; ".join(
            f"{name or 'nothing'}: {len(there - state)} too many, {len(state - there)} missing: "
            f"{sorted(there ^ state)[:4]}"
            for name, state in self.states.items()
        )


def _entries(bundle: Bundle | None) -> object:
    return bundle and {
        name: (program.entries, program.activation) for name, program in bundle.programs.items()
    }


def changed_campus() -> ServiceGraph:
    """The campus with other rules, another signature and an NF more."""
    return make_graph(
        {
            "edge_acl": long_acl(20),
            "edge_ids": ids(action="alert"),
            "watch": ("flow_monitor", {}),
            "edge_nat": napt(min_workers=2),
            "edge_router": router(),
        },
        [
            *one_way(
                "inside", "edge_acl", "edge_ids", "watch", "edge_nat", "edge_router", "outside"
            ),
            "outside edge_nat.outside",
            "edge_nat.inside watch.outside",
            "watch.inside edge_ids.outside",
            "edge_ids.inside inside",
        ],
        name="campus",
        sampling_rate=0.25,
    )


@contextmanager
def recovery_site(folder: Path, engine: str = "python") -> Iterator[Site]:
    """Real devices, with nothing deployed; what each version looks like there has been seen."""
    os.environ["XDG_STATE_HOME"] = state_home(folder)
    with devices(folder, engine=engine) as started:
        network = started.inventory
        old = compile_graph(CompileRequest(campus(), topology())).bundle
        new = share(compile_graph(CompileRequest(changed_campus(), topology())).bundle, old)
        versions = {"": None, "old": old, "new": new}
        states = {"": read_state(network)}
        for name in ("old", "new"):
            do(Job.change(network, "campus", versions[name]))
            states[name] = read_state(network)
        assert len(set(states.values())) == len(states)
        site = Site(network, versions, states)
        site.go("old")
        site.go("")
        yield site

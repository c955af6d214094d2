"""Any call between controller and device may fail, be late, lose its answer or be cut: never between.

A seeded fault-injecting proxy stands before every switch and worker. Oracle: the devices behind them,
read back: exactly the old state or the new one, as the command said. Blind spot: BMv2, packets.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from recovery_controller import Job, do
from recovery_devices import through
from recovery_proxy import Faults, Proxy
from recovery_site import Site

from orchestrator.deployment.journal import Journal
from orchestrator.errors import ReportedError

FEW, MANY = 10, 100


@dataclass(frozen=True)
class Faulty:
    """A site whose devices are reached through proxies."""

    site: Site
    faults: Faults
    proxies: tuple[Proxy, ...]
    through: Job

    def job(self, version: str) -> Job:
        return replace(self.site.job(version), inventory=self.through.inventory)

    def set(self, seed: int, share: float) -> None:
        self.faults.seed, self.faults.share = seed, share
        for proxy in self.proxies:
            proxy.renew()


@pytest.fixture
def faulty(site: Site) -> Iterator[Faulty]:
    faults = Faults()
    network = site.network
    upstreams = {name: device.address for name, device in network.pipelines.items()}
    upstreams |= {worker.name: worker.address for worker in network.workers}
    proxies = {name: Proxy(name, upstream, faults) for name, upstream in upstreams.items()}
    inventory = through(network, {name: proxy.address for name, proxy in proxies.items()})
    yield Faulty(site, faults, tuple(proxies.values()), Job(inventory))
    for proxy in proxies.values():
        proxy.close()


def one_run(faulty: Faulty, seed: int, before: str) -> tuple[str, str]:
    """(how the command ended, the version that came of it)."""
    chance = random.Random(seed)
    after = chance.choice([version for version in faulty.site.versions if version != before])
    faulty.set(seed, chance.choice([0.01, 0.03, 0.1]))
    said = "done"
    try:
        do(faulty.job(after))
    except ReportedError as error:
        said = "failed"
        told = f"seed {seed}: {before or 'nothing'} -> {after or 'nothing'}: {error}"
    else:
        told = f"seed {seed}: {before or 'nothing'} -> {after or 'nothing'}: done"
    faulty.set(0, 0.0)
    if said == "failed" and Journal(faulty.site.network.name).intent() is not None:
        said = "left unfinished"
        do(faulty.through)
    now = faulty.site.now
    allowed = {"done": {after}, "failed": {before}, "left unfinished": {before, after}}
    assert now in allowed[said], f"{told}; but it is {now or 'nothing'}"
    return said, now


def campaign(faulty: Faulty, seeds: range) -> Counter[str]:
    endings: Counter[str] = Counter()
    now = faulty.site.now
    for seed in seeds:
        said, now = one_run(faulty, seed, now)
        endings[said] += 1
    print(dict(endings), dict(faulty.faults.happened))
    return endings


def test_some_runs_end_old_or_new(faulty: Faulty) -> None:
    endings = campaign(faulty, range(FEW))
    assert endings["done"]
    assert endings["failed"] + endings["left unfinished"]
    assert sum(faulty.faults.happened.values()) > FEW / 2


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_a_hundred_runs_end_old_or_new(faulty: Faulty) -> None:
    endings = campaign(faulty, range(1000, 1000 + MANY))
    assert min(endings[said] for said in ("done", "failed", "left unfinished")) > 0, endings
    assert min(faulty.faults.happened.values()) > 0, faulty.faults.happened

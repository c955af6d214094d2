"""Two controllers with a real etcd: the leader is killed (-9) in the middle, the backup takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
from etcd import NEEDS_ETCD, etcd_process
from recovery_controller import Job, do, run
from recovery_devices import read_state
from recovery_site import Site

from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork

pytestmark = NEEDS_ETCD


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_backup_finishes_or_undoes(site: Site, tmp_path: Path, share: float) -> None:
    site.go("")
    with etcd_process(tmp_path) as address:
        store = f"etcd://{address}/site"

        def job(version: str) -> Job:
            return Job.change(site.network, "campus", site.versions[version], store)

        journal = LiveNetwork(site.network, Access(store=store)).journal
        do(job("old"))
        steps = run(job("new"))
        assert steps is not None
        do(job("old"))
        assert run(job("new"), kill_at=round(steps * share)) is None
        assert journal.intent() is not None
        recovered = do(Job(site.network, store=store))  # after the dead leader's lease
        assert recovered is not None
        assert recovered.outcome == ("undone" if share < 0.5 else "finished")
        ended = "old" if share < 0.5 else "new"
        assert read_state(site.network) == site.states[ended]
        assert journal.intent() is None
        do(job(""))
        assert journal.deployed() == {}
    assert site.now == ""

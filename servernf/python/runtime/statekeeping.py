"""What a worker does with the state of its instances, for transfers and standbys; for the thread of the
data path, between two batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from servernf.python.runtime.arriving import Arriving
from servernf.python.runtime.departing import Departing, Leaving
from servernf.python.runtime.errors import NotFound
from servernf.python.runtime.held import HeldFrames
from servernf.python.runtime.moving import delete_state, export_state, import_state
from servernf.python.runtime.tables import CompiledCall, Instance
from servernf.python.scope import EVERYTHING, Buckets, StateScope
from servernf.wire.state import Batch


class KeepsState:
    """Of a worker."""

    held: HeldFrames
    now_us: Callable[[], int]
    """By the clock of the data path."""

    @property
    def instances(self) -> Mapping[str, Instance]:
        """By name."""
        raise NotImplementedError

    @property
    def steps(self) -> Mapping[int, CompiledCall]:
        """The first step of every path."""
        raise NotImplementedError

    def settle(self) -> None:
        """Compile the steps anew, and look at frames while there are gates."""

    def export_state(self, nf: str, scope: StateScope = EVERYTHING) -> list[bytes]:
        """An instance's state as another worker enters it (`servernf.wire.state`)."""
        return export_state(self._instance(nf), self.held, scope, self.now_us())

    def import_state(self, nf: str, batches: Sequence[bytes]) -> int:
        """Enter what another worker's instance of the same configuration had; how many records."""
        return import_state(self._instance(nf), self.held, self.steps, batches, self.now_us())

    def delete_state(self, nf: str, scope: StateScope = EVERYTHING) -> int:
        """Take state out that another worker goes on with; how many records."""
        return delete_state(self._instance(nf), self.held, scope)

    def common_state(self, nf: str) -> list[bytes]:
        """Batches of what is of no flow, and the counters."""
        return self._instance(nf).nf.state.common(self.now_us())

    def enter_state(self, nf: str, batches: Sequence[Batch], now_us: int) -> int:
        """Enter records that were read; how many. InputError: nothing has changed."""
        return self._instance(nf).nf.state.enter(batches, now_us)

    def departing(self, instances: Iterable[Instance], buckets: Buckets) -> Leaving:
        """Some buckets of some instances, that are about to leave."""
        return Departing(instances, self.instances.values(), buckets, self.settle)

    def arriving(self, instances: Mapping[str, Instance], buckets: Buckets | None) -> Arriving:
        """Instances of which some buckets, or all (None), arrive."""
        return Arriving(instances, buckets)

    def _instance(self, nf: str) -> Instance:
        instances = self.instances
        if nf not in instances:
            raise NotFound(f"nf: no NF instance '{nf}' (known: {', '.join(sorted(instances))})")
        return instances[nf]

"""A change of a network as data: stages of steps, each with its inverse.

A `Transaction` is made by a pure function of what is deployed and what shall be (`planning`), so
whoever kept those two can make it again: a journal needs no steps, only how many stages were begun.
Its stages run one after the other; steps of one stage are independent of each other and run at
once, those of one device in their order.

The executor (`execution.Executor`) tells a recorder before and after each stage. A step is
idempotent when run `careful`: what is there already is left, what is gone already is not missed. So
after a crash in stage i, run stages i, i + 1, ... forward, or the inverse of stages i, i - 1, ...,
0: both end well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from orchestrator.deployment.moves import StateMove
from orchestrator.deployment.origins import Origin
from orchestrator.deployment.standbys import Following
from orchestrator.model.away import Away
from orchestrator.model.builds import Build
from orchestrator.model.entries import FloodGroup, ServerChain, TableEntry
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core


class CloneSession(NamedTuple):
    """A clone session with copies of these numbers to a port."""

    session: int
    port: int
    copies: tuple[int, ...]


Item = TableEntry | FloodGroup | CloneSession
"""What a device with a pipeline is given."""

NfSpec = tuple[str, Mapping[str, Any]]
"""An NF instance: (type, configuration)."""


class Change(NamedTuple):
    """One thing on a device: added (no `before`), deleted (no `after`) or changed.

    A changed table entry keeps its match and its priority, a changed group its number.
    """

    before: Item | None
    after: Item | None

    def inverse(self) -> Change:
        """Back again."""
        return Change(self.after, self.before)

    @property
    def item(self) -> Item:
        """What it is about: as it will be, or else as it was."""
        item = self.after if self.after is not None else self.before
        assert item is not None
        return item


@dataclass(frozen=True, slots=True)
class LoadPipeline:
    """Load a pipeline if another or none runs. P4Runtime cannot unload: without one before, it
    stays when this is undone."""

    device: str
    build: Build
    may_wipe: bool
    """Whether another pipeline may be replaced, and its entries lost."""

    def inverse(self) -> RestorePipeline | None:
        """The pipeline that was replaced, with what was on it."""
        return RestorePipeline(self.device) if self.may_wipe else None


@dataclass(frozen=True, slots=True)
class RestorePipeline:
    """Load the pipeline that this transaction replaced, if it did, and write what was on it."""

    device: str

    def inverse(self) -> None:
        """Nothing: only an inverse itself."""


@dataclass(frozen=True, slots=True)
class WriteEntries:
    """Changes of one device on behalf of `owner` (a graph, or the fabric).

    `ordered`: each change is a Write of its own, since P4Runtime may reorder updates within one.
    """

    device: str
    owner: str
    changes: tuple[Change, ...]
    ordered: bool = False

    def inverse(self) -> WriteEntries:
        """Every change back, the last first."""
        back = tuple(change.inverse() for change in reversed(self.changes))
        return WriteEntries(self.device, self.owner, back, self.ordered)


@dataclass(frozen=True, slots=True)
class ConfigureWorker:
    """NF instances of a graph on a worker, by name, and which of its packets are sampled."""

    core: Core
    graph: str
    before: Mapping[str, NfSpec]
    after: Mapping[str, NfSpec]
    manifest_before: SamplingSecret | None
    manifest_after: SamplingSecret | None

    def inverse(self) -> ConfigureWorker:
        """The instances as they were; one that comes back goes on with the state of its successor."""
        return ConfigureWorker(
            self.core,
            self.graph,
            self.after,
            self.before,
            self.manifest_after,
            self.manifest_before,
        )


@dataclass(frozen=True, slots=True)
class ChainWorker:
    """Service chains of a graph on a worker: those of `before` go, those of `after` come.

    Chains are told apart by (SPI, SI); one in both is left alone.
    """

    core: Core
    graph: str
    before: tuple[ServerChain, ...]
    after: tuple[ServerChain, ...]

    def inverse(self) -> ChainWorker:
        """The chains as they were."""
        return ChainWorker(self.core, self.graph, self.after, self.before)


@dataclass(frozen=True, slots=True)
class Drain:
    """Wait until no packet hits these entries any more, by (device, entries), bounded.

    `back` are those to wait for when the transaction is undone.
    """

    entries: tuple[tuple[str, tuple[TableEntry, ...]], ...]
    back: tuple[tuple[str, tuple[TableEntry, ...]], ...] = ()

    def inverse(self) -> Drain:
        """Wait for the others."""
        return Drain(self.back, self.entries)


@dataclass(frozen=True, slots=True)
class MoveState:
    """A phase of a transfer (`servernf/proto/vnf.proto`): `begins` copies, and the target holds packets
    back, which it treats once it is finished. Between them the switches change.

    `undoing` is the same the other way: what was finished goes back, what was not is aborted. So the
    inverse of the last phase comes first, as it does in a transaction. `is_quiet`: no packet is on its
    way to the source when it finishes. `origins` are the switches that send packets there, which can
    send markers behind the last ones; `is_early`: finished by these alone, and without them later.
    """

    move: StateMove
    begins: bool
    is_quiet: bool = False
    undoing: bool = False
    origins: tuple[Origin, ...] = ()
    is_early: bool = False
    standbys: tuple[str, ...] = ()
    """Replications by which the target has what the source has: for when that does not answer."""

    def inverse(self) -> MoveState:
        """The other phase, the other way."""
        return replace(self, begins=not self.begins, undoing=not self.undoing)


@dataclass(frozen=True, slots=True)
class Follow:
    """A standby follows its primary from now on (`starts`), or no longer."""

    following: Following
    starts: bool

    def inverse(self) -> Follow:
        """The other one."""
        return Follow(self.following, not self.starts)

    def __str__(self) -> str:
        return f"{self.following}{'' if self.starts else ', no longer'}"


Step = (
    LoadPipeline
    | RestorePipeline
    | WriteEntries
    | ConfigureWorker
    | ChainWorker
    | Drain
    | MoveState
    | Follow
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps that may run at once; `title` says what they do together."""

    title: str
    steps: tuple[Step, ...]

    def inverse(self) -> Stage:
        """The inverse of each."""
        back = tuple(step.inverse() for step in reversed(self.steps))
        return Stage(f"undo: {self.title}", tuple(step for step in back if step is not None))


@dataclass(frozen=True, slots=True)
class Transaction:
    """A change of a network on behalf of one graph. Empty: nothing would change."""

    graph: str
    stages: tuple[Stage, ...]

    def inverse(self) -> Transaction:
        """Everything back, the last stage first."""
        return Transaction(self.graph, tuple(stage.inverse() for stage in reversed(self.stages)))

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices with a pipeline that it needs a session with."""
        names: dict[str, None] = {}
        for step in self.steps:
            if isinstance(step, LoadPipeline | RestorePipeline | WriteEntries):
                names[step.device] = None
            elif isinstance(step, Drain):
                names.update(dict.fromkeys(name for name, _ in (*step.entries, *step.back)))
        return tuple(names)

    def changes(self, stages: range) -> int:
        """How many entries, groups and sessions some of its stages are about."""
        steps = (step for index in stages for step in self.stages[index].steps)
        return sum(len(step.changes) for step in steps if isinstance(step, WriteEntries))

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return tuple(step for stage in self.stages for step in stage.steps)


def is_away(step: Step, away: Away) -> bool:
    """Whether a step cannot be done, since who it is for does not answer."""
    match step:
        case LoadPipeline() | RestorePipeline() | WriteEntries():
            return step.device in away.devices
        case ConfigureWorker() | ChainWorker():
            return step.core in away.cores
        case MoveState() if step.is_early and any(o.device in away.devices for o in step.origins):
            return True
        case MoveState():  # of a source that is away the target may have its state, or a part
            return step.move.target in away.cores
        case Follow():
            return step.following.source in away.cores or step.following.standby in away.cores
        case Drain():
            return False

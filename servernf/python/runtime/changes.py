"""Changes to a worker's configuration: what is wrong with one, and the tables after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from servernf.python.runtime.chain import ChainPlan, ChainScope, reachable
from servernf.python.runtime.tables import Instance, Out, SampledLabels, WorkerTables, graph_of
from servernf.wire.instances import base_name


@dataclass(frozen=True, slots=True)
class NfSpec:
    """An NF instance to configure: "GRAPH/NF", type, and the text of its configuration (JSON)."""

    name: str
    type_name: str
    config_json: str


@dataclass(frozen=True, slots=True)
class Configured:
    """Names of instances, by what became of them."""

    created: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    continued: tuple[str, ...]
    """Of those created or replaced: the ones that go on with an earlier instance's state."""


def name_problems(graph: str, names: Sequence[str], where: str) -> list[str]:
    """What is wrong with the instance names of a call."""
    problems = [] if graph else ["graph: must not be empty"]
    for index, name in enumerate(names):
        if graph_of(name) != graph or name.endswith("/"):
            problems.append(f"{where}[{index}]: '{name}' must be '{graph}/NF'")
        elif name in names[:index]:
            problems.append(f"{where}[{index}]: '{name}' is given twice")
    return problems


def manifest_problems(manifest: SampledLabels | None) -> list[str]:
    """What is wrong with a manifest."""
    if manifest is None or 0 <= manifest.threshold <= 1 << 32:
        return []
    return ["manifest.threshold: must be 0 to 2^32 (the rate times 2^32)"]


def port_problems(tables: WorkerTables, old: Instance, ports: Sequence[str]) -> list[str]:
    """An instance keeps its chains when it is replaced, so it must keep the ports they use."""
    used = {port for nf, _, port in tables.classifiers if nf == old.name}
    used |= {to.port for to in tables.entries.values() if to.nf == old.name}
    return [
        f"{old.name}: port '{port}' is used by a chain and would go"
        for port in sorted(used - set(ports))
    ]


def followed(instance: Instance, others: Iterable[Instance]) -> Instance | None:
    """The instance that a new one is the next configuration of: the latest of the same NF and type.

    Told by names alone, so it holds for an update, its undoing and their repetition alike.
    """
    same = (instance.type_name, base_name(instance.name))
    followers = [other for other in others if (other.type_name, base_name(other.name)) == same]
    return followers[-1] if followers else None


def without(tables: WorkerTables) -> WorkerTables:
    """Chains that begin at, lead to or leave NFs which are no longer there go."""
    instances = tables.instances
    return replace(
        tables,
        entries={path: to for path, to in tables.entries.items() if to.nf in instances},
        classifiers={
            key: following
            for key, following in tables.classifiers.items()
            if key[0] in instances and (isinstance(following, Out) or following.nf in instances)
        },
    )


def with_plan(
    tables: WorkerTables, plan: ChainPlan, scope: ChainScope, *, update: bool
) -> WorkerTables:
    """The tables once a checked chain is in them."""
    path = scope.path
    entries = dict(tables.entries)
    classifiers = dict(tables.classifiers)
    if plan.classifiers:
        entries |= plan.entries
    elif scope.in_port:
        entries.pop(path, None)
    classifiers.pop(plan.first, None)
    classifiers |= plan.classifiers
    after = replace(tables, entries=entries, classifiers=classifiers)
    if not update or not (path in entries or scope.in_port):
        return after
    # What the old chain came to, and nothing of this path comes to any more, is cleared.
    old = reachable(tables, path, plan.first[0])
    now = reachable(after, path, entries[path].nf) if path in entries else set[str]()
    return replace(
        after,
        classifiers={
            key: following
            for key, following in classifiers.items()
            if key[1] != path or key[0] in now or key[0] not in old
        },
    )

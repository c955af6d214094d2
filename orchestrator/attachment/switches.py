"""One switch that runs already: whether it is the right one, free, and what it runs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from orchestrator.attachment.sampling import PORTS
from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.presence import device_seen
from orchestrator.errors import NetworkError, ReportedError
from orchestrator.model.builds import Build
from orchestrator.model.manifest import MANIFESTS
from orchestrator.model.topology import Switch
from orchestrator.targets import AUTO, automatic, known_targets
from orchestrator.targets.block import EPOCH_TABLE
from orchestrator.targets.pipelines import SHIPPED

_MODEST = 1
"""An election id below every other controller's: whoever is primary stays it, and we hear of it."""
_TABLES_SHOWN = 4

Runs = Literal["none", "ours", "another version", "foreign"]


@dataclass(frozen=True, slots=True)
class SwitchFound:
    """A switch that answered: its target, what pipeline it runs, and the graphs that it has in force
    (names by id)."""

    name: str
    target: str
    runs: Runs
    in_force: dict[int, str]
    problems: tuple[str, ...] = ()


@contextmanager
def primary_session(switch: Switch, access: Access) -> Generator[SwitchClient]:
    """A session as the switch's primary, which pushes nobody aside; SwitchError where there is one."""
    at = switch.management
    if at is None:
        raise NetworkError(
            f"{switch.name}: the topology does not say where it is reached "
            f"(switches.{switch.name}.address)"
        )
    with SwitchClient(
        switch.name,
        at.address,
        at.device_id,
        tls=access.tls_files(switch.name, switch.tls),
        role=at.role,
        election_id=_MODEST,
    ) as session:
        yield session


def look_at(switch: Switch, access: Access, *, replace_pipeline: bool) -> SwitchFound | str:
    """Ask a switch what it is; a text says why it cannot be asked. Nothing is changed."""
    try:
        with primary_session(switch, access) as session:
            said = session.target()
            seen = device_seen(session)
            schema = session.schema
    except ReportedError as error:
        return str(error)
    told = said if said in known_targets() else ""
    target = switch.target if switch.target != AUTO else told or automatic()[0].name
    runs = _runs(switch, target, seen.cookie, schema)
    problems: list[str] = []
    if told and target != told:
        problems.append(f"{switch.name}: it is a {told}, the topology says {switch.target}")
    if runs == "foreign" and not replace_pipeline:
        problems.append(_foreign(switch, tuple(schema.tables) if schema is not None else ()))
    if runs == "none" or (runs == "foreign" and replace_pipeline):
        problems += _cannot_load(switch, target)
    in_force = {graph_id: graph for graph_id, (graph, _) in seen.epochs.items()}
    return SwitchFound(switch.name, target, runs, in_force, tuple(problems))


def build_of(switch: Switch, target: str) -> Build:
    """The pipeline that a switch gets where it has none; InputError when none is shipped."""
    return SHIPPED.build(switch.pipeline, target)


def _runs(switch: Switch, target: str, cookie: int | None, schema: Schema | None) -> Runs:
    if cookie is None or schema is None:
        return "none"
    if any(table not in schema.tables for table in (EPOCH_TABLE, PORTS, MANIFESTS)):
        return "foreign"
    try:
        mine = build_of(switch, target).cookie
    except ReportedError:
        return "another version"
    return "ours" if cookie == mine else "another version"


def _foreign(switch: Switch, tables: tuple[str, ...]) -> str:
    shown = ", ".join(tables[:_TABLES_SHOWN])
    more = f" and {len(tables) - _TABLES_SHOWN} more" if len(tables) > _TABLES_SHOWN else ""
    return (
        f"{switch.name}: it runs a pipeline of somebody else (tables {shown}{more}): "
        f"--replace-pipelines loads '{switch.pipeline}' in its place, and its entries are gone"
    )


def _cannot_load(switch: Switch, target: str) -> Iterator[str]:
    try:
        build_of(switch, target)
    except ReportedError as error:
        yield f"{switch.name}: {error}"
    role = switch.management.role if switch.management else ""
    if role:
        yield (
            f"{switch.name}: it runs no pipeline of ours, and role '{role}' can load none (only the "
            f"default role does: P4Runtime, 5): load '{switch.pipeline}' first, or leave role out"
        )

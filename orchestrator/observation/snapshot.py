"""A switch as it is or should be: its pipeline and its entities, to be run in this process.

A snapshot comes from any P4Runtime switch or from a saved bundle; `replica` makes a softswitch of it.
The sampling keys are left out of it, so an explanation is the same wherever it comes from and can show
no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from finsy.proto import p4i, p4r

from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.words import SECRETS
from orchestrator.deployment.desired import Deployment, desired
from orchestrator.errors import InputError, SwitchError, unknown
from orchestrator.model.bundle import Bundle
from orchestrator.softswitch.architectures.v1model import V1MODEL
from orchestrator.softswitch.ir import program_of
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets import known_targets, lookup
from orchestrator.targets.pipelines import build_for, p4info, shipped_builds
from orchestrator.targets.target import compiled_for


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pipeline and entities of one switch. `origin` says where it was read."""

    switch: str
    origin: str
    p4info: p4i.P4Info
    device_config: bytes
    entities: tuple[p4r.Entity, ...]

    @property
    def schema(self) -> Schema:
        """The names of its pipeline."""
        return Schema.of(self.p4info)


def read_snapshot(client: SwitchClient) -> Snapshot:
    """All that a running switch forwards by; SwitchError when it has no pipeline."""
    config = client.pipeline_config()
    if config is None:
        raise SwitchError(f"{client.name}: no pipeline is loaded; deploy a graph first")
    device_config = config.p4_device_config or _shipped_config(config.cookie.cookie)
    if not device_config:
        raise SwitchError(
            f"{client.name}: the switch does not give its program away, and it is none of the "
            "shipped ones (told by its cookie); use --bundle FILE"
        )
    secret = secret_tables(config.p4info)
    entities: list[p4r.Entity] = []
    for wanted, needed in _questions(config.p4info):
        try:
            read = list(client.read_entities(wanted))
        except SwitchError:
            if needed:
                raise
            continue  # a switch that cannot read these has none that matter to tables
        entities += [e for e in read if e.table_entry.table_id not in secret]
    return Snapshot(client.name, client.address, config.p4info, device_config, tuple(entities))


def bundle_snapshots(bundles: Sequence[Bundle], origin: str) -> dict[str, Snapshot]:
    """The switches that bundles would make, by name; the graphs must share their topology."""
    snapshots: dict[str, Snapshot] = {}
    for switch in bundles[0].pipeline_of:
        built = build_for(bundles[0], switch)
        schema = Schema.of(p4info(built))
        placed = [Deployment(bundle, None) for bundle in bundles]
        entities = [p4r.Entity.FromString(e) for e in desired(schema, placed, switch).values()]
        snapshots[switch] = Snapshot(
            switch, origin, p4info(built), built.device_config, tuple(entities)
        )
    return snapshots


def replica(snapshot: Snapshot, clock: Callable[[], int] | None = None) -> SoftSwitch:
    """A softswitch in this process that forwards as the snapshot says."""
    cpu = compiled_for(
        V1MODEL.name
    ).ports.cpu  # a target of another architecture has a twin of this
    soft = SoftSwitch(1, cpu, clock or (lambda: 0), name=snapshot.switch)
    try:
        soft.load(program_of(snapshot.device_config), snapshot.p4info)
    except SwitchError as e:
        told = " ".join(str(e).split())
        raise SwitchError(f"{snapshot.switch}: the program of {snapshot.origin}: {told}") from e
    fixed = {t.preamble.id for t in snapshot.p4info.tables if t.is_const_table}
    updates = [
        p4r.Update(
            type=p4r.Update.MODIFY if e.table_entry.is_default_action else p4r.Update.INSERT,
            entity=e,
        )
        for e in snapshot.entities
        if e.table_entry.table_id not in fixed
    ]
    soft.write(updates)
    return soft


def snapshot_of(snapshots: Mapping[str, Snapshot], switch: str) -> Snapshot:
    """One by name; InputError names the others."""
    if switch not in snapshots:
        raise InputError(unknown("switch", switch, tuple(snapshots)))
    return snapshots[switch]


def _questions(p4info: p4i.P4Info) -> Iterator[tuple[p4r.Entity, bool]]:
    """What to read, in the order in which it must be written again; and whether it is needed."""
    for kind in ("multicast_group_entry", "clone_session_entry"):
        entity = p4r.Entity()
        getattr(entity.packet_replication_engine_entry, kind).SetInParent()
        yield entity, False
    if p4info.action_profiles:
        for kind in ("action_profile_member", "action_profile_group"):
            entity = p4r.Entity()
            getattr(entity, kind).SetInParent()
            yield entity, False
    entity = p4r.Entity()
    entity.table_entry.SetInParent()
    yield entity, True
    for table in p4info.tables:
        if not table.const_default_action_id:
            default = p4r.Entity()
            default.table_entry.table_id = table.preamble.id
            default.table_entry.is_default_action = True
            yield default, False


def secret_tables(p4info: p4i.P4Info) -> set[int]:
    """Tables whose entries carry sampling keys."""
    secret = {
        a.preamble.id for a in p4info.actions if {param.name for param in a.params} >= SECRETS
    }
    return {
        table.preamble.id
        for table in p4info.tables
        if any(ref.id in secret for ref in table.action_refs)
    }


def _shipped_config(cookie: int) -> bytes:
    """The program of the shipped pipeline with this cookie, as the softswitch reads it; empty when it is
    none of them."""
    for name in known_targets():
        target = lookup(name)
        if not target.suffix:
            continue
        twins = shipped_builds(target.explained_by)
        for built, twin in zip(shipped_builds(target.architecture), twins, strict=True):
            if built.cookie == cookie:
                return twin.device_config
    return b""

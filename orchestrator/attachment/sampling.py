"""What a switch is given so that it reports probes (`probes`), and the way back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.transaction import Change, CloneSession
from orchestrator.deployment.updates import replicate_carefully, update_of
from orchestrator.errors import SwitchError, WriteRefused
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.model.manifest import MANIFESTS, manifest_entries, new_manifest
from orchestrator.observation.probe_frames import PROBE_GRAPH

PORTS = "port.ports"
OWNER = "attach"
"""The name that stands for a graph in these entries' provenance."""


@dataclass(slots=True)
class ProbeReports:
    """Reports of probes at `ports` of a switch.

    `session` is open as its primary, its pipeline has been looked at; `clone` is by which samples leave
    its target. Entries of others stay, so a port that graphs use reports as they have it.
    """

    session: SwitchClient
    switch_id: int
    clone: CloneSession
    ports: tuple[int, ...]
    _cloned: bool = False
    """Whether the clone session was made here."""

    def install(self) -> None:
        """Write what is needed; SwitchError when the switch refuses it."""
        self._remove_entries()  # also those of an attach that was killed
        taken = {
            dict(managed.entry.keys)["ingress_port"] for managed in self.session.entries(PORTS)
        }
        manifest = new_manifest(PROBE_GRAPH, 1.0)
        assert manifest is not None
        self._make_session(used=bool(taken))
        entries = [
            *(self._port_entry(port) for port in self.ports if Exact(port) not in taken),
            *manifest_entries(manifest),
        ]
        self._write(Change(None, entry) for entry in entries)

    def remove(self) -> None:
        """Take away what was written."""
        with suppress(SwitchError):  # it does not answer any more, which is told where it was used
            self._remove_entries()
            if self._cloned:
                replicate_carefully(self.session, Change(self.clone, None))

    def _make_session(self, *, used: bool) -> None:
        """Graphs that use the switch have it already. Not every switch can list its sessions."""
        change = Change(None, self.clone)
        if not used:
            self._cloned = True
            replicate_carefully(self.session, change)
            return
        with suppress(WriteRefused):
            self._write([change])
            self._cloned = True

    def _remove_entries(self) -> None:
        self._write(
            Change(managed.entry, None)
            for table in (PORTS, MANIFESTS)
            for managed in self.session.entries(table)
            if managed.graph == OWNER
        )

    def _write(self, changes: Iterable[Change]) -> None:
        self.session.write([update_of(self._schema, change, OWNER) for change in changes])

    def _port_entry(self, port: int) -> TableEntry:
        return TableEntry(
            PORTS,
            (("ingress_port", Exact(port)),),
            "port.fabric_facing",
            (("switch_id", self.switch_id),),
            0,
            "probing",
        )

    @property
    def _schema(self) -> Schema:
        assert self.session.schema is not None, "its pipeline has been looked at"
        return self.session.schema

"""Sessions that only read: whoever is a switch's primary controller stays it."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.clients.p4runtime import InstalledEntry, SwitchClient
from orchestrator.clients.words import Placing, as_told
from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError, SwitchError
from orchestrator.observation.rows import Row


def at_address(name: str, address: str, device_id: int) -> SwitchClient:
    """A reading session with any P4Runtime switch; over TLS when a CA is given."""
    host, _, port = address.rpartition(":")
    if not address.removeprefix("unix:") or not (
        address.startswith("unix:") or (host and port.isdigit())
    ):
        raise InputError(
            f"--address '{address}': HOST:PORT or unix:PATH is expected, as 127.0.0.1:9559"
        )
    tls = Access.from_environment().own_files()
    return SwitchClient(name, address, device_id, tls=tls, primary=False)


def reader(network: LiveNetwork, switch: str) -> SwitchClient:
    """A reading session with a switch of a running network."""
    return network.device(switch).reading()


def read_rows(
    client: SwitchClient, tables: list[str] | None = None, placing: Placing = as_told
) -> list[Row]:
    """All entries of an open session, or those of some tables; the P4Info is read first.

    `placing` knows the places of rules, which switches are not told.
    """
    if client.schema is None and client.pipeline_cookie() is None and client.schema is None:
        raise SwitchError(f"{client.name}: no pipeline is loaded; deploy a graph first")
    schema = client.schema
    assert schema is not None
    names = tables or list(schema.tables)
    return [
        Row(client.name, with_place(item, placing)) for n in names for item in client.entries(n)
    ]


def with_place(item: InstalledEntry, placing: Placing) -> InstalledEntry:
    """The same with the place of its rule."""
    origin = placing(item.graph, item.entry)
    if origin == item.entry.origin:
        return item
    return replace(item, entry=item.entry._replace(origin=origin))

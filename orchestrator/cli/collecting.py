"""`orchestrator verify cle collect`: switches' reports become records of the CLE's."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.bundle.codec import read as read_bundle
from orchestrator.cli.certified import client_files
from orchestrator.cli.options import takes
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.clients.cle import CleClient
from orchestrator.errors import InputError, unknown
from orchestrator.model.topology import Topology
from orchestrator.network.inventory import load_inventory
from orchestrator.verification import keys, tapping
from orchestrator.verification import manifest as manifests
from orchestrator.verification.collecting import Outbox, hear
from orchestrator.verification.collecting import collect as run
from orchestrator.verification.collector import Collector
from orchestrator.verification.manifest import VerificationManifest
from servernf.wire.addresses import COLLECTOR_CORE, device_mac
from servernf.wire.nsh import ETHERTYPE_NSH


@dataclass(frozen=True, slots=True)
class Switches:
    """Those of a manifest's points that are switches: whom they tell, and of which graph."""

    graph_id: int
    names: tuple[str, ...]
    mac: int
    """The collector's."""
    topology: Topology

    @property
    def by_id(self) -> Mapping[int, str]:
        return {self.topology.switches[name].id: name for name in self.names}


def switches_of(
    agreed: VerificationManifest, topology: Topology, server: str, bundle: Path
) -> Switches:
    """The switches of a manifest on a network; InputError where they cannot be told whom to tell."""
    if server not in topology.servers:
        raise InputError(f"--collector: {unknown('server', server, tuple(topology.servers))}")
    deployed = read_bundle(bundle).bundle
    if deployed.graph != agreed.graph:
        raise InputError(f"--bundle {bundle}: is of '{deployed.graph}', not of '{agreed.graph}'")
    names = tuple(name for name in agreed.points if name in topology.switches)
    mac = device_mac(topology.servers[server].id, core=COLLECTOR_CORE)
    return Switches(deployed.graph_id, names, mac, topology)


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """What `verify cle collect` was asked for."""

    interface: Annotated[str, typer.Argument(help="The server's interface to the network.")]
    manifest: Annotated[Path, typer.Argument(help="The verification manifest, signed by both.")]
    sampling_key: Annotated[Path, typer.Option(help="The sampling key of customer and CLE.")]
    bundle: Annotated[Path, typer.Option(help="A bundle of the graph (for its number).")]
    network: Annotated[str, typer.Option("--network", "-n", help="The network (its inventory).")]
    collector: Annotated[str, typer.Option(help="The server that this is; as `watch` says it.")]
    cle: Annotated[str, typer.Option(help="The CLE: unix:/path.sock or HOST:PORT.")]
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate of the collector.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key.")] = None
    tls_ca: Annotated[Path | None, typer.Option(help="Who signs the CLE's certificate.")] = None
    as_json: Json = False


@takes(CollectOptions)
def collect(options: CollectOptions) -> None:
    """Take switches' reports until Ctrl-C, and give the CLE those that are a switch's own words.

    Says `{"ready": true}` once it listens. Needs CAP_NET_RAW.
    """
    signed = manifests.read(options.manifest)
    manifests.check(signed, None, None)
    agreed = signed.manifest
    key = keys.agreed_key(options.sampling_key, agreed.sampling.key, str(options.manifest))
    switches = switches_of(
        agreed, load_inventory(options.network).topology, options.collector, options.bundle
    )
    ending: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: ending.append(number))
    tls = client_files(options.tls_cert, options.tls_key, options.tls_ca)
    with (
        CleClient(options.cle, tls=tls) as client,
        tapping.listening(options.interface, ETHERTYPE_NSH) as port,
    ):
        hear(port, options.interface, switches.mac)
        outbox = Outbox(client.ship)
        made = Collector(
            switches.graph_id,
            switches.by_id,
            partial(keys.report_key, key, agreed.graph),
            lambda: time.time_ns() // 1000,
            outbox.take,
            boot=time.time_ns(),
            overlap_us=agreed.epochs.overlap_seconds * 1_000_000,
            headers=agreed.headers,
        )
        say(
            json.dumps(
                {"ready": True, "interface": options.interface, "switches": list(switches.names)}
            )
        )
        run(port, switches.mac, made, outbox, lambda: bool(ending))
    told = {
        "shipped": outbox.shipped,
        "refused": dict(made.refused),
        "lost": sum(made.lost.values()),
    }
    if outbox.last_error:
        warn(outbox.last_error)
    if options.as_json:
        print_json(told)
    else:
        say(
            f"{told['shipped']} records, {sum(made.refused.values())} frames were none of a switch's"
        )

"""What a keeper would make of the deployed graphs if devices died: placed, and nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.deployment.around import moves
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.placing import placed
from orchestrator.deployment.presence import behind, needed
from orchestrator.errors import InputError, ReportedError, unknown
from orchestrator.model.away import Away
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.model.topology import Link, Topology, within
from orchestrator.whatif.scenarios import find_link, nodes_of


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A deployed graph after a failure: `bundle` is where it would run, `moves` what that moves.

    `why` is not empty when it cannot be placed anew; then the bundle is what is there, and broken.
    """

    bundle: Bundle
    moves: tuple[str, ...] = ()
    why: str = ""


def failing(topology: Topology, workers: Mapping[str, Core], fail: Sequence[str]) -> Away:
    """What would be away: `link:a-b`, `node:NAME` of a switch, server, host or worker (by name).

    InputError for names that do not exist.
    """
    devices: dict[str, str] = {}
    dead: dict[Core, str] = {}
    links: dict[Link, str] = {}
    for what in fail:
        kind, _, name = what.partition(":")
        why = f"{name} fails"
        if kind == "link":
            links |= dict.fromkeys(within(topology, find_link(topology, name)), why)
        elif kind != "node":
            raise InputError(f"--fail {what}: say link:a-b or node:name")
        elif name in topology.switches:
            devices[name] = why
        elif name in topology.servers:
            dead |= {c: f"{w} fails" for w, c in workers.items() if c.server == name}
        elif name in workers:
            dead[workers[name]] = why
        elif name in topology.hosts:
            links |= {link: why for link in topology.links if name in (link.a, link.b)}
        else:
            names = (*nodes_of(topology), *workers)
            raise InputError(f"--fail {what}: {unknown('node', name, names)}")
    return behind(topology, devices, dead, links)


def foresee(network: ManagedNetwork, away: Away) -> dict[str, Foreseen]:
    """Every deployed graph without what is away, in the order in which a keeper repairs them."""
    deployed = dict(network.journal.deployed())
    foreseen: dict[str, Foreseen] = {}
    for name, there in list(deployed.items()):
        foreseen[name] = _foreseen(network, deployed, there, away)
        deployed[name] = replace(there, bundle=foreseen[name].bundle)
    return foreseen


def _foreseen(
    network: ManagedNetwork, deployed: Mapping[str, Deployed], there: Deployed, away: Away
) -> Foreseen:
    bundle = there.bundle
    if not needed(bundle, network.topology, away):
        return Foreseen(bundle)
    graph = there.graph()
    if graph is None:
        return Foreseen(
            bundle, why=f"{bundle.graph}: deployed as a bundle, which is not placed anew"
        )
    try:
        new = placed(graph, network, deployed, away=away)
    except ReportedError as error:
        return Foreseen(bundle, why=str(error))
    return Foreseen(new, tuple(moves(bundle, new, away)))

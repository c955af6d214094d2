"""Start and stop networks: net up, down, restart."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from orchestrator.attachment.restarting import restart_worker
from orchestrator.cli.memory import start_network
from orchestrator.cli.networks import name_of, networks_here, only
from orchestrator.cli.options import NetworkArgument, NetworkName, NewNetwork, said
from orchestrator.cli.output import Json, note, print_json, say, warn
from orchestrator.deployment.access import Access
from orchestrator.deployment.live import journal_of, new_journal
from orchestrator.emulation import net_down, net_up, restart
from orchestrator.emulation.commands import emulated
from orchestrator.emulation.state import load_handle
from orchestrator.errors import InputError, NetworkError, StoreError
from orchestrator.network.folders import list_inventories, list_networks
from orchestrator.network.inventory import load_inventory
from orchestrator.network.registry import is_attached, is_in_memory
from orchestrator.placement.topologies import resolve_topology
from orchestrator.simulation.control import stop
from orchestrator.simulation.hosts import Hosts
from orchestrator.targets import AUTO


def register(net: typer.Typer) -> None:
    """Add this module's commands to those on networks."""
    net.command("up", epilog="Example: orchestrator net up leaf-spine --switch softswitch")(up)
    net.command("down", epilog="Example: orchestrator net down leaf-spine")(down)
    net.command("restart", epilog="Example: orchestrator net restart server1.1 -n leaf-spine")(
        restart_command
    )


def up(
    topology: Annotated[str, typer.Argument(help="A topology file, or a shipped one's name.")],
    switch: Annotated[
        str,
        typer.Option(help="The target that all switches run as; left out: as the topology says."),
    ] = "",
    name: NewNetwork = "",
    tcp: Annotated[
        bool,
        typer.Option(
            "--tcp",
            help="Switches without TLS listen on TCP ports, which every user of this machine can "
            "reach, and not on Unix sockets.",
        ),
    ] = False,
    memory: Annotated[
        bool,
        typer.Option(
            "--memory",
            help="In memory: softswitches and workers in one process, links with latency and capacity, "
            "virtual time. Needs no root.",
        ),
    ] = False,
    cle: Annotated[
        str,
        typer.Option(
            metavar="unix:/PATH",
            help="Where a CLE listens (verify cle serve): what workers tell witnesses is shipped there.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Start a network in the background; leftovers of a crashed one of that name are removed."""
    if memory:
        if cle:
            raise InputError("--cle: workers of a network in memory have no rings")
        _up_in_memory(topology, switch, name, tcp, as_json)
        return

    ways = (AUTO, *emulated())
    switch = switch or AUTO
    if switch not in ways:
        raise InputError(f"--switch: '{switch}' is none of {', '.join(ways)}")
    started = time.monotonic()
    state = net_up(
        resolve_topology(topology),
        switch=switch,
        name=name or None,
        progress=note,
        warn=warn,
        tcp=tcp,
        certificate=Access.from_environment().certificate,
        cle=cle,
    )
    try:
        new_journal(state.name, state.run_dir)
    except StoreError:
        net_down(state.name)
        raise
    if as_json:
        print_json(
            {"name": state.name, "switches": {s.name: s.target for s in state.switches.values()}}
        )
        return
    targets = sorted({s.target for s in state.switches.values()})
    say(
        f"network {state.name} is up: {len(state.switches)} switches ({', '.join(targets)}), "
        f"{len(state.workers)} workers, {len(state.hosts)} hosts, "
        f"in {time.monotonic() - started:.1f} s"
    )


def _up_in_memory(topology: str, switch: str, name: str, tcp: bool, as_json: bool) -> None:
    if switch or tcp:
        option = f"--switch {switch}" if switch else "--tcp"
        raise InputError(
            f"{option}: switches of a network in memory are softswitches at Unix sockets"
        )
    wanted = resolve_topology(topology)
    inventory = start_network(wanted, name or wanted.name)
    switches = {switch.name: switch.target for switch in inventory.topology.switches.values()}
    if as_json:
        print_json({"name": inventory.name, "switches": switches})
        return
    hosts = len(inventory.topology.hosts)
    say(
        f"network {inventory.name} is up in memory: {len(switches)} switches, "
        f"{len(inventory.workers)} workers, {hosts} hosts"
    )


def down(name: NetworkArgument = "", network: NetworkName = "", as_json: Json = False) -> None:
    """Stop a network and remove all that it made."""
    name = name_of(said(name, network))
    if name and is_attached(name):
        raise NetworkError(
            f"'{name}' was not started here: `orchestrator net detach {name}` lets go of it, and its "
            "traffic flows on"
        )
    # Named, it can be removed even if another version wrote its state.
    name = name or _started()
    if is_in_memory(name):
        journal = journal_of(name, load_inventory(name).folder)
        stop(name)
    else:
        journal = journal_of(name, load_handle(name).run_dir)
        net_down(name)
    journal.clear()
    if as_json:
        print_json({"name": name, "down": True})
    else:
        say(f"network {name} is down")


def restart_command(
    device: Annotated[str, typer.Argument(help="A switch (leaf1) or worker (server1.1).")],
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Start a switch or worker again, empty; `orchestrator reconcile` gives it what it had."""
    name = name_of(network) or only(networks_here())
    if is_in_memory(name):
        Hosts(load_inventory(name).hosts).restart(device)
    elif is_attached(name):
        restart_worker(name, device)
    else:
        restart(name, device)
    if as_json:
        print_json({"name": name, "device": device, "restarted": True})
    else:
        say(f"{device} runs again, empty: `orchestrator reconcile -n {name}` gives it what it had")


def _started() -> str:
    """The only network that `net up` has started, whether it came up or not."""
    return only([*list_networks(), *filter(is_in_memory, list_inventories())])

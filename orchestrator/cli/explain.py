"""`orchestrator explain`: what switches and servers would do with a packet, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName, takes
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.cli.reading import Address, DeviceId
from orchestrator.errors import InputError, unknown
from orchestrator.observation import whynot
from orchestrator.observation.captures import Capture, Header
from orchestrator.observation.explain import Explainer, SwitchStep, Visit, visit_json
from orchestrator.observation.frames import between_hosts, frame_text, header_of, parse_packet
from orchestrator.observation.journey import Journey, NetworkModel, WorkerVisit
from orchestrator.observation.sessions import at_address, reader
from orchestrator.observation.snapshot import read_snapshot
from orchestrator.observation.views import NetworkView, see_bundle, see_live
from orchestrator.observation.whynot import Answer
from orchestrator.presenters.packets import answers_to, explained_json, sender_of

_EXAMPLES = (
    "Examples: orchestrator explain leaf1 --from h1 --to h3:23 --- "
    "orchestrator explain --from h1 --to h3:80 --network-wide --- "
    "orchestrator explain --from h1 --to h3:80 --why-not edge_ids --- "
    "orchestrator explain leaf1 --bundle campus.bundle --port 1 "
    "--packet 'tcp 10.0.1.11:40000 > 198.51.100.13:80 ttl=1'"
)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("explain", epilog=_EXAMPLES)(explain)


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """What `explain` was asked for."""

    switch: Annotated[
        str,
        typer.Argument(help="Name of a switch; the whole network if left out."),
    ] = ""
    packet: Annotated[
        str,
        typer.Option(
            "--packet",
            help="A frame in hex, or words: 'udp 10.0.1.11:1 > 10.0.2.9:53 ttl=3 payload=hi'.",
        ),
    ] = ""
    pcap: Annotated[
        Path | None, typer.Option("--pcap", help="Frames of a capture (the first --count).")
    ] = None
    source: Annotated[str, typer.Option("--from", help="The host that sends.")] = ""
    target: Annotated[
        str,
        typer.Option(
            "--to", help="h2, h2:80, h2:53/udp, h2/icmp, h2:80/6tcp (its IPv6 address), an address."
        ),
    ] = ""
    port: Annotated[
        int, typer.Option("--port", help="With SWITCH: the port by which the frame comes.", min=0)
    ] = 0
    everywhere: Annotated[
        bool,
        typer.Option(
            "--network-wide", help="Follow it across switches and servers, and the answer back."
        ),
    ] = False
    why_not: Annotated[
        str,
        typer.Option(
            "--why-not", help="An NF, a host or SWITCH:PORT: where it left the way there."
        ),
    ] = ""
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Explain a saved bundle (compile -o); nothing need run."),
    ] = None
    topology: Annotated[
        str,
        typer.Option("--topology", "-t", help="With --bundle: another topology than its own."),
    ] = ""
    network: NetworkName = ""
    address: Address = ""
    device_id: DeviceId = 1
    count: Annotated[int, typer.Option(help="With --pcap: how many frames.", min=1)] = 1
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also misses, keys and every field set.")
    ] = False
    as_json: Json = False


@takes(ExplainOptions)
def explain(options: ExplainOptions) -> None:
    """Run a packet through a copy of the network in this process and say what happens to it, and why.

    Reads pipelines and entries of the switches (BMv2, softswitch, any P4Runtime switch that gives its
    program) or of a saved bundle; the answer is the same. No packet is sent, nothing is changed.
    Workers of the copy start without flows.
    """
    _check_which(options.packet, options.pcap, options.source, options.target)
    if options.address:
        _at_address(options)
        return
    seen = _see(
        options.bundle,
        options.topology,
        options.network,
        options.switch,
        options.everywhere or not options.switch or bool(options.why_not or options.source),
    )
    model = seen.model()
    frames = _frames(
        model, options.packet, options.pcap, options.count, options.source, options.target
    )
    if options.switch and not (options.everywhere or options.source or options.why_not):
        _in_switch(model, options.switch, options.port, frames, options.as_json, options.verbose)
        return
    for frame in frames:
        sender = options.source or sender_of(model, frame)
        journey = model.send(sender, frame)
        answer = _answer(model, seen, journey, options.why_not) if options.why_not else None
        back = answers_to(model, journey) if options.everywhere or not options.switch else []
        if options.as_json:
            print_json(
                explained_json(
                    journey, back, answer, options.switch if not options.everywhere else ""
                )
            )
        elif options.switch and not options.everywhere and not options.why_not:
            _print_at_switch(journey, options.switch, options.verbose)
        else:
            _print_journey(journey, options.verbose, "")
            for one in back:
                _print_journey(one, options.verbose, "The answer: ")
        if answer is not None and not options.as_json:
            _print_answer(answer)


def _check_which(packet: str, pcap: Path | None, source: str, target: str) -> None:
    """One packet is said; --from goes with each of the ways to say it."""
    given = [
        name for name, value in (("--packet", packet), ("--pcap", pcap), ("--to", target)) if value
    ]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} each say the packet: give one of them")
    if not given and source:
        raise InputError(
            f"--from {source}: say which packet: --to HOST, --packet TEXT or --pcap FILE"
        )
    if not given:
        raise InputError("say which packet: --packet TEXT, --pcap FILE, or --from HOST --to HOST")


def _see(bundle: Path | None, topology: str, network: str, switch: str, whole: bool) -> NetworkView:
    if bundle is not None:
        return see_bundle(bundle, topology)
    live = find_network(network)
    if whole:
        return see_live(live)
    with reader(live, switch) as client:
        return NetworkView(live.topology, {switch: read_snapshot(client)}, ())


def _frames(
    model: NetworkModel, packet: str, pcap: Path | None, count: int, source: str, target: str
) -> list[bytes]:
    hosts = model.topology.hosts
    if source and source not in hosts:
        raise InputError(f"--from: {unknown('host', source, tuple(hosts))}")
    if packet:
        return [parse_packet(packet)]
    if pcap is not None:
        return _captured(pcap, count, header_of(model.topology, hosts.get(source)))
    if not source or not target:
        raise InputError("--from HOST and --to HOST go together")
    return [between_hosts(model.topology, source, target)]


def _captured(pcap: Path, count: int, header: Header) -> list[bytes]:
    capture = Capture(pcap, header)
    frames = capture.first(count)
    if warning := capture.warning():
        warn(warning)
    return frames


def _at_address(options: ExplainOptions) -> None:
    if options.source or (not options.packet and options.pcap is None):
        raise InputError(
            "--from and --to need a network's topology: with --address say --packet or --pcap "
            "and --port"
        )
    with at_address(options.switch or "switch", options.address, options.device_id) as client:
        explainer = Explainer(read_snapshot(client))
    frames = [parse_packet(options.packet)] if options.packet else []
    if options.pcap is not None:
        frames = _captured(options.pcap, options.count, header_of())
    visits = [explainer.explain(options.port, frame) for frame in frames]
    _print_visits(visits, options.as_json, options.verbose)


def _in_switch(
    model: NetworkModel, switch: str, port: int, frames: list[bytes], as_json: bool, verbose: bool
) -> None:
    visits: list[Visit] = []
    for frame in frames:
        at = port
        if not at:
            sender = sender_of(model, frame)
            at = next((n for n, name in model.ports[switch].items() if name == sender), 0)
            if not at:
                raise InputError(
                    f"{sender} is not at {switch}: say --port N "
                    f"({', '.join(f'{n}: {name}' for n, name in sorted(model.ports[switch].items()))})"
                )
        visits.append(model.explainer(switch).explain(at, frame))
    _print_visits(visits, as_json, verbose)


def _print_visits(visits: list[Visit], as_json: bool, verbose: bool) -> None:
    if as_json:
        told = [visit_json(visit) for visit in visits]
        print_json(told[0] if len(told) == 1 else told)
        return
    for visit in visits:
        _print_visit(visit, verbose, "")


def _answer(model: NetworkModel, seen: NetworkView, journey: Journey, goal: str) -> Answer:
    return whynot.why_not(model, seen.bundles, journey, goal)


# -- printing ----------------------------------------------------------------------------------


def _print_at_switch(journey: Journey, switch: str, verbose: bool) -> None:
    hops = [hop for hop in journey.hops if hop.device == switch]
    for hop in hops:
        assert isinstance(hop.stop, Visit)
        _print_visit(hop.stop, verbose, f"hop {hop.number}, ")
    if not hops:
        way = " -> ".join(hop.device for hop in journey.hops)
        warn(f"the packet does not come to {switch}; it goes {journey.sender} -> {way}")
        say(_plain(journey.verdict))


def _print_journey(journey: Journey, verbose: bool, what: str) -> None:
    say(
        f"[bold]{what}{_plain(journey.sender)} sends {_plain(frame_text(journey.frame).summary)}[/]"
    )
    for hop in journey.hops:
        stop = hop.stop
        if isinstance(stop, Visit):
            _print_visit(stop, verbose, f"{hop.number}. ")
        elif isinstance(stop, WorkerVisit):
            say(f"[bold]{hop.number}. core {_plain(stop.name)}[/]")
            for call in stop.calls:
                left = f"leaves by {call.left}" if call.left else f"drops it: {call.why}"
                left = "; ".join((left, *(f"alert: {alert}" for alert in call.alerts)))
                say(f"   {_plain(call.nf)} entered by {_plain(call.entered)}, {_plain(left)}")
            say(f"   [bold]{_plain(stop.verdict)}[/]")
        else:
            received = _plain(frame_text(stop.frame).summary)
            say(f"[bold]{hop.number}. host {_plain(stop.host)}[/] receives {received}")
    color = "green" if journey.deliveries else "red"
    say(f"[bold {color}]=> {_plain(journey.verdict)}[/]")


def _print_visit(visit: Visit, verbose: bool, number: str) -> None:
    words = frame_text(visit.frame)
    tag = f" ({words.tag})" if words.tag else ""
    behind = f" from {visit.behind}" if visit.behind else ""
    say(
        f"[bold]{number}{_plain(visit.switch)}[/] port {visit.port}{_plain(behind)}: "
        f"{_plain(words.summary)}{_plain(tag)}"
    )
    for step in visit.steps:
        line = _step_line(step, verbose)
        if line:
            say(f"   {line}")
    if not visit.dropped:
        say(f"   [bold]{_plain(visit.verdict)}[/]")


def _step_line(step: SwitchStep, verbose: bool) -> str:
    """One line; without `verbose` only what decided something or changed the frame."""
    effects = [
        e for e in step.effects if verbose or not e.startswith(("meta.", "standard_", "nsh."))
    ]
    changed = f" [dim]{_plain('; '.join(effects))}[/]" if effects else ""
    if step.kind == "parser":
        states = f" [dim]{_plain(' > '.join(e.removeprefix('state ') for e in step.effects))}[/]"
        return _plain(step.text) + (states if verbose else "")
    if step.kind == "outcome":
        return f"[bold red]{_plain(step.text)}[/]" if "drop" in step.text else _plain(step.text)
    if step.kind == "effect":
        reason = f"as {step.text}: " if step.text else ""
        return f"[dim]{_plain(reason)}[/]{changed}" if effects else ""
    keys = ", ".join(f"{name} {text}" for name, text in step.keys.items())
    looked = f" [dim]({_plain(keys)})[/]" if verbose and keys else ""
    if not step.hit:
        if not verbose and not effects:
            return ""
        return f"[cyan]{_plain(step.table)}[/]{looked}: no entry, {_plain(step.action)}{changed}"
    priority = f", priority {step.priority}" if step.priority else ""
    return (
        f"[cyan]{_plain(step.table)}[/]{looked}: {_plain(step.origin)}"
        f" [dim]({_plain(step.match)}{priority})[/] -> {_plain(step.action)}{changed}"
    )


def _print_answer(answer: Answer) -> None:
    if answer.reached:
        say(f"{_plain(answer.goal)} was reached: {_plain(answer.where)}: {_plain(answer.why)}")
    else:
        say(f"[bold]not {_plain(answer.goal)}[/]: {_plain(answer.where)}: {_plain(answer.why)}")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")

"""Sessions for probing: as many switches at a time as can be held open, each with a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from orchestrator.attachment.links import wrong_links
from orchestrator.attachment.probes import links_between_switches
from orchestrator.attachment.sampling import ProbeReports
from orchestrator.attachment.server_links import access_switches
from orchestrator.attachment.switches import SwitchFound, build_of, primary_session
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.transaction import CloneSession
from orchestrator.errors import NetworkError, ReportedError, SwitchError
from orchestrator.model.topology import Switch, Topology
from orchestrator.targets import lookup
from orchestrator.targets.pipelines import p4info

_MOST_OPEN = 200
"""Switches that probes are sent between at a time: each takes a connection and a thread."""
_THREADS = 16


def probe(
    topology: Topology,
    switches: dict[str, SwitchFound],
    access: Access,
    loaded: set[str],
    *,
    careful: bool,
) -> list[str]:
    """Problems of the links between switches that were found. Those that servers' links will be probed
    from get a pipeline, too.

    `careful`: no pipeline is loaded, since the network is refused anyhow, and only switches that have
    one are asked. Names of those that got one are added to `loaded`.
    """
    linked = access_switches(topology)
    linked |= {end for link in links_between_switches(topology) for end in (link.a, link.b)}
    able = [name for name, each in switches.items() if each.runs in ("ours", "another version")]
    if not careful:
        able = [name for name in switches if name in linked or switches[name].runs == "foreign"]
    problems: list[str] = []
    for group in _groups(topology, able):
        try:
            problems += _of_group(topology, [switches[name] for name in group], access, loaded)
        except ReportedError as error:
            problems.append(str(error))
    return problems


def _of_group(
    topology: Topology, group: list[SwitchFound], access: Access, loaded: set[str]
) -> list[str]:
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=_THREADS) as pool:

        def one(switches: SwitchFound) -> ProbeReports:
            switch = topology.switches[switches.name]
            session = stack.enter_context(primary_session(switch, access))
            if _with_pipeline(session, switch, switches, fresh=switches.name not in loaded):
                loaded.add(switches.name)
            return _sampling(session, topology, switch, switches.target)

        samplings = {each.session.name: each for each in pool.map(one, group)}
        return list(wrong_links(topology, samplings))


def _groups(topology: Topology, able: Iterable[str]) -> Iterator[list[str]]:
    """Switches to open at a time, so that every link between two of them is in one group."""
    names = dict.fromkeys(able)
    left = [x for x in links_between_switches(topology) if x.a in names and x.b in names]
    alone = names.keys() - {end for link in left for end in (link.a, link.b)}
    group = dict.fromkeys(sorted(alone))
    for link in left:
        if len(group.keys() | {link.a, link.b}) > _MOST_OPEN:
            yield list(group)
            group = {}
        group |= {link.a: None, link.b: None}
    if group:
        yield list(group)


def _with_pipeline(
    session: SwitchClient, switch: Switch, seen: SwitchFound, *, fresh: bool
) -> bool:
    """Whether a pipeline was loaded, which all that run one of ours have been spared."""
    if not fresh or seen.runs not in ("none", "foreign"):
        if session.pipeline_cookie() is None:
            raise NetworkError(f"{switch.name}: it has lost its pipeline while it was looked at")
        return False
    build = build_of(switch, seen.target)
    try:
        session.set_pipeline(p4info(build), build.device_config, build.cookie)
    except SwitchError as error:
        # BMv2 speaks to a controller of any device id until there is a pipeline.
        raise SwitchError(f"{error} (is device id {session.device_id} right?)") from error
    return True


def _sampling(
    session: SwitchClient, topology: Topology, switch: Switch, target: str
) -> ProbeReports:
    has = lookup(target)
    ends = (end for x in topology.links for end in ((x.a, x.a_port), (x.b, x.b_port)))
    return ProbeReports(
        session,
        switch.id,
        CloneSession(has.cloning.session, has.ports.cpu, has.cloning.copies),
        tuple(port for name, port in ends if name == switch.name),
    )

"""Which frames of a host-facing port enter a graph, and where (block `classify`).

Four steps, so that ONE entry a switch puts a version of a graph in force: admission (port and match
-> graph), the epoch (graph -> number of the version in force), the source addresses that the version
takes from the port's host, and its first segments. A frame that is admitted for the sake of another
version finds no first segment and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.compiler.keys import match_keys
from orchestrator.compiler.layout import EXIT_PREFIX, Layout
from orchestrator.compiler.wiring import Wiring
from orchestrator.model.entries import Exact, Key, Lpm
from orchestrator.model.graph import Endpoint
from orchestrator.model.match import Prefix
from orchestrator.model.refs import Ref, RootRef
from orchestrator.model.symbolic import SymbolicEntry
from orchestrator.model.topology import Host
from orchestrator.targets.block import VERSION_TABLE

_PRIORITY = 1
_Keys = tuple[tuple[str, Key | Ref], ...]
_VERSION: _Keys = (("graph", RootRef()), ("epoch", RootRef()))


def admission_entries(wiring: Wiring, layout: Layout) -> Iterator[SymbolicEntry]:
    """Admission and first segments at one switch.

    All that admits says the same, so its priority is always the same: other traffics come and go.
    """
    admitted: set[tuple[str, tuple[tuple[str, Key], ...]]] = set()
    for entry in wiring.cuts.entries:
        if entry.switch != layout.switch:
            continue
        here = entry.target in layout.steps
        first = layout.steps[entry.target if here else EXIT_PREFIX + entry.target].segment
        endpoint = wiring.graph.endpoints[entry.endpoint]
        port_of = {
            host: wiring.fabric.attachments[host].port
            for host in endpoint.hosts
            if wiring.fabric.attachments[host].switch == layout.switch
        }
        ports = tuple(port_of.values())
        wanted = [t for t in wiring.graph.traffic if t.ingress == entry.endpoint]
        for rank, traffic in enumerate(wanted):
            for version in sorted(traffic.match.kind.versions):
                for port in ports:
                    keys = (("ingress_port", Exact(port)), *match_keys(traffic.match, version))
                    name, origin = VERSION_TABLE[version], f"traffic {traffic.name}"
                    if (name, keys) not in admitted:
                        admitted.add((name, keys))
                        yield SymbolicEntry(
                            f"classify.{name}",
                            keys,
                            f"classify.{name}.admit",
                            (("graph", RootRef()),),
                            _PRIORITY,
                            origin,
                        )
                    yield SymbolicEntry(
                        f"classify.first_{name}",
                        (*_VERSION, *keys),
                        f"classify.first_{name}.enter",
                        (("segment", first),),
                        len(wanted) - rank + _PRIORITY,
                        origin,
                    )
        asked = {v for traffic in wanted for v in traffic.match.kind.versions}
        for host, port in port_of.items():
            at_port = (*_VERSION, ("ingress_port", Exact(port)))
            yield from _sources(endpoint, wiring.topology.hosts[host], at_port, asked - {0})


def _sources(
    endpoint: Endpoint, host: Host, keys: _Keys, versions: Iterable[int]
) -> Iterator[SymbolicEntry]:
    """The source addresses that a host may use, and that no other will do."""
    for version in sorted(versions):
        allowed = dict.fromkeys(endpoint.prefixes, f"networks of {endpoint.name}")
        allowed |= {
            Prefix(a.version, int(a.ip), a.max_prefixlen): f"host {host.name}"
            for a in host.addresses
        }
        anything = Prefix(version, 0, 0)
        if not endpoint.source_guard:
            allowed = {anything: f"{endpoint.name} has no source guard"}
        for prefix, origin in allowed.items():
            if prefix.version == version:
                yield _source(prefix, keys, "allow", origin)
        if anything not in allowed:
            yield _source(anything, keys, "refuse", f"source guard: no address of host {host.name}")


def _source(prefix: Prefix, keys: _Keys, action: str, origin: str) -> SymbolicEntry:
    source = (("src", Lpm(prefix.value, prefix.length)),) if prefix.length else ()
    table = f"classify.sources_{VERSION_TABLE[prefix.version]}"
    return SymbolicEntry(table, (*keys, *source), f"{table}.{action}", (), 0, origin)

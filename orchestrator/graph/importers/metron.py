"""Metron's service chains (Katsikas et al., NSDI 2018): Click blocks and their rule files, as a graph.

A chain is one way, so the graph is, too. Blocks that only move packets are left out; what our NFs
cannot do exactly is an error, all of it at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from orchestrator.errors import InputError
from orchestrator.graph.importers.click_classes import ClickDecision, first_match, parse_class
from orchestrator.graph.importers.tables import chain_graph
from orchestrator.nfs.files import named_file, parse_json, raise_problems, read_text
from orchestrator.nfs.values import Address, address_text, parse_address

MOVING = frozenset(
    ("FromDevice", "ToDevice", "FromDPDKDevice", "ToDPDKDevice", "Queue", "Unqueue")
) | frozenset(("Strip", "Unstrip", "MarkIPHeader", "CheckIPHeader", "EtherEncap", "Discard"))
BRANCHING = frozenset(("IPFilter", "IPClassifier", "LookupIPRouteMP"))
_PATTERN = re.compile(r"pattern\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\d+)\s+(\d+)$")
_MAPPER = re.compile(r"RoundRobinIPMapper\((.*)\)(?:\s*,\s*SET_AGGREGATE \w+)?$")


@dataclass(frozen=True, slots=True)
class Imported:
    """A graph, and what is not as in Click."""

    graph: dict[str, Any]
    notes: tuple[str, ...]


def import_metron(
    path: Path, hop: Address | None, virtual: tuple[str, str, int] | None
) -> Imported:
    """The graph of a file with one service chain; `hop` is every route's next hop.

    A round-robin mapper becomes a load balancer of the `virtual` service (protocol, address, port).
    """
    name = str(path)
    raw = parse_json(read_text(path, name), name)
    try:
        (app,) = raw["apps"].values()
        (chain,) = app["add"]["serviceChains"]
        label = re.sub(r"[^a-z0-9_-]", "-", str(chain["name"]).lower())
        reader = _Reader(path.parent, hop, virtual)
        for processor in _in_order(chain):
            reader.processor(processor)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else repr(error)
        raise InputError(f"{name}: is no file with one Metron service chain: {why}") from None
    raise_problems([f"{name}: {problem}" for problem in reader.problems], name)
    if not reader.nfs:
        raise InputError(f"{name}: has no block that is a network function")
    return Imported(chain_graph(label, reader.nfs, reader.turned), tuple(reader.notes))


def _in_order(chain: dict[str, Any]) -> list[dict[str, Any]]:
    """The processors as the packets meet them."""
    processors = {processor["name"]: processor for processor in chain["processors"]}
    after = {link["src"]["entity"]: link["dst"]["entity"] for link in chain["topology"]["server"]}
    result: list[dict[str, Any]] = []
    at = after["source"]
    while at != "destination":
        result.append(processors.pop(at))
        at = after[at]
    if processors:
        raise ValueError(f"{', '.join(processors)} is not between source and destination")
    return result


class _Reader:
    def __init__(
        self, base: Path, hop: Address | None, virtual: tuple[str, str, int] | None
    ) -> None:
        self.base, self.hop, self.virtual = base, hop, virtual
        self.nfs: dict[str, dict[str, Any]] = {}
        self.turned: list[str] = []
        self.behind: dict[str, dict[str, Any]] = {}
        """By an NF: one that must follow it."""
        self.branching: set[str] = set()
        """Instances of Click elements with several outputs."""
        self.leaving: dict[str, set[int]] = {}
        """By such an instance: the outputs that go on in the chain; -1 is all of them."""
        self.notes: list[str] = []
        self.problems: list[str] = []

    def processor(self, processor: dict[str, Any]) -> None:
        """Its blocks, as far as packets reach them, each once."""
        blocks = {block["instance"]: block for block in processor["blocks"]}
        self.branching = {i for i, block in blocks.items() if block["block"] in BRANCHING}
        links: dict[str, list[tuple[int, str]]] = {}
        for link in processor["graph"]:
            source = link["src"]
            links.setdefault(source["instance"], []).append(
                (source["port"], link["dst"]["instance"])
            )
        targets = {target for ways in links.values() for _, target in ways}
        (at,) = [instance for instance in links if instance not in targets]
        discards = {i for i, block in blocks.items() if block["block"] == "Discard"}
        while True:
            ways = [(p, target) for p, target in links.get(at, []) if target not in discards]
            # Without any link the chain ends in this element, and what it allows leaves.
            following = self._following(at, ways)
            self.leaving[at] = {p for p, t in ways if t == following} if links.get(at) else {-1}
            self._block(processor["name"], blocks.pop(at))
            if following not in blocks:
                break
            at = following
        for instance, block in blocks.items():
            if instance in discards:
                continue
            if self._is_fed(instance, links):
                self.problems.append(
                    f"{instance}: a {block['block']} beside the chain is not supported"
                )
            else:
                self.notes.append(f"{instance}: left out, no packet reaches it")

    def _following(self, instance: str, ways: list[tuple[int, str]]) -> str:
        """The next block: behind the first output, or of a classifier behind the only ones linked."""
        targets = {target for port, target in ways if port in (0, -1)}
        if not targets and instance in self.branching:
            targets = {target for _, target in ways}
        return targets.pop() if len(targets) == 1 else ""

    def _is_fed(self, instance: str, links: dict[str, list[tuple[int, str]]]) -> bool:
        """Whether packets can reach a block: only classifiers have outputs other than the first."""
        return any(
            target == instance and (port in (0, -1) or source in self.branching)
            for source, ways in links.items()
            for port, target in ways
        )

    def _block(self, nf: str, block: dict[str, Any]) -> None:
        kind, instance = str(block["block"]), str(block["instance"])
        if kind in MOVING:
            return
        readers = {
            "IPFilter": self._filter,
            "IPClassifier": self._filter,
            "LookupIPRouteMP": self._routes,
            "IPRewriter": self._rewriter,
        }
        if kind not in readers:
            self.problems.append(f"{instance}: the Click element {kind} is not supported")
            return
        name = nf if nf not in self.nfs else instance
        try:
            self.nfs[name] = readers[kind](name, block)
            if name in self.behind:
                self.nfs[f"{name}-dnat"] = self.behind.pop(name)
        except ValueError as error:
            self.problems.append(f"{instance} ({kind}): {error}")

    def _entries(self, block: dict[str, Any]) -> list[ClickDecision]:
        """The block's rule file, by priority."""
        file = str(block["configFile"])
        if block["configArgs"] != "FILE":
            raise ValueError("rules beside a file are not supported")
        raw = parse_json(read_text(self._path(file), file), file)
        entries = cast("list[dict[str, Any]]", raw["entries"])
        result: list[ClickDecision] = []
        for entry in sorted(entries, key=lambda e: int(e["priority"])):
            text, place = str(entry["trafficClass"]), f"{file}: priority {entry['priority']}"
            text = re.sub(r"^(allow|deny)\s+", "", text)
            try:
                goes_on = self._goes_on(str(block["instance"]), entry)
                action = "permit" if entry["action"] == "allow" and goes_on else "deny"
                result.append(ClickDecision(parse_class(text), action, place))
            except ValueError as error:
                self.problems.append(f"{place}: {error}")
        return result

    def _goes_on(self, instance: str, entry: dict[str, Any]) -> bool:
        """Whether the output of a rule is linked; Click drops what leaves by any other."""
        output = entry.get("outputPort", 0)
        if type(output) is not int or output < 0:
            raise ValueError(f"outputPort {output!r} is no number of an output")
        return bool({output, -1} & self.leaving[instance])

    def _path(self, file: str) -> Path:
        """Where a rule file is: its place may be another machine's, then it is beside the chain."""
        beside = self.base / Path(file).name
        return beside if beside.is_file() else named_file(self.base, file)

    def _filter(self, name: str, block: dict[str, Any]) -> dict[str, Any]:
        rules = [
            {**keys, "version": 4, "action": action}
            for keys, action, _ in first_match(self._entries(block), "deny")
        ]
        return {"type": "acl", "config": {"rules": rules, "default": "deny"}}

    def _routes(self, name: str, block: dict[str, Any]) -> dict[str, Any]:
        routes: dict[str, dict[str, Any]] = {}
        for entry in self._entries(block):
            for term in entry.terms:
                if set(term.keys) != {"dst"} or term.excluded or entry.action != "permit":
                    text = "a route is one destination, allowed, by an output that is linked"
                    self.problems.append(f"{entry.place}: {text}")
                    continue
                route: dict[str, Any] = {"prefix": term.keys["dst"]}
                if self.hop is not None:
                    route["next_hop"] = address_text(self.hop)
                routes.setdefault(term.keys["dst"], route)
        self.notes.append(f"{name}: our router decrements the TTL, LookupIPRouteMP does not")
        if self.hop is None:
            self.notes.append(f"{name}: routes are connected; --next-hop gives them a next hop")
        return {"type": "router", "config": {"routes": list(routes.values())}}

    def _rewriter(self, name: str, block: dict[str, Any]) -> dict[str, Any]:
        text = str(block["configArgs"]).strip()
        mapper = _MAPPER.match(text)
        if mapper:
            return self._balancer(name, mapper[1])
        pattern = _PATTERN.match(text)
        if pattern is None:
            raise ValueError(f"'{text}' is not supported, only one pattern or RoundRobinIPMapper")
        source, ports, target, target_port = pattern.groups()[:4]
        if source == "-" or not ports.replace("-", "", 1).isdecimal():
            raise ValueError("a pattern needs a source address and a range of ports")
        low, _, high = ports.partition("-")
        parse_address(source)
        if (target, target_port) != ("-", "-"):
            self._redirect(name, target, target_port)
        self.notes.append(f"{name}: napt keeps mappings independent of the endpoint (RFC 4787)")
        bounds = [int(low), int(high or low)]
        return {"type": "napt", "config": {"addresses": [source], "ports": bounds}}

    def _redirect(self, name: str, target: str, port: str) -> None:
        """A pattern that writes destinations: a dnat behind the napt."""
        if target == "-":
            raise ValueError(f"writing a destination port ({port}) without an address")
        parse_address(target)
        config: dict[str, Any] = {"address": target}
        if port != "-":
            if not port.isdecimal():
                raise ValueError(f"'{port}' is no destination port")
            config["port"] = int(port)
        self.behind[name] = {"type": "dnat", "config": config}

    def _balancer(self, name: str, patterns: str) -> dict[str, Any]:
        if self.virtual is None:
            raise ValueError("RoundRobinIPMapper takes any packet; name a service with --virtual")
        protocol, address, port = self.virtual
        backends: list[dict[str, Any]] = []
        for item in patterns.split(","):
            words = item.split()
            if len(words) != 6 or words[:2] != ["-", "-"] or words[3] != "-":
                raise ValueError(f"the pattern '{item.strip()}' is not '- - ADDRESS - 0 0'")
            parse_address(words[2])
            backends.append({"address": words[2], "port": port})
        self.turned.append(name)
        self.notes.append(f"{name}: only {protocol} to {address} port {port} is balanced, by hash")
        service = {"address": address, "protocol": protocol, "port": port, "backends": backends}
        return {"type": "l4_load_balancer", "config": {"virtual": [service]}}

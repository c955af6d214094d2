"""Topologies of others: the P4 tutorials' `topology.json`, p4-utils' `p4app.json` and `topology.json`.

Switches, hosts, addresses, links and their port numbers are taken over; programs, table entries and
commands on hosts are left out. None of these files knows servers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

from orchestrator.errors import InputError, quoted
from orchestrator.nfs.files import parse_json, raise_problems, read_text
from orchestrator.units import TIMES, parse_quantity
from servernf.wire.addresses import parse_mac

_END = re.compile(r"(?P<node>[A-Za-z0-9_]+)(?:-p(?P<port>\d+))?")
_ROUTE = re.compile(r"(?:route add default gw|ip route add default via|via) ([0-9a-fA-F.:]+)")
_HOST, _SWITCH = re.compile(r"h(\d+)"), re.compile(r"s(\d+)")


@dataclass(slots=True)
class ImportedTopology:
    """A topology file's content, and what was left out or assumed."""

    topology: dict[str, Any]
    notes: list[str] = field(default_factory=list[str])


def import_topology(path: Path, name: str) -> ImportedTopology:
    """The topology of a file; InputError with all problems, or if it is of none of the formats."""
    shown = str(path)
    raw = parse_json(read_text(path, shown), shown)
    reader = _Reader()
    try:
        if "nodes" in raw:
            reader.dumped(raw)
        elif "topology" in raw:
            reader.app(raw["topology"])
        else:
            reader.tutorial(raw)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{shown}: is neither the tutorials' topology.json nor p4-utils' p4app.json or "
            f"topology.json: {why}"
        ) from None
    raise_problems([f"{shown}: {problem}" for problem in reader.problems], shown)
    reader.notes.append("no servers: NFs with state need some (`servers`, and links to them)")
    whole = {
        "name": name,
        "switches": reader.switches,
        "servers": {},
        "hosts": reader.hosts,
        "links": reader.links,
    }
    return ImportedTopology(whole, reader.notes)


class _Reader:
    def __init__(self) -> None:
        self.switches: dict[str, dict[str, Any]] = {}
        self.hosts: dict[str, dict[str, Any]] = {}
        self.links: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.notes: list[str] = []

    # -- the formats -------------------------------------------------------------------------

    def tutorial(self, raw: Mapping[str, Any]) -> None:
        """`hosts`, `switches`, and links `["h1", "s1-p1", latency, bandwidth in Mbit/s]`."""
        self.switches = {name: {} for name in raw["switches"]}
        for name, host in raw["hosts"].items():
            self._host(name, host, " ; ".join(host.get("commands", ())))
        for number, link in enumerate(raw["links"]):
            ends = [self._end(text, f"links[{number}]") for text in link[:2]]
            latency, bandwidth = [*link[2:4], None, None][:2]
            # A bare number is ms; the file may say "0" for none.
            self._link(number, ends, f"{latency}ms" if _bare(latency) else latency, bandwidth)

    def app(self, raw: Mapping[str, Any]) -> None:
        """p4-utils: links `["h1", "s1", {"bw", "delay"}]`; hosts get addresses by a strategy."""
        if raw.get("routers"):
            self.problems.append("routers: only hosts and P4 switches are known here")
        self.switches = {name: {} for name in raw["switches"]}
        usual = cast("dict[str, Any]", raw.get("default") or {})
        ends_of: list[tuple[str, str]] = []
        for number, link in enumerate(raw["links"]):
            options = {**usual, **(link[2] if len(link) > 2 else {})}
            ends_of.append((str(link[0]), str(link[1])))
            ends = [
                self._end(text, f"links[{number}]", options.get(f"port{i}"))
                for i, text in enumerate(link[:2], 1)
            ]
            delay = options.get("delay")
            self._link(number, ends, f"{delay}ms" if _bare(delay) else delay, options.get("bw"))
        given = _Strategy(str(raw.get("assignment_strategy", "mixed")), self.switches, ends_of)
        for name, host in raw["hosts"].items():
            added = given.host(name, host)
            self._host(name, added, str(added.get("defaultRoute") or ""))

    def dumped(self, raw: Mapping[str, Any]) -> None:
        """The network that p4-utils has started, as networkx writes a graph."""
        kinds = {str(node["id"]): node for node in raw["nodes"]}
        self.switches = {n: {} for n, node in kinds.items() if node.get("isSwitch")}
        hosts: dict[str, dict[str, Any]] = {n: {} for n, v in kinds.items() if v.get("isHost")}
        for name in set(kinds) - set(self.switches) - set(hosts):
            self.problems.append(f"nodes: {name} is neither a host nor a switch")
        for number, link in enumerate(raw["links"]):
            names = [str(link[f"node{i}"]) for i in (1, 2)]
            ends = [
                self._end(n, f"links[{number}]", link.get(f"port{i}"))
                for i, n in enumerate(names, 1)
            ]
            delay = link.get("delay")
            self._link(number, ends, f"{delay}ms" if _bare(delay) else delay, link.get("bw"))
            for i, name in enumerate(names, 1):
                if name in hosts:
                    hosts[name] = {"ip": link.get(f"ip{i}"), "mac": link.get(f"addr{i}")}
        for name, host in hosts.items():
            self._host(name, host, str(kinds[name].get("defaultRoute") or ""))

    # -- their parts -------------------------------------------------------------------------

    def _host(self, name: str, host: Mapping[str, Any], routes: str) -> None:
        if not host.get("ip"):
            self.problems.append(f"hosts.{name}: has no address, nor a name (h1) that gives it one")
            return
        made: dict[str, Any] = {"addresses": [str(host["ip"])]}
        if gateway := _ROUTE.search(routes):
            made["gateways"] = [gateway[1]]
        if mac := host.get("mac"):
            try:
                ours = parse_mac(str(mac)) >> 40 == 2
            except ValueError:
                self.problems.append(f"hosts.{name}.mac: {quoted(mac)} is not a MAC address")
                return
            if ours:
                self.notes.append(f"{name}: its MAC {mac} is of the network's own range: left out")
            else:
                made["mac"] = str(mac)
        self.hosts[name] = made

    def _end(self, text: object, where: str, port: object = None) -> tuple[str, int | None]:
        end = _END.fullmatch(str(text))
        if end is None:
            self.problems.append(f"{where}: {quoted(text)} is no node, like 'h1' or 's1-p1'")
            return "", None
        number = int(end["port"]) if end["port"] else port
        is_switch = end["node"] in self.switches
        return end["node"], int(cast("int", number)) if is_switch and number else None

    def _link(
        self, number: int, ends: list[tuple[str, int | None]], latency: object, mbits: object
    ) -> None:
        made: dict[str, Any] = {}
        for side, (node, port) in zip("ab", ends, strict=True):
            made[side] = node
            if port is not None:
                made[f"{side}_port"] = port
        try:
            if latency is not None:
                made["latency"] = f"{parse_quantity(latency, TIMES, '5ms')}us"
            if mbits is not None:
                made["capacity"] = parse_quantity(f"{mbits}M", {"M": 10**6}, "100")
        except ValueError as error:
            self.problems.append(f"links[{number}]: {error}")
        self.links.append(made)


class _Strategy:
    """How p4-utils names addresses: `l2` one subnet, `mixed` (where nothing is said) one a switch,
    `l3` one a link, `manual` as the hosts say."""

    def __init__(self, name: str, switches: Iterable[str], links: list[tuple[str, str]]) -> None:
        if name not in ("l2", "mixed", "l3", "manual"):
            raise ValueError(f"assignment_strategy {quoted(name)}: l2, mixed, l3 or manual")
        self._name = name
        self._number = _numbers(switches)
        self._at = {
            host: switch
            for pair in links
            for host, switch in (pair, pair[::-1])
            if switch in self._number and host not in self._number
        }

    def host(self, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """`ip`, `mac` and `defaultRoute` of a host; no `ip` for a name that gives none."""
        if self._name == "manual":
            ip, route = said.get("ip"), said.get("gw")
            document = {**said, "ip": ip and (ip if "/" in str(ip) else f"{ip}/24")}
            return {**document, "defaultRoute": f"via {route}"} if route else document
        numbered = _HOST.fullmatch(name)
        if numbered is None or name not in self._at:
            return {}
        host, switch = int(numbered[1]), self._number[self._at[name]]
        subnet = f"10.{switch >> 8}.{switch & 255}"
        match self._name:
            case "l2":
                address, prefix, gateway = f"10.0.{host >> 8}.{host & 255}", 16, ""
            case "mixed":
                address, prefix, gateway = f"{subnet}.{host}", 24, f"{subnet}.254"
            case _:
                address, prefix, gateway = f"10.{switch}.{host}.2", 24, f"10.{switch}.{host}.1"
        mac = ":".join(f"{int(part):02x}" for part in ("0", "0", *address.split(".")))
        route = f"via {gateway}" if gateway else ""
        return {"ip": f"{address}/{prefix}", "mac": mac, "defaultRoute": route}


def _numbers(switches: Iterable[str]) -> dict[str, int]:
    """The number in a name `s<n>`, for others the next that is free."""
    names = sorted(switches)
    numbers = {name: int(match[1]) for name in names if (match := _SWITCH.fullmatch(name))}
    free = (number for number in count(1) if number not in numbers.values())
    return numbers | {name: next(free) for name in names if name not in numbers}


def _bare(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value.isdigit())

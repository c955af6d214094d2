"""ClassBench filter sets as acl rules, and tables of prefixes and origin ASes as routes."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import InputError
from orchestrator.files import MAX_BYTES, read_regular
from orchestrator.model.match import Prefix
from orchestrator.nfs import classbench
from orchestrator.nfs.files import parse_lines, read_text
from orchestrator.nfs.values import (
    Address,
    address_text,
    impossible,
    match_json,
    parse_prefix,
)

_ORIGIN = re.compile(r"(?:AS)?\d+(?:\.\d+)?(?:[_,]\d+(?:\.\d+)?)*|\{\d+(?:,\d+)*\}")
"""An AS, in RFC 5396's asplain or asdot; several of a prefix (`_`), or a set of them (`,`)."""
HOSTS = {"inside": ("h1", "h2"), "outside": ("h3", "h4")}
"""Endpoints of an imported graph: hosts that every shipped topology has."""


def import_classbench(path: Path, action: str = "permit") -> tuple[list[dict[str, Any]], list[str]]:
    """The rules of a ClassBench file for acl's `rules` or `rules_file`, and those left out, with why.

    The protocols of some of ClassBench's seeds (fw2, fw4) are numbers that stand for others: rules of
    ICMP or IGMP with ports, which no packet can match and which an acl does not take.
    """
    left_out: list[str] = []

    def one(line: str, number: int) -> dict[str, Any] | None:
        match = classbench.parse_rule(line)
        if match is None:
            return None
        if (why := impossible(match)) is not None:
            left_out.append(f"{name}:{number}: {why}")
            return None
        return {**match_json(match), "action": action}

    name = str(path)
    rules = parse_lines(read_text(path, name), name, one)
    if not rules:
        more = f" that a packet can match ({left_out[0]})" if left_out else ""
        raise InputError(f"{name}: has no rules{more}")
    return rules, left_out


def chain_graph(
    name: str, nfs: dict[str, dict[str, Any]], turned: Iterable[str] = ()
) -> dict[str, Any]:
    """A graph from inside through the NFs to outside; those `turned` are entered at their outside."""
    turned = set(turned)
    there = ["inside", *nfs, "outside"]

    def leaving(node: str) -> str:
        return node if node not in nfs else f"{node}.{'inside' if node in turned else 'outside'}"

    def entering(node: str) -> str:
        return node if node not in nfs else f"{node}.{'outside' if node in turned else 'inside'}"

    return {
        "name": name,
        "endpoints": {endpoint: {"hosts": list(hosts)} for endpoint, hosts in HOSTS.items()},
        "nfs": nfs,
        "edges": [{"from": leaving(a), "to": entering(b)} for a, b in pairwise(there)],
        "traffic": [{"name": "up", "from": "inside", "to": "outside", "rate": "100Mbit/s"}],
    }


def acl_graph(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    """A graph with one acl that has the rules; what comes back passes."""
    graph = chain_graph(name, {"acl": {"type": "acl", "config": {"rules": rules}}})
    graph["edges"] += [
        {"from": "outside", "to": "acl.outside"},
        {"from": "acl.inside", "to": "inside"},
    ]
    graph["traffic"].append(
        {**graph["traffic"][0], "name": "down", "from": "outside", "to": "inside"}
    )
    return graph


class ReadRoutes(NamedTuple):
    """Lines of a routes file, how many prefixes have no next hop, and where one has another origin."""

    lines: list[str]
    left_out: int
    again: list[str]


def import_rib(path: Path, hops: Sequence[Address], port: str = "outside") -> ReadRoutes:
    """The routes of a table of prefixes and origin ASes.

    A line is `prefix AS`, as of pyasn, `address length AS`, as of CAIDA's pfx2as, or an entry of
    `bgpdump -m`. All prefixes of an origin AS go to one next hop, chosen by CRC-32 of the AS. Of several
    origins of a prefix (RFC 1930, section 7, discourages them) the first counts.
    """
    name = str(path)
    by_version = {v: [address_text(h) for h in hops if h[0] == v] for v in (4, 6)}
    left_out, again = 0, list[str]()
    origins: dict[Prefix, str] = {}

    def one(line: str, number: int) -> str | None:
        nonlocal left_out
        if not line.strip() or line.startswith((";", "#")):
            return None
        text, origin = _prefix_and_origin(line)
        prefix = parse_prefix(text)
        prefixes = by_version[prefix.version]
        if not prefixes:
            left_out += 1
            return None
        first = origins.setdefault(prefix, origin)
        if first is not origin:
            if first != origin:
                again.append(f"{prefix} at {name}:{number}: {origin}, not {first}")
            return None
        return f"{prefix} {prefixes[zlib.crc32(origin.encode()) % len(prefixes)]} {port}"

    lines = parse_lines(_text(path, name), name, one)
    if not lines:
        raise InputError(f"{name}: no prefix is of the next hops' IP version")
    return ReadRoutes(lines, left_out, again)


def _prefix_and_origin(line: str) -> tuple[str, str]:
    if line.startswith("TABLE_DUMP"):
        # TABLE_DUMP2|time|B|peer|peer's AS|prefix|path|...
        fields = line.split("|")
        if len(fields) > 6 and fields[2] == "B" and fields[6].strip():
            return fields[5], fields[6].split()[-1].strip("{}").replace(",", "_")
        raise ValueError("an entry of bgpdump -m is 'TABLE_DUMP2|time|B|peer|AS|prefix|path|...'")
    *words, origin = line.split()
    if len(words) not in (1, 2) or not _ORIGIN.fullmatch(origin):
        raise ValueError(
            "a line is 'prefix origin-AS' (pyasn), 'address length origin-AS' (CAIDA's pfx2as) "
            "or an entry of bgpdump -m"
        )
    return "/".join(words), origin


def _text(path: Path, name: str) -> str:
    """The text of a file that may be compressed."""
    data = read_regular(path, name)
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise InputError(f"{name}: is larger than {MAX_BYTES >> 20} MiB, unpacked")
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: byte {error.start}: is not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: cannot be unpacked: {error}") from None

"""What the numbers of an entry stand for: one table for all who ask.

`compiler.renumbering` moves those that carry a graph id, `deployment.ownership` refuses a bundle whose
numbers are not its own, `deployment.reconcile` tells by them whose an entry is. A key or parameter that
is not here stands for nothing known, so a bundle that has one is refused (a test reads the P4Info).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from orchestrator.compiler.nodes import ORIGINS_TABLE
from orchestrator.model import ids
from orchestrator.model.entries import Exact, TableEntry


class Role(Enum):
    """What a number stands for."""

    GRAPH = auto()
    SEGMENT = auto()
    GROUP = auto()
    PATH = auto()
    EPOCH = auto()
    HOST_PORT = auto()
    """A port of the switch, with a host of the graph behind it."""
    SERVER_PORT = auto()
    """A port of the switch, with a server behind it."""
    DEVICE = auto()
    """The MAC of a switch, or of a core that works for the graph."""
    HOST = auto()
    """The MAC of a host of the graph."""
    GATEWAY = auto()
    """The one MAC of every gateway."""
    VALUE = auto()
    """Something of packets, or a number that counts within the entry's own segment, path or group."""


LAYOUTS = {
    Role.GRAPH: ids.GRAPH,
    Role.SEGMENT: ids.SEGMENT,
    Role.GROUP: ids.GROUP,
    Role.PATH: ids.PATH,
}
"""Of the numbers that say which graph they belong to, by role."""

OWN_INSTANCES = frozenset(
    {"neighbor", "classify", "flowtag_arrival", "dispatch", "deliver", "flood"}
)
"""Instances, besides those of NF blocks, in which a graph has entries; all others are the network's."""

_KEYS = {
    "graph": Role.GRAPH,
    "segment": Role.SEGMENT,
    "group": Role.GROUP,
    "spi": Role.PATH,
    "epoch": Role.EPOCH,
    "ingress_port": Role.HOST_PORT,
} | dict.fromkeys(
    (
        *(
            "si",
            "node",
            "word",
            "replica",
            "bucket",
            "hash",
            "target",
            "address",
            "has_port",
            "port",
        ),
        *("src", "dst", "protocol", "l4", "src_port", "dst_port", "tcp_flags", "ether_type"),
    ),
    Role.VALUE,
)
_PARAMS = {
    "graph": Role.GRAPH,
    "segment": Role.SEGMENT,
    "target": Role.SEGMENT,
    "group": Role.GROUP,
    "spi": Role.PATH,
    "epoch": Role.EPOCH,
    "port": Role.HOST_PORT,
    "mac": Role.DEVICE,
    "host_mac": Role.HOST,
    "gateway_mac": Role.GATEWAY,
} | dict.fromkeys(
    (
        *("si", "traffic_class", "to", "weighed", "rank", "deny"),
        *("low", "high", "dscp", "yellow", "yellow_dscp", "red", "red_dscp"),
        *("ether_type", "pcp", "vid", "strict", "address", "src", "dst", "checksum", "vni"),
    ),
    Role.VALUE,
)
_CARRYING = {name for name, role in _KEYS.items() if role in LAYOUTS}
_KEYS_IN_TABLE = {
    (ORIGINS_TABLE, "ingress_port"): Role.SERVER_PORT,
    (ORIGINS_TABLE, "mac"): Role.DEVICE,
}
_PARAMS_OF_VERB = {
    ("answer_arp", "mac"): Role.GATEWAY,
    ("answer_solicitation", "mac"): Role.GATEWAY,
    ("encap", "mac"): Role.GATEWAY,
    ("next_hop", "mac"): Role.HOST,
}
"""By the action's name without its instance."""


def key_role(table: str, name: str) -> Role | None:
    """What a key of a table stands for; None: nobody knows."""
    return _KEYS_IN_TABLE.get((table, name)) or _KEYS.get(name)


def param_role(action: str, name: str) -> Role | None:
    """What a parameter of an action stands for; None: nobody knows."""
    return _PARAMS_OF_VERB.get((action.rpartition(".")[2], name)) or _PARAMS.get(name)


def graph_in(role: Role | None, number: int) -> int:
    """The graph id that a number carries; 0: none."""
    layout = LAYOUTS.get(role) if role is not None else None
    return 0 if layout is None else layout.graph(number)


class Own:
    """Tells entries whose numbers are all of one graph, or of none."""

    def __init__(self, graph_id: int) -> None:
        self._graph_id = graph_id
        self._params: dict[tuple[str, tuple[tuple[str, int], ...]], bool] = {}

    def __call__(self, entry: TableEntry) -> bool:
        mine = self._graph_id
        for name, key in entry.keys:
            carries = name in _CARRYING and isinstance(key, Exact)
            if carries and graph_in(key_role(entry.table, name), key[0]) != mine:
                return False
        what = (entry.action, entry.params)  # many entries share them
        known = self._params.get(what)
        if known is None:
            roles = ((param_role(entry.action, name), value) for name, value in entry.params)
            known = all(
                not value or graph_in(r, value) == mine for r, value in roles if r in LAYOUTS
            )
            self._params[what] = known
        return known


def graphs_of(entry: TableEntry) -> Iterator[int]:
    """The graph ids that the numbers of an entry carry."""
    for name, key in entry.keys:
        if isinstance(key, Exact) and (found := graph_in(key_role(entry.table, name), key.value)):
            yield found
    for name, value in entry.params:
        if found := graph_in(param_role(entry.action, name), value):
            yield found

"""What keys and parameters of entries refer to, as the blocks say it in P4: one table for all who ask.

`@refers_to("segment")` stands in p4src/blocks where a key or parameter names a segment, and
`@belongs_to("segment")` at the key that says whose entry it is. p4c hands both on to P4Info, from where
they are read here, once, of the pipelines that come with the package. They hold in every instance of a
block, so what counts is a table's or action's own name. A key or parameter that no shipped block has
stands for nothing known, so a bundle that has one is refused.

The linker finds and writes numbers by it, `deployment.ownership` refuses a bundle whose numbers are not
its own, `deployment.reconcile` tells whose an entry is, and entries are put into words by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from finsy.proto import p4i

from orchestrator.model.refs import GROUP, PATH, ROOT, SEGMENT, TREE, Role
from orchestrator.targets.pipelines import p4info, shipped_builds
from orchestrator.targets.target import known_targets, lookup

_ANNOTATION = re.compile(r'@(refers_to|belongs_to)\s*\(\s*"(\w+)"\s*\)')
_Named = tuple[str, str]
"""(own name of a table or action, key or parameter)."""

_KINDS = (
    (TREE, Role.SEGMENT, Role.TREE_NODE),
    (SEGMENT, Role.SEGMENT),
    (PATH, Role.PATH, Role.POSITION),
    (ROOT, Role.EPOCH),
    (GROUP, Role.GROUP),
)
"""Kinds of nodes, and the roles of the keys that name one; the first that fits counts."""

_NAMED = ((TREE, Role.TREE_NODE), (GROUP, Role.GROUP), (PATH, Role.PATH, Role.POSITION))


class Belonging(NamedTuple):
    """Whose a table's entries are: the kind of the node (empty: of none), and the keys that name it, in
    the order of its numbers; `own` are all keys that differ where a node has another number."""

    kind: str
    names: tuple[str, ...]
    own: frozenset[str]


class Mention(NamedTuple):
    """Parameters that name another node, and of what kind."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """Roles by own name of table or action; `belongs` are the keys that say whose the entry is."""

    keys: dict[_Named, Role] = field(default_factory=dict[_Named, Role])
    params: dict[_Named, Role] = field(default_factory=dict[_Named, Role])
    belongs: dict[str, dict[Role, str]] = field(default_factory=dict[str, dict[Role, str]])

    def read(self, info: p4i.P4Info) -> None:
        """Add what a P4Info says; ValueError where two blocks say different things of one name."""
        for table in info.tables:
            name = own_name(table.preamble.name)
            for key in table.match_fields:
                how, role = _said(key.annotations)
                _add(self.keys, (name, key.name), role)
                if how == "belongs_to":
                    self.belongs.setdefault(name, {})[role] = key.name
        for action in info.actions:
            name = own_name(action.preamble.name)
            for param in action.params:
                _add(self.params, (name, param.name), _said(param.annotations)[1])

    def belonging(self, table: str) -> Belonging:
        """Whose the entries of a table are."""
        said = self.belongs.get(own_name(table), {})
        for kind, *roles in _KINDS:
            if said.keys() >= set(roles):
                names = tuple(said[role] for role in roles)
                graphs = {
                    name
                    for (of, name), role in self.keys.items()
                    if kind == ROOT and of == own_name(table) and role is Role.GRAPH
                }
                return Belonging(kind, names, frozenset({*names, *graphs}))
        return Belonging("", (), frozenset())

    def mentions(self, action: str) -> tuple[Mention, ...]:
        """The nodes that an action's parameters name."""
        verb = own_name(action)
        return _mentions({name: role for (of, name), role in self.params.items() if of == verb})

    def key_mentions(self, table: str) -> tuple[Mention, ...]:
        """The nodes that a table's keys name, besides the one that its entries belong to."""
        name = own_name(table)
        own = self.belongs.get(name, {}).values()
        return _mentions({k: r for (of, k), r in self.keys.items() if of == name and k not in own})

    def labels(self, action: str) -> tuple[str, ...]:
        """Parameters of an action that hold a traffic class."""
        verb = own_name(action)
        some = ((name, role) for (of, name), role in self.params.items() if of == verb)
        return tuple(name for name, role in some if role is Role.TRAFFIC_CLASS)


def own_name(name: str) -> str:
    """A table's or action's name without that of its block's instance."""
    return name.rpartition(".")[2]


def _mentions(said: Mapping[str, Role]) -> tuple[Mention, ...]:
    """Nodes by the roles of what names them; a graph's roots are named by nothing but their own keys."""
    of_role = [Mention(SEGMENT, (name,)) for name, role in said.items() if role is Role.SEGMENT]
    for kind, *roles in _NAMED:
        names = tuple(name for role in roles for name, its in said.items() if its is role)
        if names:
            of_role.append(Mention(kind, names))
    return tuple(of_role)


def _said(annotations: Iterable[str]) -> tuple[str, Role]:
    """(annotation, role) of a key or parameter; without one it is a value."""
    for text in annotations:
        if match := _ANNOTATION.fullmatch(text.strip()):
            return match[1], Role(match[2])
    return "", Role.VALUE


def _add(roles: dict[_Named, Role], named: _Named, role: Role) -> None:
    if roles.setdefault(named, role) is not role:
        raise ValueError(f"{'.'.join(named)} refers to {role.value} here, elsewhere to another")


@cache
def references() -> ReferenceTable:
    """What all blocks say."""
    table = ReferenceTable()
    loaded = {(t.architecture, t.suffix) for t in map(lookup, known_targets())}
    for architecture, suffix in sorted(loaded):
        for build in shipped_builds(architecture) if suffix else ():
            table.read(p4info(build))
    return table


@cache
def key_role(table: str, name: str) -> Role | None:
    """What a key of a table refers to; None: nobody knows."""
    return references().keys.get((own_name(table), name))


@cache
def keys_of(table: str) -> frozenset[str]:
    """The keys of the tables of this name."""
    return frozenset(name for of, name in references().keys if of == own_name(table))


@cache
def param_role(action: str, name: str) -> Role | None:
    """What a parameter of an action refers to; None: nobody knows."""
    return references().params.get((own_name(action), name))


@cache
def belonging(table: str) -> Belonging:
    """Whose the entries of a table are."""
    return references().belonging(table)


@cache
def key_mentions(table: str) -> tuple[Mention, ...]:
    """The nodes that a table's keys name, besides the one that its entries belong to."""
    return references().key_mentions(table)


@cache
def labels(action: str) -> tuple[str, ...]:
    """Parameters of an action that hold a traffic class."""
    return references().labels(action)


@cache
def mentions(action: str) -> tuple[Mention, ...]:
    """The nodes that an action's parameters name."""
    return references().mentions(action)

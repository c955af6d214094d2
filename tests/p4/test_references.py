"""What keys and parameters refer to: the table that the orchestrator reads is what the blocks say in P4.

Oracle: the sources' own text. Blind spot: whether a block does with a number what its annotation says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from finsy.proto import p4i

from orchestrator.model.refs import Role
from orchestrator.targets.pipelines import SHIPPED, p4info
from orchestrator.targets.references import (
    ReferenceTable,
    belonging,
    key_role,
    mentions,
    param_role,
)

BLOCKS = Path(__file__).resolve().parents[2] / "p4src" / "blocks"
_ANNOTATION = re.compile(r'@(?:refers_to|belongs_to)\("(\w+)"\)')
_ACTION = re.compile(r"\baction (\w+)\(((?:[^()]|\([^()]*\))*)\)")
_TABLE = re.compile(r"\btable (\w+) \{\s*key = \{(.*?)\}", re.DOTALL)
VALUES = frozenset(
    {
        *("src", "dst", "protocol", "l4", "src_port", "dst_port", "tcp_flags", "ether_type"),
        *("word", "replica", "bucket", "hash", "target", "address", "has_port", "port", "weighed"),
        *("rank", "deny", "low", "high", "dscp", "colour", "vlan", "mtu"),
        *("pcp", "vid", "strict", "checksum", "vni"),
    }
)
"""Keys and parameters that name nothing: they are of packets, or count within one segment or group."""
NETWORK = frozenset(
    {"port", "fabric", "trajectory_sample", "witness", "record", "flowtag_departure"}
)
"""Blocks in which graphs have no entries."""


@cache
def blocks() -> dict[str, str]:
    """Sources by block, without comments and line ends of macros."""
    return {p.stem: re.sub(r"//.*|\\\n", "", p.read_text()) for p in sorted(BLOCKS.glob("*.p4"))}


def written(text: str) -> str:
    match = _ANNOTATION.search(text)
    return match[1] if match else ""


def said_of_keys() -> Iterator[tuple[str, str, str]]:
    for text in blocks().values():
        for table in _TABLE.finditer(text):
            names = [f"level_{i}" for i in range(1, 6)] if table[1] == "level" else [table[1]]
            for line in filter(str.strip, table[2].split(";")):
                key = re.search(r'@name\("(\w+)"\)', line)
                assert key is not None, line
                yield from ((name, key[1], written(line)) for name in names)


def said_of_params() -> Iterator[tuple[str, str, str]]:
    for text in blocks().values():
        for action in _ACTION.finditer(text):
            for param in filter(str.strip, action[2].split(",")):
                yield action[1], param.split()[-1], written(param)


@pytest.mark.parametrize(("table", "key", "role"), sorted(set(said_of_keys())))
def test_a_key_is_what_its_source_says(table: str, key: str, role: str) -> None:
    assert key_role(table, key) is Role(role)


@pytest.mark.parametrize(("action", "param", "role"), sorted(set(said_of_params())))
def test_a_parameter_is_what_its_source_says(action: str, param: str, role: str) -> None:
    assert param_role(action, param) is Role(role)


def test_what_names_nothing_is_known_to_name_nothing() -> None:
    """A new key or parameter is annotated, or it is added here by who has thought of it."""
    info = p4info(SHIPPED.build("edge", "bmv2"))
    for table in info.tables:
        name = table.preamble.name.partition(".")[2]
        if name.partition(".")[0] not in NETWORK:
            keys = {f.name for f in table.match_fields if key_role(name, f.name) is Role.VALUE}
            assert keys <= VALUES, name
    for action in info.actions:
        name = action.preamble.name.partition(".")[2]
        if name.partition(".")[0] not in NETWORK:
            params = {p.name for p in action.params if param_role(name, p.name) is Role.VALUE}
            assert params <= VALUES, name


def test_segments_are_segments() -> None:
    """A 24-bit number is a segment, an SPI or a VNI."""
    info = p4info(SHIPPED.build("edge", "bmv2"))
    for action in info.actions:
        for param in action.params:
            if param.bitwidth == 24 and param.name != "vni":
                role = param_role(action.preamble.name, param.name)
                assert role in (Role.SEGMENT, Role.PATH), (action.preamble.name, param.name)
    for table in info.tables:
        for field in table.match_fields:
            if field.bitwidth == 24:
                role = key_role(table.preamble.name, field.name)
                assert role in (Role.SEGMENT, Role.PATH), (table.preamble.name, field.name)


def test_whose_an_entry_is() -> None:
    assert belonging("steer.ipv4").names == ("segment",)
    assert belonging("acl.tree.level_3").names == ("segment", "node")
    assert belonging("flowtag_arrival.paths").names == ("spi", "si")
    assert belonging("flowtag_arrival.origins").kind == "", "they only speak of paths"
    assert belonging("classify.first_ipv6").own == {"graph", "epoch"}
    assert [m.names for m in mentions("dispatch.next.to_device")] == [("spi", "si")]


def test_blocks_may_not_contradict_each_other() -> None:
    info = p4i.P4Info()
    for control, said in (("a", '@refers_to("segment")'), ("b", '@refers_to("group")')):
        action = info.actions.add()
        action.preamble.name = f"ingress.{control}.go_to"
        action.params.add(name="there", annotations=[said])
    with pytest.raises(ValueError, match=r"go_to\.there refers to group here, elsewhere"):
        ReferenceTable().read(info)

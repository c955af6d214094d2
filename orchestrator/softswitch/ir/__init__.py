"""A P4 program as frozen data, and its reading from p4c's BMv2 JSON: nothing in that is believed.

    bytes --node.decode_program--> JSON --read_program--> Program

- `program`   what a program is: all that a code generator needs, every value checked
- `node`      values that know their path, and the bounds of all that is in them
- `objects`   what is declared: header types, headers, stacks, unions, arrays, calculations
- `operands`  expressions and primitives, rebuilt in the one form that code generators walk
- `parser`    parse states and deparser
- `controls`  actions, tables, pipelines
- `checksums` checksums of headers

Which controls, metadata and externs there are is the `Architecture`'s word. A program either runs
as it would on BMv2's simple_switch or does not load:
what is wrong is `MalformedProgram` with its path; what is right but not
implemented is `UnsupportedFeature`, all of it at once. Older compilers' JSON
is read as BMv2 reads it (p4lang/behavioral-model, P4Objects.cpp).

Source of the format: p4lang/behavioral-model, docs/JSON_format.md.
"""

from __future__ import annotations

from functools import lru_cache

from orchestrator.errors import UnsupportedFeature
from orchestrator.softswitch.architectures import Architecture
from orchestrator.softswitch.architectures.v1model import V1MODEL
from orchestrator.softswitch.ir.checksums import read_checksums
from orchestrator.softswitch.ir.controls import Controls, read_actions, read_pipelines
from orchestrator.softswitch.ir.node import (
    MAX_BITS,
    MAX_CONFIG,
    Json,
    JsonNode,
    check_size,
    decode_program,
)
from orchestrator.softswitch.ir.objects import Objects, read_field_lists, read_objects
from orchestrator.softswitch.ir.operands import Operands
from orchestrator.softswitch.ir.parser import read_deparser, read_parser
from orchestrator.softswitch.ir.program import P4Program, Param

__all__ = (
    "MAX_BITS",
    "MAX_CONFIG",
    "Json",
    "check_size",
    "decode_program",
    "program_of",
    "read_program",
)

MAX_KEPT_CONFIG = 4 << 20
"""Bytes of a device's configuration; larger ones are read anew for each switch."""

NEWEST = (2, 24)
"""Version of the format; BMv2 refuses another major and a newer minor one, and so do we."""


def program_of(device_config: bytes) -> P4Program:
    """The program of a device's configuration, its JSON as bytes; errors as of `decode_program` and
    `read_program`. Switches of one process mostly run the same one: it is read once."""
    return (_kept if len(device_config) <= MAX_KEPT_CONFIG else _read)(device_config)


def _read(device_config: bytes) -> P4Program:
    return read_program(decode_program(device_config))


_kept = lru_cache(maxsize=4)(_read)


def read_program(raw: Json, architecture: Architecture = V1MODEL) -> P4Program:
    """Read the JSON of a program for an architecture; MalformedProgram or UnsupportedFeature."""
    root = JsonNode(raw)
    if not isinstance(raw, dict) or "pipelines" not in raw:
        raise UnsupportedFeature("BMv2 JSON: no 'pipelines' section: not p4c-bm2-ss output")
    _check_version(root)
    objects = read_objects(root, architecture)
    _check_metadata(root, objects)
    _read_lengths(root, objects)
    actions = read_actions(root, objects)
    init_state, states = read_parser(root, objects)
    order, primitives = read_deparser(root, objects)
    controls = Controls(objects, actions)
    pipelines = read_pipelines(root, controls)
    checksums = tuple(read_checksums(root, objects))
    field_lists = read_field_lists(root, objects)
    if objects.problems:
        raise UnsupportedFeature(
            "BMv2 JSON uses what softswitch does not implement:\n  " + "\n  ".join(objects.problems)
        )
    return P4Program(
        architecture=architecture,
        headers=objects.headers,
        stacks=objects.stacks,
        unions=objects.unions,
        union_stacks=objects.union_stacks,
        union_of={h: u for u in objects.unions.values() for h in u.members},
        aliases=objects.aliases,
        lengths=objects.lengths,
        init_state=init_state,
        states=states,
        deparse_order=order,
        deparse_primitives=primitives,
        actions=tuple(actions.values()),
        pipelines=pipelines,
        calculations=objects.calculations,
        checksums=checksums,
        counters=objects.counters,
        registers=objects.registers,
        meters=objects.meters,
        learn_lists=objects.learn_lists,
        profiles=controls.profiles,
        value_sets=objects.value_sets,
        field_lists=field_lists,
        errors=objects.errors,
    )


def _check_version(root: JsonNode) -> None:
    meta = root.get("__meta__")
    version = None if meta is None else meta.get("version")
    if version is None:
        return
    major, minor = (part.integer() for part in version.items(2))
    if major != NEWEST[0] or minor > NEWEST[1]:
        raise version.wrong(
            f"format {major}.{minor} is unknown (valid: {NEWEST[0]}.0 to {NEWEST[0]}.{NEWEST[1]})"
        )


def _check_metadata(root: JsonNode, objects: Objects) -> None:
    metadata = objects.architecture.metadata
    for name in metadata.required:
        owner = (metadata.header, name)
        header, field = objects.aliases.get(f"{metadata.header}.{name}", owner)
        instance = objects.headers.get(header)
        if instance is None or field not in instance.type.by_name or not instance.metadata:
            raise root.wrong(f"headers: field {metadata.header}.{name} is missing")


def _read_lengths(root: JsonNode, objects: Objects) -> None:
    """`length_exp`, of P4_14: its locals are the fields of the header itself."""
    for t in root.list("header_types"):
        length = t.get("length_exp")
        kind = objects.types[t["name"].name()]
        if length is None or kind.varbit is None:
            continue
        before = kind.fields[: kind.fields.index(kind.varbit)]
        if any(f.signed for f in before):
            raise length.wrong("a length that depends on signed fields is not implemented")
        locals_ = [Param(f.name, f.width) for f in before]
        objects.lengths[kind.name] = Operands(objects, locals_).value(length)

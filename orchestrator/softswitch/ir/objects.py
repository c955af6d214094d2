"""What a program declares and refers to by name: header types, headers, stacks, unions, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.softswitch.architectures import Architecture
from orchestrator.softswitch.ir.node import MAX_BITS, Json, JsonNode
from orchestrator.softswitch.ir.program import (
    Calculation,
    CounterDecl,
    Header,
    HeaderField,
    HeaderType,
    LearnList,
    MeterDecl,
    RegisterDecl,
    Stack,
    Union,
    UnionStack,
    ValueSetDecl,
)

VALID = "$valid$"
MAX_FIELDS = 4096
MAX_HEADER_BITS = 1 << 19
"""64 KiB: no frame is longer."""
MAX_STACK = 128
MAX_CELLS = 1 << 24
"""Counter and register cells of one program: they are there from the start, 8 bytes each."""

T = TypeVar("T")


@dataclass(slots=True)
class Objects:
    """All that was declared so far, by name; references resolve here."""

    architecture: Architecture
    types: dict[str, HeaderType] = field(default_factory=dict[str, HeaderType])
    headers: dict[str, Header] = field(default_factory=dict[str, Header])
    stacks: dict[str, Stack] = field(default_factory=dict[str, Stack])
    unions: dict[str, Union] = field(default_factory=dict[str, Union])
    union_stacks: dict[str, UnionStack] = field(default_factory=dict[str, UnionStack])
    aliases: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    errors: dict[str, int] = field(default_factory=dict[str, int])
    value_sets: dict[str, ValueSetDecl] = field(default_factory=dict[str, ValueSetDecl])
    counters: dict[str, CounterDecl] = field(default_factory=dict[str, CounterDecl])
    registers: dict[str, RegisterDecl] = field(default_factory=dict[str, RegisterDecl])
    meters: dict[str, MeterDecl] = field(default_factory=dict[str, MeterDecl])
    calculations: dict[str, Calculation] = field(default_factory=dict[str, Calculation])
    learn_lists: dict[int, LearnList] = field(default_factory=dict[int, LearnList])
    lengths: dict[str, Json] = field(default_factory=dict[str, Json])
    """P4_14: the bits of a header type's varbit, by an expression over the fields before it."""
    problems: list[str] = field(default_factory=list[str])
    """What is right but not implemented here; all of it is told at once."""

    def refuse(self, where: str, what: str, valid: str = "") -> None:
        self.problems.append(f"{where}: {what}" + (f" ({valid})" if valid else ""))

    # ------------------------------------------------------------- references

    def field(self, node: JsonNode) -> tuple[str, str]:
        """[header, field] of a reference, through the aliases; the field may be `$valid$`."""
        first, second = node.items(2)
        header, name = first.name(), second.name()
        header, name = self.aliases.get(f"{header}.{name}", (header, name))
        instance = self.headers.get(header)
        if instance is None:
            raise first.unknown("header")
        if name != VALID and name not in instance.type.by_name:
            raise second.unknown(f"field of header {header}", tuple(instance.type.by_name))
        return header, name

    def value_field(self, node: JsonNode) -> HeaderField:
        """The field that a reference means, which must have a value (no varbit)."""
        header, name = self.field(node)
        if name == VALID:
            return HeaderField(VALID, 1, False)
        member = self.headers[header].type.by_name[name]
        if member.varbit:
            raise node.wrong(f"varbit {header}.{name} has no value")
        return member


def resolve(node: JsonNode, what: str, named: Mapping[str, T]) -> T:
    """The object that a name means."""
    name = node.name()
    if name not in named:
        raise node.unknown(what, tuple(named))
    return named[name]


def add(node: JsonNode, what: str, to: dict[str, T], item: T) -> None:
    """Take an object in under its node's name, which must be new."""
    name = node["name"].name()
    if name in to:
        raise node["name"].wrong(f"there are two {what}s {name}")
    to[name] = item


class ObjectIds:
    """Ids of one kind of object, each given once."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.seen: set[int] = set()

    def take(self, node: JsonNode) -> int:
        ident = node["id"].integer()
        if ident in self.seen:
            raise node["id"].wrong(f"two {self.what}s have id {ident}")
        self.seen.add(ident)
        return ident


def read_objects(root: JsonNode, architecture: Architecture) -> Objects:
    """Everything that parsers, actions and pipelines refer to."""
    objects = Objects(architecture)
    _header_types(root, objects)
    by_id = _headers(root, objects)
    _stacks(root, objects, by_id)
    _unions(root, objects, by_id)
    for alias in root.list("field_aliases"):
        name, target = alias.items(2)
        objects.aliases[name.name()] = objects.field(target)
    for error in root.list("errors"):
        name, number = error.items(2)
        objects.errors[name.name()] = number.integer()
    for item in root.list("extern_instances"):
        kind = item.get("type")
        objects.refuse(
            f"extern_instances.{item['name'].name()}",
            f"extern '{kind.name() if kind else ''}': custom externs are not implemented",
        )
    ids = ObjectIds("value set")
    for v in root.list("parse_vsets"):
        ids.take(v)
        size = v.get("max_size")
        value_set = ValueSetDecl(v["name"].name(), 0 if size is None else size.integer())
        add(v, "value set", objects.value_sets, value_set)
    _arrays(root, objects)
    _meters(root, objects)
    _calculations(root, objects)
    _learn_lists(root, objects)
    return objects


def _header_types(root: JsonNode, objects: Objects) -> None:
    ids = ObjectIds("header type")
    for t in root.list("header_types"):
        ids.take(t)
        name = t["name"].name()
        fields: list[HeaderField] = []
        star: JsonNode | None = None
        for f in t["fields"].items(most=MAX_FIELDS):
            parts = f.items(most=4)
            if len(parts) < 2:
                raise f.wrong("[name, width, signed, saturating] is expected")
            signed, saturating = (len(parts) > i and parts[i].flag() for i in (2, 3))
            label = parts[0].name()
            if label == VALID or any(label == member.name for member in fields):
                raise parts[0].wrong(f"there are two fields {label}")
            if parts[1].value == "*":
                if star is not None:
                    raise f.wrong("a second varbit field")
                star = parts[1]
                fields.append(HeaderField(label, 0, False, True))
            else:
                width = parts[1].integer(1, MAX_BITS)
                fields.append(HeaderField(label, width, signed, False, saturating))
        fixed = sum(f.width for f in fields)
        if fixed > MAX_HEADER_BITS:
            raise t["fields"].wrong(f"a header of more than {MAX_HEADER_BITS // 8} bytes")
        if star is not None:
            most = t.get("max_length")
            # BMv2: 0 and absent mean that a packet's length is the only bound.
            top = 0 if most is None else most.integer(0, MAX_HEADER_BITS // 8) * 8
            if top and (top < fixed or fixed % 8):
                raise t["max_length"].wrong(f"less than the fixed {fixed} bits")
            width = top - fixed if top else MAX_HEADER_BITS - fixed
            fields = [HeaderField(f.name, width, False, True) if f.varbit else f for f in fields]
        add(t, "header type", objects.types, HeaderType(name, tuple(fields)))


def _headers(root: JsonNode, objects: Objects) -> dict[int, str]:
    ids = ObjectIds("header")
    by_id: dict[int, str] = {}
    for i, h in enumerate(root.list("headers")):
        name = h["name"].name()
        by_id[ids.take(h)] = name
        metadata = h.get("metadata")
        kind = resolve(h["header_type"], "header type", objects.types)
        header = Header(name, kind, metadata is not None and metadata.flag(), i)
        add(h, "header", objects.headers, header)
    return by_id


def _of_ids(ids: Iterable[JsonNode], what: str, by_id: Mapping[int, T]) -> tuple[T, ...]:
    items: list[T] = []
    for node in ids:
        ident = node.integer()
        if ident not in by_id:
            raise node.unknown(f"{what} with id")
        items.append(by_id[ident])
    return tuple(items)


def _stacks(root: JsonNode, objects: Objects, by_id: Mapping[int, str]) -> None:
    ids = ObjectIds("header stack")
    for s in root.list("header_stacks"):
        ids.take(s)
        kind = resolve(s["header_type"], "header type", objects.types)
        elements = _of_ids(s["header_ids"].items(most=MAX_STACK), "header", by_id)
        for name in elements:
            if objects.headers[name].type is not kind or objects.headers[name].metadata:
                raise s["header_ids"].wrong(f"header {name} is no {kind.name} of packets")
        if not elements or len(set(elements)) != len(elements):
            raise s["header_ids"].wrong("one id an element is expected")
        add(s, "header stack", objects.stacks, Stack(s["name"].name(), kind, elements))


def _unions(root: JsonNode, objects: Objects, by_id: Mapping[int, str]) -> None:
    types: dict[str, tuple[tuple[str, HeaderType], ...]] = {}
    for t in root.list("header_union_types"):
        rows = [row.items(2) for row in t["headers"].items(most=MAX_STACK)]
        members = tuple((n.name(), resolve(k, "header type", objects.types)) for n, k in rows)
        add(t, "header union type", types, members)
    ids = ObjectIds("header union")
    unions: dict[int, Union] = {}
    owned: set[str] = set()
    for u in root.list("header_unions"):
        kind = resolve(u["union_type"], "header union type", types)
        members = _of_ids(u["header_ids"].items(len(kind)), "header", by_id)
        for name, (_, type_) in zip(members, kind, strict=True):
            header = objects.headers[name]
            if header.type is not type_ or header.metadata or name in owned:
                raise u["header_ids"].wrong(f"header {name} is no {type_.name} of this union alone")
            owned.add(name)
        union = Union(u["name"].name(), members, tuple(n for n, _ in kind))
        unions[ids.take(u)] = union
        add(u, "header union", objects.unions, union)
    ids = ObjectIds("header union stack")
    for s in root.list("header_union_stacks"):
        ids.take(s)
        kind = resolve(s["union_type"], "header union type", types)
        elements = _of_ids(s["header_union_ids"].items(most=MAX_STACK), "header union", unions)
        wanted = [t for _, t in kind]
        for union in elements:
            if [objects.headers[m].type for m in union.members] != wanted:
                raise s["header_union_ids"].wrong(f"union {union.name} is of another type")
        if not elements or len({u.name for u in elements}) != len(elements):
            raise s["header_union_ids"].wrong("one id an element is expected")
        add(s, "header union stack", objects.union_stacks, UnionStack(s["name"].name(), elements))


def _direct(node: JsonNode) -> bool:
    direct = node.get("is_direct")
    return direct is not None and direct.flag()


def _arrays(root: JsonNode, objects: Objects) -> None:
    cells = 0
    ids = ObjectIds("counter array")
    for c in root.list("counter_arrays"):
        ids.take(c)
        if _direct(c):
            continue
        size = c["size"].integer()
        cells += 2 * size
        _affordable(c["size"], cells)
        add(c, "counter array", objects.counters, CounterDecl(c["name"].name(), size))
    ids = ObjectIds("register array")
    for r in root.list("register_arrays"):
        ids.take(r)
        size, width = r["size"].integer(), r["bitwidth"].integer(1, MAX_BITS)
        cells += size * (1 + width // 64)
        _affordable(r["size"], cells)
        add(r, "register array", objects.registers, RegisterDecl(r["name"].name(), size, width))


def _affordable(node: JsonNode, cells: int) -> None:
    if cells > MAX_CELLS:
        raise node.wrong(
            f"counters and registers of more than {MAX_CELLS} cells of 8 bytes in all are not "
            "implemented by softswitch"
        )


def _meters(root: JsonNode, objects: Objects) -> None:
    ids = ObjectIds("meter array")
    for m in root.list("meter_arrays"):
        ids.take(m)
        size = m.get("size")
        packets = m["type"].one_of(("packets", "bytes")) == "packets"
        table, target = None, None
        if _direct(m):
            binding = m.get("binding")
            table = "" if binding is None else binding.name()
            objects.value_field(m["result_target"])
            target = objects.field(m["result_target"])
        meter = MeterDecl(
            m["name"].name(), 0 if size is None else size.integer(), packets, table, target
        )
        add(m, "meter array", objects.meters, meter)


def read_algorithm(node: JsonNode, objects: Objects, where: str) -> str:
    algo = node["algo"].name()
    algorithms = objects.architecture.algorithms
    if algo not in algorithms:
        objects.refuse(
            where,
            f"algorithm '{algo}' is not implemented",
            "implemented: " + ", ".join(sorted(algorithms)),
        )
    return algo


def read_inputs(node: JsonNode, objects: Objects) -> tuple[dict[str, object], ...]:
    """Inputs of a calculation, checked and in one form."""
    out: list[dict[str, object]] = []
    for item in node.items():
        kind = item["type"].one_of(("field", "hexstr", "header", "payload"))
        if kind == "field":
            header, name = objects.field(item["value"])
            if name == VALID:
                raise item.wrong("the validity of a header is no input")
            out.append({"type": kind, "value": (header, name)})
        elif kind == "hexstr":
            bits = item["bitwidth"].integer(1, MAX_BITS)
            value = item["value"].hexadecimal(bits, signed=True) & ((1 << bits) - 1)
            out.append({"type": kind, "value": value, "bitwidth": bits})
        elif kind == "header":
            header = resolve(item["value"], "header", objects.headers)
            out.append({"type": kind, "value": header.name})
        else:
            out.append({"type": kind, "value": None})
    return tuple(out)


def _calculations(root: JsonNode, objects: Objects) -> None:
    ids = ObjectIds("calculation")
    for c in root.list("calculations"):
        ids.take(c)
        name = c["name"].name()
        algo = read_algorithm(c, objects, f"calculations.{name}")
        calculation = Calculation(name, algo, read_inputs(c["input"], objects))
        add(c, "calculation", objects.calculations, calculation)


def _learn_lists(root: JsonNode, objects: Objects) -> None:
    ids = ObjectIds("learn list")
    for d in root.list("learn_lists"):
        ident = ids.take(d)
        elements: list[dict[str, object]] = []
        for e in d["elements"].items():
            e["type"].one_of(("field",))
            objects.value_field(e["value"])
            elements.append({"type": "field", "value": objects.field(e["value"])})
        objects.learn_lists[ident] = LearnList(ident, d["name"].name(), tuple(elements))


def read_field_lists(root: JsonNode, objects: Objects) -> dict[int, tuple[tuple[str, str], ...]]:
    """What packets keep on their way round; constants keep nothing, as in BMv2."""
    lists: dict[int, tuple[tuple[str, str], ...]] = {}
    ids = ObjectIds("field list")
    for fl in root.list("field_lists"):
        ident = ids.take(fl)
        elements: list[tuple[str, str]] = []
        for e in fl.list("elements"):
            kind = e["type"].one_of(("field", "header", "hexstr"))
            if kind == "field":
                elements.append(objects.field(e["value"]))
            elif kind == "header":
                header = resolve(e["value"], "header", objects.headers)
                elements += [(header.name, f.name) for f in header.type.fields]
            else:
                e["value"].hexadecimal()
        lists[ident] = tuple(elements)
    return lists

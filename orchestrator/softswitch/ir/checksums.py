"""Checksums that are verified behind the parser or updated before the deparser."""

from __future__ import annotations

from orchestrator.softswitch.ir.node import Json, JsonNode
from orchestrator.softswitch.ir.objects import VALID, ObjectIds, Objects, add, resolve
from orchestrator.softswitch.ir.operands import Operands
from orchestrator.softswitch.ir.program import Calculation, Checksum


def read_checksums(root: JsonNode, objects: Objects) -> list[Checksum]:
    checksums: dict[str, Checksum] = {}
    ids = ObjectIds("checksum")
    for c in root.list("checksums"):
        ids.take(c)
        name = c["name"].name()
        kind = c["type"].one_of(("generic", "ipv4"))
        objects.value_field(c["target"])
        header, field = objects.field(c["target"])
        if field == VALID:
            raise c["target"].wrong("validity is no checksum")
        if kind == "ipv4":
            calculation = _header_checksum(objects, name, header, field)
        else:
            calculation = resolve(c["calculation"], "calculation", objects.calculations).name
        condition = c.get("if_cond")
        checked = None if condition is None else Operands(objects).value(condition)
        wanted = {
            key: True if c.get(key) is None else c[key].flag() for key in ("verify", "update")
        }
        if kind == "ipv4" and checked is None:
            # Older than conditions: a header that is not there has no checksum.
            checked = {"type": "field", "value": (header, VALID)}
        add(c, "checksum", checksums, Checksum(name, header, field, calculation, checked, **wanted))
    return list(checksums.values())


def _header_checksum(objects: Objects, checksum: str, header: str, field: str) -> str:
    """Type `ipv4`: the Internet checksum over the whole header, its own field left out."""
    name = f"$header${checksum}"
    parts: list[Json] = []
    for f in objects.headers[header].type.fields:
        if f.name == field:
            parts.append({"type": "hexstr", "value": 0, "bitwidth": f.width})
        else:
            parts.append({"type": "field", "value": (header, f.name)})
    objects.calculations[name] = Calculation(name, "csum16", tuple(parts))
    return name

"""Random small v1model programs, as P4 text.

Every program is well defined: fields are read only where their header is
valid, stack indices are constants, registers are indexed within their size,
and nothing random or timed is used, so two right switches agree bit by bit.
"""

from __future__ import annotations

import random

PORTS = (1, 2, 3, 4)

_FIXED = """#include <core.p4>
#include <v1model.p4>
header eth_t { bit<48> dst; bit<48> src; bit<16> kind; }
header one_t { bit<8> a; bit<16> b; bit<32> c; int<16> s; bit<4> n; bit<12> m; }
header two_t { bit<64> x; bit<7> y; bit<9> z; }
header part_t { bit<8> k; bit<24> v; }
struct headers_t { eth_t eth; one_t one; two_t two; part_t[3] parts; }
struct meta_t { bit<8> p; bit<16> q; bit<32> r; int<16> t; bit<1> f; @field_list(1) bit<16> kept; }
"""

_FIELDS = {
    "eth": (("dst", 48), ("src", 48), ("kind", 16)),
    "one": (("a", 8), ("b", 16), ("c", 32), ("n", 4), ("m", 12)),
    "two": (("x", 64), ("y", 7), ("z", 9)),
    "meta": (("p", 8), ("q", 16), ("r", 32), ("f", 1), ("kept", 16)),
}
_SIGNED = {"one": ("s",), "meta": ("t",)}


class ProgramMaker:
    """One program from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tables: list[str] = []
        self.lines: list[str] = []

    # ------------------------------------------------------------- expressions

    def path(self, header: str, field: str) -> str:
        return f"meta.{field}" if header == "meta" else f"hdr.{header}.{field}"

    def leaf(self, width: int, valid: frozenset[str]) -> str:
        rng = self.rng
        fields = [
            (self.path(h, f), w) for h in sorted(valid) for f, w in _FIELDS.get(h, ()) if w == width
        ]
        if fields and rng.random() < 0.6:
            return rng.choice(fields)[0]
        if rng.random() < 0.5:
            return f"{width}w{rng.choice((0, 1, (1 << width) - 1, rng.getrandbits(width)))}"
        path, other = rng.choice(
            [(self.path(h, f), w) for h in sorted(valid) for f, w in _FIELDS.get(h, ())]
        )
        if other > width and rng.random() < 0.6:
            low = rng.randrange(other - width + 1)
            return f"{path}[{low + width - 1}:{low}]"
        return f"(bit<{width}>){path}"

    def number(self, width: int, valid: frozenset[str], depth: int = 2) -> str:
        """An expression of type bit<width>."""
        rng = self.rng
        if depth <= 0 or rng.random() < 0.25:
            return self.leaf(width, valid)
        kind = rng.randrange(10)
        a = self.number(width, valid, depth - 1)
        if kind < 5:
            op = rng.choice(("+", "-", "*", "&", "|", "^", "|+|", "|-|"))
            return f"({a} {op} {self.number(width, valid, depth - 1)})"
        if kind == 5:
            amount = rng.choice((str(rng.randrange(width + 2)), self.leaf(8, valid)))
            return f"({a} {rng.choice(('<<', '>>'))} {amount})"
        if kind == 6 and width > 1:
            cut = rng.randrange(1, width)
            high = self.number(width - cut, valid, depth - 1)
            return f"({high} ++ {self.number(cut, valid, depth - 1)})"
        if kind == 7:
            other = self.number(width, valid, depth - 1)
            return f"({self.condition(valid, depth - 1)} ? {a} : {other})"
        if kind == 8:
            return f"(~{a})"
        if width == 16:
            return f"(bit<16>){self.signed(valid, depth - 1)}"
        return f"(-{a})"

    def signed(self, valid: frozenset[str], depth: int = 2) -> str:
        """An expression of type int<16>."""
        rng = self.rng
        fields = [self.path(h, f) for h in sorted(valid) for f in _SIGNED.get(h, ())]
        if depth <= 0 or rng.random() < 0.3:
            if fields and rng.random() < 0.7:
                return rng.choice(fields)
            return f"(int<16>){self.leaf(16, valid)}"
        a, b = self.signed(valid, depth - 1), self.signed(valid, depth - 1)
        if rng.random() < 0.2:
            return f"({a} >> {rng.randrange(18)})"
        return f"({a} {rng.choice(('+', '-', '*', '|+|', '|-|', '^'))} {b})"

    def condition(self, valid: frozenset[str], depth: int = 2) -> str:
        rng = self.rng
        kind = rng.randrange(8)
        if kind == 0 and depth > 0:
            op = rng.choice(("&&", "||"))
            return f"({self.condition(valid, depth - 1)} {op} {self.condition(valid, depth - 1)})"
        if kind == 1:
            return f"hdr.{rng.choice(('one', 'two', 'parts[0]', 'parts[1]'))}.isValid()"
        if kind == 2 and depth > 0:
            return f"(!{self.condition(valid, depth - 1)})"
        op = rng.choice(("==", "!=", "<", ">", "<=", ">="))
        if kind == 3:
            return f"({self.signed(valid, depth - 1)} {op} {self.signed(valid, depth - 1)})"
        width = rng.choice((4, 8, 16, 32))
        a, b = self.number(width, valid, depth - 1), self.leaf(width, valid)
        return f"({a} {op} {b})"

    # -------------------------------------------------------------- statements

    def assignment(self, valid: frozenset[str]) -> str:
        rng = self.rng
        header = rng.choice(sorted(valid))
        if header in _SIGNED and rng.random() < 0.3:
            return f"{self.path(header, _SIGNED[header][0])} = {self.signed(valid)};"
        field, width = rng.choice(_FIELDS[header])
        return f"{self.path(header, field)} = {self.number(width, valid)};"

    def block(self, valid: frozenset[str], depth: int, pad: str) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            valid = self.statement(valid, depth, pad)

    def statement(self, valid: frozenset[str], depth: int, pad: str) -> frozenset[str]:
        rng, out = self.rng, self.lines
        kind = rng.randrange(16)
        if kind < 5 or depth == 0:
            out.append(pad + self.assignment(valid))
        elif kind < 7:
            name = rng.choice(("one", "two"))
            out.append(f"{pad}if (hdr.{name}.isValid()) {{")
            self.block(valid | {name}, depth - 1, pad + "    ")
            out.append(pad + "}")
            return valid - {name}
        elif kind < 9:
            out.append(f"{pad}if ({self.condition(valid)}) {{")
            self.block(valid, depth - 1, pad + "    ")
            out.append(pad + "} else {")
            self.block(valid, depth - 1, pad + "    ")
            out.append(pad + "}")
            return valid & {"eth", "meta"}
        elif kind < 12 and self.tables:
            table = self.tables.pop()
            if rng.random() < 0.5:
                out.append(f"{pad}{table}.apply();")
            else:
                out.append(f"{pad}if ({table}.apply().{rng.choice(('hit', 'miss'))}) {{")
                self.block(valid & {"eth", "meta"}, depth - 1, pad + "    ")
                out.append(pad + "}")
            return valid & {"eth", "meta"}
        elif kind == 12:
            name = rng.choice(("one", "two"))
            if rng.random() < 0.5:
                out.append(f"{pad}hdr.{name}.setValid();")
                return valid | {name}
            out.append(f"{pad}hdr.{name}.setInvalid();")
            return valid - {name}
        elif kind == 13:
            shift = rng.choice(("push_front(1)", "pop_front(1)", "pop_front(2)", "push_front(2)"))
            out.append(f"{pad}hdr.parts.{shift};")
        elif kind == 14:
            algorithm, width = rng.choice(
                (("crc16", 16), ("crc32", 32), ("csum16", 16), ("identity", 32), ("xor16", 16))
            )
            field = "q" if width == 16 else "r"
            inputs = ", ".join(self.leaf(w, valid) for w in (8, 16, 32))
            limit = f"{width}w{rng.choice((7, 1000, 65535))}"
            out.append(
                f"{pad}hash(meta.{field}, HashAlgorithm.{algorithm}, {width}w0, "
                f"{{ {inputs} }}, {limit});"
            )
        else:
            out.append(f"{pad}cells.read(meta.q, (bit<32>)({self.number(8, valid)} & 8w15));")
            out.append(
                f"{pad}cells.write((bit<32>)({self.number(8, valid)} & 8w15), "
                f"{self.number(16, valid)});"
            )
        return valid

    # ----------------------------------------------------------------- program

    def table(self, name: str) -> None:
        rng, out = self.rng, self.lines
        always = frozenset(("eth", "meta"))
        actions: list[str] = []
        for i in range(rng.randrange(1, 4)):
            action = f"{name}_{i}"
            actions.append(action)
            width = rng.choice((8, 16, 32))
            out.append(f"    action {action}(bit<{width}> x, bit<9> port) {{")
            out.append(f"        meta.{ {8: 'p', 16: 'q', 32: 'r'}[width] } = x;")
            for _ in range(rng.randrange(3)):
                out.append("        " + self.assignment(always))
            end = rng.randrange(8)
            if end == 0:
                out.append("        mark_to_drop(sm);")
            elif end == 1:
                out.append("        sm.mcast_grp = 1;")
            elif end == 2:
                out.append("        exit;")
            elif end < 6:
                out.append("        sm.egress_spec = port;")
            out.append("    }")
        kinds = rng.choice(
            (
                ("exact",),
                ("exact", "exact"),
                ("lpm",),
                ("exact", "lpm"),
                ("ternary",),
                ("ternary", "exact", "lpm"),
                ("range",),
                ("optional", "ternary"),
                ("range", "exact", "optional"),
            )
        )
        out.append(f"    table {name} {{")
        out.append("        key = {")
        for i, kind in enumerate(kinds):
            header = rng.choice(("eth", "meta", "meta", "one"))
            field, _ = rng.choice([f for f in _FIELDS[header] if f[1] >= 4])
            out.append(f'            {self.path(header, field)}: {kind} @name("k{i}");')
        out.append("        }")
        out.append(f"        actions = {{ {'; '.join(actions)}; NoAction; }}")
        out.append("        default_action = NoAction();")
        out.append("        size = 64;")
        out.append("    }")

    def control(self, name: str, tables: int) -> None:
        self.lines.append(
            f"control {name}(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {{"
        )
        self.lines.append("    register<bit<16>>(16) cells;")
        names = [f"{name}_t{i}" for i in range(tables)]
        for table in names:
            self.table(table)
        self.tables = names
        self.lines.append("    apply {")
        if name == "ig":
            self.lines.append(f"        sm.egress_spec = {self.rng.choice(PORTS)};")
        for _ in range(4):
            self.block(frozenset(("eth", "meta")), 3, "        ")
        for table in self.tables:
            self.lines.append(f"        {table}.apply();")
        if name == "ig" and self.rng.random() < 0.3:
            self.lines.append("        if (meta.p == 1) { clone(CloneType.I2E, 9); }")
        self.lines.append("    }")
        self.lines.append("}")

    def parser(self) -> None:
        rng, out = self.rng, self.lines
        states = ("one", "two", "parts", "accept")
        out.append(
            "parser p(packet_in packet, out headers_t hdr, inout meta_t meta, "
            "inout standard_metadata_t sm) {"
        )

        def select(key: str, width: int, choices: tuple[str, ...]) -> None:
            out.append(f"        transition select({key}) {{")
            for value in range(rng.randrange(1, 5)):
                target = rng.choice(choices)
                mask = f" &&& {rng.randrange(1, 8)}" if rng.random() < 0.3 else ""
                out.append(f"            {value}{mask}: {target};")
            # The last choice is `accept`: a program must be able to end its parser.
            end = choices[-1] if key.startswith("hdr.parts") else rng.choice(choices)
            out.append(f"            default: {end};")
            out.append("        }")

        out.append("    state start {\n        packet.extract(hdr.eth);")
        select("hdr.eth.kind", 16, states)
        out.append("    }\n    state one {\n        packet.extract(hdr.one);")
        if rng.random() < 0.3:
            out.append("        verify(hdr.one.a != 3, error.NoMatch);")
        select("hdr.one.a", 8, ("two", "parts", "accept"))
        out.append("    }\n    state two {")
        if rng.random() < 0.4:
            out.append("        meta.p = packet.lookahead<bit<8>>();")
        out.append("        packet.extract(hdr.two);")
        select("hdr.two.y", 7, ("parts", "accept"))
        out.append("    }\n    state parts {\n        packet.extract(hdr.parts.next);")
        select("hdr.parts.last.k", 8, ("parts", "accept"))
        out.append("    }\n}")

    def make(self) -> str:
        self.parser()
        self.lines.append("control vc(inout headers_t hdr, inout meta_t meta) { apply {} }")
        self.control("ig", self.rng.randrange(1, 4))
        self.control("eg", self.rng.randrange(0, 2))
        checksum = (
            "update_checksum(hdr.one.isValid(), { hdr.eth.dst, hdr.one.a, hdr.one.m, hdr.one.n }, "
            "hdr.one.b, HashAlgorithm.csum16);"
            if self.rng.random() < 0.4
            else ""
        )
        self.lines.append(
            f"control cc(inout headers_t hdr, inout meta_t meta) {{ apply {{ {checksum} }} }}"
        )
        self.lines.append(
            "control dp(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }"
        )
        self.lines.append("V1Switch(p(), vc(), ig(), eg(), cc(), dp()) main;")
        return _FIXED + "\n".join(self.lines) + "\n"


def frame(rng: random.Random) -> bytes:
    """A packet for any generated program: small numbers where parsers select."""
    small = bytes([0, rng.randrange(8)])
    out = rng.randbytes(12) if rng.random() < 0.7 else bytes(12)
    out += small if rng.random() < 0.9 else rng.randbytes(2)
    for _ in range(rng.randrange(5)):
        chunk = bytearray(rng.randbytes(rng.choice((11, 10, 4, 4))))
        chunk[0] = rng.randrange(8)
        if len(chunk) == 10 and rng.random() < 0.7:
            chunk[8] = rng.randrange(8) << 1
        out += bytes(chunk)
    out += rng.randbytes(rng.randrange(6))
    return out if rng.random() < 0.8 else out[: rng.randrange(14, max(15, len(out)))]

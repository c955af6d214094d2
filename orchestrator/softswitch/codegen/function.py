"""The whole function: prologue, ingress, replication, egress, deparser."""

from __future__ import annotations

import struct

from orchestrator.softswitch.codegen.emitter import (
    EGRESS_CLONE,
    INGRESS_CLONE,
    RECIRCULATE,
    REPLICATION,
    RESUBMIT,
    STRUCT_CODE,
    Generated,
    Unit,
    chunks_of,
    literal,
    quoted,
)
from orchestrator.softswitch.codegen.pipelines import Pipelines
from orchestrator.softswitch.ir.program import (
    Action,
    Header,
)


class Compiler(Pipelines):
    """Puts the parts of a program together to `run`."""

    def field_list_save(self, var: str, result: str) -> None:
        """Emit `result` = values of the field list whose id is in `var`."""
        self.emit(f"{result} = ()")
        for i, elements in self.p.field_lists.items():
            if elements:
                with self.block(f"if {var} == {literal(i)}:"):
                    values = ", ".join(self.var(h, f) for h, f in elements)
                    self.emit(f"{result} = ({values},)")

    def field_list_restore(self, var: str, values: str) -> None:
        for i, elements in self.p.field_lists.items():
            if elements:
                with self.block(f"if {var} == {literal(i)}:"):
                    self.emit(", ".join(self.var(h, f) for h, f in elements) + f", = {values}")

    def generate(self) -> Generated:
        ops = self.ops
        clones = bool(ops & {"clone_ingress_pkt_to_egress", "clone_egress_pkt_to_egress"})
        # What a packet begins with are defaults of parameters that nobody gives: the interpreter copies
        # them at once, while assignments would cost a tenth of a packet's time.
        params = ", ".join(("port, data, mode, aux, out, again", *self.initial_values()))
        with self.block(f"def run({params}):"):
            self.emit("L = len(data)")
            self.emit("o = perr = 0")
            self.prologue(clones)
            self.parser()
            if self.has_meta("parser_error"):
                self.emit(f"{self.sm('parser_error')} = perr")
            self.verify_checksums()
            self.emit("todo = None")
            if clones:
                with self.block(f"if mode == {INGRESS_CLONE}:"):
                    self.ingress_clone()
                with self.block("else:"):
                    self.ingress(clones)
            else:
                self.ingress(clones)
            with self.block("while True:"):
                self.egress(clones)
        return Generated("\n".join(self.lines) + "\n", dict(self.outside))

    def initial_values(self) -> list[str]:
        """`name=value` of metadata and headers: no header is there, everything is 0."""
        names = list(self.meta_locals())
        values: list[str] = []
        for h in self.packet_headers():
            lay, origin = self.layouts[h.type.name], self.origin(h.name)
            for n in self.header_locals(h):
                if lay.varbit and n == self.var(h.name, lay.varbit):
                    values.append(f"{n}=b''")
                elif n != origin:
                    names.append(n)
            values.append(f"{origin}=-1")
        names += self.stack_counts()
        return [f"{name}=0" for name in names] + values

    def prologue(self, clones: bool) -> None:
        if clones:
            self.emit("clone = -1")
            self.emit("clone_fl = 0")
        if "generate_digest" in self.ops:
            self.emit("digest = 0")
        if "resubmit" in self.ops:
            self.emit("resub = 0")
        if "recirculate" in self.ops:
            self.emit("recirc = 0")
        if "truncate" in self.ops:
            self.emit("trunc = 1 << 30")
        if self.track_length:
            self.emit(f"plen_reg = {self.sm('packet_length')} = L")
        if self.ops & {"resubmit", "recirculate"}:
            # Metadata of a packet on its way round is its field list, nothing else.
            with self.block("if aux is None:"):
                self.emit(f"{self.sm('ingress_port')} = port")
                if self.has_meta("ingress_global_timestamp"):
                    self.emit(f"{self.sm('ingress_global_timestamp')} = now()")
            with self.block(f"elif mode == {INGRESS_CLONE}:"):
                self.emit(f"{self.sm('ingress_port')} = port")
            with self.block("else:"):
                self.emit("fl, values = aux")
                self.field_list_restore("fl", "values")
                self.emit(f"{self.sm('instance_type')} = mode")
        else:
            self.emit(f"{self.sm('ingress_port')} = port")
            if self.has_meta("ingress_global_timestamp"):
                self.emit(f"{self.sm('ingress_global_timestamp')} = now()")

    def ingress_clone(self) -> None:
        """A clone made in ingress was parsed again; now its metadata and its copies."""
        self.emit("copies, fl, values = aux")
        self.assign_zero(self.meta_locals())
        self.field_list_restore("fl", "values")
        self.emit(f"{self.sm('instance_type')} = {INGRESS_CLONE}")
        self.replicate("copies")

    def replicate(self, copies: str) -> None:
        """Set up `todo` for the (port, rid) in `copies`; the egress loop takes them in turn."""
        state = ", ".join([*self.header_state(), *self.meta_locals()])
        self.emit(f"state = ({state},)")
        self.emit(f"todo = [(p_, r_, state) for p_, r_ in {copies}]")
        with self.block("if not todo:"):
            self.emit("return")
        self.emit(f"{self.sm('egress_port')}, {self.replica()}, state = todo.pop(0)")

    def replica(self) -> str:
        """Where the number of a copy goes; P4_14 programs need not have a field for it."""
        return self.sm("egress_rid") if self.has_meta("egress_rid") else "r_"

    def ingress(self, clones: bool) -> None:
        self.event("pipeline", "'ingress'", self.sm("ingress_port"), "mode", "0")
        self.pipeline(self.p.ingress)
        spec = self.sm("egress_spec")
        if clones:
            with self.block("if clone >= 0:"):
                self.emit("copies = clone_sessions.get(clone)")
                self.event("clone", "'ingress'", "clone", "copies")
                with self.block("if copies is not None:"):
                    self.field_list_save("clone_fl", "values")
                    self.emit(
                        f"run(port, data, {INGRESS_CLONE}, (copies, clone_fl, values), out, again)"
                    )
                self.emit("clone = -1")
                self.emit("clone_fl = 0")
        if "generate_digest" in self.ops:
            self.digest()
        if "resubmit" in self.ops:
            with self.block("if resub:"):
                self.field_list_save("resub", "values")
                self.event("resubmit", "resub", "values")
                self.emit(f"again.append((port, data, {RESUBMIT}, (resub, values)))")
                self.emit("return")
        if self.has_meta("mcast_grp"):
            self.multicast(self.sm("mcast_grp"))
        keyword = "elif" if self.has_meta("mcast_grp") else "if"
        with self.block(f"{keyword} {spec} == {literal(self.drop_port)}:"):
            self.event("drop", "'ingress'")
            self.emit("return")
        with self.block("else:"):
            self.emit(f"{self.sm('instance_type')} = 0")
            self.emit(f"{self.sm('egress_port')} = {spec}")

    def multicast(self, group: str) -> None:
        with self.block(f"if {group}:"):
            self.emit(f"copies = groups.get({group}, ())")
            self.event("multicast", group, "copies")
            self.emit(f"{self.sm('instance_type')} = {REPLICATION}")
            if "recirculate" in self.ops:
                self.emit("recirc = 0")
            if "truncate" in self.ops:
                self.emit("trunc = 1 << 30")
            self.replicate("copies")

    def egress(self, clones: bool) -> None:
        spec = self.sm("egress_spec")
        self.event(
            "pipeline",
            "'egress'",
            self.sm("egress_port"),
            self.sm("instance_type"),
            self.sm("egress_rid") if self.has_meta("egress_rid") else "0",
        )
        if self.has_meta("egress_global_timestamp"):
            self.emit(f"{self.sm('egress_global_timestamp')} = now()")
        width = self.sm_width("egress_spec")
        self.emit(f"{spec} = {literal((self.drop_port + 1) & ((1 << width) - 1))}")
        if self.track_length:
            self.emit(f"{self.sm('packet_length')} = plen_reg")
        if self.has_meta("enq_timestamp"):
            # No packet waits here: it leaves its queue as it enters.
            self.emit(f"{self.sm('enq_timestamp')} = now() & 0xffffffff")
        if self.has_meta("priority"):
            with self.block(f"if {self.sm('priority')} >= {literal(self.queues)}:"):
                self.event("drop", "'queue'")
            with self.block("else:"):
                self.egress_body(clones, spec)
        else:
            self.egress_body(clones, spec)
        with self.block("if not todo:"):
            self.emit("return")
        state = ", ".join([*self.header_state(), *self.meta_locals()])
        self.emit("p_, r_, state = todo.pop(0)")
        self.emit(f"{state}, = state")
        self.emit(f"{self.sm('egress_port')} = p_")
        if self.has_meta("egress_rid"):
            self.emit(f"{self.sm('egress_rid')} = r_")
        if "recirculate" in self.ops:
            self.emit("recirc = 0")
        if "truncate" in self.ops:
            self.emit("trunc = 1 << 30")

    def egress_body(self, clones: bool, spec: str) -> None:
        self.pipeline(self.p.egress)
        if clones:
            with self.block("if clone >= 0:"):
                self.egress_clone()
        with self.block(f"if {spec} == {literal(self.drop_port)}:"):
            self.event("drop", "'egress'")
        with self.block("else:"):
            self.deparse()

    def digest(self) -> None:
        """What an ingress digest carries; the last one asked for is the one that counts."""
        with self.block("if digest:"):
            for i, learn in self.p.learn_lists.items():
                values: list[str] = []
                for item in learn.elements:
                    code = self.expr(item).code
                    if item["type"] == "field":
                        f = self.p.field(*item["value"])
                        if f.signed:
                            code = f"{code} & {literal((1 << f.width) - 1)}"
                    values.append(code)
                with self.block(f"if digest == {literal(i)}:"):
                    self.emit(f"values = ({''.join(v + ', ' for v in values)})")
                    self.emit(f"learn({literal(i)}, values)")
                    self.event("digest", quoted(learn.name), "values")

    def egress_clone(self) -> None:
        """A clone of the packet as it leaves egress: headers stay, metadata is reset."""
        self.emit("copies = clone_sessions.get(clone)")
        self.event("clone", "'egress'", "clone", "copies")
        with self.block("if copies is not None:"):
            self.field_list_save("clone_fl", "values")
            meta = self.meta_locals()
            self.emit(f"kept = ({', '.join(meta)},)")
            self.assign_zero(meta)
            self.field_list_restore("clone_fl", "values")
            self.emit(f"{self.sm('instance_type')} = {EGRESS_CLONE}")
            with self.block("if todo is None:"):
                self.emit("todo = []")
            state = ", ".join([*self.header_state(), *meta])
            self.emit(f"state = ({state},)")
            self.emit("todo += [(p_, r_, state) for p_, r_ in copies]")
            self.emit(f"{', '.join(meta)}, = kept")
        self.emit("clone = -1")
        self.emit("clone_fl = 0")

    def deparse(self) -> None:
        self.update_checksums()
        self.where = "deparser"
        if self.p.deparse_primitives:
            prims = self.p.deparse_primitives
            self.primitives(prims, Action(-1, "deparser", (), prims))
        parts: list[str] = []
        for name in self.p.deparse_order:
            parts.append(self.header_bytes(name))
        if parts:
            self.emit(f"frame = b''.join(({', '.join(parts)}, data[o:]))")
        else:
            self.emit("frame = data[o:]")
        if "recirculate" in self.ops:
            with self.block("if recirc:"):
                self.field_list_save("recirc", "values")
                self.emit(f"again.append((port, frame, {RECIRCULATE}, (recirc, values)))")
                self.event("recirculate", "recirc", "values", "frame")
            with self.block("else:"):
                self.send()
        else:
            self.send()

    def send(self) -> None:
        frame = "frame[:trunc]" if "truncate" in self.ops else "frame"
        self.emit(f"out.append(({self.sm('egress_port')}, {frame}))")
        self.event("send", self.sm("egress_port"), frame)

    def header_bytes(self, name: str) -> str:
        """Bytes of a header when valid: the received ones if nothing changed them."""
        h = self.p.headers[name]
        lay = self.layouts[h.type.name]
        origin, length = self.origin(name), self.size_code(name)
        clean = f"data[{origin}:{origin} + {length}]"
        packed = self.pack_units(h, lay.units, origin)
        if lay.varbit:
            varbit = self.var(name, lay.varbit)
            packed += f" + {varbit}"
            if lay.tail:
                packed += " + " + self.pack_units(h, lay.tail, f"{origin} + len({varbit})")
        valid = self.var(name, "$valid$")
        return f"(({packed} if {self.changed(name)} else {clean}) if {valid} else b'')"

    def pack_units(self, h: Header, units: tuple[Unit, ...], base: str) -> str:
        if not units:
            return "b''"
        origin = self.origin(h.name)
        signed = {f.name for f in h.type.fields if f.signed}
        fmt = ">"
        values: list[str] = []
        for u in units:
            if not u.parts:
                fmt += f"{u.size}s"
                at = f"{base} + {literal(u.offset)}" if u.offset else base
                values.append(f"data[{at}:{at} + {literal(u.size)}] if {origin} >= 0 else b''")
                continue
            terms: list[str] = []
            shift = u.size * 8
            for name, width in u.parts:
                shift -= width
                code = self.var(h.name, name)
                if name in signed:
                    code = f"({code} & {literal((1 << width) - 1)})"
                terms.append(f"{code} << {literal(shift)}" if shift else code)
            value = " | ".join(terms)
            chunks = chunks_of(u.size)
            if len(chunks) > 2:
                fmt += f"{u.size}s"
                values.append(f"({value}).to_bytes({literal(u.size)}, 'big')")
            elif len(chunks) == 2:
                fmt += STRUCT_CODE[chunks[0]] + STRUCT_CODE[chunks[1]]
                low = chunks[1] * 8
                values.append(f"({value}) >> {literal(low)}")
                values.append(f"({value}) & {literal((1 << low) - 1)}")
            else:
                fmt += STRUCT_CODE[chunks[0]]
                values.append(value)
        struct.calcsize(fmt)
        return f"{self.out('pack', fmt)}({', '.join(values)})"

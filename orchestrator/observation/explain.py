"""What one switch does with one frame, in words: the softswitch's trace with names and provenance."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from orchestrator.clients.p4info import Schema, short
from orchestrator.clients.words import (
    NO_PORTS,
    Placing,
    Ports,
    as_told,
    call_words,
    is_own_segment,
    key_text,
    port_text,
    split_origin,
    value_text,
)
from orchestrator.model.entries import Between, Exact, Key, Lpm, TableEntry, Ternary
from orchestrator.model.manifest import MANIFESTS
from orchestrator.model.refs import Role
from orchestrator.observation.frames import changes, frame_text
from orchestrator.observation.snapshot import Snapshot, replica, secret_tables
from orchestrator.resources import shipped
from orchestrator.softswitch import trace
from orchestrator.softswitch.ir.program import P4Program
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets.references import key_role

PARSER, TABLE, EFFECT, OUTCOME = "parser", "table", "effect", "outcome"
_INTERNAL = "tbl_"
"""p4c's tables for statements outside tables begin so."""

_STATEMENT = re.compile(r"tbl_([a-z][a-z0-9_]*?)(\d+)")
_IF = re.compile(r"\bif \((.*)\) \{")

_META = ("scalars.metadata_t.", "scalars.userMetadata.", "scalars.")
_HIDDEN = ("trajectory_sample_", "witness_", "record_", "tmp", "frame_peek")
"""Locals that are the compiler's own or derived from the sampling keys."""


@dataclass(slots=True)
class SwitchStep:
    """One step of a frame in a switch.

    A table step has the looked-up `keys` in words, `hit`, the entry's `match` and provenance, and the
    `action`; `effects` are the fields that were set, in words; `position` numbers the passes.
    """

    kind: str
    text: str
    table: str = ""
    keys: dict[str, str] = field(default_factory=dict[str, str])
    hit: bool | None = None
    match: str = ""
    priority: int = 0
    graph: str = ""
    nf: str = ""
    rule: str = ""
    action: str = ""
    effects: list[str] = field(default_factory=list[str])
    segment: int = 0
    """The segment that the frame is in before this step (0: none)."""
    of_copy: bool = False
    """Whether the frame is a copy (a mirror's) of the one that came."""

    @property
    def origin(self) -> str:
        """`access.json:14 of edge_acl (campus_edge)`."""
        merged = " & " in self.rule  # a rule of each of several NFs, all by name
        told = f"{self.nf}: {self.rule}" if merged else f"{self.rule} of {self.nf}"
        told = told if self.nf else self.rule
        return f"{told} ({self.graph})" if self.graph else told


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame that leaves by a port; `behind` is what the port leads to."""

    port: int
    behind: str
    frame: bytes

    @property
    def text(self) -> str:
        """The frame in words."""
        words = frame_text(self.frame)
        return f"{words.tag} | {words.summary}" if words.tag else words.summary


@dataclass(frozen=True, slots=True)
class Visit:
    """A frame's visit to a switch. `verdict` says in one sentence what came of it."""

    switch: str
    port: int
    behind: str
    frame: bytes
    steps: tuple[SwitchStep, ...]
    sent: tuple[Sent, ...]
    verdict: str
    dropped: bool
    watched: tuple[tuple[int, int], ...] = ()
    """(SPI, SI) at each look into the sampling table: a sampled packet would be reported there."""
    copies_lost: tuple[str, ...] = ()
    """Why copies of it (a mirror's) were dropped."""

    @property
    def copied_steps(self) -> tuple[SwitchStep, ...]:
        """What happens to copies of the frame."""
        return tuple(step for step in self.steps if step.of_copy)

    @property
    def decisive(self) -> SwitchStep | None:
        """The step that dropped the frame, if one did."""
        return next((s for s in reversed(self.steps) if s.kind == OUTCOME), None)


class Explainer:
    """A switch in this process that tells what it does. It keeps state between frames (registers)."""

    def __init__(
        self, snapshot: Snapshot, ports: Ports = NO_PORTS, placing: Placing = as_told
    ) -> None:
        """`placing` knows the places of rules, which switches are not told."""
        self.snapshot, self.placing = snapshot, placing
        self.schema: Schema = snapshot.schema
        self.ports = ports
        self.soft: SoftSwitch = replica(snapshot)
        assert self.soft.pipeline is not None
        self._widths = _widths(self.soft.pipeline.program)
        secret = secret_tables(snapshot.p4info)
        self.secret = {t.preamble.name for t in snapshot.p4info.tables if t.preamble.id in secret}
        """Tables with sampling keys: they are empty here, so a lookup would say nothing true."""

    def explain(self, port: int, frame: bytes) -> Visit:
        """Send one frame through."""
        sent, events = self.soft.trace(port, frame)
        reader = _Reader(self)
        for event in events:
            reader.take(event)
        behind = self.ports.get(port, "")
        out = tuple(Sent(at, self.ports.get(at, ""), data) for at, data in sent)
        steps, verdict = reader.finish(frame, out)
        return Visit(
            self.snapshot.switch,
            port,
            behind,
            frame,
            tuple(steps),
            out,
            verdict,
            not out,
            tuple(reader.watched),
            tuple(reader.copies_lost),
        )

    def table_step(self, event: trace.TableApplied, segment: int) -> SwitchStep:
        """A lookup with its key and, on a hit, the entry in words."""
        table = short(event.table)
        schema = self.schema.tables.get(table)
        bits = {name: key.bits for name, key in schema.keys.items()} if schema else {}
        step = SwitchStep(TABLE, "", table=table, hit=event.hit, segment=segment)
        step.keys = {
            key.name: self._key_text(table, key.name, bits, Exact(key.value))
            for key in event.keys
            if not is_own_segment(table, key.name)
        }
        if event.entry is not None:
            asked = {
                m.name: key
                for m in event.entry.matches
                if (key := _key(m, bits.get(m.name, 16))) is not None
            }
            step.match = (
                ", ".join(
                    f"{name} {self._key_text(table, name, bits, key)}"
                    for name, key in asked.items()
                    if not is_own_segment(table, name)
                )
                or "any"
            )
            step.priority = event.entry.priority
            step.graph, origin = split_metadata(event.entry.metadata)
            keys = tuple(asked.items())
            hit = TableEntry(table, keys, "", (), step.priority, origin)
            step.nf, step.rule = split_origin(self.placing(step.graph, hit))
        return step

    def _key_text(self, table: str, name: str, bits: Mapping[str, int], key: Key) -> str:
        return key_text(name, bits.get(name, 16), key, self.ports, key_role(table, name))

    def set_text(self, name: str, value: int) -> str:
        """`ipv4.ttl = 63`."""
        shown = field_name(name)
        plain = shown.rpartition(".")[2]
        if plain in ("ingress_port", "egress_port", "egress_spec"):
            return f"{shown} = {port_text(value, self.ports)}"
        role = Role.SEGMENT if shown == "meta.segment" else None
        return f"{shown} = {value_text(plain, self._widths.get(name, 16), value, role)}"


def statement(table: str) -> str:
    """What p4c's table for a statement stands for: `hdr.ipv4.ttl <= 1 (route.p4:80)`.

    p4c names it by file and line. The condition is that of the line before, where that is an `if` of
    a shipped source.
    """
    match = _STATEMENT.fullmatch(table)
    if match is None:
        return ""
    name, line = match[1], int(match[2])
    try:
        sources = list(shipped("p4src").glob(f"*/{name}.p4"))
    except FileNotFoundError:
        sources = []
    if not sources:
        return f"{name}.p4:{line}"
    lines = sources[0].read_text(encoding="utf-8").splitlines()
    before = lines[line - 2] if 2 <= line <= len(lines) else ""
    condition = _IF.search(before)
    return f"{condition[1]} ({name}.p4:{line})" if condition else f"{name}.p4:{line}"


def split_metadata(metadata: bytes) -> tuple[str, str]:
    """(graph, origin) as `Schema.encode` wrote them into an entry's metadata."""
    graph, bar, origin = metadata.decode(errors="replace").partition("|")
    return (graph, origin) if bar else ("", graph)


def field_name(name: str) -> str:
    """`scalars.metadata_t.segment` -> `meta.segment`; headers keep their names."""
    for prefix in _META:
        if name.startswith(prefix):
            return "meta." + name.removeprefix(prefix)
    return name


def _key(match: trace.KeyMatch, bits: int) -> Key | None:
    """What an entry asks of a field; None when anything will do."""
    if match.match == "exact":
        return Exact(match.value)
    if match.match == "lpm":
        return Lpm(match.value, match.other) if match.other else None
    if match.match == "range":
        everything = (match.value, match.other) == (0, (1 << bits) - 1)
        return None if everything else Between(match.value, match.other)
    return Ternary(match.value, match.other) if match.other else None


class _Reader:
    """Trace events to steps."""

    def __init__(self, owner: Explainer) -> None:
        self.owner = owner
        self.steps: list[SwitchStep] = []
        self.states: list[str] = []
        self.headers: list[str] = []
        self.current: SwitchStep | None = None
        self.branch = ""
        self.segment = 0
        self.reason: SwitchStep | None = None
        """The step at which the frame's fate was a drop."""
        self.reason_text = ""
        self.parser_error = ""
        self.passes = 0
        self.in_copy = False
        """Whether this is the egress of a copy."""
        self.again: deque[bool] = deque()
        """Of frames that will enter anew, in order: whether each is a copy."""
        self.is_copy = self.has_copy = False
        self.lost = ""
        """Why the frame itself was dropped, where a copy goes on."""
        self.copies_lost: list[str] = []
        self.watched: list[tuple[int, int]] = []
        self.path = {"spi": 0, "si": 0}

    def take(self, event: trace.TraceEvent) -> None:
        """One event."""
        match event:
            case trace.Received():
                self.states, self.headers, self.parser_error = [], [], ""
                self.path = {"spi": 0, "si": 0}
            case trace.ParserStep():
                self.states.append(event.name)
            case trace.Extract():
                self.headers.append(event.header)
            case trace.ParserError():
                self.parser_error = event.error
            case trace.Entered():
                self._entered(event)
            case trace.IfTaken():
                self.current = None
                text = " ".join(event.source.split())
                self.branch = f"{text} is {'true' if event.result else 'false'}" if text else ""
            case trace.TableApplied():
                self.current = None
                if event.table in self.owner.secret:
                    # The others are a witness's, of whom an operator hears nothing.
                    if event.table.partition(".")[2] == MANIFESTS:
                        self.watched.append((self.path["spi"], self.path["si"]))
                elif event.table.startswith(_INTERNAL):
                    self.branch = self.branch or statement(event.table)
                else:
                    self.current = self.owner.table_step(event, self.segment)
                    self.current.of_copy = self.is_copy
                    self.steps.append(self.current)
            case trace.ActionRun():
                if self.current is not None and not self.current.action:
                    values = {a.name: a.value for a in event.arguments}
                    self.current.action = call_words(short(event.action), values, self.owner.ports)
            case trace.FieldSet():
                self._write(event.field, event.value)
            case _:
                self._rare(event)

    def _rare(self, event: trace.TraceEvent) -> None:
        match event:
            case trace.ValiditySet():
                self._effect(f"{event.header} {'added' if event.valid else 'removed'}")
            case trace.HeaderCopy():
                self._effect(
                    f"{event.to} = {event.source}" if event.valid else f"{event.to} removed"
                )
            case trace.ActionExit():
                self._effect("exit")
            case trace.MarkToDrop():
                self._drop_decided()
            case trace.DroppedPacket():
                if event.where != "egress" or not self.in_copy:
                    self._drop_decided()
                    self._dropped()
                self.current = None
            case trace.Metered():
                color = ("green", "yellow", "red")[event.color]
                self._effect(f"meter {short(event.meter)} says {color}")
            case trace.GroupPick():
                self._effect(f"group {event.group} of {short(event.profile)}, hash {event.hash}")
            case trace.MemberRun():
                self._effect(f"member {event.member} of {short(event.profile)}")
            case trace.Register():
                verb = "becomes" if event.written else "is"
                self._effect(f"{short(event.register)}[{event.index}] {verb} {event.value}")
            case trace.Clone():
                there = "" if event.copies is not None else ", which does not exist"
                self.has_copy = True
                self._outcome(f"a copy goes to clone session {event.session}{there}")
            case trace.Multicast():
                ports = ", ".join(port_text(port, self.owner.ports) for port, _ in event.copies)
                self._outcome(f"copies to multicast group {event.group}: ports {ports or 'none'}")
            case trace.Recirculate():
                copied = self.is_copy or self.in_copy
                self.again.append(copied)
                who = "the copy is recirculated" if copied else "recirculated"
                self._outcome(f"{who}: it enters this switch anew")
            case trace.Resubmit():
                self.again.append(self.is_copy)
                self._outcome("resubmitted: it enters this switch anew")
            case trace.Digest():
                self._outcome(f"a digest {short(event.digest)} goes to the controller")
            case trace.Fault():
                self._outcome(f"fault: {event.text}")
            case trace.LogLine():
                self._effect(f"log: {event.text}")
            case _:
                pass  # counters, checksums, truncation and sending say nothing new

    def _entered(self, event: trace.Entered) -> None:
        self.current = None
        self.branch = ""
        self.in_copy = "clone" in event.source
        if event.pipeline != "ingress":
            return
        self.passes += 1
        self.is_copy = bool(self.again) and self.again.popleft()
        text = ", ".join(self.headers) or "nothing"
        if self.parser_error:
            text += f"; parser error {self.parser_error}"
        who = "the copy, " if self.is_copy else ""
        again = f" ({who}pass {self.passes})" if self.passes > 1 else ""
        step = SwitchStep(PARSER, f"parsed {text}{again}")
        step.effects = [f"state {state}" for state in self.states]
        self.steps.append(step)
        self.reason = None
        self.reason_text = ""
        self.segment = 0

    def _write(self, name: str, value: int) -> None:
        if not self.passes:
            return  # the parser's: the keys of tables show what matters of it
        plain = field_name(name)
        if plain.removeprefix("meta.").startswith(_HIDDEN):
            return
        if plain == "meta.segment":
            self.segment = value
        if plain in ("meta.spi", "meta.si"):
            self.path[plain.removeprefix("meta.")] = value
        if plain == "meta.drop" and value:
            self._drop_decided()
        if name.startswith("scalars.") and not name.startswith(_META[:2]):
            return  # a block's own local
        self._effect(self.owner.set_text(name, value))

    def _effect(self, text: str) -> None:
        if self.current is not None:
            self.current.effects.append(text)
            return
        if not self.steps or self.steps[-1].kind != EFFECT or self.steps[-1].text != self.branch:
            self.steps.append(SwitchStep(EFFECT, self.branch, segment=self.segment))
        self.steps[-1].effects.append(text)

    def _outcome(self, text: str) -> None:
        self.steps.append(SwitchStep(OUTCOME, text, segment=self.segment))

    def _drop_decided(self) -> None:
        """Remember the first step that said drop: the later ones only carry it out."""
        if self.reason is not None or self.reason_text:
            return
        if self.current is not None:
            self.reason = self.current
        elif "drop" not in self.branch:
            self.reason_text = self.branch

    def _dropped(self) -> None:
        """The frame that is in the pipeline ends here: a copy, or the one that came."""
        if self.is_copy:
            self.copies_lost.append(self._why())
            self._outcome(f"the copy is dropped: {self.copies_lost[-1]}")
        elif self.has_copy:
            self.lost = self._why()

    def finish(self, frame: bytes, sent: Sequence[Sent]) -> tuple[list[SwitchStep], str]:
        """All steps, and the verdict."""
        if not sent:
            verdict = f"dropped: {self.lost or self._why()}"
            self._outcome(verdict)
            return self.steps, verdict
        told = [
            f"leaves by port {port_text(s.port, self.owner.ports)}"
            + (f" with {'; '.join(changed)}" if (changed := changes(frame, s.frame)) else "")
            for s in sent
        ]
        if self.lost:
            told.insert(0, f"dropped: {self.lost}; its copy")
            return self.steps, " ".join(told)
        return self.steps, "; ".join(told)

    def _why(self) -> str:
        if self.parser_error and self.reason is None:
            return f"the frame is malformed ({self.parser_error})"
        step = self.reason
        if step is not None:
            how = f"{step.origin} says" if step.hit else "no entry matches, so"
            return f"{step.table}: {how} {step.action}"
        if self.reason_text:
            return f"because {self.reason_text}"
        return "no table said where it goes"


def visit_json(visit: Visit) -> dict[str, object]:
    """A visit as JSON values."""
    return {
        "device": visit.switch,
        "kind": "switch",
        "port": visit.port,
        "from": visit.behind,
        "frame": frame_text(visit.frame).summary,
        "tag": frame_text(visit.frame).tag,
        "steps": [asdict(step) | {"origin": step.origin} for step in visit.steps],
        "sent": [
            {"port": s.port, "to": s.behind, "frame": s.text, "hex": s.frame.hex()}
            for s in visit.sent
        ],
        "verdict": visit.verdict,
        "dropped": visit.dropped,
        "copies_lost": visit.copies_lost,
    }


def _widths(program: P4Program) -> dict[str, int]:
    """Width in bits of every field by `header.field`."""
    return {
        f"{header.name}.{field.name}": field.width
        for header in program.headers.values()
        for field in header.type.fields
        if not field.varbit
    }

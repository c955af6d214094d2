"""What one switch does with one frame, in words: the softswitch's trace with names and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from finsy.proto import p4r

from orchestrator.clients.p4info import Schema, short
from orchestrator.model.entries import TableEntry
from orchestrator.observation.frames import changes, frame_text
from orchestrator.observation.rows import split_origin
from orchestrator.observation.snapshot import Snapshot, replica
from orchestrator.observation.words import (
    NO_PORTS,
    Ports,
    call_words,
    key_words,
    port_text,
    value_text,
)
from orchestrator.softswitch.switch import SoftSwitch, TraceEvent

PARSER, TABLE, BRANCH, EFFECT, OUTCOME = "parser", "table", "branch", "effect", "outcome"
_INTERNAL = "tbl_"
"""p4c's tables for statements outside tables begin so."""

_META = ("scalars.metadata_t.", "scalars.userMetadata.", "scalars.")
_HIDDEN = ("trajectory_sample_", "tmp", "frame_peek")
"""Locals that are the compiler's own or derived from the sampling keys."""


@dataclass(slots=True)
class Step:
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

    @property
    def origin(self) -> str:
        """`access.json:14 of edge_acl (campus_edge)`."""
        told = f"{self.rule} of {self.nf}" if self.nf else self.rule
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
    steps: tuple[Step, ...]
    sent: tuple[Sent, ...]
    verdict: str
    dropped: bool

    @property
    def decisive(self) -> Step | None:
        """The step that dropped the frame, if one did."""
        return next((s for s in reversed(self.steps) if s.kind == OUTCOME), None)


class Explainer:
    """A switch in this process that tells what it does. It keeps state between frames (registers)."""

    def __init__(self, snapshot: Snapshot, ports: Ports = NO_PORTS) -> None:
        self.snapshot = snapshot
        self.schema: Schema = snapshot.schema
        self.ports = ports
        self.soft: SoftSwitch = replica(snapshot)
        self._codecs = {short(codec.name): codec for codec in self.soft.entities.tables.values()}
        self._conditions = _conditions(snapshot.device_config)
        self._actions = _action_params(snapshot.device_config)
        self._widths = _widths(snapshot.device_config)

    def explain(self, port: int, frame: bytes) -> Visit:
        """Send one frame through."""
        sent, events = self.soft.trace(port, frame)
        reader = _Reader(self)
        for event in events:
            reader.take(event)
        behind = self.ports.get(port, "")
        out = tuple(Sent(at, self.ports.get(at, ""), data) for at, data in sent)
        steps, verdict = reader.finish(frame, out)
        return Visit(self.snapshot.switch, port, behind, frame, tuple(steps), out, verdict, not out)

    # -- used by the reader --------------------------------------------------------------------

    def entry(self, table: str, found: Any) -> tuple[str, TableEntry] | None:
        """(graph, entry) of a softswitch entry."""
        codec = self._codecs.get(table)
        if codec is None or found is None or not hasattr(found, "extra"):
            return None
        entity = p4r.Entity()
        codec.encode(found, False, entity)
        return self.schema.decode(entity.table_entry)

    def keys(self, table: str, key: Any) -> dict[str, str]:
        """The looked-up key in words, in the table's order."""
        codec = self._codecs.get(table)
        if codec is None or key is None:
            return {}
        values: Sequence[int] = key if isinstance(key, tuple) else (key,)
        return {
            f.name: self._key_text(f.name, f.width, values[f.position])
            for f in codec.fields
            if f.position < len(values) and f.name != "segment"
        }

    def _key_text(self, name: str, width: int, value: int) -> str:
        if name in ("ingress_port", "egress_port"):
            return port_text(value, self.ports)
        return value_text(name, width, value)

    def condition(self, name: str) -> str:
        """The source text of a condition; empty where p4c gives none."""
        return self._conditions.get(name, "")

    def call(self, action: str, args: Sequence[int]) -> str:
        """An action and its parameters in words."""
        names = self._actions.get(action, ())
        values = dict(zip(names, args, strict=False))
        return call_words(short(action), values, self.ports)

    def set_text(self, name: str, value: Any) -> str:
        """`ipv4.ttl = 63`."""
        shown = field_name(name)
        if isinstance(value, int) and not isinstance(value, bool):
            plain = shown.rpartition(".")[2]
            if plain in ("ingress_port", "egress_port", "egress_spec"):
                return f"{shown} = {port_text(value, self.ports)}"
            return f"{shown} = {value_text(plain, self._widths.get(name, 16), value)}"
        return f"{shown} = {value}"


def field_name(name: str) -> str:
    """`scalars.metadata_t.segment` -> `meta.segment`; headers keep their names."""
    for prefix in _META:
        if name.startswith(prefix):
            return "meta." + name.removeprefix(prefix)
    return name


class _Reader:
    """Trace events to steps."""

    def __init__(self, owner: Explainer) -> None:
        self.owner = owner
        self.steps: list[Step] = []
        self.states: list[str] = []
        self.headers: list[str] = []
        self.current: Step | None = None
        self.branch = ""
        self.segment = 0
        self.reason: Step | None = None
        """The step at which the frame's fate was a drop."""
        self.reason_text = ""
        self.parser_error = ""
        self.passes = 0

    def take(self, event: TraceEvent) -> None:
        """One event."""
        handler = getattr(self, f"_on_{event.kind}", None)
        if handler is not None:
            handler(*event.detail)
        elif event.kind not in ("count", "checksum", "log", "send"):
            self._outcome(" ".join([event.kind, *map(_plain, event.detail)]))

    def _on_state(self, name: str) -> None:
        if name == "start":
            self.states, self.headers = [], []
        self.states.append(name)

    def _on_extract(self, header: str, *_: Any) -> None:
        self.headers.append(header)

    def _on_parser_error(self, error: Any, *_: Any) -> None:
        self.parser_error = str(error)

    def _on_pipeline(self, name: str, port: int, *_: Any) -> None:
        if name == "ingress":
            self.passes += 1
            text = ", ".join(self.headers) or "nothing"
            if self.parser_error:
                text += f"; parser error {self.parser_error}"
            again = f" (pass {self.passes})" if self.passes > 1 else ""
            step = Step(PARSER, f"parsed {text}{again}")
            step.effects = [f"state {state}" for state in self.states]
            self.steps.append(step)
            self.reason = None
            self.reason_text = ""
        self.current = None
        self.branch = ""

    def _on_condition(self, name: str, value: bool) -> None:
        self.current = None
        text = self.owner.condition(name)
        self.branch = f"{text} is {'true' if value else 'false'}" if text else ""

    def _on_table(self, name: str, key: Any, found: Any, *_: Any) -> None:
        table = short(name)
        if name.startswith(_INTERNAL):
            self.current = None
            return
        step = Step(TABLE, "", table=table, segment=self.segment)
        step.keys = self.owner.keys(table, key)
        decoded = self.owner.entry(table, found)
        step.hit = decoded is not None
        if decoded is not None:
            graph, entry = decoded
            step.graph, step.priority = graph, entry.priority
            step.nf, step.rule = split_origin(entry.origin)
            schema = self.owner.schema
            step.match = key_words(schema.tables[table], entry, self.owner.ports)
        self.steps.append(step)
        self.current = step

    def _on_action(self, name: str, args: Any, *_: Any) -> None:
        if self.current is not None and not self.current.action:
            self.current.action = self.owner.call(name, tuple(args))

    def _on_set(self, name: str, value: Any) -> None:
        plain = field_name(name)
        local = plain.removeprefix("meta.")
        if local.startswith(_HIDDEN):
            return
        if plain == "meta.segment" and isinstance(value, int):
            self.segment = value
        if plain == "meta.drop" and value == 1:
            self._drop_decided()
        if name.startswith("scalars.") and not name.startswith(_META[:2]):
            return  # a block's own local
        self._effect(self.owner.set_text(name, value))

    def _on_valid(self, header: str) -> None:
        self._effect(f"{header} added")

    def _on_invalid(self, header: str) -> None:
        self._effect(f"{header} removed")

    def _on_mark_to_drop(self, *_: Any) -> None:
        self._drop_decided()

    def _on_exit(self, *_: Any) -> None:
        self._effect("exit")

    def _on_drop(self, where: str = "", *_: Any) -> None:
        if where != "ingress" or self.reason is None:
            self._drop_decided()
        self.current = None

    def _on_clone(self, where: str, session: Any, copies: Any, *_: Any) -> None:
        self._outcome(f"a copy goes to clone session {session}")

    def _on_multicast(self, group: Any, copies: Any, *_: Any) -> None:
        ports = ", ".join(port_text(port, self.owner.ports) for port, _ in copies)
        self._outcome(f"copies to multicast group {group}: ports {ports}")

    def _on_recirculate(self, *_: Any) -> None:
        self._outcome("recirculated: it enters this switch anew")

    def _on_resubmit(self, *_: Any) -> None:
        self._outcome("resubmitted: it enters this switch anew")

    def _effect(self, text: str) -> None:
        if self.current is not None:
            self.current.effects.append(text)
            return
        if not self.steps or self.steps[-1].kind != EFFECT or self.steps[-1].text != self.branch:
            self.steps.append(Step(EFFECT, self.branch, segment=self.segment))
        self.steps[-1].effects.append(text)

    def _outcome(self, text: str) -> None:
        self.steps.append(Step(OUTCOME, text, segment=self.segment))

    def _drop_decided(self) -> None:
        """Remember the first step that said drop: the later ones only carry it out."""
        if self.reason is not None or self.reason_text:
            return
        if self.current is not None:
            self.reason = self.current
        elif self.branch:
            self.reason_text = self.branch

    def finish(self, frame: bytes, sent: Sequence[Sent]) -> tuple[list[Step], str]:
        """All steps, and the verdict."""
        if sent:
            told = [
                f"leaves by port {port_text(s.port, self.owner.ports)}"
                + (f" with {'; '.join(changed)}" if (changed := changes(frame, s.frame)) else "")
                for s in sent
            ]
            verdict = "; ".join(told)
        elif self.passes and any("clone session" in s.text for s in self.steps):
            verdict = "dropped; " + self._why()
        else:
            verdict = f"dropped: {self._why()}"
        if not sent:
            self._outcome(verdict)
        return self.steps, verdict

    def _why(self) -> str:
        if self.parser_error and self.reason is None:
            return f"the frame is malformed ({self.parser_error})"
        step = self.reason
        if step is not None:
            how = (
                f"{step.origin} says {step.action}" if step.hit else f"no entry hit: {step.action}"
            )
            return f"{step.table}: {how}"
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
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _program(device_config: bytes) -> Mapping[str, Any]:
    return json.loads(device_config)


def _conditions(device_config: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for pipeline in _program(device_config).get("pipelines", ()):
        for item in pipeline.get("conditionals", ()):
            source = item.get("source_info", {}).get("source_fragment", "")
            found[item["name"]] = " ".join(source.split())
    return found


def _action_params(device_config: bytes) -> dict[str, tuple[str, ...]]:
    return {
        action["name"]: tuple(p["name"] for p in action.get("runtime_data", ()))
        for action in _program(device_config).get("actions", ())
    }


def _widths(device_config: bytes) -> dict[str, int]:
    """Width in bits of every field by `header.field`."""
    program = _program(device_config)
    types = {t["name"]: t for t in program.get("header_types", ())}
    found: dict[str, int] = {}
    for header in program.get("headers", ()):
        for name, width, *_ in types[header["header_type"]]["fields"]:
            if isinstance(width, int):
                found[f"{header['name']}.{name}"] = width
    return found

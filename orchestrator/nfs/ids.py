"""ids: content signatures over reassembled TCP streams and single UDP payloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, PrivateAttr, StrictBool

from orchestrator.errors import InputError
from orchestrator.model.elements import (
    FLOW_FIELDS,
    CostProfile,
    ElementGraph,
    FilterProgram,
    FilterRule,
    StateKey,
)
from orchestrator.model.match import Match, PortRange
from orchestrator.nfs.base import NetworkFunction, NfConfig, Reference, network_function
from orchestrator.nfs.files import Files, item_lines, parse_list, raise_problems
from orchestrator.nfs.ids_reference import IdsReference, Signature
from orchestrator.nfs.inspecting import (
    OPPOSITE,
    PASS,
    hiding_rules,
    inspected,
    port_rules,
    ports_left_out,
)
from orchestrator.nfs.values import PROTOCOLS, PortsField

ALL_PORTS = PortRange(0, 65535)


def content_bytes(text: str) -> bytes:
    """`text |0d 0a| more` as bytes: hex between bars, the rest as UTF-8."""
    parts = text.split("|")
    if len(parts) % 2 == 0:
        raise ValueError("a '|' of the content is not closed")
    result = b""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            result += part.encode()
            continue
        try:
            result += bytes.fromhex(part)
        except ValueError:
            raise ValueError(f"'|{part}|' is not hex, like '|0d 0a|'") from None
    if not result:
        raise ValueError("the content is empty: it would match everything")
    return result


def _checked_content(text: str) -> str:
    content_bytes(text)
    return text


class SignatureFields(NfConfig):
    """A signature; without `ports` it is searched for on every port of its protocol.

    `to` says whose port that is: "server" the destination's, "client" the source's (answers).
    """

    id: Annotated[int, Field(ge=0, lt=1 << 32, strict=True)]
    content: Annotated[str, AfterValidator(_checked_content)]
    protocol: Literal["tcp", "udp"]
    ports: Annotated[
        tuple[PortsField, ...] | None, PlainSerializer(lambda v: v and [str(p) for p in v])
    ] = None
    to: Literal["any", "server", "client"] = "any"
    nocase: StrictBool = False
    action: Literal["drop", "alert"] | None = None
    """None: the ids's."""
    msg: str | None = None
    """What it is about, for people."""
    label: Annotated[int, Field(ge=1, lt=1 << 32, strict=True)] | None = None
    """The NF context label of its direction's packets from the one that completes it on."""

    def to_signature(self, action: str) -> Signature:
        """The same with its content as bytes; `action` is the ids's."""
        ports = (ALL_PORTS,) if self.ports is None else self.ports
        content = content_bytes(self.content)
        protocol, drops = PROTOCOLS[self.protocol], (self.action or action) == "drop"
        label = self.label or 0
        return Signature(self.id, content, protocol, ports, self.to, self.nocase, drops, label)


class IdsConfig(NfConfig):
    """Inline signatures and those of the file; ids are unique."""

    signatures: tuple[SignatureFields, ...] = ()
    signatures_file: str | None = None
    action: Literal["drop", "alert"] = "drop"
    _from_file: tuple[SignatureFields, ...] = PrivateAttr(default=())
    _lines: tuple[int, ...] = PrivateAttr(default=())

    def with_files(self, files: Files) -> Self:
        result = self.model_copy()
        name = self.signatures_file
        if name is not None:
            text = files.text(name)
            result._from_file = tuple(parse_list(text, name, SignatureFields))
            result._lines = tuple(item_lines(text))
        ids = [signature.id for signature in result.all_signatures]
        doubles = dict.fromkeys(i for i in ids if ids.count(i) > 1)
        raise_problems([f"signature id {i} is given twice" for i in doubles], name or "signatures")
        if not ids:
            raise InputError("an ids without signatures finds nothing: give signatures(_file)")
        return result

    @property
    def all_signatures(self) -> tuple[SignatureFields, ...]:
        """Inline signatures, then the file's."""
        return (*self.signatures, *self._from_file)

    @property
    def places(self) -> tuple[str, ...]:
        """Where each signature was written."""
        inline = tuple(f"signatures[{i}]" for i in range(len(self.signatures)))
        lines = self._lines if len(self._lines) == len(self._from_file) else ()
        return (*inline, *(f"{self.signatures_file}:{line}" for line in lines))


@network_function("ids")
class Ids(NetworkFunction[IdsConfig]):
    """Elements of each port: `prefilter` (stateless: by protocol and port) and `inspect`."""

    Config = IdsConfig
    state_key = StateKey(frozenset(FLOW_FIELDS))
    keeps_state_when_changed = frozenset({"signatures", "action"})
    cost = CostProfile(
        1500,
        4.0,
        "our estimate: flow lookup and stream bookkeeping as Lemur's NAT and HashLB together "
        "(1083), rounded up, and 4 cycles a byte for one Aho-Corasick step",
        state_entry_bytes=2230,  # 1206 measured (CPython 3.11, tracemalloc), and its part of 64 MiB
    )

    @property
    def state_entries(self) -> int:
        return 65_536  # servernf.python.streams.MAX_CONNECTIONS

    def elements(self, port: str) -> ElementGraph:
        inspect = "inspect", "reassembles TCP streams and searches them"
        left = (OPPOSITE[port],)
        return inspected(("prefilter", self._prefilter()), inspect, left, keeps_headers=True)

    def reference(self) -> Reference:
        config = self.config
        return IdsReference([s.to_signature(config.action) for s in config.all_signatures])

    @classmethod
    def state_lost(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        left_out = ports_left_out(_tcp_ports(before), _tcp_ports(after))
        return super().state_lost(before, after) or left_out

    def rule_places(self) -> Mapping[str, Sequence[str]]:
        places = self.config.places
        return {"signatures": places} if self.config.signatures_file is not None else {}

    def runtime_config(self) -> Mapping[str, Any]:
        signatures = [
            s.model_dump(mode="json", exclude_none=True) for s in self.config.all_signatures
        ]
        return {"signatures": signatures, "action": self.config.action}

    def _prefilter(self) -> FilterProgram:
        """A rule for each protocol, side and merged range of ports."""
        rules: list[FilterRule] = []
        for name, protocol in PROTOCOLS.items():
            signatures = [s for s in self.config.all_signatures if s.protocol == name]
            if any(s.ports is None for s in signatures):
                match = Match(protocol=protocol, later_fragment=False)
                rules.append(FilterRule(match, "inspect", f"{name}, any port"))
                continue
            ranges = (p for s in signatures for p in s.ports or ())
            rules += port_rules((name, protocol), ranges, "inspect")
        if any(s.to_signature(self.config.action).drops for s in self.config.all_signatures):
            rules += hiding_rules("inspect")
        return FilterProgram(tuple(rules), PASS)


def _tcp_ports(config: Mapping[str, Any]) -> list[object]:
    """The ports of a runtime config's signatures for TCP."""
    signatures = [s for s in config["signatures"] if s["protocol"] == "tcp"]
    return [p for s in signatures for p in s.get("ports") or (ALL_PORTS,)]

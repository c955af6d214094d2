"""Events of workers as records of EVE, Suricata's JSON log, so that what reads that reads these.

`alert` and `drop` are EVE's, with its field names. `nat` and `suppressed` EVE does not know: a mapping
that comes or goes (named as IPFIX does, RFC 8158), and events that were not told. What EVE has no field
for is in `nf`: the graph, its owner, the NF and the rule, by the file and line where it was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from servernf.proto import vnf_pb2
from servernf.wire.instances import base_name

EVENT_TYPES = ("alert", "drop", "nat", "suppressed")
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 50: "ESP", 58: "IPv6-ICMP", 132: "SCTP"}
_NAT = {
    10: "nat44_bib_create",
    11: "nat44_bib_delete",
    12: "nat_ports_exhausted",
    13: "quota_exceeded",
}
_SEVERITY = 3
"""Of a signature that states none, as in Suricata."""
_FLOW_ID_BITS = 51
"""Such a number is exact in JavaScript, too."""


@dataclass(frozen=True, slots=True)
class EventSource:
    """A worker, and the graphs that it runs, by name."""

    name: str
    core: Core
    graphs: Mapping[str, Bundle]


def eve(event: vnf_pb2.Event, teller: EventSource) -> dict[str, Any]:
    """The record of an event."""
    graph, _, nf = event.nf.rpartition("/")
    bundle = teller.graphs.get(graph)
    kind = event.WhichOneof("said") or "unknown"
    record: dict[str, Any] = {
        "timestamp": timestamp(event.timestamp_us),
        **_tuple(event),
        "event_type": kind,
        "host": teller.name,
        "nf": {"graph": graph, "name": base_name(nf), "type": event.type},
    }
    if bundle is not None:
        record["nf"]["owner"] = bundle.owner
    match kind:
        case "drop":
            record["drop"] = _drop(event)
        case "alert":
            record |= _alert(event.alert)
        case "nat":
            record |= _nat(event.nat)
        case "suppressed":
            told = event.suppressed
            record["suppressed"] = {"kind": told.kind, "count": told.count, "why": "rate"}
        case _:
            pass
    rule = event.drop.rule or event.alert.rule
    if rule:
        record["nf"]["rule"] = _placed(rule, nf, bundle, teller.core)
    return record


def overwritten(count: int, teller: EventSource) -> dict[str, Any]:
    """The record of events that a worker kept no longer when they were asked for."""
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    told = {"kind": "any", "count": count, "why": "overwritten"}
    return {
        "timestamp": timestamp(now_us),
        "event_type": "suppressed",
        "host": teller.name,
        "suppressed": told,
    }


def timestamp(us: int) -> str:
    """`2017-04-07T22:24:37.251547+0000`."""
    at = datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f%z")


def _tuple(event: vnf_pb2.Event) -> dict[str, Any]:
    packet = event.packet
    if not event.HasField("packet"):
        return {}
    if not packet.source:
        return {"ether_type": packet.ether_type}
    ends = packet.source, packet.source_port, packet.destination, packet.destination_port
    fields: dict[str, Any] = {"flow_id": _flow_id(ends, packet.protocol), "src_ip": packet.source}
    if packet.HasField("source_port"):
        fields["src_port"] = packet.source_port
    fields["dest_ip"] = packet.destination
    if packet.HasField("destination_port"):
        fields["dest_port"] = packet.destination_port
    fields["proto"] = _protocol(packet.protocol)
    if packet.HasField("icmp_type"):
        fields |= {"icmp_type": packet.icmp_type, "icmp_code": packet.icmp_code}
    return fields


def _flow_id(ends: tuple[str, int, str, int], protocol: int) -> int:
    """The same for both directions."""
    one, other = sorted((ends[:2], ends[2:]))
    text = repr((one, other, protocol)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 64 - _FLOW_ID_BITS


def _drop(event: vnf_pb2.Event) -> dict[str, Any]:
    packet = event.packet
    fields: dict[str, Any] = {"len": packet.length}
    if packet.source:
        fields["ttl"] = packet.ttl
    return {**fields, "reason": event.drop.reason}


def _alert(told: vnf_pb2.AlertEvent) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "alert": {
            "action": "blocked" if told.blocked else "allowed",
            "gid": 1,
            "signature_id": told.signature_id,
            "rev": 0,
            "signature": told.signature,
            "category": "",
            "severity": _SEVERITY,
        }
    }
    if told.hostname or told.url:
        fields |= {"app_proto": "http", "http": {"hostname": told.hostname, "url": told.url}}
    if told.rrname:
        fields |= {"app_proto": "dns", "dns": {"query": [{"type": "query", "rrname": told.rrname}]}}
    return fields


def alert_text(event: vnf_pb2.Event) -> str:
    """`signature 1001 (msg)`, `url rules[2]`, for people."""
    told = event.alert
    if event.type == "ids":
        return f"signature {told.signature_id}" + (f" ({told.signature})" if told.signature else "")
    return told.signature


def _nat(told: vnf_pb2.NatEvent) -> dict[str, Any]:
    """The inside end as the source: that is whom an operator is asked for."""
    number = "id" if told.protocol == 1 else "port"
    fields: dict[str, Any] = {
        "src_ip": told.inside_ip,
        **({"src_port": told.inside_port} if told.protocol != 1 else {}),
        "proto": _protocol(told.protocol),
        "nat": {"event": _NAT.get(told.event, str(told.event))},
    }
    if told.protocol == 1:
        fields["nat"]["src_id"] = told.inside_port
    if told.outside_port:
        fields["nat"] |= {"post_src_ip": told.outside_ip, f"post_src_{number}": told.outside_port}
    return fields


def _protocol(number: int) -> str:
    return _PROTOCOLS.get(number, f"{number:03d}")


def _placed(rule: str, nf: str, bundle: Bundle | None, core: Core) -> str:
    """Where the rule was written, if what is deployed says so."""
    for worker in bundle.workers if bundle is not None else ():
        if (worker.server, worker.core) == (core.server, core.index):
            return worker.place(base_name(nf), rule)
    return rule

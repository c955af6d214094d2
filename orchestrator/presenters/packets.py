"""What `explain`, `trace` and `samples` tell of packets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from orchestrator.errors import InputError, unknown
from orchestrator.observation.frames import answer_to, between_hosts, frame_text, parse_packet
from orchestrator.observation.journey import Journey, NetworkModel, journey_json
from orchestrator.observation.samples import SeenSample
from orchestrator.observation.tracing import Traced, reported
from orchestrator.observation.views import NetworkView
from orchestrator.observation.whynot import Answer
from orchestrator.observation.whynot import why_not as reason


def sender_of(model: NetworkModel, frame: bytes) -> str:
    """The host whose MAC or address a frame comes from."""
    mac = int.from_bytes(frame[6:12], "big")
    address = frame_text(frame).fields.get("ip.src", "")
    for host in model.topology.hosts.values():
        if any(str(a.ip) == address for a in host.addresses):
            return host.name
    for host in model.topology.hosts.values():
        if host.mac == mac:
            return host.name
    raise InputError(
        "no host of the topology sends this packet: say --from HOST, or SWITCH --port N"
    )


def answers_to(model: NetworkModel, journey: Journey) -> list[Journey]:
    """The journeys of what the hosts that it reached answer."""
    answers: list[Journey] = []
    for arrival in journey.deliveries:
        if arrival.host not in model.topology.hosts:
            continue
        answer = answer_to(arrival.frame)
        if answer is not None:
            answers.append(model.send(arrival.host, answer))
    return answers


def explained_json(
    journey: Journey, back: list[Journey], answer: Answer | None, switch: str
) -> dict[str, object]:
    """A journey, its answers' and why it did not reach a goal (`explain`); of one `switch` if named."""
    told = journey_json(journey)
    if switch:
        hops = told["hops"]
        assert isinstance(hops, list)
        told["hops"] = [hop for hop in hops if hop["device"] == switch]
    if back:
        told["answers"] = [journey_json(one) for one in back]
    if answer is not None:
        told["why_not"] = asdict(answer)
    return told


def explained(
    seen: NetworkView, *, source: str, target: str, packet: str, why_not: str
) -> dict[str, object]:
    """As `explain --network-wide`: a packet from a host to an end, or one in hex or words, and the way
    of what is answered; `why_not` names an NF, a host or SWITCH:PORT."""
    model = seen.model()
    if source and source not in model.topology.hosts:
        raise InputError(f"from: {unknown('host', source, tuple(model.topology.hosts))}")
    if packet:
        frame = parse_packet(packet)
    elif source and target:
        frame = between_hosts(model.topology, source, target)
    else:
        raise InputError("say which packet: a host that sends and where to, or a frame")
    journey = model.send(source or sender_of(model, frame), frame)
    answer = reason(model, seen.bundles, journey, why_not) if why_not else None
    return explained_json(journey, answers_to(model, journey), answer, "")


def traced_json(traced: Traced) -> dict[str, object]:
    """What was predicted, and what was reported (`trace`)."""
    return {
        "frame": frame_text(traced.frame).summary,
        "hex": traced.frame.hex(),
        "graph": traced.graph,
        "label": f"{traced.label:#010x}",
        "agrees": not traced.disagreements,
        "disagreements": list(traced.disagreements),
        "notes": list(traced.notes),
        "expected": [{"device": seen.device, "what": seen.what} for seen in traced.expected],
        "reported": [
            {
                "device": point.device,
                "what": reported(point).what,
                "device_us": point.device_us,
                "spi": point.spi,
                "si": point.si,
                "bytes": point.length,
            }
            for point in traced.points
        ],
        "delivered": None
        if traced.delivered is None
        else [{"host": a.host, "frame": frame_text(a.frame).summary} for a in traced.delivered],
        "predicted": journey_json(traced.predicted),
    }


def trajectories_json(
    trajectories: Iterable[tuple[int, Sequence[SeenSample]]], graphs: Mapping[int, str]
) -> list[dict[str, object]]:
    """Sampled packets by label; names of `graphs` by id (`samples`)."""
    return [
        {
            "label": f"{label:#010x}",
            "graph": graphs.get(seen[0].graph_id, ""),
            "points": [
                {
                    "device": p.device,
                    "what": p.what,
                    "device_us": p.device_us,
                    "spi": p.spi,
                    "si": p.si,
                    "bytes": p.length,
                }
                for p in seen
            ],
        }
        for label, seen in trajectories
    ]

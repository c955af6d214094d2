"""What the control plane did, for machines: structured logs, the delays of deployments, spans.

Logs are JSON lines, written where `$ORCHESTRATOR_LOG` says (`stderr` or a file); without it, nowhere.
Spans go out by OpenTelemetry when the `telemetry` extra is installed and an exporter is configured
(`$OTEL_EXPORTER_OTLP_ENDPOINT`). Delays are kept in the state directory for `metrics`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError

LOG_VARIABLE = "ORCHESTRATOR_LOG"
DELAYS = ("synthesis_delay_s", "launch_delay_s", "offloading_installation_delay_s")
"""Metron's names, in the order in which the phases follow each other."""

_LOGGER = logging.getLogger("orchestrator")
_SECRET = ("key0", "key1", "token", "password")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        return json.dumps(
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
                + f".{int(record.msecs):03d}Z",
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                **{k: v for k, v in fields.items() if k not in _SECRET},
            },
            default=str,
        )


def start(arguments: Sequence[str]) -> None:
    """Begin to log if the environment asks for it; the command is the first event."""
    target = os.environ.get(LOG_VARIABLE, "")
    if not target:
        return
    try:
        stream = sys.stderr if target == "stderr" else open(target, "a", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"${LOG_VARIABLE}={target}: {error.strerror}") from error
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False
    began = time.monotonic()
    log("command started", arguments=list(arguments))
    atexit.register(lambda: log("command ended", seconds=round(time.monotonic() - began, 3)))


def log(event: str, **fields: object) -> None:
    """One structured event."""
    _LOGGER.info(event, extra={"fields": fields})


def record_deployment(
    folder: Path, network: str, graph: str, delays: Mapping[str, float], entries: int
) -> None:
    """Log a finished deployment, keep its delays for `metrics`, send its spans."""
    log("graph deployed", network=network, graph=graph, entries=entries, **delays)
    path = _path(folder, network)
    recorded = deployment_delays(folder, network)
    recorded[graph] = {**delays, "finished": time.time(), "entries": entries}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps(recorded, indent=1))
    new.replace(path)
    _send_spans(network, graph, delays, entries)


def deployment_delays(folder: Path, network: str) -> dict[str, dict[str, float]]:
    """The delays of each graph's last deployment on a network."""
    try:
        return json.loads(_path(folder, network).read_text())
    except (OSError, ValueError):
        return {}


def _path(folder: Path, network: str) -> Path:
    return folder / "delays" / f"{network}.json"


def _send_spans(network: str, graph: str, delays: Mapping[str, float], entries: int) -> None:
    """One span for the deployment, with one for each phase inside it."""
    tracer = _tracer()
    if tracer is None:
        return
    from opentelemetry import trace  # type: ignore[import-not-found]

    end = time.time_ns()
    at = end - int(sum(delays.values()) * 1e9)
    attributes = {"orchestrator.network": network, "orchestrator.graph": graph, "entries": entries}
    whole = tracer.start_span("deploy", start_time=at, attributes=attributes)
    inside = trace.set_span_in_context(whole)
    for name in DELAYS:
        if name in delays:
            phase = tracer.start_span(name.removesuffix("_s"), context=inside, start_time=at)
            at += int(delays[name] * 1e9)
            phase.end(end_time=at)
    whole.end(end_time=end)


def _tracer() -> Any:
    """OpenTelemetry's tracer; None when it is not installed or nobody listens."""
    try:
        from opentelemetry import trace  # type: ignore[import-not-found]
    except ImportError:
        return None
    provider: Any = trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor") and os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    ):
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # type: ignore[import-not-found]
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # type: ignore[import-not-found]
            from opentelemetry.sdk.trace import TracerProvider  # type: ignore[import-not-found]
            from opentelemetry.sdk.trace.export import (  # type: ignore[import-not-found]
                BatchSpanProcessor,
            )
        except ImportError:
            _LOGGER.warning(
                "$OTEL_EXPORTER_OTLP_ENDPOINT is set, but nothing here can export: "
                "pip install 'p4-offload-orchestrator[telemetry]'"
            )
            return None
        provider = TracerProvider(resource=Resource.create({"service.name": "orchestrator"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
        atexit.register(provider.shutdown)
    return provider.get_tracer("orchestrator") if hasattr(provider, "add_span_processor") else None

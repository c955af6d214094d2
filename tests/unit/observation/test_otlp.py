"""Spans as they go out: a deployment exported over OTLP/HTTP to a receiver of this test.

Oracle: OpenTelemetry's own protobuf of what a collector receives.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="OTLP exporter: not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENT = """
from pathlib import Path
from orchestrator.observation.telemetry import record_deployment
delays = {"synthesis_delay_s": 0.5, "launch_delay_s": 0.25, "offloading_installation_delay_s": 1.0}
record_deployment(Path(%r), "net", "campus", delays, 42)
"""


class Receiver(HTTPServer):
    """An OTLP collector: keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


def deploy(folder: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    """A process that records a deployment and ends, as the command does."""
    return subprocess.run(
        [sys.executable, "-c", DEPLOYMENT % str(folder)],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def test_a_deployment_arrives_with_its_phases(receiver: Receiver, tmp_path: Path) -> None:
    deploy(tmp_path, receiver.endpoint)
    ((path, request),) = receiver.requests
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    about = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert about["service.name"] == "orchestrator"
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    phases = ["synthesis_delay", "launch_delay", "offloading_installation_delay"]
    assert set(spans) == {"deploy", *phases}
    whole = spans["deploy"]
    assert whole.end_time_unix_nano - whole.start_time_unix_nano == 1_750_000_000
    attributes = {a.key: a.value for a in whole.attributes}
    assert attributes["orchestrator.graph"].string_value == "campus"
    assert attributes["entries"].int_value == 42
    at = whole.start_time_unix_nano
    for name in phases:
        phase: Span = spans[name]
        assert phase.parent_span_id == whole.span_id
        assert phase.trace_id == whole.trace_id
        assert phase.start_time_unix_nano == at, "one phase begins where the one before ends"
        at = phase.end_time_unix_nano
    assert at == whole.end_time_unix_nano


def test_a_collector_that_is_not_there_stops_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = deploy(tmp_path, nobody)
    assert "Traceback" not in done.stdout
    assert (tmp_path / "delays" / "net.json").exists()

"""Looking at spans: those that this process makes, and those that processes send to a collector."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv import attributes as stable
from opentelemetry.semconv._incubating import attributes as incubating

from millrace.telemetry import tracing
from millrace.telemetry.tracing.otel import OtelTracer


@dataclass(frozen=True)
class SeenSpan:
    """What a test wants to know of a span. Ids are those of traceparents."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    links: tuple[str, ...]
    failed: bool
    attributes: dict[str, Any] = field(hash=False)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


@contextmanager
def recorded_spans() -> Iterator["Recorded"]:
    """Tracing is on in the block."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = tracing.use(OtelTracer(provider.get_tracer("test")))
    try:
        yield Recorded(exporter)
    finally:
        tracing.use(before)


@dataclass(frozen=True)
class Recorded:
    """The spans that ended in this process, in that order."""

    exporter: InMemorySpanExporter

    @property
    def spans(self) -> list[SeenSpan]:
        return [
            SeenSpan(
                service="",
                name=span.name,
                kind=span.kind.name,
                trace_id=f"{context.trace_id:032x}",
                span_id=f"{context.span_id:016x}",
                parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
                links=tuple(f"{link.context.span_id:016x}" for link in span.links),
                failed=not span.status.is_ok,
                attributes=dict(span.attributes or {}),
            )
            for span in self.exporter.get_finished_spans()
            if (context := span.get_span_context())
        ]

    def one(self, name: str) -> SeenSpan:
        """The only span of that name."""
        [span] = [span for span in self.spans if span.name == name]
        return span


def edges(spans: list[SeenSpan]) -> set[tuple[str, str]]:
    """(parent, child) by name, with the service in front when it is known."""
    by_id = {span.span_id: span for span in spans}
    return {(_title(by_id[span.parent_id]), _title(span)) for span in spans if span.parent_id in by_id}


def _title(span: SeenSpan) -> str:
    return f"{span.service}: {span.name}" if span.service else span.name


def conventional_names() -> set[str]:
    """Every attribute that OpenTelemetry's conventions know."""
    import importlib
    import pkgutil

    names = set()
    for package in (stable, incubating):
        for module in pkgutil.iter_modules(package.__path__):
            found = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
            names |= {value for name, value in found.items() if name.isupper() and isinstance(value, str)}
    return names


class Collector:
    """A receiver of OTLP over HTTP on a free port: `with Collector() as collector`."""

    def __init__(self) -> None:
        self.spans: list[SeenSpan] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces", self.path
                collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Collector":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _spans(request: ExportTraceServiceRequest) -> list[SeenSpan]:
    return [
        SeenSpan(
            service=_attributes(resource.resource.attributes)["service.name"],
            name=span.name,
            kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex() or None,
            links=tuple(link.span_id.hex() for link in span.links),
            failed=span.status.code == span.status.STATUS_CODE_ERROR,
            attributes=_attributes(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}

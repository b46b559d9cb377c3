"""Spans of OpenTelemetry. Imported only where traces are recorded."""

from collections.abc import Iterable
from contextvars import Token
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from millrace.telemetry.tracing.spans import CURRENT, Attributes, Kind, Parent

_KINDS: Final = {kind: SpanKind[kind.name] for kind in Kind}


class OtelTracer:
    """`millrace.telemetry.tracing.Tracer` on top of OpenTelemetry's, whose context says which span is the
    current one."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start(
        self, name: str, kind: Kind, parent: Parent, links: Iterable[str], attributes: Attributes | None
    ) -> "OtelSpan":
        """See millrace.telemetry.tracing.start."""
        span = self._tracer.start_span(
            name,
            # None is OpenTelemetry's word for the current context.
            context=None if parent is CURRENT else _context(parent),
            kind=_KINDS[kind],
            attributes=attributes,
            links=[Link(_span_context(link)) for link in links],
        )
        return OtelSpan(span)

    def current(self) -> str | None:
        """See millrace.telemetry.tracing.current."""
        context = trace.get_current_span().get_span_context()
        return _traceparent(context) if context.is_valid else None


class OtelSpan:
    """One span. Used by one task."""

    __slots__ = ("_failed", "_span", "_token", "_traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._failed = False
        self._token: Token[Context] | None = None
        self._traceparent: str | None = None

    @property
    def traceparent(self) -> str | None:
        if self._traceparent is None:
            self._traceparent = _traceparent(self._span.get_span_context())
        return self._traceparent

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attribute: str, value: str | int) -> None:
        self._span.set_attribute(attribute, value)

    def fail(self, error_type: str) -> None:
        self._failed = True
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self, error: BaseException | None = None) -> None:
        if error is not None and not self._failed:  # else its code has said what went wrong
            self.fail(type(error).__name__)
        self._span.end()

    def __enter__(self) -> Self:
        self._token = attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._token is not None:
            detach(self._token)
        self.end(error)


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _span_context(traceparent: str) -> SpanContext:
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def _context(parent: str | None) -> Context:
    """A context that holds just this parent, or none."""
    if parent is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(_span_context(parent)), Context())

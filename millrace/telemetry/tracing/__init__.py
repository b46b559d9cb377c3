"""Traces: what instrumented code uses. Off, and next to free of cost, until `use` is called. See
docs/tracing.md.

    with tracing.start("append OrderCreated", Kind.CLIENT, attributes={...}) as span:
        ...  # span.traceparent goes into metadata or headers

Nothing here imports OpenTelemetry: `millrace.process.tracing` does, when the environment asks for traces.
"""

from millrace.telemetry.tracing.spans import (
    CURRENT,
    OFF,
    Attributes,
    Kind,
    Span,
    Tracer,
    active,
    current,
    sampled,
    start,
    trace_id,
    use,
    well_formed,
)

__all__ = [
    "CURRENT",
    "OFF",
    "Attributes",
    "Kind",
    "Span",
    "Tracer",
    "active",
    "current",
    "sampled",
    "start",
    "trace_id",
    "use",
    "well_formed",
]

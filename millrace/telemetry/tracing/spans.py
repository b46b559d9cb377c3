"""Spans, as instrumented code sees them, and the tracer that makes them: none, as long as tracing is off.

A span is named to others by its W3C `traceparent` (https://www.w3.org/TR/trace-context/#traceparent-header):
the same text in the events' metadata, in the headers of records and in requests.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final, Protocol, Self, TypeAlias

Attributes: TypeAlias = Mapping[str, str | int]

# Not: a version that is forbidden, ids of zeros. A malformed one is ignored, as the standard asks.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Kind(Enum):
    """A span's role towards others (OpenTelemetry's SpanKind)."""

    INTERNAL = auto()
    SERVER = auto()
    CLIENT = auto()
    PRODUCER = auto()
    CONSUMER = auto()


class Span(Protocol):
    """Something that takes time. As a context manager it is the current span in its block, and ends with it.

    What is raised in the block makes it a failed one, under the error's class: never its text, which may hold
    personal data.
    """

    @property
    def traceparent(self) -> str | None:
        """What others continue its trace by; None when tracing is off."""

    def name(self, name: str) -> None:
        """Another name, when the right one is known only later."""

    def set(self, attribute: str, value: str | int) -> None:
        """Say one thing more about it."""

    def fail(self, error_type: str) -> None:
        """It went wrong; `error_type` is of few values, such as the name of a class or a status."""

    def end(self, error: BaseException | None = None) -> None:
        """For a span that is not used as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None: ...


class Current(Enum):
    """For a parent: whichever span is the current one (none: a new trace begins)."""

    CURRENT = auto()


CURRENT: Final = Current.CURRENT
Parent: TypeAlias = str | Current | None


class Tracer(Protocol):
    """Makes spans. Traceparents that it is given are well-formed."""

    def start(
        self, name: str, kind: Kind, parent: Parent, links: Iterable[str], attributes: Attributes | None
    ) -> Span: ...

    def current(self) -> str | None:
        """The traceparent of the current span."""


class _Off:
    """The span of a process that records none."""

    traceparent = None

    def name(self, name: str) -> None:
        """Nothing."""

    def set(self, attribute: str, value: str | int) -> None:
        """Nothing."""

    def fail(self, error_type: str) -> None:
        """Nothing."""

    def end(self, error: BaseException | None = None) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Nothing."""


OFF: Final = _Off()
_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> Tracer | None:
    """From now on this process makes its spans with `tracer` (None: makes none). Returns the one before it.

    One a process, as in OpenTelemetry itself: a trace runs through code that nothing could be handed to.
    """
    global _tracer
    before, _tracer = _tracer, tracer
    return before


def active() -> bool:
    """Whether spans are recorded. For code that would otherwise do work for nothing."""
    return _tracer is not None


def start(
    name: str,
    kind: Kind = Kind.INTERNAL,
    *,
    parent: Parent = CURRENT,
    links: Iterable[str] = (),
    attributes: Attributes | None = None,
) -> Span:
    """A span that begins now: the child of `parent` (a traceparent, or None for a new trace)."""
    return OFF if _tracer is None else _tracer.start(name, kind, parent, links, attributes)


def current() -> str | None:
    """The traceparent of the current span; None when there is none, or tracing is off."""
    return None if _tracer is None else _tracer.current()


def well_formed(traceparent: str | None) -> str | None:
    """What may be continued: the traceparent itself, or None for one that is malformed."""
    return traceparent if traceparent is not None and _TRACEPARENT.fullmatch(traceparent) else None


def sampled(traceparent: str | None) -> bool:
    """Whether spans are recorded here, and the service that began this trace records it."""
    if _tracer is None or well_formed(traceparent) is None:
        return False
    assert traceparent is not None
    return bool(int(traceparent[-2:], 16) & 1)


def trace_id(traceparent: str | None) -> str | None:
    """The id of the trace, for logs."""
    return traceparent[3:35] if well_formed(traceparent) and traceparent else None

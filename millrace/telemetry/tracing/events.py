"""The spans of an event's way: appended here, sent by the relay, handled by a consumer, appended there.

Many events share an append, a chunk and a batch. Each goes on in the trace of its own request all the same,
and what was shared is a span of its own, which the others link to. Spans are made only for events whose trace
is recorded; others hand their `traceparent` on as it is. Names and attributes are those of OpenTelemetry's
conventions (https://opentelemetry.io/docs/specs/semconv/messaging/kafka/), and hold ids and types, nothing of
what events say.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.telemetry.tracing.spans import (
    OFF,
    Kind,
    Parent,
    Span,
    active,
    current,
    sampled,
    start,
    well_formed,
)

_APPEND: Final = {
    "db.system.name": "postgresql",
    "db.operation.name": "append",
    "db.collection.name": "events",
}
_KAFKA: Final = {"messaging.system": "kafka"}
_SEND: Final = _KAFKA | {"messaging.operation.name": "send", "messaging.operation.type": "send"}
_PROCESS: Final = _KAFKA | {"messaging.operation.name": "process", "messaging.operation.type": "process"}


def appending(stream_id: str, events: Sequence[DomainEvent], asked_by: str | None) -> Span:
    """The append of one request's events: a child of the current span or else of `asked_by`, the request's
    own context."""
    if not active():
        return OFF
    parent = current() or well_formed(asked_by)
    return _append(stream_id, events[0].event_type, parent)


def _append(stream_id: str, event_type: str, parent: Parent) -> Span:
    attributes = {**_APPEND, "millrace.stream_id": stream_id, "millrace.event_type": event_type}
    return start(f"append {event_type}", Kind.CLIENT, parent=parent, attributes=attributes)


class Sending:
    """A chunk of events on its way to `topic`: `with Sending(topic) as sending`, until it is acknowledged."""

    def __init__(self, topic: str, count: int) -> None:
        self._topic = topic
        self._count = count
        self._chunk: Span = OFF
        self._spans: list[Span] = []

    def traceparent(self, event: RecordedEvent) -> str | None:
        """What the record of `event` carries: a consumer goes on behind the sending."""
        appended = event.metadata.traceparent
        if not active() or not sampled(appended):
            return appended
        if self._chunk is OFF:  # only now: nobody asks about chunks without a recorded trace in them
            self._chunk = start(f"relay {self._topic}", parent=None, attributes=self._batch())
        link = self._chunk.traceparent
        span = start(
            f"send {self._topic}",
            Kind.PRODUCER,
            parent=appended,
            links=[link] if link else (),
            attributes={**_SEND, **_message(self._topic, event)},
        )
        self._spans.append(span)
        return span.traceparent

    def _batch(self) -> Mapping[str, str | int]:
        return {
            **_SEND,
            "messaging.destination.name": self._topic,
            "messaging.batch.message_count": self._count,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for span in self._spans:
            span.end(error)
        self._chunk.end(error)


class Consumed(Protocol):
    """What is told of a record: millrace.consumer's Incoming."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def event(self) -> RecordedEvent | None: ...


class Handling:
    """A batch that `consumer` handles: `with Handling(consumer) as handling`, until its commit.

    A handler decides on many events and commits them together, so the span of each event lasts as long as the
    batch. An attempt that failed and is repeated has spans of its own.
    """

    def __init__(self, consumer: str) -> None:
        self._consumer = consumer
        self._batch: Span = OFF
        self._handled: dict[object, Span] = {}  # event id -> span
        self._appends: dict[object, Span] = {}

    def begin(self, records: Sequence[Consumed]) -> None:
        """These the handler gets; not those of the batch that are duplicates, are parked, or don't concern
        it."""
        if not active():
            return
        traced = [
            (one, one.event) for one in records if one.event and sampled(one.event.metadata.traceparent)
        ]
        if not traced:
            return
        self._batch = start(
            f"process batch {self._consumer}",
            Kind.CONSUMER,
            parent=None,
            links=[event.metadata.traceparent or "" for _, event in traced],
            attributes={
                **_PROCESS,
                "messaging.consumer.group.name": self._consumer,
                "messaging.batch.message_count": len(records),
            },
        )
        self._batch.__enter__()
        for record, event in traced:
            self._handled[event.event_id] = self._process(record, event)

    def traceparent(self, cause: RecordedEvent, stream_id: str, event_type: str) -> str | None:
        """For the metadata of an event that follows from `cause`: all that do are one append, named by the
        first."""
        handled = self._handled.get(cause.event_id)
        if handled is None:
            return cause.metadata.traceparent
        if cause.event_id not in self._appends:
            # It began when it was decided on: its id has to be in the events before they are written.
            self._appends[cause.event_id] = _append(stream_id, event_type, handled.traceparent)
        return self._appends[cause.event_id].traceparent

    def _process(self, record: Consumed, event: RecordedEvent) -> Span:
        link = self._batch.traceparent
        return start(
            f"process {record.topic}",
            Kind.CONSUMER,
            parent=event.metadata.traceparent,
            links=[link] if link else (),
            attributes={
                **_PROCESS,
                **_message(record.topic, event),
                "messaging.consumer.group.name": self._consumer,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for span in (*self._appends.values(), *self._handled.values()):
            span.end(error)
        self._batch.__exit__(kind, error, trace)


def _message(topic: str, event: RecordedEvent) -> Mapping[str, str | int]:
    return {
        "messaging.destination.name": topic,
        "messaging.message.id": str(event.event_id),
        "millrace.stream_id": event.stream_id,
        "millrace.event_type": event.event_type,
    }

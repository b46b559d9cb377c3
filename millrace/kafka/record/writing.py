"""An event as a record."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from millrace.domain.events import Metadata, RecordedEvent
from millrace.kafka.record.format import CONTENT_TYPE, FORMAT_2, RecordFormat
from millrace.kafka.record.model import Headers


def to_record(
    recorded: RecordedEvent,
    epoch: UUID,
    generation: int,
    source: str,
    *,
    format: RecordFormat = FORMAT_2,
    traceparent: str | None = None,
) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of the record that carries `recorded` to a topic.

    `epoch` is the store's, `generation` the topic's, `source` the CloudEvents source (/order-service).
    `traceparent` is that of the span that sends it, where there is one; without it the event's own goes
    along.
    """
    key = recorded.stream_id.encode()
    headers: Headers = [
        *_fixed_headers(recorded.event_type, recorded.schema_version, epoch, generation, source, format),
        ("ce_id", str(recorded.event_id).encode()),
        ("ce_time", rfc3339(recorded.recorded_at)),
        ("ce_subject", key),
        ("millrace_version", b"%d" % recorded.version),
        ("millrace_position", b"%d" % recorded.position),
    ]
    if format.version == 1:
        headers += _origin(recorded.metadata)
    else:
        headers.append(("millrace_metadata", recorded.stored_metadata))
    if (trace := traceparent or recorded.metadata.traceparent) is not None:
        headers.append(("traceparent", trace.encode()))
    return key, recorded.data, headers


def rfc3339(moment: datetime) -> bytes:
    """The value of `ce_time`, in UTC."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z".encode()


@lru_cache(maxsize=1024)
def _fixed_headers(
    event_type: str, schema_version: int, epoch: UUID, generation: int, source: str, format: RecordFormat
) -> tuple[tuple[str, bytes], ...]:
    """The headers that all events of one type and one relay share."""
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_type", format.type_of(event_type).encode()),
        ("ce_source", source.encode()),
        ("ce_dataschema", format.schema_of(event_type, schema_version).encode()),
        ("content-type", CONTENT_TYPE.encode()),
        ("millrace_epoch", str(epoch).encode()),
        ("millrace_generation", b"%d" % generation),
    )
    return headers if format.version == 1 else (*headers, ("millrace_format", b"%d" % format.version))


def _origin(metadata: Metadata) -> Iterator[tuple[str, bytes]]:
    """What format 1 carries of the metadata."""
    yield "millrace_correlation", metadata.correlation_id.encode()
    if metadata.causation_id is not None:
        yield "millrace_causation", metadata.causation_id.encode()

"""How an event's trace goes on wherever the event goes: appended, sent, handled, answered with other
events."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from structlog.contextvars import get_contextvars

from millrace.application.commands import CommandContext, CommandHandler
from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.kafka.incoming import Incoming
from millrace.store import Appended, StreamAppend
from millrace.telemetry import tracing
from millrace.telemetry.tracing.events import Handling, Sending
from tests.tracing_kit import Recorded, conventional_names, recorded_spans

REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = REQUEST[3:35]
UNSAMPLED = REQUEST[:-1] + "0"


class Baked(DomainEvent):
    loaves: int


REGISTRY = EventRegistry([Baked])
BAKERY: Decider[int, int] = Decider(
    initial=0, decide=lambda _, n: [Baked(loaves=n)], evolve=lambda n, event: n + 1
)


def recorded(traceparent: str | None, stream_id: str = "oven-1") -> RecordedEvent:
    return RecordedEvent(
        position=1,
        stream_id=stream_id,
        version=1,
        event_id=new_id(),
        event_type="Baked",
        schema_version=1,
        data=Baked(loaves=1).to_json(),
        metadata=Metadata("c", traceparent=traceparent),
        recorded_at=datetime.now(UTC),
        registry=REGISTRY,
    )


@dataclass
class Record:
    partition: int = 3
    offset: int = 17
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def incoming(event: RecordedEvent) -> Incoming:
    return Incoming("bread.events", 3, 17, 1, None, 1, event.stream_id, event, None, Record())


class MemoryStore:
    """Takes appends, and has nothing."""

    def __init__(self) -> None:
        self.metadata: list[Metadata] = []

    async def append(self, appends: list[StreamAppend]) -> tuple[Appended, ...]:
        self.metadata += [event.metadata for append in appends for event in append.events]
        return tuple(Appended(append.stream_id, 1, 1, False) for append in appends)

    async def append_in(self, _connection: object, appends: list[StreamAppend]) -> tuple[Appended, ...]:
        return await self.append(appends)

    async def read_streams(
        self, after_versions: dict[str, int], **_: object
    ) -> dict[str, list[RecordedEvent]]:
        return {stream_id: [] for stream_id in after_versions}


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recorded_spans() as spans:
        yield spans


async def test_without_tracing_a_request_has_no_span_and_its_events_keep_the_callers_context() -> None:
    store = MemoryStore()
    handler = CommandHandler[int, int](store, BAKERY)  # type: ignore[arg-type]
    await handler.create("oven-1", 2, CommandContext(None, "c", traceparent=REQUEST))
    assert [metadata.traceparent for metadata in store.metadata] == [REQUEST]


async def test_what_a_command_appends_goes_on_behind_its_append(spans: Recorded) -> None:
    store = MemoryStore()
    handler = CommandHandler[int, int](store, BAKERY)  # type: ignore[arg-type]
    with tracing.start("POST /bread", tracing.Kind.SERVER, parent=REQUEST):
        await handler.create("oven-1", 2, CommandContext(None, "c", traceparent=REQUEST))
    append, request = spans.one("append Baked"), spans.one("POST /bread")
    assert (append.parent_id, append.kind) == (request.span_id, "CLIENT")
    assert [metadata.traceparent for metadata in store.metadata] == [append.traceparent]


async def test_a_command_outside_of_any_span_continues_its_contexts_trace(spans: Recorded) -> None:
    handler = CommandHandler[int, int](MemoryStore(), BAKERY)  # type: ignore[arg-type]
    await handler.create("oven-1", 2, CommandContext(None, "c", traceparent=REQUEST))
    assert spans.one("append Baked").parent_id == REQUEST[36:52]


def test_each_event_of_a_chunk_is_sent_in_its_own_trace_and_linked_to_the_chunk(spans: Recorded) -> None:
    other = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    with Sending("bread.events", 3) as sending:
        told = [sending.traceparent(recorded(parent)) for parent in (REQUEST, other, None)]
    first, second, chunk = spans.spans
    assert [first.parent_id, second.parent_id, chunk.parent_id] == [REQUEST[36:52], "2" * 16, None]
    assert told == [first.traceparent, second.traceparent, None]
    assert first.links == second.links == (chunk.span_id,)
    assert (first.name, first.kind) == ("send bread.events", "PRODUCER")
    assert chunk.attributes["messaging.batch.message_count"] == 3


def test_a_chunk_that_is_not_acknowledged_fails_all_its_spans(spans: Recorded) -> None:
    def send() -> None:
        with Sending("bread.events", 1) as sending:
            sending.traceparent(recorded(REQUEST))
            raise TimeoutError("no answer for ada@example.com")

    with pytest.raises(TimeoutError):
        send()
    assert [span.failed for span in spans.spans] == [True, True]
    assert {span.attributes["error.type"] for span in spans.spans} == {"TimeoutError"}
    assert "example.com" not in repr(spans.spans)


@pytest.mark.parametrize("traceparent", [UNSAMPLED, None, "00-aa-bb-01"])
def test_an_event_whose_trace_is_not_recorded_has_no_spans_and_hands_its_context_on(
    spans: Recorded, traceparent: str | None
) -> None:
    event = recorded(traceparent)
    with Sending("bread.events", 1) as sending, Handling("bakery") as handling:
        handling.begin([incoming(event)])
        assert sending.traceparent(event) == traceparent
        assert handling.traceparent(event, "oven-2", "Baked") == traceparent
    assert spans.spans == []


async def test_what_a_batch_decides_goes_on_behind_the_event_that_caused_it(spans: Recorded) -> None:
    other = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    batch = [recorded(REQUEST, "oven-1"), recorded(other, "oven-2")]
    store = MemoryStore()
    with Handling("bakery") as handling:
        handling.begin([incoming(event) for event in batch])
        unit = UnitOfWork(None, store, "bakery", handling=handling)  # type: ignore[arg-type]
        for event in batch:
            for shelf in ("shelf-1", "shelf-2"):
                await unit.execute(BAKERY, shelf, 1, event)
        await unit.flush()
    first, second, *_ = appends = [span for span in spans.spans if span.name == "append Baked"]
    processed = [span for span in spans.spans if span.name == "process bread.events"]
    whole = spans.one("process batch bakery")
    assert len(appends) == len(processed) == 2
    assert [span.parent_id for span in appends] == [span.span_id for span in processed]
    assert [span.parent_id for span in processed] == [REQUEST[36:52], "2" * 16]
    assert [span.trace_id for span in appends] == [TRACE, "1" * 32]
    assert whole.links == (REQUEST[36:52], "2" * 16)
    assert {span.links for span in processed} == {(whole.span_id,)}
    causes = [metadata.traceparent for metadata in store.metadata]
    assert sorted(filter(None, causes)) == sorted([first.traceparent, second.traceparent] * 2)


def test_names_of_attributes_are_those_of_the_conventions(spans: Recorded) -> None:
    event = recorded(REQUEST)
    with Sending("bread.events", 1) as sending, Handling("bakery") as handling:
        sending.traceparent(event)
        handling.begin([incoming(event)])
        handling.traceparent(event, "oven-2", "Baked")
    known = conventional_names()
    used = {name for span in spans.spans for name in span.attributes if not name.startswith("millrace.")}
    assert used
    assert used <= known


async def test_a_log_line_of_a_command_names_its_stream() -> None:
    handler = CommandHandler[int, int](MemoryStore(), BAKERY)  # type: ignore[arg-type]
    await handler.create("oven-7", 2, CommandContext(None, "c"))
    assert get_contextvars()["stream_id"] == "oven-7"

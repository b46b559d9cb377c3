"""Traces: when they are recorded, and how an event's trace goes on wherever the event goes."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from chassis import tracing
from chassis.commands import CommandContext, CommandHandler
from chassis.consumer.incoming import Incoming
from chassis.decider import Decider
from chassis.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from chassis.ids import new_id
from chassis.logging import configure_logging, get_logger
from chassis.settings import SettingsError
from chassis.store import Appended, StreamAppend
from chassis.tracing.events import Handling, Sending
from chassis.tracing.setup import _resource, wanted
from chassis.unit_of_work import UnitOfWork
from tests.tracing_kit import Recorded, conventional_names, recorded_spans
from tests.unit.http_kit import CUSTOMER, KEY, ORDER, client

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


@pytest.mark.parametrize(
    ("environment", "exporter"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp"),
    ],
)
def test_traces_are_recorded_when_the_standard_variables_say_so(
    environment: dict[str, str], exporter: str | None
) -> None:
    assert wanted(environment) == exporter


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER is malformed: 'zipkin', expected otlp, console or none",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is malformed: 'grpc', expected http/protobuf",
        ),
    ],
)
def test_what_is_not_there_is_refused_by_name(environment: dict[str, str], line: str) -> None:
    with pytest.raises(SettingsError) as refused:
        wanted(environment)
    assert refused.value.lines == [line]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "order-service"),
        ({"OTEL_SERVICE_NAME": "orders-blue"}, "orders-blue"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=orders-green"}, "orders-green"),
    ],
)
def test_a_service_has_its_own_name_unless_it_is_given_another(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert _resource("order-service").attributes["service.name"] == name


def test_who_records_nothing_does_not_load_the_sdk() -> None:
    code = (
        "import sys, order_service.app, notification_service.app; print('opentelemetry.sdk' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    "malformed",
    [
        "00-aa-bb-01",
        REQUEST.upper(),
        f"ff{REQUEST[2:]}",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        REQUEST + "-more",
        "",
    ],
)
def test_a_malformed_traceparent_is_not_continued(malformed: str) -> None:
    assert tracing.well_formed(malformed) is None
    assert tracing.trace_id(malformed) is None


async def test_a_request_continues_the_callers_trace(spans: Recorded) -> None:
    async with client() as http:
        answer = await http.post("/orders?x=ada@example.com", json=ORDER, headers={**CUSTOMER, **KEY})
        assert answer.status_code == 422
        told = await http.post("/orders", json=ORDER, headers={**CUSTOMER, **KEY, "traceparent": REQUEST})
    assert told.status_code == 201
    refused, placed = spans.spans
    assert (placed.name, placed.kind, placed.trace_id, placed.parent_id) == (
        "POST /orders",
        "SERVER",
        TRACE,
        REQUEST[36:52],
    )
    assert placed.attributes == {
        "http.request.method": "POST",
        "http.route": "/orders",
        "http.response.status_code": 201,
        "url.scheme": "http",
    }
    assert (refused.parent_id, refused.failed) == (None, False)  # the client's mistake, not ours
    assert "ada" not in repr(refused)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/ada@example.com", "GET"), ("BREW", "/orders", "_OTHER"), ("GET", "/who", "GET /who")],
)
async def test_a_span_has_the_routes_template_and_nothing_that_a_client_typed(
    spans: Recorded, method: str, path: str, name: str
) -> None:
    async with client() as http:
        await http.request(method, path)
    [span] = spans.spans
    assert span.name.removesuffix(" /orders") == name
    assert "ada" not in repr(span)


async def test_a_failed_request_is_a_failed_span_without_the_errors_text(spans: Recorded) -> None:
    async with client() as http:
        assert (await http.get("/raise/unexpected")).status_code == 500
    [span] = spans.spans
    assert span.failed
    assert span.attributes["error.type"] == "500"
    assert "hunter2" not in repr(span)


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
    assert "ada" not in repr(spans.spans)


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


def test_a_log_line_carries_the_trace_that_it_belongs_to(
    spans: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _logged(capsys) == {}
    with tracing.start("work", parent=REQUEST):
        assert _logged(capsys) == {"trace_id": TRACE}


def _logged(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What of the trace is in a line."""
    import logging

    import structlog

    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    configure_logging("bakery")
    try:
        get_logger("test").info("said")
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.configure(**configured)
    line = orjson.loads(capsys.readouterr().out)
    return {name: line[name] for name in ("trace_id", "stream_id") if name in line}

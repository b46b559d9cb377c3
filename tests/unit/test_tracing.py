"""Traces: when they are recorded, and what is seen of a request."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from millrace.process.settings import SettingsError
from millrace.process.tracing import _resource, wanted
from millrace.telemetry import tracing
from millrace.telemetry.logging import configure_logging, get_logger
from tests.tracing_kit import Recorded, recorded_spans
from tests.unit.http_kit import CUSTOMER, KEY, ORDER, client

REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = REQUEST[3:35]


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
    assert "example.com" not in repr(refused)


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("GET", "/ada@example.com", "GET"), ("BREW", "/orders", "HTTP /orders"), ("GET", "/who", "GET /who")],
)
async def test_a_span_has_the_routes_template_and_nothing_that_a_client_typed(
    spans: Recorded, method: str, path: str, name: str
) -> None:
    async with client() as http:
        await http.request(method, path)
    [span] = spans.spans
    assert span.name == name
    assert "example.com" not in repr(span)


async def test_a_failed_request_is_a_failed_span_without_the_errors_text(spans: Recorded) -> None:
    async with client() as http:
        assert (await http.get("/raise/unexpected")).status_code == 500
    [span] = spans.spans
    assert span.failed
    assert span.attributes["error.type"] == "500"
    assert "hunter2" not in repr(span)


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

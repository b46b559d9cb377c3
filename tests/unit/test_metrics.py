"""Metrics: what is told at /metrics, of whom, and under which labels."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from infra.topology import SERVICES
from millrace.application.snapshots import Snapshots
from millrace.http.app import create_app
from millrace.http.health import HealthEndpoints
from millrace.http.internal import internal_app
from millrace.http.limits import HttpLimits
from millrace.kafka.topics import Topic
from millrace.process.metrics import EventLoopLag, process_metrics, watch_workers
from millrace.relay import Relay
from millrace.runtime.backoff import Backoff
from millrace.runtime.worker import Health
from millrace.store.metrics import AppendMetrics
from millrace.store.model import Appended, AppendTimeout, EventIdsReused, WrongExpectedVersion
from millrace.telemetry.metrics import Metrics
from notification_service.breaker import Breaker
from notification_service.delivery import Deferred, DeliveryOutcome, Hopeless, Outage, Sent, Unknown
from notification_service.metrics import EmailMetrics
from tests.docs import ROOT
from tests.support import eventually
from tests.unit.http_kit import CUSTOMER, KEY, ORDER, Thing, router

HTTP_COUNT = "millrace_http_request_duration_seconds_count"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    """One sample; None when it is not told."""
    return metrics.registry.get_sample_value(sample, labels)


def labels_of(metrics: Metrics, name: str) -> list[dict[str, str]]:
    """The labels of all samples of that name."""
    return [
        dict(one.labels)
        for family in metrics.registry.collect()
        for one in family.samples
        if one.name == name
    ]


@asynccontextmanager
async def door(metrics: Metrics, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP door of a service: its routes behind the health paths."""
    app = create_app("Test", router, metrics=metrics, **options)
    app.state.thing = Thing()
    transport = httpx.ASGITransport(HealthEndpoints(app, dict))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@asynccontextmanager
async def internal_port(metrics: Metrics, public: FastAPI | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The internal port of a service."""
    transport = httpx.ASGITransport(internal_app(public, dict, metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


# -- requests


async def test_a_request_is_counted_under_its_routes_template_and_never_under_its_path() -> None:
    metrics = Metrics()
    async with door(metrics) as http:
        await http.post("/orders/0199a5f0-7c3e-7d52-9f61-3a0b5d1c7e42/cancel", headers=CUSTOMER)
        await http.post("/orders/0199a5f0-0000-7d52-9f61-3a0b5d1c7e42/cancel", headers=CUSTOMER)

    assert labels_of(metrics, HTTP_COUNT) == [
        {"method": "POST", "route": "/orders/{order_id}/cancel", "status": "2xx"}
    ]
    assert value(metrics, HTTP_COUNT, method="POST", route="/orders/{order_id}/cancel", status="2xx") == 2


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/who", "/who", "2xx"),
        ("GET", "/numbers?limit=x", "/numbers", "4xx"),
        ("GET", "/raise/unexpected", "/raise/{what}", "5xx"),
        ("GET", "/raise/database-down", "/raise/{what}", "5xx"),
        ("GET", "/wp-login.php", "unmatched", "4xx"),
        ("DELETE", "/who", "/who", "4xx"),
    ],
)
async def test_a_request_is_counted_by_the_class_of_its_status(
    method: str, path: str, route: str, status: str
) -> None:
    metrics = Metrics()
    async with door(metrics) as http:
        await http.request(method, path)

    assert labels_of(metrics, HTTP_COUNT) == [{"method": method, "route": route, "status": status}]


async def test_a_body_that_is_refused_before_routing_is_counted_too() -> None:
    metrics = Metrics()
    async with door(metrics, limits=HttpLimits(body_bytes=10)) as http:
        await http.post("/orders", json=ORDER, headers={**CUSTOMER, **KEY})

    assert labels_of(metrics, HTTP_COUNT) == [{"method": "POST", "route": "unmatched", "status": "4xx"}]


async def test_what_clients_invent_makes_no_new_label() -> None:
    metrics = Metrics()
    async with door(metrics) as http:
        for number in range(20):
            await http.request(f"BREW{number}", f"/{number}")

    assert len(labels_of(metrics, HTTP_COUNT)) == 1


async def test_a_request_is_in_flight_until_it_is_answered() -> None:
    metrics = Metrics()
    async with door(metrics) as http:
        waiting = asyncio.create_task(http.post("/thing/settle", headers={"Prefer": "wait=5"}))
        await eventually(lambda: value(metrics, "millrace_http_requests_in_flight") == 1)
        waiting.cancel()
        await asyncio.wait({waiting})

    assert value(metrics, "millrace_http_requests_in_flight") == 0
    assert labels_of(metrics, HTTP_COUNT) == [
        {"method": "POST", "route": "/thing/settle", "status": "unanswered"}
    ]


async def test_health_and_metrics_do_not_count_themselves_and_are_not_described() -> None:
    metrics = Metrics()
    async with door(metrics) as http, internal_port(metrics, create_app("Test", router)) as internal:
        for path in ("/livez", "/readyz"):
            assert (await http.get(path)).status_code == 200
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await internal.get(path)).status_code == 200
        assert labels_of(metrics, HTTP_COUNT) == []
        assert "/metrics" not in (await internal.get("/openapi.json")).json()["paths"]


# -- the page


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4", parse_text),
        ("text/html", "text/plain; version=0.0.4", parse_text),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0", parse_openmetrics),
    ],
)
async def test_the_page_has_the_format_that_is_asked_for(accept: str, content_type: str, parse: Any) -> None:
    metrics = process_metrics("test-service")
    async with door(metrics) as http, internal_port(metrics) as internal:
        await http.get("/who")
        page = await internal.get("/metrics", headers={"Accept": accept})

    assert page.headers["content-type"].startswith(content_type)
    told = {one.name: one.value for family in parse(page.text) for one in family.samples}
    assert told[HTTP_COUNT] == 1
    assert told["millrace_build_info"] == 1
    assert not [name for name in told if name.endswith("_created")]


async def test_a_process_without_routes_has_the_page_too() -> None:
    metrics = process_metrics("test-service")
    async with internal_port(metrics) as internal:
        page = await internal.get("/metrics")

    assert "millrace_build_info{" in page.text
    assert 'service="test-service"' in page.text


# -- families


def test_two_components_of_a_kind_share_a_family() -> None:
    metrics = Metrics()
    for consumer in ("saga", "catalogue"):
        metrics.counter("millrace_batches_total", "Batches", consumer=consumer).inc()
        metrics.watch("gauge", "millrace_partitions", "Partitions", lambda: 3.0, consumer=consumer)

    assert metrics.render()[0].count(b"# TYPE millrace_partitions gauge") == 1
    assert value(metrics, "millrace_batches_total", consumer="saga") == 1
    assert value(metrics, "millrace_partitions", consumer="catalogue") == 3


def test_two_services_in_one_process_see_nothing_of_each_other() -> None:
    one, other = process_metrics("one-service"), process_metrics("other-service")
    one.counter("millrace_batches_total", "Batches").inc()
    other.counter("millrace_batches_total", "Batches")

    assert (value(one, "millrace_batches_total"), value(other, "millrace_batches_total")) == (1, 0)


def test_a_histogram_is_told_in_buckets_that_include_the_smaller_ones() -> None:
    metrics = Metrics()
    waited = metrics.histogram("millrace_wait_seconds", "Waited", [0.1, 1])
    for seconds in (0.05, 0.1, 0.5, 7.0):
        waited.observe(seconds)

    buckets = [value(metrics, "millrace_wait_seconds_bucket", le=le) for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 3, 4], "a bucket holds what is equal to its bound"
    assert value(metrics, "millrace_wait_seconds_count") == 4
    assert value(metrics, "millrace_wait_seconds_sum") == pytest.approx(7.65)


def test_a_number_that_is_not_there_now_is_not_told() -> None:
    metrics = Metrics()
    position: int | None = None
    metrics.watch("gauge", "millrace_position", "Where it is", lambda: position)

    assert value(metrics, "millrace_position") is None
    position = 7
    assert value(metrics, "millrace_position") == 7


def test_a_family_is_of_one_kind_and_has_its_labels() -> None:
    metrics = Metrics()
    metrics.counter("millrace_batches_total", "Batches")
    metrics.watch("gauge", "millrace_position", "Where it is", lambda: 0.0, topic="t")

    with pytest.raises(ValueError, match="millrace_batches_total is a CounterMetricFamily"):
        metrics.histogram("millrace_batches_total", "Batches")
    with pytest.raises(ValueError, match="millrace_position is a GaugeMetricFamily with the labels"):
        metrics.watch("gauge", "millrace_position", "Where it is", lambda: 0.0, group="g")


# -- the documentation


def test_every_metric_is_described_and_every_described_one_exists() -> None:
    packages = [ROOT / name for name in ("millrace", *(service.package for service in SERVICES))]
    sources = [file.read_text() for package in packages for file in package.rglob("*.py")]
    declaring = [text for text in sources if "from millrace.telemetry.metrics import" in text]
    declared = {name for text in declaring for name in re.findall(r'"(millrace_[a-z_]+)"', text)}
    described = set(re.findall(r"`(millrace_[a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text()))

    assert described == declared


# -- components


def test_an_append_is_counted_by_what_became_of_it() -> None:
    metrics = Metrics()
    appends = AppendMetrics(metrics)
    appends.answered([Appended("s", 3, 10, replayed=False)], 3, 0.002)
    appends.answered([Appended("s", 3, 10, replayed=True)], 3, 0.002)
    for error in (
        WrongExpectedVersion("s", 1, 2),
        EventIdsReused("s"),
        AppendTimeout("late"),
        asyncio.CancelledError(),
        RuntimeError("else"),
    ):
        appends.failed(error, 0.01)

    told = ("appended", "replayed", "conflict", "ids_reused", "timeout", "cancelled", "failed")
    assert [value(metrics, "millrace_appends_total", outcome=one) for one in told] == [1] * len(told)
    assert value(metrics, "millrace_append_events_total") == 3, "a repeat adds no events"
    assert value(metrics, "millrace_append_duration_seconds_count") == len(told)


def test_a_relay_is_in_one_state_and_tells_no_position_before_it_leads() -> None:
    metrics = Metrics()
    # Nothing connects before it runs.
    Relay(
        pool=cast(Any, None),
        url="",
        store=cast(Any, None),
        topic=Topic("orders.events"),
        source="/x",
        bootstrap_servers="nowhere:1",
        metrics=metrics,
    )

    states = {
        labels["state"]: value(metrics, "millrace_relay_state", **labels)
        for labels in labels_of(metrics, "millrace_relay_state")
    }
    assert states["starting"] == 1
    assert sum(state or 0 for state in states.values()) == 1
    assert {"no_kafka", "topic_lost", "blocked"} <= states.keys()
    assert labels_of(metrics, "millrace_relay_position") == []


def test_snapshots_are_told_by_what_became_of_them() -> None:
    metrics = Metrics()
    counters = Snapshots(cast(Any, None), [], metrics=metrics).counters
    counters.taken, counters.dropped = 3, 1

    told = {
        one: value(metrics, "millrace_snapshots_total", outcome=one) for one in ("taken", "failed", "dropped")
    }
    assert told == {"taken": 3, "failed": 0, "dropped": 1}


@pytest.mark.parametrize(
    ("outcome", "word", "reason"),
    [
        (Sent("<id>"), "sent", ""),
        (Outage("mail_server_unavailable", "refused ada@example.com"), "delayed", "mail_server_unavailable"),
        (Deferred("recipient_deferred", "ada@example.com"), "delayed", "recipient_deferred"),
        (Unknown("outcome_unknown", "timed out over ada@example.com"), "unknown", "outcome_unknown"),
        (Hopeless("unknown_customer"), "failed", "unknown_customer"),
    ],
)
def test_an_email_is_counted_by_what_came_of_the_attempt(
    outcome: DeliveryOutcome, word: str, reason: str
) -> None:
    metrics = Metrics()
    EmailMetrics(metrics).attempted(outcome, 0.2)

    assert value(metrics, "millrace_email_attempts_total", outcome=word, reason=reason) == 1
    assert value(metrics, "millrace_email_attempt_duration_seconds_count", outcome=word) == 1
    assert "ada@" not in metrics.render()[0].decode()


def test_the_breaker_of_the_mails_shows() -> None:
    metrics = Metrics()
    breaker = Breaker(Backoff(initial=60.0, maximum=60.0))
    EmailMetrics(metrics).watch_breaker(breaker)

    assert value(metrics, "millrace_email_breaker_open") == 0
    breaker.trip("mail_server_unavailable")
    assert value(metrics, "millrace_email_breaker_open") == 1
    assert value(metrics, "millrace_email_breaker_trips_total") == 1


# -- the process


async def test_an_event_loop_that_is_held_shows() -> None:
    metrics = Metrics()
    lag = EventLoopLag(metrics, interval=0.01)
    task = asyncio.create_task(lag.run())
    await eventually(lambda: value(metrics, "millrace_event_loop_lag_seconds_count"))
    time.sleep(0.3)  # noqa: ASYNC251 - this is the fault
    await eventually(lambda: (value(metrics, "millrace_event_loop_lag_seconds_sum") or 0) > 0.25)
    await lag.stop()
    await task


def test_the_health_of_the_workers_is_told() -> None:
    class Sick:
        name = "relay orders.events"
        role = None

        async def run(self) -> None: ...

        async def stop(self) -> None: ...

        def health(self) -> Health:
            return Health(alive=True, ready=False, detail="no kafka")

    metrics = Metrics()
    watch_workers(metrics, [Sick()])

    assert value(metrics, "millrace_worker_alive", worker="relay orders.events") == 1
    assert value(metrics, "millrace_worker_ready", worker="relay orders.events") == 0

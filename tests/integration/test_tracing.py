"""One trace from a request to the mail, through four services; and a collector that is away costs nothing."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from infra.local.ports import free_ports
from infra.testing import PostgresServer
from millrace.testing.certificates import tls_environment
from tests.integration.traced_platform import TracedPlatform, traced_platform
from tests.support import eventually
from tests.tracing_kit import Collector, SeenSpan, conventional_names, edges

TRACE = "0af7651916cd43dd8448eb211c80319c"
BROWSER = "b7ad6b7169203331"  # the span that the request comes from
ADA = ("Ada Lovelace", "ada@example.com")

# What one order leads to, span by span: (parent, child).
ORDER_TO_MAIL = {
    ("order-service: POST /orders", "order-service: append OrderCreated"),
    ("order-service: append OrderCreated", "order-service: send orders.events"),
    # inventory reserves
    ("order-service: send orders.events", "inventory-service: process orders.events"),
    ("inventory-service: process orders.events", "inventory-service: append StockReserved"),
    ("inventory-service: append StockReserved", "inventory-service: send inventory.events"),
    # the saga confirms; the catalogue hears the same topic
    ("inventory-service: send inventory.events", "order-service: process inventory.events"),
    ("order-service: process inventory.events", "order-service: append OrderConfirmed"),
    ("order-service: append OrderConfirmed", "order-service: send orders.events"),
    # the customer is told, of the order and of its confirmation
    ("order-service: send orders.events", "notification-service: process orders.events"),
    ("notification-service: process orders.events", "notification-service: append NotificationRequested"),
    ("notification-service: append NotificationRequested", "notification-service: send notifications.events"),
    ("notification-service: append NotificationRequested", "notification-service: deliver notification"),
    (
        "notification-service: deliver notification",
        "notification-service: millrace.users.v1.Users/GetContact",
    ),
    (
        "notification-service: millrace.users.v1.Users/GetContact",
        "user-service: millrace.users.v1.Users/GetContact",
    ),
    ("notification-service: deliver notification", "notification-service: send e-mail"),
    ("notification-service: deliver notification", "notification-service: append NotificationSent"),
    ("notification-service: append NotificationSent", "notification-service: send notifications.events"),
}


async def test_one_trace_runs_from_the_request_to_the_mail_and_tells_nothing_personal(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    async with traced_platform(postgres, tmp_path) as platform:
        customer = await platform.register(*ADA)
        await platform.stock()
        order = await platform.place(customer, traceparent=f"00-{TRACE}-{BROWSER}-01")

        def of_the_order() -> list[SeenSpan]:
            return [span for span in platform.collector.spans if span.trace_id == TRACE]

        def complete() -> bool:
            found = edges(of_the_order())
            assert found >= ORDER_TO_MAIL, f"missing: {ORDER_TO_MAIL - found}"
            return sum(span.name == "append NotificationSent" for span in of_the_order()) == 2

        await eventually(complete, within=40, what="the whole trace")
        spans = of_the_order()
        assert edges(spans) == ORDER_TO_MAIL
        ids = {span.span_id for span in spans}
        assert {span.parent_id for span in spans} - ids == {BROWSER}, "every span hangs together"
        assert not [span for span in spans if span.failed]
        _nothing_personal(platform.collector.spans)
        _known_names(platform.collector.spans)
        _batches_are_linked(platform.collector.spans)
        _logs_lead_to_the_trace(platform, order)


def _nothing_personal(spans: list[SeenSpan]) -> None:
    everything = repr(spans)
    assert "UserRegistered" in everything
    for private in (*ADA, "Ada", "example.com"):
        assert private not in everything


def _known_names(spans: list[SeenSpan]) -> None:
    used = {name for span in spans for name in span.attributes if not name.startswith("millrace.")}
    assert used <= conventional_names()


def _batches_are_linked(spans: list[SeenSpan]) -> None:
    """What was shared with other requests stands in a trace of its own, and each side leads to the other."""
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        if span.trace_id == TRACE and span.name.startswith(("send o", "send i", "process ")):
            [link] = span.links
            shared = by_id[link]
            assert shared.trace_id != TRACE
            assert shared.name.startswith(("relay ", "process batch "))
            if shared.kind == "CONSUMER":
                assert span.parent_id in shared.links


def _logs_lead_to_the_trace(platform: TracedPlatform, order: str) -> None:
    told = [line for line in platform.log("notification") if line["event"] == "delivery attempted"]
    assert {line["trace_id"] for line in told} == {TRACE}
    assert len({line["stream_id"] for line in told}) == 2
    assert all(line["stream_id"].startswith("notification-") for line in told)


@contextmanager
def silent_collector() -> Iterator[str]:
    """Takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def absent_collector() -> Iterator[str]:
    yield f"http://127.0.0.1:{free_ports(1)[0]}"


@asynccontextmanager
async def traced_process(
    endpoint: str, log: Path, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """A minimal service that records traces, once it answers."""
    port, internal = free_ports(2)
    settings = {
        "TESTED_INTERNAL_PORT": str(internal),
        "TESTED_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nowhere",
        "TESTED_HTTP_PORT": str(port),
        **tls_environment("tested"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        **environment,
    }
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.process_under_test", "serve",
            env={"PATH": os.environ["PATH"], **settings}, stdout=output, stderr=output,
        )  # fmt: skip
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

        async def answers() -> bool:
            try:
                return (await http.get("/livez")).status_code == 200
            except httpx.TransportError:
                return False

        try:
            await eventually(answers, within=30, what="the service answers")
            yield process, http
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ended(process: asyncio.subprocess.Process) -> float:
    """Asked to stop, it ends well: after so many seconds."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    return time.monotonic() - began


async def test_what_was_recorded_last_is_sent_before_the_process_ends(tmp_path: Path) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    told = {"TESTED_RELEASE_FILE": str(release), "OTEL_BSP_SCHEDULE_DELAY": "3600000"}  # an hour, in ms
    with Collector() as collector:
        async with traced_process(collector.endpoint, log, **told) as (process, http):
            request = asyncio.create_task(http.get("/slow"))  # is answered when the process drains
            await eventually(lambda: "slow request began" in log.read_text(), what="a request in flight")
            release.touch()
            assert await _ended(process) < 5
            assert (await request).status_code == 200
        [span] = collector.spans
    assert (span.service, span.name) == ("tested-service", "GET /slow")
    [began] = [line for line in map(json.loads, log.read_text().splitlines()) if "began" in line["event"]]
    assert began["trace_id"] == span.trace_id


@pytest.mark.parametrize("collector", [silent_collector, absent_collector])
async def test_a_collector_that_is_away_slows_and_fails_nothing(
    tmp_path: Path, collector: Callable[[], AbstractContextManager[str]]
) -> None:
    log = tmp_path / "log"
    with collector() as endpoint:
        # A queue that is full at once, and exports that begin at once.
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
        async with traced_process(endpoint, log, **small) as (process, http):
            slowest = 0.0
            for _ in range(100):
                began = time.monotonic()
                assert (await http.get("/nothing")).status_code == 404
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 1.0
            assert await _ended(process) < 10
    assert "the last traces are lost" in log.read_text()

"""What processes tell at /metrics is what they did, and names nobody."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, KafkaServer
from inventory_service.app import service as inventory
from millrace.domain.events import Metadata, NewEvent
from millrace.kafka.topics import Topic
from millrace.postgres.database import open_pool
from millrace.process.metrics import watch_pools
from millrace.read_models.projector import Projector
from millrace.relay import Relay
from millrace.runtime.backoff import Backoff
from millrace.store import NO_STREAM, EventStore, StreamAppend, WrongExpectedVersion
from millrace.telemetry.metrics import Metrics
from millrace.testing import in_test
from millrace.testing.certificates import tls_environment
from order_service.app import service
from schemas.grpc.inventory_pb2 import GetAvailabilityRequest
from schemas.grpc.inventory_pb2_grpc import InventoryStub
from tests.integration.consumer_kit import open_consumer_kit
from tests.integration.order_room import as_customer
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_relay_kit, open_store_kit, running
from tests.integration.test_order_service import list_tea
from tests.integration.test_projector import Totals
from tests.support import eventually

NOBODY = "127.0.0.1:1"  # a port on which nobody listens
UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-", re.IGNORECASE)

# Every label that a service may have, so that a new one is a decision.
LABELS = {
    *(
        "service",
        "version",
        "python",
        "worker",
        "pool",
        "topic",
        "state",
        "projection",
        "consumer",
        "outcome",
    ),
    *("reason", "method", "route", "status", "code", "le", "generation"),
}

# A counter's family is named without its _total.
FAMILIES = {
    *("millrace_build_info", "process_cpu_seconds", "python_gc_collections"),
    *("millrace_http_request_duration_seconds", "millrace_http_requests_in_flight"),
    *("millrace_http_refusals", "millrace_http_connections", "millrace_http_waits"),
    *("millrace_grpc_client_duration_seconds", "millrace_certificate_expires_timestamp_seconds"),
    *("millrace_appends", "millrace_append_events", "millrace_append_duration_seconds"),
    *("millrace_append_group_events", "millrace_append_group_commit_seconds"),
    *(
        "millrace_relay_state",
        "millrace_relay_position",
        "millrace_relay_head_position",
        "millrace_relay_events",
    ),
    *("millrace_relay_chunk_events", "millrace_relay_ack_duration_seconds", "millrace_relay_faults"),
    "millrace_relay_unacknowledged_events",
    *("millrace_projector_state", "millrace_projector_position", "millrace_projector_events"),
    *("millrace_projector_batch_events", "millrace_projector_batch_duration_seconds"),
    *("millrace_consumer_events", "millrace_consumer_appended_events", "millrace_consumer_retries"),
    *("millrace_consumer_batch_events", "millrace_consumer_batch_duration_seconds"),
    *("millrace_consumer_failed_commits", "millrace_consumer_rebalances"),
    *("millrace_consumer_partitions", "millrace_consumer_stopped_partitions"),
    *("millrace_pool_connections", "millrace_pool_waiting", "millrace_pool_requests"),
}


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(sample, labels)


@pytest.fixture
async def store(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, Totals()) as kit:
        yield kit


# -- components


async def test_appends_that_share_a_group_are_counted_as_one_group(store: StoreKit) -> None:
    metrics = Metrics()
    async with EventStore(store.pool, REGISTRY, metrics=metrics) as measured:

        def append(stream: str, count: int) -> StreamAppend:
            return StreamAppend(
                stream, NO_STREAM, [NewEvent(Counted(n=n), Metadata("c")) for n in range(count)]
            )

        await asyncio.gather(*(measured.append([append(f"s-{n}", 2)]) for n in range(50)))
        again = append("s-50", 1)
        await measured.append([again])
        await measured.append([again])  # as after an answer that was lost
        with pytest.raises(WrongExpectedVersion):
            await measured.append([append("s-1", 1)])

    assert value(metrics, "millrace_appends_total", outcome="appended") == 51
    assert value(metrics, "millrace_appends_total", outcome="replayed") == 1
    assert value(metrics, "millrace_appends_total", outcome="conflict") == 1
    assert value(metrics, "millrace_append_events_total") == 101 == await measured.head()
    groups = value(metrics, "millrace_append_group_events_count")
    assert groups is not None
    assert 4 <= groups < 20, "fifty concurrent appends do not go one by one"
    assert value(metrics, "millrace_append_group_commit_seconds_count") == groups
    assert value(metrics, "millrace_append_duration_seconds_count") == 53


async def test_a_projector_tells_what_it_projected_and_where_it_is(store: StoreKit) -> None:
    metrics = Metrics()
    await store.append("a", 1, 2, 3)
    projector = Projector(store.store, Totals(), store.pool, metrics=metrics)
    async with running(projector):
        await eventually(lambda: value(metrics, "millrace_projector_position", projection="totals_v3") == 3)
        assert value(metrics, "millrace_projector_state", projection="totals_v3", state="projecting") == 1

    assert value(metrics, "millrace_projector_events_total", projection="totals_v3") == 3
    assert value(metrics, "millrace_projector_batch_events_count", projection="totals_v3") == 1
    assert value(metrics, "millrace_projector_state", projection="totals_v3", state="stopped") == 1


async def test_a_relay_tells_what_it_sent_and_how_far_it_is(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    metrics = Metrics()
    async with open_relay_kit(database, kafka) as kit:
        topic = kit.topic.name
        for n in range(25):
            await kit.append(f"s-{n}", 1, 2)
        async with running(kit.relay(metrics=metrics, chunk_size=10)):
            await kit.cursor_reaches_head()
            await eventually(lambda: value(metrics, "millrace_relay_position", topic=topic) == 50)
            assert value(metrics, "millrace_relay_head_position", topic=topic) == 50
            assert value(metrics, "millrace_relay_state", topic=topic, state="relaying") == 1

    assert value(metrics, "millrace_relay_events_total", topic=topic) == 50
    assert value(metrics, "millrace_relay_chunk_events_count", topic=topic) == 5
    assert value(metrics, "millrace_relay_ack_duration_seconds_count", topic=topic) == 5
    assert value(metrics, "millrace_relay_unacknowledged_events", topic=topic) == 0
    assert value(metrics, "millrace_relay_position", topic=topic) is None, "who is stopped leads no more"


async def test_a_relay_without_kafka_tells_how_much_waits(store: StoreKit) -> None:
    metrics = Metrics()
    await store.append("a", 1, 2, 3)
    relay = Relay(
        pool=store.pool,
        url=store.database.service,
        store=store.store,
        topic=Topic("away"),
        source="/counter-service",
        bootstrap_servers=NOBODY,
        backoff=Backoff(initial=0.02, maximum=0.2),
        metrics=metrics,
    )
    async with running(relay):
        await eventually(lambda: value(metrics, "millrace_relay_state", topic="away", state="no_kafka") == 1)
        assert value(metrics, "millrace_relay_position", topic="away") == 0
        assert value(metrics, "millrace_relay_head_position", topic="away") == 3
        await store.append("a", 4)
        await eventually(lambda: value(metrics, "millrace_relay_head_position", topic="away") == 4)

    assert (value(metrics, "millrace_relay_faults_total", topic="away", state="no_kafka") or 0) >= 2


async def test_a_consumer_tells_what_became_of_its_events(database: DatabaseUrls, kafka: KafkaServer) -> None:
    metrics = Metrics()
    async with open_consumer_kit(database, kafka) as kit:
        kit.recorder.poison = {13}
        first = kit.record("a", 1, 1)
        for record in (first, first, kit.record("a", 2, 2), kit.record("bad", 1, 13)):
            await kit.send(record)
        consumer = kit.consumer(metrics=metrics)
        async with running(consumer):
            await kit.eventually_parked(1)
            await kit.eventually_committed({0: 4})
            assert value(metrics, "millrace_consumer_partitions", consumer=kit.name) == 2

        def events(outcome: str) -> float | None:
            return value(metrics, "millrace_consumer_events_total", consumer=kit.name, outcome=outcome)

        assert (events("applied"), events("duplicate"), events("parked")) == (2, 1, 1)
        assert value(metrics, "millrace_consumer_appended_events_total", consumer=kit.name) == 2
        assert value(metrics, "millrace_consumer_batch_events_sum", consumer=kit.name) == 4
        assert (value(metrics, "millrace_consumer_retries_total", consumer=kit.name) or 0) >= 2
        assert value(metrics, "millrace_consumer_rebalances_total", consumer=kit.name) == 1
        assert value(metrics, "millrace_consumer_failed_commits_total", consumer=kit.name) == 0


async def test_a_pool_tells_who_waits_for_a_connection(database: DatabaseUrls) -> None:
    metrics = Metrics()
    async with open_pool(database.service, name="tight", max_size=1) as pool:
        watch_pools(metrics, pool)
        async with pool.connection():
            waiting = asyncio.create_task(pool.getconn())
            await eventually(lambda: value(metrics, "millrace_pool_waiting", pool="tight") == 1)
            assert value(metrics, "millrace_pool_connections_idle", pool="tight") == 0
        await pool.putconn(await waiting)

    assert value(metrics, "millrace_pool_requests_total", pool="tight") == 2
    assert (value(metrics, "millrace_pool_wait_seconds_total", pool="tight") or 0) > 0


# -- a service


async def test_a_service_tells_what_it_did_and_names_nobody(database: DatabaseUrls) -> None:
    customer, key, correlation = uuid4(), uuid4().hex, f"correlation-{uuid4().hex}"
    told = {**as_customer(customer), "Idempotency-Key": key, "X-Correlation-Id": correlation}
    async with (
        in_test(service, database, kafka=NOBODY, topics={}, inventory_grpc_target=NOBODY) as app,
    ):
        client = app.http
        await list_tea(app.pool)
        body = {"lines": [{"sku": "TEA-1", "quantity": 2}]}
        for _ in range(2):
            placed = await client.post("/orders", json=body, headers=told)
            assert placed.status_code == 201
        order_id = placed.json()["order_id"]
        wait = {"min_version": 1, "wait": 10}
        assert (await client.get(f"/orders/{order_id}", params=wait, headers=told)).status_code == 200
        unknown = {"lines": [{"sku": "NEW-1", "quantity": 1}]}  # inventory is asked for it, in vain
        assert (await client.post("/orders", json=unknown, headers={**told, "Idempotency-Key": "k"})).is_error
        page = (await app.internal.get("/metrics")).text

    families = {family.name: family for family in text_string_to_metric_families(page)}
    samples = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in families.values()
        for one in family.samples
    }
    assert FAMILIES - families.keys() == set()
    posted = "millrace_http_request_duration_seconds_count"
    assert samples[posted, ("method", "POST"), ("route", "/orders"), ("status", "2xx")] == 2
    assert samples[posted, ("method", "GET"), ("route", "/orders/{order_id}"), ("status", "2xx")] == 1
    assert samples["millrace_appends_total", ("outcome", "appended")] == 1
    assert samples["millrace_appends_total", ("outcome", "replayed")] == 1
    assert samples["millrace_append_events_total",] == 1
    asked = [key for key in samples if key[0] == "millrace_grpc_client_duration_seconds_count"]
    assert [(key[1], samples[key]) for key in asked] == [(("code", "UNAVAILABLE"), 1)]

    for family in families.values():
        assert re.fullmatch(r"(millrace|process|python)_[a-z_]+", family.name)
        for sample in family.samples:
            assert sample.labels.keys() <= LABELS, sample
            for label in sample.labels.values():
                assert not UUID_TEXT.search(label), sample
                assert "@" not in label, sample
    for secret in (str(customer), key, correlation, order_id, "TEA-1"):
        assert secret not in page


async def test_a_service_tells_how_it_answered_others(database: DatabaseUrls) -> None:
    async with in_test(inventory, database) as app:
        await InventoryStub(app.grpc).GetAvailability(GetAvailabilityRequest(skus=["TEA-1"]))
        with pytest.raises(grpc.aio.AioRpcError):
            await InventoryStub(app.grpc).GetAvailability(GetAvailabilityRequest())

        async def counted() -> bool:
            answers = {"OK": 1.0, "INVALID_ARGUMENT": 1.0}
            return (
                await answers_of("/millrace.inventory.v1.Inventory/GetAvailability", app.internal) == answers
            )

        await eventually(counted, what="both calls are counted")  # the second one behind its answer


async def answers_of(method: str, internal: httpx.AsyncClient) -> dict[str, float]:
    """How many calls were answered, by code."""
    page = (await internal.get("/metrics")).text
    return {
        one.labels["code"]: one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
        if one.name == "millrace_grpc_server_duration_seconds_count" and one.labels["method"] == method
    }


async def test_a_process_without_the_http_role_is_scraped_too(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    environment = {
        "PATH": os.environ["PATH"],
        "ORDER_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/nowhere",
        "ORDER_KAFKA_BOOTSTRAP_SERVERS": NOBODY,
        "ORDER_INTERNAL_PORT": str(port),
        **tls_environment("order"),
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "order_service", "serve", "--roles", "relay"),
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            async def page() -> str:
                try:
                    text = (await client.get("/metrics")).text
                except httpx.TransportError:
                    assert process.returncode is None, log.read_text()
                    return ""
                assert 'millrace_relay_state{state="no_database",topic="orders.events"} 1.0' in text
                return text

            told = await eventually(page, within=30, what="the page")
            routes = (await client.get("/orders")).status_code
    finally:
        process.kill()
        await process.wait()

    assert routes == 404
    assert 'millrace_worker_ready{worker="relay orders.events"} 0.0' in told
    assert "millrace_event_loop_lag_seconds_count" in told
    assert 'millrace_build_info{python="' in told


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code in (200, 503)
    except httpx.ConnectError:
        return False

"""The relay when something is away: it waits where it is seen, loses nothing, and goes on by itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from millrace.postgres.leader import LeadershipLost
from millrace.relay import RelayState
from millrace.relay.leadership import open_session, try_lead
from millrace.runtime.backoff import Backoff
from tests.integration.store_kit import RelayKit, first_occurrences, never, open_relay_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit
        await kafka.start()  # whatever a test that failed left behind


async def test_what_is_appended_while_kafka_is_down_arrives_in_order_when_it_is_back(kit: RelayKit) -> None:
    streams = [f"counter-{n}" for n in range(6)]
    relay = kit.relay(chunk_size=7)
    async with running(relay):
        for stream in streams:
            await kit.append(stream, 1, 2)
        await kit.eventually_delivered(12)
        await kit.kafka.stop()
        for _ in range(3):
            for stream in streams:
                await kit.append(stream, 3, 4)
        await kit.kafka.start()
        for stream in streams:
            await kit.append(stream, 5)
        delivered = await kit.eventually_delivered(54, within=40.0)
        await kit.cursor_reaches_head()
        assert relay.status.state is RelayState.RELAYING
    assert first_occurrences(delivered) == {stream: list(range(1, 10)) for stream in streams}


async def test_a_broker_that_crashes_under_load_loses_nothing(kit: RelayKit) -> None:
    streams = [f"counter-{n}" for n in range(10)]

    async def load() -> None:
        for n in range(60):
            await asyncio.gather(*(kit.append(stream, n) for stream in streams))

    async with running(kit.relay(chunk_size=20)):
        loading = asyncio.create_task(load())
        await kit.eventually_delivered(100)
        await kit.kafka.kill()
        await kit.kafka.start()
        await loading
        delivered = await kit.eventually_delivered(600, within=60.0)
    assert first_occurrences(delivered) == {stream: list(range(1, 61)) for stream in streams}


async def test_a_broker_that_does_not_answer_is_given_up_and_tried_again(kit: RelayKit) -> None:
    # Without polls: a quiet relay asks for its topic, and a question that meets the pause would be what it
    # reports.
    relay = kit.relay(ack_timeout=0.5, poll=never())
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        await kit.kafka.pause()
        try:
            await kit.append("counter-1", 1, 2)
            await eventually(
                lambda: relay.status.state is RelayState.NO_KAFKA, what="it says that Kafka is gone"
            )
            assert "positions 1 to 2 were not acknowledged" in relay.status.detail
            assert relay.health().alive
            assert not relay.health().ready
            assert not relay.health().needed  # commands go on without Kafka
        finally:
            kit.kafka.resume()
        delivered = await kit.eventually_delivered(2, within=40.0)
        await kit.cursor_reaches_head(within=40.0)  # until then a slow answer may be given up once more
        assert relay.status.state is RelayState.RELAYING
        assert relay.health().ready
    assert first_occurrences(delivered) == {"counter-1": [1, 2]}


async def test_a_relay_is_not_ready_while_an_acknowledgement_is_missing(
    kit: RelayKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.relay.relay._SLOW_ACK", 0.2)
    relay = kit.relay(poll=never(), ack_timeout=60.0)
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        assert relay.health().ready
        await kit.kafka.pause()
        try:
            await kit.append("counter-1", 1, 2)
            await eventually(lambda: not relay.health().ready, what="it is not ready")
            assert relay.status.state is RelayState.RELAYING
            assert "2 events sent" in relay.health().detail
            assert "are not acknowledged" in relay.health().detail
        finally:
            kit.kafka.resume()
        await eventually(lambda: relay.health().ready, what="it is ready again")
        await kit.cursor_reaches_head()


async def test_a_relay_that_starts_without_kafka_says_so_and_recovers(kit: RelayKit) -> None:
    await kit.kafka.stop()
    relay = kit.relay()
    await kit.append("counter-1", 1)
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.NO_KAFKA, what="it says that Kafka is gone")
        await kit.kafka.start()
        await kit.eventually_delivered(1, within=30.0)


async def test_a_missing_topic_is_waited_for_and_never_created(kit: RelayKit) -> None:
    missing = replace(kit.topic, name=unique("missing"))
    relay = kit.relay(topic=missing)
    await kit.append("counter-1", 1)
    async with running(relay):
        await eventually(
            lambda: relay.status.state is RelayState.NO_TOPIC, what="it says which topic is missing"
        )
        assert f"topic {missing.name} does not exist" in relay.status.detail
        await kit.kafka.create_topic(missing.name, partitions=missing.partitions)
        await replace(kit, topic=missing).eventually_delivered(1)


async def test_another_number_of_partitions_than_declared_is_refused(kit: RelayKit) -> None:
    relay = kit.relay(topic=replace(kit.topic, partitions=4))
    await kit.append("counter-1", 1)
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.NO_TOPIC, what="it says what is wrong")
        assert "has 3 partitions, declared are 4" in relay.status.detail
    assert await kit.delivered() == []


async def test_a_relay_survives_a_restart_of_its_database(kit: RelayKit, postgres: PostgresServer) -> None:
    relay = kit.relay()
    async with running(relay):
        await kit.append("counter-1", 1)
        await kit.cursor_reaches_head()
        await postgres.stop()
        await eventually(lambda: relay.status.state is RelayState.NO_DATABASE, what="it says what is missing")
        await postgres.start()
        await eventually(lambda: relay.status.state is RelayState.RELAYING, 20.0, "it leads again")
        await kit.append("counter-1", 2)
        delivered = await kit.eventually_delivered(2)
    assert first_occurrences(delivered) == {"counter-1": [1, 2]}


async def test_a_leader_whose_session_was_cut_stands_back_for_another(kit: RelayKit) -> None:
    # The first is slow to come back, so that the other one must take over.
    first = kit.relay(backoff=Backoff(initial=30, maximum=30))
    second = kit.relay(standby_interval=0.05)
    async with running(first):
        await eventually(lambda: first.status.state is RelayState.RELAYING, what="the first leads")
        async with running(second):
            await eventually(lambda: second.status.state is RelayState.STANDBY, what="the second stands by")
            await _cut_sessions(kit)
            await eventually(lambda: second.status.state is RelayState.RELAYING, what="the second leads")
            await kit.append("counter-1", 1)
            await kit.cursor_reaches_head()
            await eventually(lambda: first.status.state is RelayState.NO_DATABASE, what="the first notices")
            assert await kit.cursor() == (1, 2)


async def _cut_sessions(kit: RelayKit) -> None:
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )


async def test_a_paused_leader_cannot_move_the_cursor_after_another_took_over(kit: RelayKit) -> None:
    url, topic = kit.database.service, kit.topic
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as admin:
        await admin.execute("GRANT EXECUTE ON FUNCTION pg_advisory_unlock_all() TO millrace_service")
    async with open_session(url, topic) as first, open_session(url, topic) as second:
        paused = await try_lead(first, kit.topic)
        assert paused is not None
        assert await try_lead(second, kit.topic) is None
        await first.connection.execute("SELECT pg_advisory_unlock_all()")  # and does not know it
        successor = await try_lead(second, kit.topic)
        assert successor is not None
        await successor.advance(10)
        with pytest.raises(LeadershipLost):
            await paused.advance(4)
        with pytest.raises(LeadershipLost):
            await paused.confirm()
        assert await kit.cursor() == (10, 2)


@pytest.mark.parametrize("fault", ["stopped", "paused"])
async def test_stopping_takes_seconds_while_kafka_is_away(kit: RelayKit, fault: str) -> None:
    relay = kit.relay()
    task = asyncio.create_task(relay.run())
    await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
    await (kit.kafka.stop() if fault == "stopped" else kit.kafka.pause())
    try:
        await kit.append("counter-1", 1)
        await eventually(
            lambda: relay.status.unacknowledged or relay.status.state is RelayState.NO_KAFKA,
            what="it is in the middle of a chunk, or has noticed",
        )
        started = time.monotonic()
        await relay.stop()
        await task
        assert time.monotonic() - started < 7.0
    finally:
        await kit.kafka.start()
    async with running(kit.relay()):  # and nothing is lost
        await kit.eventually_delivered(1, within=30.0)

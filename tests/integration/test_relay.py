"""The relay sends what is in the store: all of it, in order, to the right partition, at once, once when all
is well."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
from aiokafka.partitioner import DefaultPartitioner

from infra.testing import DatabaseUrls, KafkaServer
from millrace.relay import RelayState
from tests.integration.store_kit import (
    RelayKit,
    append_as,
    crashing,
    first_occurrences,
    never,
    open_relay_kit,
    running,
)
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit


async def test_every_event_arrives_as_it_was_recorded_in_version_order_in_the_partition_of_its_key(
    kit: RelayKit,
) -> None:
    streams = [f"counter-{n}" for n in range(20)]
    for round_ in range(4):
        for stream in streams:
            await kit.append(stream, round_)
    async with running(kit.relay()):
        delivered = await kit.eventually_delivered(80)
    recorded = {event.event_id: event for event in await kit.store.read_all(after=0, limit=1000)}
    epoch = await kit.store.epoch()
    assert len(delivered) == 80
    for each in delivered:
        original = recorded[each.event.event_id]
        assert each.event == original
        assert each.event.stored_metadata == original.stored_metadata
        assert (each.epoch, each.generation) == (epoch, 1)
        assert each.partition == DefaultPartitioner()(original.stream_id.encode(), [0, 1, 2], [])
        headers = dict(each.record.headers)
        assert headers["ce_source"] == b"/counter-service"
        assert headers["traceparent"] == (original.metadata.traceparent or "").encode()
    assert first_occurrences(delivered) == {stream: [1, 2, 3, 4] for stream in streams}
    assert len({each.partition for each in delivered}) == 3


async def test_a_stream_too_large_for_one_record_batch_arrives_in_order(kit: RelayKit) -> None:
    for start in range(0, 1500, 300):
        await kit.append("counter-1", *range(start, start + 300), padding="x" * 1500)
    async with running(kit.relay()):
        delivered = await kit.eventually_delivered(1500, within=30.0)
    assert [each.event.version for each in delivered] == list(range(1, 1501))


async def test_an_append_is_sent_at_once_not_at_the_next_poll(kit: RelayKit) -> None:
    relay = kit.relay(poll=never())
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        for n in range(3):
            await kit.append("counter-1", n)
            await kit.eventually_delivered(n + 1)


async def test_an_append_that_nobody_announced_is_found_by_polling(kit: RelayKit) -> None:
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        async with kit.pool.connection() as connection:
            await append_as(connection, "counter-1", data='{"n": 1}')
        await kit.eventually_delivered(1)


async def test_what_was_acknowledged_but_not_noted_is_sent_again(kit: RelayKit) -> None:
    relay = kit.relay()
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as blocker:
        async with crashing(relay):
            await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
            await blocker.execute("SELECT 1 FROM relay_cursor FOR UPDATE")  # the cursor can't move
            await kit.append("counter-1", 1, 2, 3)
            await kit.eventually_delivered(3)
        assert await kit.cursor() == (0, 1)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()
    versions = [each.event.version for each in await kit.delivered()]
    assert versions == [1, 2, 3, 1, 2, 3]


async def test_the_cursor_does_not_move_before_the_acknowledgement(kit: RelayKit) -> None:
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        await kit.kafka.pause()
        try:
            await kit.append("counter-1", 1)
            # Nothing to wait for: give a relay that is wrong the time to be wrong.
            for _ in range(20):
                assert await kit.cursor() == (0, 1)
                await asyncio.sleep(0.02)
        finally:
            kit.kafka.resume()
        await kit.eventually_delivered(1)
        await kit.cursor_reaches_head()


async def test_nothing_is_sent_twice_when_a_relay_is_stopped_and_started(kit: RelayKit) -> None:
    for n in range(3):
        async with running(kit.relay(poll=never())):
            await kit.append("counter-1", n)
            await kit.append("counter-2", n)
    # Each relay was told to stop right after the append: it first sends what is there.
    delivered = await kit.delivered()
    assert first_occurrences(delivered) == {"counter-1": [1, 2, 3], "counter-2": [1, 2, 3]}
    assert len(delivered) == 6
    assert await kit.cursor() == (6, 3)


async def test_a_new_generation_of_the_topic_is_filled_from_the_start(kit: RelayKit) -> None:
    await kit.append("counter-1", 1, 2)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()
    async with running(kit.relay(topic=replace(kit.topic, generation=2))):
        await eventually(lambda: _count(kit, 4), what="both generations in the topic")
    assert [(each.generation, each.event.version) for each in await kit.delivered()] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]


async def _count(kit: RelayKit, expected: int) -> bool:
    return len(await kit.delivered()) == expected


async def test_a_version_gap_is_refused_and_said(kit: RelayKit) -> None:
    await kit.append("counter-sound", 1)
    await kit.append("counter-damaged", 1, 2, 3)
    await kit.append("counter-later", 1)
    await _damage(kit, "DELETE FROM events WHERE stream_id = 'counter-damaged' AND version = 2")
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.BLOCKED, what="the relay stops at the gap")
        assert "position 4 holds version 3 of stream counter-damaged" in relay.status.detail
        assert not relay.health().ready
        assert relay.status.detail in relay.health().detail
        delivered = await kit.eventually_delivered(2)
        await kit.is_tried_again(relay)
    sent = [(each.event.stream_id, each.event.version) for each in delivered]
    assert sorted(sent) == [("counter-damaged", 1), ("counter-sound", 1)]
    assert (await kit.cursor())[0] == 2


async def test_a_gap_is_also_seen_when_the_version_before_it_was_sent_long_ago(kit: RelayKit) -> None:
    await kit.append("counter-1", 1, 2)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()
    await kit.append("counter-1", 3)
    await _damage(kit, "UPDATE events SET version = 4 WHERE version = 3")
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.BLOCKED, what="the relay stops at the gap")
    assert len(await kit.delivered()) == 2


async def _damage(kit: RelayKit, statement: str) -> None:
    """Do to the store what its triggers forbid."""
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as connection:
        await connection.execute("ALTER TABLE events DISABLE TRIGGER append_only")
        await connection.execute(statement.encode())


async def test_one_relay_leads_and_another_takes_over_where_it_stopped(kit: RelayKit) -> None:
    first, second = kit.relay(standby_interval=0.1), kit.relay(standby_interval=0.1)
    async with running(second), running(first):
        await eventually(
            lambda: {first.status.state, second.status.state} == {RelayState.RELAYING, RelayState.STANDBY},
            what="one leader, one in stand-by",
        )
        leader, standby = (first, second) if first.status.state is RelayState.RELAYING else (second, first)
        assert standby.health().ready
        await kit.append("counter-1", 1)
        await kit.cursor_reaches_head()
        assert await kit.cursor() == (1, 1)
        await leader.stop()
        await kit.append("counter-1", 2)
        await kit.cursor_reaches_head()
        assert await kit.cursor() == (2, 2)
        assert standby.status.state is RelayState.RELAYING
    assert [each.event.version for each in await kit.delivered()] == [1, 2]


async def test_stopping_takes_no_time_when_there_is_nothing_to_do(kit: RelayKit) -> None:
    relay = kit.relay(poll=never())
    task = asyncio.create_task(relay.run())
    await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
    started = time.monotonic()
    await relay.stop()
    await task
    assert time.monotonic() - started < 1.0
    assert relay.status.state is RelayState.STOPPED

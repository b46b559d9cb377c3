"""A store that came back from a backup: the relay notices before it sends, and nobody appends meanwhile."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from psycopg import AsyncConnection

from infra.testing import DatabaseUrls, KafkaServer
from millrace.domain.events import Metadata, RecordedEvent
from millrace.kafka.partitioning import partition_of
from millrace.kafka.record import Headers, to_record
from millrace.relay import RelayState
from millrace.store import StoreRefuses
from tests.integration.store_kit import REGISTRY, SOURCE, RelayKit, open_relay_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit


async def owner(kit: RelayKit, *statements: str) -> None:
    async with await AsyncConnection.connect(kit.database.superuser, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def go_back(kit: RelayKit, position: int) -> None:
    """What a restored backup does: the events behind `position` are gone, and the cursor is where it was
    then.

    Postgres itself is not replaced here (tests/chaos do that): the server's start time is changed in what was
    noted.
    """
    (ends,) = await kit.fetch("SELECT end_offsets FROM backup_of_cursor")
    await owner(
        kit,
        "ALTER TABLE events DISABLE TRIGGER USER",
        f"DELETE FROM events WHERE position > {position}",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER append_only",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER append_lock",
        f"ALTER TABLE events ALTER COLUMN position RESTART WITH {position + 1}",
        "UPDATE relay_cursor c SET position = b.position, end_offsets = b.end_offsets"
        " FROM backup_of_cursor b",
        "UPDATE store_state SET verified_start = verified_start - interval '1 hour'",
    )
    assert ends


async def back_up(kit: RelayKit) -> None:
    """As much of a backup as `go_back` needs."""
    await owner(
        kit,
        "CREATE TABLE backup_of_cursor AS SELECT * FROM relay_cursor",
        "GRANT SELECT ON backup_of_cursor TO millrace_service",
    )


async def send(kit: RelayKit, key: bytes, value: bytes, headers: Headers) -> None:
    """A record that this store's relay did not send, to the partition of its key."""
    producer = AIOKafkaProducer(bootstrap_servers=kit.kafka.bootstrap_servers)
    await producer.start()
    try:
        partition = partition_of(key, kit.topic.partitions)
        await producer.send_and_wait(kit.topic.name, value, key=key, partition=partition, headers=headers)
    finally:
        await producer.stop()


async def relay_what_there_is(kit: RelayKit, count: int) -> None:
    async with running(kit.relay()):
        await kit.eventually_delivered(count)
        await kit.cursor_reaches_head()


async def test_a_restored_store_sends_nothing_and_accepts_nothing(kit: RelayKit) -> None:
    await kit.append("a", 1, 2)
    await relay_what_there_is(kit, 2)
    await back_up(kit)
    await kit.append("a", 3)
    await kit.append("b", 1, 2)
    await relay_what_there_is(kit, 5)
    await go_back(kit, 2)

    await kit.append("c", 7)  # nobody has noticed yet
    before = len(await kit.delivered())
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.STORE_BEHIND)
        with pytest.raises(StoreRefuses, match=r"went back.*lacks.*millrace restore"):
            await kit.append("c", 8)
        assert not await kit.store.verified()
        assert "version 3 of a" in relay.status.detail or "version 1 of b" in relay.status.detail
        assert "ends at position 3" in relay.status.detail
    assert len(await kit.delivered()) == before


async def test_the_repeat_behind_a_crash_is_no_restored_store(kit: RelayKit) -> None:
    """Sent and acknowledged, but the cursor was not moved: the store has every event."""
    await kit.append("a", 1, 2)
    await relay_what_there_is(kit, 2)
    await back_up(kit)
    await kit.append("a", 3)
    await relay_what_there_is(kit, 3)
    await owner(
        kit,
        "UPDATE relay_cursor c SET position = b.position, end_offsets = b.end_offsets"
        " FROM backup_of_cursor b",
        "UPDATE store_state SET verified_start = verified_start - interval '1 hour'",
    )
    assert not await kit.store.verified()
    await relay_what_there_is(kit, 3)
    assert await kit.store.verified()
    await kit.append("a", 4)


async def test_the_right_data_opens_the_store_again(kit: RelayKit) -> None:
    await kit.append("a", 1)
    await relay_what_there_is(kit, 1)
    await kit.store.note_behind("it was another directory")
    with pytest.raises(StoreRefuses, match="another directory"):
        await kit.append("a", 2)
    async with running(kit.relay()):
        await eventually(kit.store.verified)
    await kit.append("a", 2)


async def test_a_store_on_another_timeline_refuses_until_it_was_compared(kit: RelayKit) -> None:
    """A promoted replica, a point-in-time recovery: nothing tells whether the tail is there."""
    await kit.append("a", 1)
    await owner(
        kit, "UPDATE store_state SET verified_start = verified_start - interval '1 hour', timeline = 77"
    )
    with pytest.raises(StoreRefuses, match="moved"):
        await kit.append("a", 2)
    await relay_what_there_is(kit, 1)
    await kit.append("a", 2)


async def test_a_failover_to_a_synchronous_standby_goes_on(kit: RelayKit) -> None:
    await owner(
        kit,
        "UPDATE store_state SET verified_start = verified_start - interval '1 hour', timeline = 77,"
        " synchronous = true",
    )
    await kit.append("a", 1)


async def test_a_restart_of_postgres_alone_refuses_nothing(kit: RelayKit) -> None:
    """Kafka may be away, and orders are accepted all the same."""
    await owner(kit, "UPDATE store_state SET verified_start = verified_start - interval '1 hour'")
    await kit.append("a", 1)
    assert not await kit.store.verified()


async def test_a_new_store_does_not_go_on_in_the_topic_of_another(kit: RelayKit) -> None:
    """The database was lost without a backup, and made again: the topic is what is left of it."""
    await kit.append("a", 1)
    await relay_what_there_is(kit, 1)
    await owner(
        kit,
        "ALTER TABLE events DISABLE TRIGGER USER",
        "DELETE FROM events",
        "DELETE FROM relay_cursor",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER append_lock",
        f"UPDATE store_identity SET epoch = '{uuid4()}'",
    )
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.STORE_BEHIND)


async def test_a_store_that_is_made_from_nothing_is_compared_before_anybody_acts_on_it(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    """Its consumers would react, and its mails go out, to all that a lost store had done before."""
    async with await AsyncConnection.connect(database.superuser, autocommit=True) as connection:
        await connection.execute(
            f"ALTER DATABASE {database.name} SET millrace.new_stores_are_verified = 'off'".encode()
        )
    async with open_relay_kit(database, kafka) as kit:
        assert not await kit.store.verified()
        await kit.append("a", 1)  # commands need no Kafka
        async with running(kit.relay()):
            await eventually(kit.store.verified)


async def test_a_second_primary_is_noticed_while_both_write(kit: RelayKit) -> None:
    """Two copies of one store relay to one topic: the one that finds the other's events stops before its
    cursor moves."""
    await kit.append("a", 1)
    relay = kit.relay()
    async with running(relay):
        await kit.eventually_delivered(1)
        await kit.cursor_reaches_head()
        other = RecordedEvent(
            2, "a", 2, uuid4(), "Counted", 1, b'{"n":99}', Metadata("elsewhere"), datetime.now(UTC), REGISTRY
        )
        await send(kit, *to_record(other, await kit.store.epoch(), 1, SOURCE))
        await kit.append("a", 2)
        await eventually(lambda: relay.status.state is RelayState.STORE_BEHIND)
    assert (await kit.cursor())[0] == 1


async def test_foreign_records_in_the_topic_hold_up_no_relay(kit: RelayKit) -> None:
    await kit.append("a", 1)
    async with running(kit.relay()):
        await kit.eventually_delivered(1)
        await kit.cursor_reaches_head()
        for number in range(3):
            await send(kit, b"a", b"no event", [])
            await kit.append("a", number)
            await kit.cursor_reaches_head()

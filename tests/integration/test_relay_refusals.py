"""A record that the broker refuses: it is named with the remedy, what stands before it goes out, and nothing
is sent twice."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import psycopg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.testing import DatabaseUrls, KafkaServer
from millrace.kafka.partitioning import partition_of
from millrace.relay import Relay, RelayState
from tests.integration.store_kit import RelayKit, first_occurrences, open_relay_kit, running
from tests.support import eventually

SMALL = {"max.message.bytes": "4000"}
LARGE = 6000  # characters that no compression makes small


@asynccontextmanager
async def kit_with(
    database: DatabaseUrls, kafka: KafkaServer, configs: Mapping[str, str]
) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka, configs=configs) as kit:
        yield kit


async def test_a_record_that_is_too_large_is_named_with_the_remedy_and_nothing_is_sent_twice(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    async with kit_with(database, kafka, SMALL) as kit:
        streams = [f"counter-{n}" for n in range(8)]
        for round_ in range(2):
            for stream in streams:
                await kit.append(stream, round_)
        await kit.append("counter-3", 2, padding=secrets.token_hex(LARGE // 2))  # position 17
        for stream in streams:
            await kit.append(stream, 3)

        relay = kit.relay()
        async with running(relay):
            await eventually(lambda: _is_refused(relay, "position 17 (Counted) has "))
            await kit.is_tried_again(relay)
            rows = await kit.fetch("SELECT event_type, stream_id FROM stalls WHERE worker = %s", relay.name)
            assert rows == [("Counted", "counter-3")]

            detail = relay.status.detail
            assert "more than max.message.bytes: `kafka-configs.sh" in detail
            assert f"--topic {kit.topic.name} --add-config max.message.bytes=" in detail
            assert not relay.health().ready
            assert relay.health().alive
            assert detail in relay.health().detail
            assert (await kit.cursor())[0] == 16
            delivered = await kit.delivered()
            positions = [each.event.position for each in delivered]
            assert len(positions) == len(set(positions)), "sent twice"
            assert set(range(1, 17)) <= set(positions)
            assert not _behind_in_its_partition(kit, positions, refused=17, stream="counter-3")

            await _set(kit, "max.message.bytes", _recommended(detail))
            delivered = await kit.eventually_delivered(25)
            await kit.cursor_reaches_head()
            await eventually(lambda: relay.status.state is RelayState.RELAYING, what="it goes on")
            assert relay.health().ready
        assert len(delivered) == 25, "sent twice"
        assert first_occurrences(delivered)["counter-3"] == [1, 2, 3, 4]


async def test_what_waits_behind_a_refused_record_goes_out_in_order_and_once(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    """Two records are too large, and each has later versions of its stream behind it."""
    async with kit_with(database, kafka, SMALL) as kit:
        for n in range(30):
            await kit.append(
                f"counter-{n % 5}", n, padding=secrets.token_hex(LARGE // 2) if n in {7, 11} else ""
            )
        relay = kit.relay(chunk_size=12)
        async with running(relay):
            await eventually(lambda: _is_refused(relay, "position 8 (Counted) "))
            for n in range(30, 40):
                await kit.append(f"counter-{n % 5}", n)
            await _set(kit, "max.message.bytes", 1_000_000)
            delivered = await kit.eventually_delivered(40)
            await kit.cursor_reaches_head()
        assert len(delivered) == 40, "sent twice"
        assert first_occurrences(delivered) == {f"counter-{n}": list(range(1, 9)) for n in range(5)}


async def test_records_that_are_too_large_only_together_go_out_in_smaller_batches(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    async with kit_with(database, kafka, {"max.message.bytes": "20000"}) as kit:
        for start in range(0, 200, 20):
            await kit.append("counter-1", *range(start, start + 20), padding=secrets.token_hex(500))
        relay = kit.relay()
        async with running(relay):
            delivered = await kit.eventually_delivered(200, within=60.0)
            await kit.cursor_reaches_head()
            assert relay.status.state is RelayState.RELAYING
            sent_at_first = len(delivered)
            await kit.append("counter-1", *range(200, 300), padding=secrets.token_hex(500))
            delivered = await kit.eventually_delivered(300, within=60.0)
        assert [each.event.version for each in delivered] == list(range(1, 301))
        assert sent_at_first == 200


async def test_an_event_of_the_future_is_sent_at_once_and_keeps_its_own_time(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    """The store's clock was two hours ahead for a moment, and the broker takes no timestamp of the future."""
    async with kit_with(database, kafka, {"message.timestamp.after.max.ms": "1000"}) as kit:
        await kit.append("counter-1", 1)
        await kit.append("counter-2", 1)
        await _shift(kit, 1, timedelta(hours=2))
        relay = kit.relay()
        async with running(relay):
            delivered = await kit.eventually_delivered(2)
            await kit.cursor_reaches_head()
        stored = {event.position: event.recorded_at for event in await kit.store.read_all(after=0, limit=9)}
        assert {each.event.position: each.event.recorded_at for each in delivered} == stored
        async with running(kit.relay()) as _:  # a new leader compares the topic with the store
            await kit.append("counter-1", 2)
            await kit.eventually_delivered(3)
        assert len(await kit.delivered()) == 3


async def test_a_timestamp_that_the_broker_refuses_is_named_with_the_remedy(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    async with kit_with(database, kafka, {"message.timestamp.before.max.ms": "3600000"}) as kit:
        await kit.append("counter-1", 1)
        await kit.append("counter-1", 2)
        await _shift(kit, 2, -timedelta(hours=2))
        relay = kit.relay()
        async with running(relay):
            await eventually(lambda: _is_refused(relay, "position 2 (Counted): "))
            assert "refuses its timestamp" in relay.status.detail
            assert "message.timestamp.before.max.ms" in relay.status.detail
            assert (await kit.cursor())[0] == 1


async def test_a_record_that_the_topics_settings_forbid_is_named(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    """A compacted topic takes no record without a key, and a lineage record has none."""
    async with kit_with(database, kafka, {"cleanup.policy": "compact"}) as kit:
        await kit.append("counter-1", 1)
        async with await psycopg.AsyncConnection.connect(kit.database.superuser) as connection:
            await connection.execute(
                "INSERT INTO store_lineage (number, old_epoch, ended_at, new_epoch, prefixes, renewed_by)"
                " SELECT 1, gen_random_uuid(), 0, epoch, '{counter-}', 'test' FROM store_identity"
            )
        relay = kit.relay()
        async with running(relay):
            await eventually(lambda: _is_refused(relay, "a lineage record"))
            assert "refuses it (INVALID_RECORD)" in relay.status.detail
        assert await kit.delivered() == []


def _is_refused(relay: Relay, which: str) -> bool:
    return relay.status.state is RelayState.REFUSED and relay.status.detail.startswith(which)


def _behind_in_its_partition(kit: RelayKit, positions: list[int], *, refused: int, stream: str) -> list[int]:
    """The positions beyond the refused one that were sent to its partition. The last eight are of counter-0
    to counter-7."""
    partition = partition_of(stream.encode(), kit.topic.partitions)
    return [
        position
        for position in positions
        if position > refused
        and partition_of(f"counter-{position - refused - 1}".encode(), kit.topic.partitions) == partition
    ]


def _recommended(detail: str) -> int:
    return int(detail.rpartition("max.message.bytes=")[2].strip("`"))


async def _set(kit: RelayKit, name: str, value: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kit.kafka.bootstrap_servers)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, kit.topic.name, {name: str(value)})
        await admin.alter_configs([resource])
    finally:
        await admin.close()


async def _shift(kit: RelayKit, position: int, by: timedelta) -> datetime:
    """As if the store's clock had been wrong by this much when the event was appended."""
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as connection:
        await connection.execute("ALTER TABLE events DISABLE TRIGGER append_only")
        cursor = await connection.execute(
            "UPDATE events SET recorded_at = recorded_at + %s WHERE position = %s RETURNING recorded_at",
            (by, position),
        )
        await connection.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_only")
        row = await cursor.fetchone()
        assert row is not None
        moment: datetime = row[0]
        return moment

"""What was acknowledged is there after a crash: of Postgres, and of the broker."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import psycopg

from infra.local.home import Home
from infra.testing import KafkaServer, PostgresServer
from millrace.kafka.aiokafka_parts import acknowledgements, numbers_batches
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import open_pool
from millrace.relay.publisher import open_publisher
from millrace.store import EventStore
from tests.integration.store_kit import REGISTRY, SOURCE, Counted, StoreKit
from tests.support import eventually

CRASHES = 3


async def crash_in_mid_append(server: PostgresServer, kit: StoreKit, stream_id: str) -> None:
    """Appends to the stream, kills the server meanwhile, and compares what returned with what is there
    afterwards."""
    returned: list[int] = []

    async def append_on() -> None:
        for n in range(100_000):
            await kit.append(stream_id, n)
            returned.append(n)

    appending = asyncio.create_task(append_on())
    await eventually(lambda: len(returned) > 200, 30.0, "appends")
    await server.kill()
    with suppress(psycopg.Error):
        await asyncio.wait_for(appending, 30)
    await server.start()
    events = await kit.store.read_stream(stream_id)
    found = [one.event.n for one in events if isinstance(one.event, Counted)]
    assert found[: len(returned)] == returned
    assert len(found) <= len(returned) + 1, "at most the one whose answer was lost"


async def test_every_append_that_returned_is_there_after_postgres_was_killed(test_home: Home) -> None:
    """SIGKILL to the server in the middle of appends: what its process had not written to the disk is
    gone."""
    server = PostgresServer(test_home, "crashing", fsync=True)
    await server.start()
    try:
        database = await server.create_database()
        # As in a deployment that wants to be fast at any price: the connection's own setting must hold.
        async with await psycopg.AsyncConnection.connect(database.superuser, autocommit=True) as owner:
            await owner.execute("ALTER SYSTEM SET synchronous_commit = 'off'")
            await owner.execute(
                "ALTER SYSTEM SET wal_writer_delay = '10s'"
            )  # what is not flushed stays in memory
            await owner.execute("SELECT pg_reload_conf()")
        await migrate(database.migrator)
        async with (
            open_pool(database.service, name="test", max_size=4) as pool,
            EventStore(pool, REGISTRY) as store,
        ):
            kit = StoreKit(database, pool, store)
            for crash in range(CRASHES):
                await crash_in_mid_append(server, kit, f"counter-{crash}")
    finally:
        await server.stop()


async def test_the_producer_waits_for_all_replicas_and_numbers_its_batches(kafka: KafkaServer) -> None:
    """One broker acknowledges alike whatever is asked for, so the client's own state is looked at."""
    topic = Topic(await kafka.create_topic(partitions=2), 2)
    async with open_publisher(
        topic, epoch=uuid4(), source=SOURCE, bootstrap_servers=kafka.bootstrap_servers
    ) as publisher:
        assert acknowledgements(publisher._producer) == -1, "all replicas in sync"
        assert numbers_batches(publisher._producer)

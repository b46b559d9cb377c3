"""The servers that tests get are real, isolated, and can be crashed and come back with their data."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from infra.local.component import Progress
from infra.local.errors import ComponentError
from infra.local.home import Home
from infra.local.postgres import Postgres, server_user
from infra.local.programs import run
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique


@pytest.mark.parametrize("when", ["before its start", "while it starts"])
async def test_a_server_whose_port_somebody_else_takes_starts_on_another_one(
    test_home: Home, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    server = PostgresServer(test_home, name=unique("postgres"), fsync=False)
    taken = server.port
    with ExitStack() as sockets:

        async def take(progress: Progress) -> None:
            if server.port == taken:
                sockets.enter_context(socket.create_server(("127.0.0.1", taken)))
            await Postgres.prepare(server, progress)

        if when == "before its start":
            sockets.enter_context(socket.create_server(("127.0.0.1", taken)))
        else:
            monkeypatch.setattr(server, "prepare", take)
        try:
            await server.start()

            assert server.port != taken
            async with await psycopg.AsyncConnection.connect(server.superuser_url()) as connection:
                await connection.execute("SELECT 1")
        finally:
            await server.kill()


async def test_a_server_that_can_not_start_for_another_reason_is_not_moved(test_home: Home) -> None:
    server = PostgresServer(test_home, name=unique("postgres"), fsync=False)
    port, server.settings = server.port, {"no_such_setting": "on"}
    with pytest.raises(ComponentError, match="ended with code 1"):
        await server.start()
    assert server.port == port


async def test_a_database_lets_the_migrator_create_only_as_the_owner(database: DatabaseUrls) -> None:
    async with await psycopg.AsyncConnection.connect(database.migrator, autocommit=True) as migrator:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await migrator.execute("CREATE TABLE public.forgotten (id int)")
        await migrator.execute("SET ROLE millrace_owner")
        await migrator.execute("CREATE TABLE things (id int)")
    async with await psycopg.AsyncConnection.connect(database.service, autocommit=True) as service:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute("SELECT * FROM things")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await service.execute("CREATE TABLE mine (id int)")


async def test_a_reader_sees_every_table_and_changes_none(database: DatabaseUrls) -> None:
    async with await psycopg.AsyncConnection.connect(database.migrator, autocommit=True) as migrator:
        await migrator.execute("SET ROLE millrace_owner")
        await migrator.execute("CREATE TABLE things (id int)")
    async with await psycopg.AsyncConnection.connect(database.superuser, autocommit=True) as connection:
        await connection.execute("SET ROLE millrace_reader")
        await connection.execute("SELECT * FROM things")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("INSERT INTO things VALUES (1)")


async def test_bootstrap_can_run_again_and_sets_the_passwords(
    postgres: PostgresServer, database: DatabaseUrls
) -> None:
    await postgres.bootstrap(database.name, "other_service", "it's a \\ secret", "other", "third", "fourth")
    await postgres.bootstrap(database.name, "other_service", "a new 'one'", "other", "third", "fourth")
    with pytest.raises(psycopg.OperationalError, match="password"):
        await psycopg.AsyncConnection.connect(
            postgres.url_for("other_service", "it's a \\ secret", database.name)
        )
    url = postgres.url_for("other_service", "a new 'one'", database.name)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("SELECT 1")


async def test_postgres_keeps_committed_rows_through_a_crash(
    postgres: PostgresServer, database: DatabaseUrls
) -> None:
    async with await psycopg.AsyncConnection.connect(database.superuser) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    await postgres.kill()
    await postgres.start()
    async with await psycopg.AsyncConnection.connect(database.superuser) as connection:
        cursor = await connection.execute("SELECT answer FROM kept")
        assert await cursor.fetchone() == (42,)


async def test_kafka_keeps_records_through_a_stop(kafka: KafkaServer) -> None:
    topic = await kafka.create_topic(partitions=2)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait(topic, b"hello", partition=1)
    await kafka.stop()
    await kafka.start()
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()
    assert (record.partition, record.value) == (1, b"hello")


async def test_kafka_creates_no_topic_by_itself(kafka: KafkaServer) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=500
    ) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.partitions_for(unique("undeclared"))


@asynccontextmanager
async def busy_grpc() -> AsyncIterator[None]:
    """Calls without a pause, between a client and a server of this process."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def ask(channel: grpc.aio.Channel) -> None:
        method: Any = channel.unary_unary("/nobody/answers")
        while True:
            with suppress(grpc.aio.AioRpcError):  # unimplemented
                await method(b"", timeout=5)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        asking = [asyncio.create_task(ask(channel)) for _ in range(3)]
        try:
            yield
        finally:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            await server.stop(None)


async def test_servers_can_be_started_while_grpc_is_busy() -> None:
    async with busy_grpc():
        for _ in range(40):
            await run("postgres", ["true"], user=server_user())

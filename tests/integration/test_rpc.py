"""gRPC: deadlines, errors as statuses, retries, draining, and nothing but reading."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
import psycopg
import pytest
from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls
from millrace.domain.events import NewerEventVersion
from millrace.postgres.database import open_pool, open_read_only_pool
from millrace.read_models.reading import ReadModelBuilding
from millrace.rpc.callers import Register
from millrace.rpc.channel import open_channel
from millrace.rpc.credentials import channel_credentials
from millrace.rpc.errors import RpcError, invalid_argument, not_found, reason_of
from millrace.rpc.server import GrpcServer
from millrace.testing.certificates import identity
from millrace.tls.names import dns_name
from schemas.grpc.callers import CALLERS
from schemas.grpc.inventory_pb2 import GetAvailabilityRequest, GetAvailabilityResponse, Product
from schemas.grpc.inventory_pb2_grpc import (
    InventoryServicer,
    InventoryStub,
    add_InventoryServicer_to_server,
)
from tests.support import eventually

Context = Any
Behaviour = Callable[[Context], Awaitable[None]]
ASK = GetAvailabilityRequest(skus=["TEA-1"])
ANSWER = GetAvailabilityResponse(products=[Product(sku="TEA-1", available=3)])


class Scripted(InventoryServicer):
    """Does what the test says, then answers."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.calls = 0

    async def GetAvailability(  # noqa: N802 - the protocol's name
        self, request: GetAvailabilityRequest, context: Context
    ) -> GetAvailabilityResponse:
        """The behaviour, then an answer."""
        self.calls += 1
        await self._behaviour(context)
        return ANSWER


def server_of(register: Register, port: int) -> GrpcServer:
    """Inventory's, as far as anybody can see."""
    return GrpcServer(register, host="127.0.0.1", port=port, identity=identity("inventory"), callers=CALLERS)


def channel_to(target: str, *, timeout: float) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    """The order service's channel to inventory."""
    return open_channel(target, service="inventory", identity=identity("order"), timeout=timeout)


@asynccontextmanager
async def serving(
    behaviour: Behaviour, port: int | None = None
) -> AsyncIterator[tuple[str, Scripted, GrpcServer]]:
    """A server with that behaviour: its address, its servicer, itself."""
    port = port or free_ports(1)[0]
    servicer = Scripted(behaviour)
    server = server_of(lambda registry: add_InventoryServicer_to_server(servicer, registry), port)
    running = asyncio.create_task(server.run())
    await eventually(lambda: server.health().ready, what="the server listens")
    try:
        yield f"127.0.0.1:{port}", servicer, server
    finally:
        await server.stop()
        await running


async def answers(_context: Context) -> None:
    """Nothing special."""


def raising(error: Exception) -> Behaviour:
    """A servicer that fails."""

    async def fail(_context: Context) -> None:
        raise error

    return fail


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error that the caller sees."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_a_call_without_a_deadline_gets_the_channels() -> None:
    remaining: list[float] = []

    async def note(context: Context) -> None:
        remaining.append(context.time_remaining())

    async with serving(note) as (target, _, _), channel_to(target, timeout=7.0) as channel:
        assert await InventoryStub(channel).GetAvailability(ASK) == ANSWER
        await InventoryStub(channel).GetAvailability(ASK, timeout=60.0)
    assert 5 < remaining[0] < 8  # it is rounded up on its way
    assert 50 < remaining[1] < 61


async def test_the_default_deadline_ends_a_call_that_takes_too_long() -> None:
    async def never(_context: Context) -> None:
        await asyncio.Event().wait()

    async with serving(never) as (target, _, _), channel_to(target, timeout=0.3) as channel:
        began = time.monotonic()
        error = await failure(InventoryStub(channel).GetAvailability(ASK))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 3


async def test_the_server_refuses_a_call_without_a_deadline() -> None:
    bare = channel_credentials(identity("order").current())
    name = [("grpc.default_authority", dns_name("inventory"))]
    async with (
        serving(answers) as (target, servicer, _),
        grpc.aio.secure_channel(target, bare, options=name) as channel,
    ):
        error = await failure(InventoryStub(channel).GetAvailability(ASK))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == "deadline_required"
    assert servicer.calls == 0


@pytest.mark.parametrize(
    ("raised", "code", "reason"),
    [
        (not_found("order"), grpc.StatusCode.NOT_FOUND, "order_not_found"),
        (invalid_argument("skus", "1 to 500"), grpc.StatusCode.INVALID_ARGUMENT, "invalid_skus"),
        (
            RpcError(grpc.StatusCode.FAILED_PRECONDITION, "user_deactivated", "Gone."),
            grpc.StatusCode.FAILED_PRECONDITION,
            "user_deactivated",
        ),
        (psycopg.OperationalError("gone"), grpc.StatusCode.UNAVAILABLE, "temporarily_unavailable"),
        (NewerEventVersion("by a newer one"), grpc.StatusCode.UNAVAILABLE, "temporarily_unavailable"),
        (ReadModelBuilding("orders_v2"), grpc.StatusCode.UNAVAILABLE, "read_model_building"),
    ],
)
async def test_an_error_reaches_the_caller_with_status_and_reason(
    raised: Exception, code: grpc.StatusCode, reason: str
) -> None:
    async with serving(raising(raised)) as (target, _, _), channel_to(target, timeout=5) as channel:
        error = await failure(InventoryStub(channel).GetAvailability(ASK))
    assert (error.code(), reason_of(error)) == (code, reason)


async def test_an_unexpected_error_is_logged_and_tells_nothing_of_the_inside() -> None:
    broken = RuntimeError("the password is hunter2")
    async with serving(raising(broken)) as (target, _, _), channel_to(target, timeout=5) as channel:
        with capture_logs() as logs:
            error = await failure(InventoryStub(channel).GetAvailability(ASK))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in (error.details() or "")
    assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [broken]


@pytest.mark.parametrize(
    "fault",
    [
        psycopg.OperationalError("the server closed the connection unexpectedly"),
        RpcError(grpc.StatusCode.CANCELLED, "stopping", "The server stops."),
    ],
)
async def test_a_server_that_is_unavailable_for_a_moment_is_asked_again(fault: Exception) -> None:
    servicers: list[Scripted] = []

    async def fails_twice(_context: Context) -> None:
        if servicers[0].calls <= 2:
            raise fault

    async with serving(fails_twice) as (target, servicer, _), channel_to(target, timeout=10) as channel:
        servicers.append(servicer)
        assert await InventoryStub(channel).GetAvailability(ASK) == ANSWER
        assert servicer.calls == 3


async def test_what_can_not_be_helped_is_not_asked_again() -> None:
    async with (
        serving(raising(not_found("order"))) as (target, servicer, _),
        channel_to(target, timeout=5) as channel,
    ):
        await failure(InventoryStub(channel).GetAvailability(ASK))
        assert servicer.calls == 1


async def test_a_server_that_is_away_is_told_at_once_and_found_when_it_is_back() -> None:
    port = free_ports(1)[0]
    async with channel_to(f"127.0.0.1:{port}", timeout=30) as channel:
        stub = InventoryStub(channel)
        began = time.monotonic()
        assert (await failure(stub.GetAvailability(ASK))).code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 10, "not only when the deadline is over"
        async with serving(answers, port):

            async def answered() -> bool:
                try:
                    return bool(await stub.GetAvailability(ASK) == ANSWER)
                except grpc.aio.AioRpcError:
                    return False

            await eventually(answered, within=10, what="the server is found again")


async def test_the_correlation_id_travels_with_the_call() -> None:
    seen: list[object] = []

    async def note(_context: Context) -> None:
        seen.append(get_contextvars().get("correlation_id"))

    async with serving(note) as (target, _, _), channel_to(target, timeout=5) as channel:
        with bound_contextvars(correlation_id="order-desk-7"):
            await InventoryStub(channel).GetAvailability(ASK)
        await InventoryStub(channel).GetAvailability(ASK)
    assert seen == ["order-desk-7", None]


async def test_a_stop_answers_the_call_in_flight() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(_context: Context) -> None:
        begun.set()
        await release.wait()

    async with serving(slow) as (target, _, server), channel_to(target, timeout=20) as channel:
        call = asyncio.ensure_future(InventoryStub(channel).GetAvailability(ASK))
        await begun.wait()
        stop = asyncio.create_task(server.stop())

        async def is_refused() -> bool:
            # A call that still slips in waits like the first one, until its own deadline.
            async with channel_to(target, timeout=0.5) as another:
                error = await failure(InventoryStub(another).GetAvailability(ASK))
                return error.code() is grpc.StatusCode.UNAVAILABLE

        await eventually(is_refused, what="a new call is refused")
        assert not server.health().ready
        release.set()
        assert await call == ANSWER
        await stop


async def test_a_taken_port_is_named() -> None:
    async with serving(answers) as (target, _, _):
        port = int(target.rpartition(":")[2])
        with pytest.raises(OSError, match=target):
            await asyncio.wait_for(server_of(lambda _: None, port).run(), 10)


async def test_postgres_refuses_what_a_servicer_writes(database: DatabaseUrls) -> None:
    async with await psycopg.AsyncConnection.connect(database.superuser, autocommit=True) as admin:
        await admin.execute("CREATE TABLE notes (text text)")
        await admin.execute("GRANT ALL ON notes TO millrace_service")
    refusals: list[str | None] = []
    async with (
        open_read_only_pool(database.service, name="queries", max_size=1) as queries,
        open_pool(database.service, name="commands", max_size=1) as commands,
    ):

        async def write(_context: Context) -> None:
            async with queries.connection() as connection:
                try:
                    await connection.execute("INSERT INTO notes VALUES ('written by a query')")
                except psycopg.Error as error:
                    refusals.append(error.sqlstate)
                    raise

        async with serving(write) as (target, _, _), channel_to(target, timeout=10) as channel:
            await failure(InventoryStub(channel).GetAvailability(ASK))
        async with commands.connection() as connection:
            await connection.execute("INSERT INTO notes VALUES ('written by a command')")
            rows = await (await connection.execute("SELECT text FROM notes")).fetchall()
    assert set(refusals) == {"25006"}  # read_only_sql_transaction
    assert rows == [("written by a command",)]

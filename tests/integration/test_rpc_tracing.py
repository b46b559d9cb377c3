"""A gRPC call as two spans of one trace: who asks, who answers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from millrace.rpc.errors import RpcError, not_found
from millrace.telemetry import tracing
from schemas.grpc.inventory_pb2_grpc import InventoryStub
from tests.integration.test_rpc import ANSWER, ASK, Context, answers, channel_to, failure, raising, serving
from tests.support import eventually
from tests.tracing_kit import Recorded, SeenSpan, conventional_names, recorded_spans

METHOD = "millrace.inventory.v1.Inventory/GetAvailability"


@pytest.fixture
def spans() -> Iterator[Recorded]:
    with recorded_spans() as spans:
        yield spans


async def both(spans: Recorded) -> tuple[SeenSpan, SeenSpan]:
    """The caller's and the server's, which may end later."""
    await eventually(lambda: len(spans.spans) == 2, what="both ends have said how the call ended")
    server, client = sorted(spans.spans, key=lambda span: span.kind == "CLIENT")
    return client, server


async def test_the_server_continues_the_trace_of_the_caller(spans: Recorded) -> None:
    async with serving(answers) as (target, _, _), channel_to(target, timeout=5.0) as channel:
        with tracing.start("work") as work:
            assert await InventoryStub(channel).GetAvailability(ASK) == ANSWER
        [_, _, asked] = spans.spans
    server, client, _ = spans.spans
    assert (client.parent_id, server.parent_id) == (asked.span_id, client.span_id)
    assert {client.trace_id, server.trace_id} == {str(work.traceparent)[3:35]}
    assert (client.name, client.kind, server.name, server.kind) == (METHOD, "CLIENT", METHOD, "SERVER")
    host, port = target.split(":")
    assert server.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }
    assert client.attributes == {**server.attributes, "server.address": host, "server.port": int(port)}
    assert client.attributes.keys() <= conventional_names()


@pytest.mark.parametrize(
    ("raised", "status", "servers_fault"),
    [
        (not_found("order"), "NOT_FOUND", False),
        (RpcError(grpc.StatusCode.FAILED_PRECONDITION, "gone", "Ada is gone."), "FAILED_PRECONDITION", False),
        (RuntimeError("the password is hunter2"), "INTERNAL", True),
    ],
)
async def test_a_status_is_a_failure_of_the_call_but_not_always_of_the_server(
    spans: Recorded, raised: Exception, status: str, servers_fault: bool
) -> None:
    async with serving(raising(raised)) as (target, _, _), channel_to(target, timeout=5.0) as channel:
        await failure(InventoryStub(channel).GetAvailability(ASK))
        client, server = await both(spans)
    assert (client.failed, server.failed) == (True, servers_fault)
    assert client.attributes["rpc.response.status_code"] == status
    assert server.attributes["rpc.response.status_code"] == status
    assert client.attributes["error.type"] == status
    assert "hunter2" not in repr(spans.spans)
    assert "Ada" not in repr(spans.spans)


async def test_a_call_that_is_given_up_is_cancelled_also_when_it_is_traced(spans: Recorded) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(_context: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def ask(channel: grpc.aio.Channel) -> Any:
        return await InventoryStub(channel).GetAvailability(ASK)

    async with serving(hang) as (target, _, _), channel_to(target, timeout=30.0) as channel:
        asking = asyncio.create_task(ask(channel))
        await asyncio.wait_for(begun.wait(), 10)
        asking.cancel()
        await asyncio.wait_for(cancelled.wait(), 10)
        client, server = await both(spans)
    assert client.failed
    assert server.failed


async def test_without_tracing_a_call_says_nothing_of_a_trace() -> None:
    told: list[str] = []

    async def note(context: Context) -> None:
        told.extend(key for key, _ in context.invocation_metadata())

    async with serving(note) as (target, _, _), channel_to(target, timeout=5.0) as channel:
        await InventoryStub(channel).GetAvailability(ASK)
    assert told
    assert "traceparent" not in told

"""A small app with the house's rules and one route of every kind, for the tests of HTTP."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

import httpx
from fastapi import Depends, Request, Response
from psycopg import OperationalError
from pydantic import BaseModel, Field, TypeAdapter

from millrace.application.commands import IdempotencyKeyReused
from millrace.domain.decider import CommandRefused
from millrace.http.actor import AnyActor, Customer, Operator, OptionalActor
from millrace.http.app import create_app
from millrace.http.command import ChangingCommand, KeyedCommand
from millrace.http.fields import RequestBody, Text
from millrace.http.paging import BigInt, Page, encode_cursor, page
from millrace.http.problems import not_found
from millrace.http.responses import answer
from millrace.http.routing import new_router
from millrace.http.waiting import MinVersion, PreferWait, Waiters
from millrace.postgres.wakeup import Wakeup
from millrace.store import WrongExpectedVersion

CUSTOMER = {"X-Customer-Id": "0199a5ef-11aa-7b0c-8d2e-5f4a6b7c8d9e"}
OPERATOR = {"X-Operator-Id": "ada"}
KEY = {"Idempotency-Key": "k-1"}
ORDER = {"lines": [{"sku": "TEA-1", "quantity": 2}]}


class Line(RequestBody):
    """A line of a body."""

    sku: Text
    quantity: int = Field(ge=1, le=10_000)


class OrderBody(RequestBody):
    """A body with a nested field."""

    lines: list[Line] = Field(min_length=1)


@dataclass
class Thing:
    """What the read model shows; a test changes it."""

    version: int = 0
    reads: int = 0
    wakeup: Wakeup = field(default_factory=Wakeup)
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.waiters = Waiters(self.versions, self.wakeup)

    async def versions(self, names: Collection[str]) -> dict[str, int]:
        """A look at the read model, for everybody who waits."""
        self.reads += 1
        if self.fault:
            raise self.fault
        return dict.fromkeys(names, self.version)

    def reaches(self, version: int) -> None:
        """The read model catches up."""
        self.version = version
        self.wakeup.notify()


class ThingDocument(BaseModel):
    """An answer."""

    version: int


RAISED: dict[str, Exception] = {
    "refused": CommandRefused("order_already_shipped", "The order is on its way.", order_id="o-1"),
    "missing": CommandRefused("order_not_found", "There is no such order."),
    "stale": WrongExpectedVersion("order-1", 3, 5),
    "reused": IdempotencyKeyReused("k-1"),
    "unexpected": RuntimeError("the password is hunter2"),
    "database-down": OperationalError("connection refused"),
}

router = new_router("test")
Numbers = Annotated[Page[tuple[BigInt]], Depends(page(TypeAdapter(tuple[BigInt])))]


@router.post("/orders", status_code=201)
async def place(body: OrderBody, customer: Customer, command: KeyedCommand) -> Response:
    """Tells what the command was given."""
    context = command.context(customer, body)
    assert context.idempotency is not None
    told = {
        "actor": context.actor,
        "correlation_id": context.correlation_id,
        "traceparent": context.traceparent,
        "scope": context.idempotency.scope,
        "key": context.idempotency.key,
        "fingerprint": context.idempotency.fingerprint,
        "sku": body.lines[0].sku,
    }
    return answer(told, status=201, version=1, location="/orders/o-1")


@router.get("/orders")
async def orders() -> Response:
    """Another method of a path that has one already."""
    return answer({"orders": []})


@router.post("/orders/{order_id}/cancel")
async def cancel(order_id: UUID, actor: AnyActor, command: ChangingCommand) -> Response:
    """Tells the precondition."""
    idempotency = command.context(actor).idempotency
    told = {"actor": str(actor), "expected_version": command.expected_version}
    return answer({**told, "fingerprint": idempotency.fingerprint if idempotency else None})


@router.post("/products")
async def list_product(operator: Operator) -> Response:
    """For operators."""
    return answer({"actor": str(operator)})


@router.get("/who")
async def who(actor: OptionalActor) -> Response:
    """For everybody."""
    return answer({"actor": str(actor) if actor else None})


@router.get("/numbers")
async def numbers(rows: Numbers) -> Response:
    """Counts upwards, a page at a time."""
    first = rows.after[0] + 1 if rows.after else 0
    last = first + rows.limit - 1
    return answer({"numbers": list(range(first, last + 1)), "next_cursor": encode_cursor(last)})


@router.get("/thing", response_model=ThingDocument)
async def thing(request: Request, after: MinVersion) -> Response:
    """Reads your writes."""
    shown: Thing = request.app.state.thing

    async def read() -> Thing | None:
        return shown if shown.version else None

    row = await after.read(read, shown.waiters, "thing")
    if row is None:
        raise not_found("thing")
    return answer(ThingDocument(version=row.version), version=row.version)


@router.post("/thing/settle")
async def settle(request: Request, prefer: PreferWait) -> Response:
    """Waits for version 2 when asked to."""
    shown: Thing = request.app.state.thing
    followed = await prefer.until(shown.waiters, "thing", 2) if prefer.seconds else False
    return answer({"version": shown.version}, headers=prefer.applied(followed))


@router.get("/raise/{what}")
async def raises(what: str) -> Response:
    """Fails in the way that `what` names."""
    raise RAISED[what]


@asynccontextmanager
async def client(shown: Thing | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app; no network."""
    app = create_app("Test", router, refusals={"order_not_found": 404}, **options)
    app.state.thing = shown or Thing()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        yield http


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in the response, after checking that it is a proper one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == response.request.url.path
    assert body["correlation_id"] == response.headers["x-correlation-id"]
    return body


def fields(body: dict[str, Any]) -> list[str]:
    """The fields that a problem names."""
    return [error["field"] for error in body["errors"]]

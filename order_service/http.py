"""The HTTP door of the order service. Customers see and change their own orders, operators everybody's."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from pydantic import Field, StringConstraints, TypeAdapter

from millrace import CommandRefused, Committed
from millrace.http.actor import Actor, AnyActor, Operator, customer
from millrace.http.as_of import AsOfQuery, events_until
from millrace.http.command import ChangingCommand, CommandRequest, keyed_request
from millrace.http.fields import RequestBody, Text
from millrace.http.history import HistoryDocument, HistoryPage, history, history_after
from millrace.http.openapi import reads_like
from millrace.http.paging import BigInt, Page, encode_cursor, page
from millrace.http.problems import FieldError, Problem, bad_field, forbidden, not_found, unavailable
from millrace.http.responses import answer
from millrace.http.routing import new_router
from millrace.http.waiting import MinVersion, Waiters, WaitPreference, wait_preference
from order_service import documents
from order_service.commands import OrderCommands, PricesUnavailable
from order_service.documents import ChangedOrder, OrderDocument, OrderList, PlacedOrder
from order_service.domain import MAX_LINES, MAX_QUANTITY, Item, Order, Status
from order_service.queries import OrderHistory, OrderQueries
from order_service.read_models.orders import OrderRow, Orders
from schemas.events.orders import UNKNOWN_CHANNEL

_ORDERS: Final = Orders()

REFUSALS: Final = {"order_not_found": 404}

# Refusals of a new order are mistakes in its lines: 422, with the field to blame.
_BLAMED: Final = {
    "unknown_sku": "sku",
    "quantity_too_large": "quantity",
    "mixed_currencies": None,
    "total_too_large": None,
}

Sku = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9._-]{0,63}$")]
Quantity = Annotated[int, Field(strict=True, ge=1, le=MAX_QUANTITY)]
# What this shop sells through today: strict at the door, while the event can hold any channel (see
# SalesChannel).
Channel = Literal["web", "app", "phone", "marketplace"]


class LineBody(RequestBody):
    """So many of one SKU."""

    sku: Sku = Field(examples=["TEA-1"])
    quantity: Quantity = Field(examples=[2])


class PlaceOrderBody(RequestBody):
    """What is ordered. Lines of the same SKU become one."""

    lines: Annotated[list[LineBody], Field(min_length=1, max_length=MAX_LINES)]
    channel: Channel | None = Field(
        None, description='which sales channel the order came through; "unknown" when it is left out'
    )


class CancelBody(RequestBody):
    """Why, for anyone who reads the history."""

    reason: Text | None = None


class ShipBody(RequestBody):
    """Who carries it."""

    carrier: Text = Field(examples=["DHL"])
    tracking_code: Text | None = None


@dataclass(frozen=True, slots=True)
class OrderResources:
    """What the doors need. `waiters` wait for the read model."""

    commands: OrderCommands
    queries: OrderQueries
    history: OrderHistory
    waiters: Waiters[UUID]


async def _resources(request: Request) -> OrderResources:
    resources: OrderResources = request.app.state.resources
    return resources


@dataclass(frozen=True, slots=True)
class Placing:
    """What placing an order needs beside its body."""

    customer: Actor
    command: CommandRequest
    prefer: WaitPreference
    resources: OrderResources


@reads_like(customer, keyed_request, wait_preference)
async def _placing(request: Request) -> Placing:
    # One dependency for all four: each that FastAPI resolves costs the hottest route some 15 µs a request.
    return Placing(
        await customer(request),
        await keyed_request(request),
        await wait_preference(request),
        request.app.state.resources,
    )


Resources = Annotated[OrderResources, Depends(_resources)]
OrdersPage = Annotated[Page[tuple[BigInt]], Depends(page(TypeAdapter(tuple[BigInt])))]

router = new_router("orders")


@router.post("/orders", status_code=201, response_model=PlacedOrder)
async def place_order(body: PlaceOrderBody, placing: Annotated[Placing, Depends(_placing)]) -> Response:
    """Place an order. It is accepted when it is durable here; confirmed or rejected when inventory has
    answered.

    `Prefer: wait=N` answers when that has happened, after N seconds at most.
    """
    resources, actor = placing.resources, placing.customer
    items = [Item(line.sku, line.quantity) for line in body.lines]
    try:
        committed = await resources.commands.place(
            actor.customer_id, items, body.channel or UNKNOWN_CHANNEL, placing.command.context(actor, body)
        )
    except CommandRefused as refusal:
        raise _blame(refusal, body) from refusal
    except PricesUnavailable as error:
        detail = f"{error}, and inventory doesn't answer at the moment."
        raise unavailable(detail, code="prices_unavailable", retry_after=2) from error
    order = _order(committed)
    status, version, position = str(order.status), committed.version, committed.position
    assert position is not None, "an order that was placed has an event"
    followed = True
    if placing.prefer.seconds and order.status is Status.PENDING:
        # Whatever comes next decides a pending order.
        followed = await placing.prefer.until(resources.waiters, order.order_id, version + 1)
        if (row := await resources.queries.order(order.order_id)) is not None:
            status, version, position = row.status, row.version, row.position
    return answer(
        documents.placed_order(order, status, version, position),
        status=201,
        version=version,
        location=f"/orders/{order.order_id}",
        headers=placing.prefer.applied(followed),
    )


@router.get("/orders/{order_id}", response_model=OrderDocument)
async def get_order(
    order_id: UUID, actor: AnyActor, read_after: MinVersion, as_of: AsOfQuery, resources: Resources
) -> Response:
    """An order, as it is, or as it was at a version or a time: that comes straight from the event store."""
    if as_of is not None:
        found = await resources.history.of(order_id)
        if found is None or not actor.may_see(found.customer_id):
            raise not_found("order")
        then = _ORDERS.row_after(events_until(found.events, as_of))
        assert then is not None, "an order's stream begins with OrderCreated"
        return answer(documents.order_document(then), version=then.version)

    async def visible(row: OrderRow | None) -> bool:
        # Not in the read model yet: the store knows whose it is, and whether it exists at all.
        owned = row or await resources.history.of(order_id)
        return owned is not None and actor.may_see(owned.customer_id)

    current = await read_after.read(
        lambda: resources.queries.order(order_id), resources.waiters, order_id, visible=visible
    )
    if current is None or not actor.may_see(current.customer_id):
        raise not_found("order")
    return answer(documents.order_document(current), version=current.version)


@router.get("/orders", response_model=OrderList)
async def list_orders(
    actor: AnyActor,
    paging: OrdersPage,
    resources: Resources,
    status: Annotated[Status | None, Query(description="only orders of this status")] = None,
    customer_id: Annotated[UUID | None, Query(description="whose; operators must say it")] = None,
) -> Response:
    """A customer's orders, newest first."""
    rows = await resources.queries.orders_of(
        _whose(actor, customer_id),
        before=paging.after[0] if paging.after else None,
        limit=paging.limit + 1,  # one more tells whether there is a next page
        status=status,
    )
    shown = rows[: paging.limit]
    more = len(rows) > paging.limit
    return answer(
        {
            "orders": [documents.order_document(row) for row in shown],
            "next_cursor": encode_cursor(shown[-1].created_position) if more else None,
        }
    )


@router.post("/orders/{order_id}/cancel", response_model=ChangedOrder)
async def cancel_order(
    order_id: UUID,
    actor: AnyActor,
    command: ChangingCommand,
    resources: Resources,
    body: CancelBody | None = None,
) -> Response:
    """Call off an order that is pending or confirmed. Doing it twice changes nothing."""
    committed = await resources.commands.cancel(
        order_id,
        None if actor.is_operator else actor.customer_id,
        body.reason if body else None,
        command.context(actor, body),
        expected_version=command.expected_version,
    )
    return _changed(committed)


@router.post("/orders/{order_id}/ship", response_model=ChangedOrder)
async def ship_order(
    order_id: UUID, body: ShipBody, operator: Operator, command: ChangingCommand, resources: Resources
) -> Response:
    """Hand a confirmed order to the carrier."""
    committed = await resources.commands.ship(
        order_id,
        body.carrier,
        body.tracking_code,
        command.context(operator, body),
        expected_version=command.expected_version,
    )
    return _changed(committed)


@router.get("/orders/{order_id}/events", response_model=HistoryDocument)
async def get_history(order_id: UUID, actor: AnyActor, events: HistoryPage, resources: Resources) -> Response:
    """Everything that happened to an order, oldest first, straight from the event store."""
    found = await resources.history.of(order_id)
    if found is None or not actor.may_see(found.customer_id):
        raise not_found("order")
    after = history_after(events)
    shown = [event for event in found.events if event.version > after][: events.limit + 1]
    return answer(history(shown, events.limit), version=found.events[-1].version)


def _whose(actor: Actor, customer_id: UUID | None) -> UUID:
    """Whose orders are asked for: a customer's own, for an operator those of the customer that they name."""
    if actor.is_operator:
        if customer_id is None:
            raise bad_field(422, "invalid_request", "customer_id", "is required for operators", "add it")
        return customer_id
    if customer_id not in (None, actor.customer_id):
        raise forbidden("Only an operator may list another customer's orders.")
    return actor.customer_id


def _blame(refusal: CommandRefused, body: PlaceOrderBody) -> CommandRefused | Problem:
    if refusal.code not in _BLAMED:
        return refusal
    field = _BLAMED[refusal.code]
    blamed = refusal.details.get("skus", ())
    fields = [f"lines[{index}].{field}" for index, line in enumerate(body.lines) if line.sku in blamed]
    errors = [FieldError(name, refusal.message) for name in fields or ["lines"]]
    return Problem(422, refusal.code, refusal.message, errors=errors, **refusal.details)


def _changed(committed: Committed[Order | None]) -> Response:
    document = documents.changed_order(_order(committed), committed.version, committed.position)
    return answer(document, version=committed.version)


def _order(committed: Committed[Order | None]) -> Order:
    assert committed.state is not None, "a command that was not refused leaves an order"
    return committed.state

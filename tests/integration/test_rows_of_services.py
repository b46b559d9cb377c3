"""Each service's rows are the fold of its streams, over any history that its domain allows and any
batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.string import ByteaBinaryLoader

from infra.testing import DatabaseUrls
from inventory_service import domain as inventory
from inventory_service.read_models.stock import Stock
from millrace import (
    CommandRefused,
    Decider,
    EventRegistry,
    Metadata,
    RecordedEvent,
    RowPerStream,
    new_id,
)
from millrace.migrations import migrate
from millrace.postgres.database import Connection, open_pool
from notification_service import domain as notification
from notification_service.read_models.notifications import Notifications
from order_service import domain as order
from order_service.read_models.orders import Orders
from schemas.events.inventory import INVENTORY_EVENTS, product_stream
from schemas.events.notifications import NOTIFICATION_EVENTS, NotificationKind, notification_stream
from schemas.events.orders import ORDER_EVENTS, Shortage, order_stream
from schemas.events.users import USER_EVENTS, user_stream
from schemas.money import Money
from user_service import domain as user
from user_service.read_models.users import Users

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
Step = Callable[[Random], Any]
"""Draws a command."""


@dataclass(frozen=True)
class Kind:
    """A read model with one row per stream, and how to draw a life of such a stream."""

    model: type[RowPerStream[Any, Any]]
    registry: EventRegistry
    decider: Decider[Any, Any]
    begin: Callable[[Random], tuple[str, Any]]
    """Draws a stream's id and its first command."""
    steps: Sequence[Step]


def an_id(random: Random) -> UUID:
    return UUID(int=random.getrandbits(128))


def a_price(random: Random) -> Money:
    return Money(amount=random.randrange(1, 10**6), currency="EUR")


def a_text(random: Random) -> str:
    return "".join(random.choices("aöß'\\\"{},\n", k=random.randrange(1, 8)))


def a_text_or_none(random: Random) -> str | None:
    return random.choice([None, a_text(random)])


def an_order(random: Random) -> tuple[str, Any]:
    order_id = an_id(random)
    items = [order.Item(random.choice(["TEA", "CUP"]), random.randrange(1, 9)) for _ in range(2)]
    prices = {"TEA": a_price(random), "CUP": a_price(random)}
    channel = random.choice(["web", "phone"])
    return order_stream(order_id), order.PlaceOrder(order_id, an_id(random), items, prices, channel)


def a_product(random: Random) -> tuple[str, Any]:
    sku = f"SKU-{random.getrandbits(40)}"
    return product_stream(sku), inventory.ListProduct(sku, a_text(random), a_price(random))


def a_notification(random: Random) -> tuple[str, Any]:
    this = an_id(random)
    kinds: list[NotificationKind] = ["order_created", "order_shipped"]
    request = notification.RequestNotification(this, random.choice(kinds), an_id(random), an_id(random))
    return notification_stream(this), request


def a_user(random: Random) -> tuple[str, Any]:
    user_id = an_id(random)
    return user_stream(user_id), user.RegisterUser(user_id, a_text(random))


def a_shortage(random: Random) -> Shortage:
    return Shortage(sku="TEA", requested=random.randrange(5, 9), available=random.randrange(4))


def units(command: Any) -> Step:
    return lambda random: command(an_id(random), random.randrange(1, 9))


def a_delay(random: Random) -> notification.RecordDelay:
    reason = random.choice([notification.MAIL_SERVER_UNAVAILABLE, notification.RECIPIENT_DEFERRED])
    return notification.RecordDelay(reason, BEGAN + timedelta(microseconds=random.getrandbits(40)))


KINDS = [
    Kind(
        Orders,
        ORDER_EVENTS,
        order.ORDER,
        an_order,
        [
            lambda random: order.ConfirmOrder(),
            lambda random: order.RejectOrder(a_text(random), (a_shortage(random),) * random.randrange(3)),
            lambda random: order.CancelOrder(None, a_text_or_none(random)),
            lambda random: order.ShipOrder(a_text(random), a_text_or_none(random)),
        ],
    ),
    Kind(
        Stock,
        INVENTORY_EVENTS,
        inventory.PRODUCT,
        a_product,
        [
            lambda random: inventory.ReceiveStock(random.randrange(1, 2**33)),
            lambda random: inventory.ChangePrice(a_price(random)),
            units(inventory.ReserveUnits),
            units(inventory.ReleaseUnits),
            units(inventory.DeductUnits),
        ],
    ),
    Kind(
        Notifications,
        NOTIFICATION_EVENTS,
        notification.NOTIFICATION,
        a_notification,
        [
            a_delay,
            a_delay,
            lambda random: notification.RecordSent(a_text(random)),
            lambda random: notification.RecordFailure(a_text(random)),
        ],
    ),
    Kind(
        Users,
        USER_EVENTS,
        user.USER,
        a_user,
        [
            lambda random: user.ChangeContact(a_text(random)),
            lambda random: user.ChangeContact(a_text(random)),
            lambda random: user.DeactivateUser(a_text_or_none(random)),
        ],
    ),
]


def draw_history(kind: Kind, random: Random, events: int) -> list[RecordedEvent]:
    """So many events (or a few more) of streams that live side by side."""
    streams: dict[str, tuple[int, Any]] = {}
    history: list[RecordedEvent] = []
    while len(history) < events:
        if not streams or random.random() < 0.2:
            stream, command = kind.begin(random)
        else:
            stream, command = random.choice(list(streams)), random.choice(kind.steps)(random)
        version, state = streams.get(stream, (0, kind.decider.initial))
        try:
            decided = kind.decider.decide(state, command)
        except CommandRefused:
            continue
        for event in decided:
            version, state = version + 1, kind.decider.evolve(state, event)
            position = len(history) + 1
            history.append(
                RecordedEvent(
                    position=position,
                    stream_id=stream,
                    version=version,
                    event_id=new_id(),
                    event_type=event.event_type,
                    schema_version=event.schema_version,
                    data=event.to_json(),
                    metadata=Metadata("test"),
                    recorded_at=BEGAN + timedelta(microseconds=position),
                    registry=kind.registry,
                )
            )
        streams[stream] = version, state
    return history


def batches(
    events: Sequence[RecordedEvent], random: Random, largest: int
) -> Iterator[Sequence[RecordedEvent]]:
    start = 0
    while start < len(events):
        size = random.randint(1, largest)
        yield events[start : start + size]
        start += size


async def rows(connection: Connection, model: RowPerStream[Any, Any]) -> set[tuple[Any, ...]]:
    """All rows of the live copy."""
    columns = ", ".join(field.name for field in fields(model.row))
    cursor = connection.cursor(binary=True)
    cursor.adapters.register_loader("json", ByteaBinaryLoader)
    await cursor.execute(f"SELECT {columns} FROM {model.schema}.{model.table}".encode())
    return set(await cursor.fetchall())


def folded(model: RowPerStream[Any, Any], events: Sequence[RecordedEvent]) -> set[tuple[Any, ...]]:
    """What the rows must be: each stream by itself, from its beginning."""
    streams: dict[str, list[RecordedEvent]] = {}
    for event in events:
        streams.setdefault(event.stream_id, []).append(event)
    return {astuple(row) for stream in streams.values() if (row := model.row_after(stream))}


@pytest.mark.parametrize("largest", [1, 5, 200])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.model.__name__)
async def test_the_rows_are_the_fold_of_each_stream(database: DatabaseUrls, kind: Kind, largest: int) -> None:
    random = Random(largest)
    model = kind.model()
    events = draw_history(kind, random, 150)
    await migrate(database.migrator, read_models=[model])
    async with (
        open_pool(database.service, name="test", max_size=1) as pool,
        pool.connection() as connection,
    ):
        for batch in batches(events, random, largest):
            async with connection.transaction():
                await connection.execute("SELECT set_config('search_path', %s, true)", (model.search_path(),))
                await model.apply(connection, batch)
        assert await rows(connection, model) == folded(model, events)

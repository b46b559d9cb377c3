"""`replay stream`: any stream of any service as it is and as it was, told by the service's own program."""

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from infra.local.home import REPOSITORY
from infra.local.process import ProgramCommand
from infra.local.programs import Ran, capture
from infra.testing import DatabaseUrls
from inventory_service.app import service as inventory
from millrace.application.as_of import AsOf
from millrace.application.timeline import Timeline
from millrace.domain.events import DomainEvent, Metadata, NewEvent, RecordedEvent
from millrace.migrations import migrate
from millrace.operations.definition import ServiceDefinition
from millrace.operations.replay.stream_command import look
from millrace.operations.replay.stream_display import as_json
from millrace.postgres.database import open_pool
from millrace.process.settings import ServiceSettings
from millrace.runtime.errors import ToolError
from millrace.store import ANY, EventStore, StreamAppend
from notification_service.app import service as notification
from order_service.app import service as order
from schemas.events.inventory import (
    ProductListed,
    ReservedLine,
    StockReceived,
    StockReleased,
    StockReserved,
    UnitsReserved,
)
from schemas.events.notifications import NotificationRequested, NotificationSent
from schemas.events.orders import OrderCancelled, OrderConfirmed, OrderCreated, OrderLine
from schemas.events.users import UserContactChanged, UserDeactivated, UserRegistered
from schemas.money import Money
from tests.integration.store_kit import append_as
from user_service.app import service as user

ID = UUID("0190f3a8-0000-7000-8000-000000000001")
PRICE = Money(amount=500, currency="EUR")
SEALED = "gAAAAAB" + "x" * 180

HISTORIES: list[tuple[ServiceDefinition, str, list[DomainEvent]]] = [
    (
        order.definition,
        f"order-{ID}",
        [
            OrderCreated(
                order_id=ID,
                customer_id=ID,
                lines=(OrderLine(sku="TEA-1", quantity=2, unit_price=PRICE),),
                total=Money(amount=1000, currency="EUR"),
                channel="web",
            ),
            OrderConfirmed(order_id=ID, customer_id=ID),
            OrderCancelled(order_id=ID, customer_id=ID, reason="too\x1b[31m late"),
        ],
    ),
    (
        inventory.definition,
        "product-TEA-1",
        [
            ProductListed(sku="TEA-1", name="Tea", price=PRICE),
            StockReceived(sku="TEA-1", quantity=10),
            UnitsReserved(sku="TEA-1", order_id=ID, quantity=2),
        ],
    ),
    (
        inventory.definition,
        f"reservation-{ID}",
        [
            StockReserved(order_id=ID, lines=(ReservedLine(sku="TEA-1", quantity=2),)),
            StockReleased(order_id=ID, lines=(ReservedLine(sku="TEA-1", quantity=2),)),
        ],
    ),
    (
        notification.definition,
        f"notification-{ID}",
        [
            NotificationRequested(
                notification_id=ID, kind="order_created", order_id=ID, customer_id=ID, total=PRICE
            ),
            NotificationSent(notification_id=ID, message_id="<1@millrace>", attempt=1),
        ],
    ),
    (
        user.definition,
        f"user-{ID}",
        [
            UserRegistered(user_id=ID, sealed_contact=SEALED),
            UserContactChanged(user_id=ID, sealed_contact=SEALED + "y"),
            UserDeactivated(user_id=ID),
        ],
    ),
]


NOW = AsOf()


@dataclass
class StoredStreams:
    """A store with the histories of one service, and the service's program."""

    definition: ServiceDefinition
    database: DatabaseUrls
    store: EventStore

    async def shown(self, stream_id: str, as_of: AsOf = NOW) -> dict[str, Any]:
        """What the command tells programs."""
        document: dict[str, Any] = json.loads(as_json(await self.looked(stream_id, as_of)))
        return document

    async def refused(self, stream_id: str, as_of: AsOf = NOW) -> str:
        """The one line that says why."""
        with pytest.raises(ToolError) as refusal:
            await self.looked(stream_id, as_of)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    async def looked(self, stream_id: str, as_of: AsOf) -> Timeline:
        settings = ServiceSettings(database_url=self.database.service)
        return await look(settings, self.definition, stream_id, as_of, None)

    async def program(self, *arguments: str) -> Ran:
        """`python -m order_service replay stream ...`, run to its end."""
        package = self.definition.name.replace("-", "_")
        prefix = package.removesuffix("_service").upper()
        argv = (sys.executable, "-m", package, "replay", "stream", *arguments)
        env = {f"{prefix}_DATABASE_URL": self.database.service, "USER_PRIVACY_MASTER_KEY": "A" * 43 + "="}
        return await capture(ProgramCommand(argv, env=env, cwd=REPOSITORY))


@pytest.fixture
async def streams(database: DatabaseUrls, request: pytest.FixtureRequest) -> AsyncIterator[StoredStreams]:
    definition: ServiceDefinition = getattr(request, "param", order.definition)
    await migrate(database.migrator)
    async with (
        open_pool(database.service, name="test", max_size=2) as pool,
        EventStore(pool, definition.registry) as store,
    ):
        for owner, stream_id, events in HISTORIES:
            if owner is definition:
                for event in events:  # each at a time of its own
                    new = NewEvent(event, Metadata("request-1", "cause-1", "operator:olga"))
                    await store.append([StreamAppend(stream_id, ANY, [new])])
        yield StoredStreams(definition, database, store)


async def stored(streams: StoredStreams, stream_id: str = f"order-{ID}") -> list[RecordedEvent]:
    return await streams.store.read_stream(stream_id)


@pytest.mark.parametrize(
    "streams",
    [order.definition, inventory.definition, notification.definition, user.definition],
    indirect=True,
    ids=lambda each: each.name,
)
async def test_every_kind_of_stream_of_every_service_is_shown(streams: StoredStreams) -> None:
    kinds = set()
    for owner, stream_id, events in HISTORIES:
        if owner is streams.definition:
            kinds.add(next(kind.prefix for kind in owner.streams if stream_id.startswith(kind.prefix)))
            document = await streams.shown(stream_id)
            assert document["version"] == document["current_version"] == len(events)
            assert [event["type"] for event in document["events"]] == [event.event_type for event in events]
            assert all(event["changes"] for event in document["events"])
    assert kinds == {kind.prefix for kind in streams.definition.streams}, "a kind without a history here"


async def test_the_state_at_a_version_and_what_each_event_changed(streams: StoredStreams) -> None:
    created, confirmed, _ = await stored(streams)
    document = await streams.shown(f"order-{ID}", AsOf(version=2))
    assert (document["service"], document["version"], document["current_version"]) == ("order-service", 2, 3)
    assert document["state"]["status"] == "confirmed"
    assert document["state"]["total"] == {"amount": 1000, "currency": "EUR"}
    first, second = document["events"]
    assert {"field": "total.amount", "old": None, "new": 1000} in first["changes"]
    assert second["changes"] == [{"field": "status", "old": "pending", "new": "confirmed"}]
    assert second["data"] == {"order_id": str(ID), "customer_id": str(ID)}
    told = ("position", "event_id", "actor", "correlation_id", "causation_id")
    assert [second[name] for name in told] == [
        confirmed.position,
        str(confirmed.event_id),
        "operator:olga",
        "request-1",
        "cause-1",
    ]
    assert created.recorded_at.isoformat().startswith(first["recorded_at"][:26])


async def test_the_state_at_a_time_has_what_was_recorded_until_then(streams: StoredStreams) -> None:
    _, confirmed, cancelled = await stored(streams)
    at = await streams.shown(f"order-{ID}", AsOf(time=cancelled.recorded_at))
    before = await streams.shown(f"order-{ID}", AsOf(time=confirmed.recorded_at))
    assert (at["version"], before["version"], before["state"]["status"]) == (3, 2, "confirmed")


async def test_people_see_the_changes_and_the_state_below_them(streams: StoredStreams) -> None:
    ran = await streams.program(f"order-{ID}", "--last", "1")
    assert (ran.code, ran.err) == (0, "")
    assert "2 earlier events are not shown: --last 3 or --json shows all" in ran.out
    assert "OrderCancelled" in ran.out
    assert "OrderConfirmed" not in ran.out
    assert "confirmed → cancelled" in ran.out
    assert r'reason  "too\u001b[31m late"' in ran.out, "no control characters reach the terminal"
    assert ran.out.index("OrderCancelled") < ran.out.index("State at version 3")


@pytest.mark.parametrize("streams", [user.definition], indirect=True, ids=["user-service"])
async def test_sealed_contact_data_stay_sealed(streams: StoredStreams) -> None:
    document = await streams.shown(f"user-{ID}")
    assert document["state"]["sealed_contact"] == SEALED + "y"
    page = (await streams.program(f"user-{ID}")).out
    assert "(188 characters)" in page
    assert SEALED not in page


async def test_an_unknown_stream_is_refused_with_one_that_may_be_meant(streams: StoredStreams) -> None:
    for given in (f"order-{ID}"[:-4], str(ID), f"order-{ID}".upper().replace("ORDER", "order")):
        if given != f"order-{ID}":
            assert f"did you mean order-{ID}?" in await streams.refused(given)
    assert f"the one that changed last is order-{ID}" in await streams.refused(f"order-{uuid4()}")
    assert "its ids begin with order-…" in await streams.refused("invoice-1")
    assert "printable" in await streams.refused("order-\n1")


async def test_a_version_or_time_that_never_was_is_refused(streams: StoredStreams) -> None:
    assert "has 3 events; --at-version 1..3" in await streams.refused(f"order-{ID}", AsOf(version=4))
    began = (await stored(streams))[0].recorded_at
    refusal = await streams.refused(f"order-{ID}", AsOf(time=began - timedelta(microseconds=1)))
    assert began.isoformat() in refusal


async def test_programs_read_json_and_exit_codes(streams: StoredStreams) -> None:
    ran = await streams.program(f"order-{ID}", "--at-time", "0m ago", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["state"]["status"] == "cancelled"
    ran = await streams.program(f"order-{ID}", "--at-version", "4")
    assert (ran.code, ran.out) == (1, "")
    assert (
        ran.err == f"order-service: order-{ID}: there is no version 4: it has 3 events; --at-version 1..3\n"
    )
    ran = await streams.program(f"order-{ID}", "--at-version", "1", "--at-time", "2020-01-01")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)


async def test_an_event_of_a_newer_program_is_named(streams: StoredStreams) -> None:
    async with streams.store._pool.connection() as connection:
        await append_as(connection, f"order-{ID}", event_type="OrderCreated", version=99)
    assert "event 4 can't be read: OrderCreated version 99" in await streams.refused(f"order-{ID}")
    assert (await streams.shown(f"order-{ID}", AsOf(version=3)))["version"] == 3

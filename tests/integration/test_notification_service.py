"""The notification service as a whole: from an order's events in the topic to the mail, and its HTTP door."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx
import pytest

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.testing import TopicWriter, in_test
from notification_service.app import service
from schemas.events.orders import (
    ORDER_EVENTS,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderShipped,
    order_stream,
)
from schemas.money import Money
from schemas.topics import ORDERS
from tests.integration.notification_kit import MailServer
from tests.integration.user_kit import ADA, deployment
from tests.support import eventually

PRICE = Money(amount=1250, currency="EUR")
OPERATOR = {"X-Operator-Id": "olga"}


@dataclass(frozen=True)
class OrderTopic:
    """Writes to the orders' topic what the order service's relay would write."""

    writer: TopicWriter
    recorded: list[RecordedEvent] = field(default_factory=list)

    async def publish(self, events: Sequence[DomainEvent], times: int = 1) -> None:
        """The whole history of one order, each record so many times."""
        for event in events:
            stream = order_stream(event.order_id)  # type: ignore[attr-defined]
            recorded = await self.writer.publish(stream, event)
            for one in recorded * (times - 1):
                await self.writer.send(one)
            self.recorded.extend(recorded)

    async def republish(self) -> None:
        """Everything once more, as when a topic is filled again from the store."""
        for one in self.recorded:
            await self.writer.send(one)


@dataclass(frozen=True)
class Platform:
    """The notification service with what it needs, seen from outside."""

    http: httpx.AsyncClient
    internal: httpx.AsyncClient
    mail: MailServer
    orders: OrderTopic
    customer: UUID

    async def kinds(self, order: UUID, headers: dict[str, str], status: str = "sent") -> list[str]:
        """What the customer was told about an order, oldest first."""
        answer = await self.http.get(f"/notifications?order_id={order}", headers=headers)
        assert answer.status_code == 200, answer.text
        shown = answer.json()["notifications"]
        return [one["kind"] for one in reversed(shown) if one["status"] == status]

    async def told(self, order: UUID, kinds: list[str]) -> None:
        """Waits until the customer was told just this about the order."""
        me = {"X-Customer-Id": str(self.customer)}

        async def look() -> bool:
            return await self.kinds(order, me) == kinds

        await eventually(look, within=30, what=f"{kinds} are sent for {order}")


def history(customer: UUID, order: UUID, *, shipped: bool = False) -> list[DomainEvent]:
    lines = (OrderLine(sku="TEA-1", quantity=2, unit_price=PRICE),)
    events: list[DomainEvent] = [
        OrderCreated(order_id=order, customer_id=customer, lines=lines, total=PRICE.times(2), channel="web"),
        OrderConfirmed(order_id=order, customer_id=customer),
    ]
    if shipped:
        events.append(OrderShipped(order_id=order, customer_id=customer, carrier="DHL", tracking_code="Z-9"))
    return events


@pytest.fixture
async def platform(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[Platform]:
    mail = MailServer()
    await mail.start()
    async with (
        deployment(postgres) as user_service,
        user_service.serve() as users,
        in_test(
            service,
            database,
            kafka=kafka.bootstrap_servers,
            user_grpc_target=user_service.target,
            smtp_port=mail.port,
        ) as app,
    ):
        orders = OrderTopic(app.writers[ORDERS])
        yield Platform(app.http, app.internal, mail, orders, UUID(await users.register()))
    await mail.stop()


async def test_an_orders_events_become_mails_also_when_each_record_comes_three_times(
    platform: Platform,
) -> None:
    order, later = uuid4(), uuid4()
    await platform.orders.publish(history(platform.customer, order, shipped=True), times=3)
    await platform.orders.publish(history(platform.customer, later))
    await platform.told(order, ["order_created", "order_confirmed", "order_shipped"])
    await platform.told(later, ["order_created", "order_confirmed"])
    assert sorted(platform.mail.ids().values()) == [1] * 5
    bodies = [mail.text for mail in platform.mail.mails]
    assert sum("25.00 EUR" in body for body in bodies) == 2
    assert sum("DHL, tracking code Z-9" in body for body in bodies) == 1


async def test_the_metrics_count_the_mails_and_name_no_recipient(platform: Platform) -> None:
    order = uuid4()
    await platform.orders.publish(history(platform.customer, order), times=2)
    await platform.told(order, ["order_created", "order_confirmed"])
    consumer = 'consumer="notification-service.requests"'

    async def counted() -> str:
        page = (await platform.internal.get("/metrics")).text
        assert 'millrace_email_attempts_total{outcome="sent",reason=""} 2.0' in page
        assert 'millrace_email_attempt_duration_seconds_count{outcome="sent"} 2.0' in page
        assert "millrace_email_breaker_open 0.0" in page
        assert f'millrace_consumer_events_total{{{consumer},outcome="applied"}} 2.0' in page
        assert f'millrace_consumer_events_total{{{consumer},outcome="duplicate"}} 2.0' in page
        assert f"millrace_consumer_appended_events_total{{{consumer}}} 2.0" in page
        return page

    page = await eventually(counted, what="everything is counted")
    for secret in (str(platform.customer), str(order), ADA["email"], ADA["name"], "@"):
        assert secret not in page


async def test_a_republished_topic_sends_nothing_twice(platform: Platform) -> None:
    order, later = uuid4(), uuid4()
    await platform.orders.publish(history(platform.customer, order))
    await platform.told(order, ["order_created", "order_confirmed"])

    await platform.orders.republish()
    await platform.orders.publish(history(platform.customer, later))
    await platform.told(later, ["order_created", "order_confirmed"])
    assert sorted(platform.mail.ids().values()) == [1] * 4


async def test_a_customer_sees_their_own_notifications_only(platform: Platform) -> None:
    order, strangers = uuid4(), uuid4()
    stranger = uuid4()
    await platform.orders.publish(history(platform.customer, order))
    await platform.orders.publish(history(stranger, strangers))
    mine, theirs = {"X-Customer-Id": str(platform.customer)}, {"X-Customer-Id": str(stranger)}

    async def told() -> bool:
        sent = await platform.kinds(order, OPERATOR)
        failed = await platform.kinds(strangers, OPERATOR, status="failed")
        return len(sent) == len(failed) == 2

    await eventually(told, within=30, what="the operator sees both")
    assert await platform.kinds(strangers, mine, status="failed") == []
    assert await platform.kinds(order, theirs) == []

    first = (await platform.http.get("/notifications?limit=1", headers=mine)).json()
    rest = (await platform.http.get(f"/notifications?cursor={first['next_cursor']}", headers=mine)).json()
    shown = first["notifications"] + rest["notifications"]
    assert [one["kind"] for one in shown] == ["order_confirmed", "order_created"]
    assert {one["order_id"] for one in shown} == {str(order)}
    assert rest["next_cursor"] is None
    assert (
        first["notifications"][0]["message_id"]
        == f"<{first['notifications'][0]['notification_id']}@millrace>"
    )


async def test_bad_questions_are_problems_that_name_the_field(platform: Platform) -> None:
    nobody = await platform.http.get("/notifications")
    malformed = await platform.http.get("/notifications?order_id=x", headers=OPERATOR)
    cursor = await platform.http.get("/notifications?cursor=x", headers=OPERATOR)
    unknown = await platform.http.get("/notifications?order=x", headers=OPERATOR)
    assert nobody.status_code == 401
    assert "X-Customer-Id" in nobody.json()["detail"]
    assert (malformed.status_code, malformed.json()["errors"][0]["field"]) == (422, "order_id")
    assert (cursor.status_code, cursor.json()["errors"][0]["field"]) == (400, "cursor")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "order")


async def test_it_tells_what_it_listens_to(platform: Platform) -> None:
    told = (await platform.internal.get("/asyncapi.json")).text
    assert platform.orders.writer.topic.name in told
    for event in ORDER_EVENTS.classes:
        assert event.event_type in told

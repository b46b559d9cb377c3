"""The peer: PyPI's `eventsourcing`, with its own tables in the same Postgres and events of the same
content."""

from itertools import islice
from random import Random
from typing import Any
from uuid import UUID, uuid4

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg.conninfo import conninfo_to_dict

from benchmarks.replay.events import make_event
from benchmarks.replay.setting import Setting
from schemas.events.orders import OrderCreated

ORDERS = 4_000
_SAVED_AT_ONCE = 100
_PAGE = 1_000


class Order(Aggregate):
    """An order as that library has it."""

    def __init__(
        self, customer_id: UUID, lines: list[dict[str, Any]], total: dict[str, Any], channel: str
    ) -> None:
        self.customer_id = customer_id
        self.lines = lines
        self.total = total
        self.channel = channel
        self.status = "pending"

    @event("Confirmed")
    def confirm(self) -> None:
        """Inventory has reserved every line."""
        self.status = "confirmed"

    @event("Shipped")
    def ship(self, carrier: str, tracking_code: str) -> None:
        """A parcel left the house."""
        self.status = "shipped"


class Orders(Application[UUID]):
    """Its default of 10 notifications a query would be slower yet."""

    log_section_size = _PAGE


def open_peer(setting: Setting) -> Orders:
    """The application, on a schema of its own in the store's database."""
    url = conninfo_to_dict(setting.superuser_url)
    return Orders(
        {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": str(url["dbname"]),
            "POSTGRES_HOST": str(url["host"]),
            "POSTGRES_PORT": str(url["port"]),
            "POSTGRES_USER": str(url["user"]),
            "POSTGRES_PASSWORD": str(url["password"]),
        }
    )


def fill_peer(setting: Setting) -> None:
    """Orders of five events each, appended by the library itself."""
    random = Random(2)
    orders = (_order(random) for _ in range(ORDERS))
    with open_peer(setting) as application:
        while some := list(islice(orders, _SAVED_AT_ONCE)):
            application.save(*some)


def _order(random: Random) -> Order:
    created = make_event(random, 1, uuid4(), uuid4())
    assert isinstance(created, OrderCreated)
    data = created.model_dump()
    order = Order(created.customer_id, list(data["lines"]), data["total"], created.channel)
    order.confirm()
    for parcel in range(3):
        order.ship("DHL", f"PARCEL-{parcel}")
    return order


async def peer_loads(setting: Setting) -> int:
    """Each aggregate through the repository: the library's only way."""
    with open_peer(setting) as application:
        return sum(application.repository.get(order_id).version for order_id in _ids(setting))


async def peer_reads_log(setting: Setting) -> int:
    """Every event as the domain knows it, from the notification log."""
    done, start = 0, 1
    with open_peer(setting) as application:
        while page := application.notification_log.select(start, limit=_PAGE):
            for notification in page:
                application.mapper.to_domain_event(notification)
            done += len(page)
            start = page[-1].id + 1
    return done


def _ids(setting: Setting) -> list[UUID]:
    with psycopg.connect(setting.superuser_url) as connection:
        found = connection.execute("SELECT originator_id FROM orders_events WHERE originator_version = 1")
        return [originator_id for (originator_id,) in found]

"""What there should be: every read model and every reaction of every service, so that one that never started shows.

infra doesn't import services; tests/unit/board/test_declared.py compares this with what they declare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.topics import INVENTORY, NOTIFICATIONS, ORDERS, USERS

TOPIC_OF = {
    "order": ORDERS.name,
    "inventory": INVENTORY.name,
    "notification": NOTIFICATIONS.name,
    "user": USERS.name,
}

STREAMS = ("order-", "product-", "reservation-", "notification-", "user-")
"""What the ids of streams begin with, as in infra/topology.py, which the board's image does without."""


@dataclass(frozen=True)
class Projection:
    """The end of a path. Without topics it is a read model of the own store.

    `group`: of a reaction. A read model that topics feed has a group for each version; the database knows which.
    """

    service: str
    name: str
    kind: Literal["read model", "reaction"]
    group: str | None = None
    topics: tuple[str, ...] = ()


PROJECTIONS = (
    Projection("order", "orders", "read model"),
    Projection("order", "catalogue", "read model", topics=(INVENTORY.name,)),
    Projection("order", "saga", "reaction", "order-service.saga", (INVENTORY.name,)),
    Projection("inventory", "stock", "read model"),
    Projection("inventory", "reservations", "reaction", "inventory-service.stock", (ORDERS.name,)),
    Projection("notification", "notifications", "read model"),
    Projection("notification", "requests", "reaction", "notification-service.requests", (ORDERS.name,)),
    Projection("user", "users", "read model"),
)


@dataclass(frozen=True)
class Declared:
    """What the board expects to find: `topics` names the topic of each service that it looks at."""

    topics: Mapping[str, str]
    projections: tuple[Projection, ...]
    senders: tuple[str, ...] = ()
    """Services that send e-mails."""

    def source_of(self, topic: str) -> str | None:
        """The service whose events a topic holds."""
        return next((service for service, name in self.topics.items() if name == topic), None)


PLATFORM = Declared(TOPIC_OF, PROJECTIONS, senders=("notification",))

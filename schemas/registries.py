"""The events of all services, for programs that read them all. A service uses the registries it needs.

Made from each service.toml by `make generate`.
"""

from millrace import EventRegistry
from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.notifications import NOTIFICATION_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.events.users import USER_EVENTS

REGISTRIES: tuple[EventRegistry, ...] = (
    ORDER_EVENTS,
    INVENTORY_EVENTS,
    NOTIFICATION_EVENTS,
    USER_EVENTS,
)

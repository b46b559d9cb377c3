"""The events of all services, for whoever looks at every one of them. A service uses the registries that it needs."""

from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.notifications import NOTIFICATION_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.events.users import USER_EVENTS

REGISTRIES = (ORDER_EVENTS, INVENTORY_EVENTS, USER_EVENTS, NOTIFICATION_EVENTS)

"""Every topic of the platform, declared once. A topic is the copy of one service's event store.

Made from each service.toml by `make generate`.
"""

from millrace import Topic

ORDERS = Topic("orders.events", source="/order-service")
INVENTORY = Topic("inventory.events", source="/inventory-service")
NOTIFICATIONS = Topic("notifications.events", source="/notification-service")
USERS = Topic("users.events", source="/user-service")

TOPICS: tuple[Topic, ...] = (
    ORDERS,
    INVENTORY,
    NOTIFICATIONS,
    USERS,
)

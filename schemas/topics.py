"""Every topic of the platform, declared once. A topic is the copy of one service's event store."""

from chassis.topics import Topic

ORDERS = Topic("orders.events")
INVENTORY = Topic("inventory.events")
USERS = Topic("users.events")
NOTIFICATIONS = Topic("notifications.events")

TOPICS = (ORDERS, INVENTORY, USERS, NOTIFICATIONS)

"""A service as a process, of today's program or of the next one: `python -m tests.chaos.program_of_age AGE
SERVICE serve`.

The next program has a version 3 of OrderCreated, and writes it. Both use topics of the test's own:
ORDERS_TOPIC and INVENTORY_TOPIC.
"""

import os
import sys
from dataclasses import replace
from importlib import import_module

from millrace.domain.events import EventRegistry
from millrace.domain.upcasting import Upcaster
from millrace.runtime.early_stop import obey_sigterm
from schemas import topics
from schemas.events import orders

TODAY, NEXT = "today", "next"


class OrderCreated(orders.OrderCreated, version=3):
    """What the next release knows of an order in addition."""

    gift: bool = False


def become_next() -> None:
    """Everything that is imported from here on has the next release's events."""
    others = [cls for cls in orders.ORDER_EVENTS.classes if cls is not orders.OrderCreated]
    upcasters = [
        Upcaster("OrderCreated", 1, lambda data: {**data, "channel": orders.UNKNOWN_CHANNEL}),
        Upcaster("OrderCreated", 2, lambda data: {**data, "gift": False}),
    ]
    registry = EventRegistry(
        [OrderCreated, *others], upcasters=upcasters, stream_of=orders.ORDER_EVENTS.stream_of
    )
    vars(orders).update(OrderCreated=OrderCreated, ORDER_EVENTS=registry)


def use_own_topics() -> None:
    """So that other tests, on the same Kafka, are not met."""
    vars(topics).update(
        ORDERS=replace(topics.ORDERS, name=os.environ["ORDERS_TOPIC"]),
        INVENTORY=replace(topics.INVENTORY, name=os.environ["INVENTORY_TOPIC"]),
    )


if __name__ == "__main__":
    obey_sigterm()
    age, service, *arguments = sys.argv[1:]
    use_own_topics()
    if age == NEXT:
        become_next()
    sys.argv = [service, *arguments]
    import_module(f"{service}.app").service.cli()()

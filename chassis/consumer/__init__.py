"""Consumers: Kafka → effect, exactly once. See docs/consumers.md."""

from collections.abc import Sequence
from typing import Any

from chassis.consumer.consumer import Consumer
from chassis.consumer.discard import Discarded, NotDiscarded, discard
from chassis.consumer.parking import ParkedStream
from chassis.consumer.read_models import handler_for
from chassis.consumer.redrive import Redriven, parked, redrive, redrive_stream
from chassis.consumer.subscription import describe

__all__ = [
    "Consumer",
    "Discarded",
    "NotDiscarded",
    "ParkedStream",
    "Redriven",
    "asyncapi",
    "discard",
    "handler_for",
    "parked",
    "redrive",
    "redrive_stream",
]


def asyncapi(consumers: Sequence[Consumer], *, title: str, version: str = "1.0.0") -> dict[str, Any]:
    """The AsyncAPI 3 document of what these consumers subscribe to and which events they handle."""
    return describe([consumer.subscription for consumer in consumers], title=title, version=version)

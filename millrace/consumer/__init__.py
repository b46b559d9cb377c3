"""Consumers: Kafka → effect, exactly once. See docs/consumers.md."""

from collections.abc import Sequence
from typing import Any

from millrace.consumer.beginning import Begins
from millrace.consumer.consumer import Consumer
from millrace.consumer.discard import Discarded, NotDiscarded, discard
from millrace.consumer.group import describe
from millrace.consumer.parking import ParkedStream
from millrace.consumer.read_models import handler_for
from millrace.consumer.redrive import Redriven, parked, redrive, redrive_stream
from millrace.consumer.subscription import Subscription

__all__ = [
    "Begins",
    "Consumer",
    "Discarded",
    "NotDiscarded",
    "ParkedStream",
    "Redriven",
    "Subscription",
    "asyncapi",
    "discard",
    "handler_for",
    "parked",
    "redrive",
    "redrive_stream",
]


def asyncapi(consumers: Sequence[Consumer], *, title: str, version: str = "1.0.0") -> dict[str, Any]:
    """The AsyncAPI 3 document of what these consumers subscribe to and which events they handle."""
    return describe([consumer.group for consumer in consumers], title=title, version=version)

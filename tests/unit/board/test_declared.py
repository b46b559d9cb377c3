"""What the board expects to find is what the services declare."""

import pytest

from chassis.definition import ServiceDefinition
from infra.board.declared import PLATFORM
from inventory_service.app import DEFINITION as INVENTORY
from notification_service.app import DEFINITION as NOTIFICATION
from order_service.app import DEFINITION as ORDER
from user_service.app import DEFINITION as USER

DEFINITIONS = {"order": ORDER, "inventory": INVENTORY, "notification": NOTIFICATION, "user": USER}
each_service = pytest.mark.parametrize("service", DEFINITIONS)


def definition(service: str) -> ServiceDefinition:
    return DEFINITIONS[service]


@each_service
def test_its_topic(service: str) -> None:
    assert PLATFORM.topics[service] == definition(service).topic.name


@each_service
def test_its_read_models(service: str) -> None:
    declared = {(one.name, one.topics) for one in PLATFORM.projections
                if one.service == service and one.kind == "read model"}  # fmt: skip

    assert declared == {
        (feed.model.name, tuple(topic.name for topic in feed.topics)) for feed in definition(service).feeds
    }


@each_service
def test_its_reactions(service: str) -> None:
    declared = {(one.group, one.topics) for one in PLATFORM.projections
                if one.service == service and one.kind == "reaction"}  # fmt: skip

    assert declared == {
        (listener.consumer, tuple(topic.name for topic in listener.topics))
        for listener in definition(service).listeners
    }

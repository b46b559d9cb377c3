"""The registries of all services travel to other processes: a rebuild in parallel hands them over."""

import pickle

import pytest

from millrace.domain.events import EventRegistry
from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.notifications import NOTIFICATION_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.events.users import USER_EVENTS


@pytest.mark.parametrize("registry", [ORDER_EVENTS, INVENTORY_EVENTS, NOTIFICATION_EVENTS, USER_EVENTS])
def test_a_registry_can_be_handed_to_another_process(registry: EventRegistry) -> None:
    again = pickle.loads(pickle.dumps(registry))
    assert [one.event_type for one in again.classes] == [one.event_type for one in registry.classes]

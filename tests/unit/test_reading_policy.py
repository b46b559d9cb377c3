"""Which events concern a consumer, and which must be parked because nothing here can read them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from millrace.consumer.policy import ReadingPolicy, UnknownTypes
from millrace.domain.events import (
    DomainEvent,
    EventRegistry,
    Metadata,
    NewerEventVersion,
    RecordedEvent,
    UnknownEventType,
)
from millrace.domain.upcasting import Upcaster


class Ordered(DomainEvent, version=2):
    pass


class Returned(DomainEvent):
    pass


REGISTRY = EventRegistry([Ordered, Returned], upcasters=[Upcaster("Ordered", 1, dict)])


class Handler:
    """Names the type that it wants."""

    handles = frozenset({"Ordered"})

    async def __call__(self, batch: Any, unit: Any) -> None: ...


async def everything(batch: Sequence[RecordedEvent], unit: Any) -> None:
    """Names no type: it wants them all."""


def event(event_type: str, schema_version: int) -> RecordedEvent:
    return RecordedEvent(
        1,
        "order-1",
        1,
        UUID(int=1),
        event_type,
        schema_version,
        b"{}",
        Metadata("c"),
        datetime.now(UTC),
        REGISTRY,
    )


IS_HANDED_OVER: tuple[bool, type[Exception] | None] = (True, None)
IS_PASSED_OVER: tuple[bool, type[Exception] | None] = (False, None)
IS_PARKED_AS_NEWER: tuple[bool, type[Exception] | None] = (True, NewerEventVersion)
IS_PARKED_AS_UNKNOWN: tuple[bool, type[Exception] | None] = (True, UnknownEventType)


@pytest.mark.parametrize(
    ("handler", "unknown_types", "event_type", "version", "outcome"),
    [
        (Handler(), None, "Ordered", 2, IS_HANDED_OVER),
        (Handler(), None, "Ordered", 1, IS_HANDED_OVER),
        (Handler(), None, "Ordered", 3, IS_PARKED_AS_NEWER),
        (Handler(), None, "Returned", 1, IS_PASSED_OVER),
        (Handler(), None, "Returned", 2, IS_PASSED_OVER),
        (Handler(), None, "Insured", 1, IS_PASSED_OVER),
        (Handler(), "ignore", "Ordered", 3, IS_PARKED_AS_NEWER),
        (Handler(), "park", "Insured", 1, IS_PARKED_AS_UNKNOWN),
        (Handler(), "park", "Returned", 2, IS_PASSED_OVER),
        (everything, None, "Returned", 1, IS_HANDED_OVER),
        (everything, None, "Returned", 2, IS_PARKED_AS_NEWER),
        (everything, None, "Insured", 1, IS_PARKED_AS_UNKNOWN),
        (everything, "ignore", "Insured", 1, IS_PASSED_OVER),
        (everything, None, "CanarySent", 1, IS_PASSED_OVER),
        (everything, None, "CanarySent", 2, IS_PASSED_OVER),
        (Handler(), "park", "CanarySent", 1, IS_PASSED_OVER),
    ],
)
def test_what_becomes_of_an_event(
    handler: Any,
    unknown_types: UnknownTypes | None,
    event_type: str,
    version: int,
    outcome: tuple[bool, type[Exception] | None],
) -> None:
    policy = ReadingPolicy("consumer", handler, unknown_types)
    recorded = event(event_type, version)
    problem = policy.problem(recorded)
    assert (policy.concerns(recorded), type(problem) if problem else None) == outcome


def test_a_misspelt_policy_is_refused() -> None:
    with pytest.raises(ValueError, match='\'skip\', expected "ignore" or "park"'):
        ReadingPolicy("consumer", Handler(), "skip")  # type: ignore[arg-type]


def test_of_each_topic_is_known_what_its_own_registry_knows() -> None:
    policy = ReadingPolicy("consumer", Handler())
    elsewhere = replace(event("Ordered", 2), registry=EventRegistry([Returned]))
    assert policy.concerns(event("Ordered", 2))
    assert not policy.concerns(elsewhere), "it means something else there"

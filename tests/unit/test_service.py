"""What follows from a service's declaration."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from inventory_service.app import service as inventory
from millrace import (
    Connection,
    Decider,
    DomainEvent,
    EventRegistry,
    EventStore,
    Pool,
    ReadModel,
    RecordedEvent,
    Runtime,
    Service,
    ServiceSettings,
    StreamKind,
    Subscription,
    Topic,
)
from millrace.application.reactions import Reactions
from millrace.testing.certificates import tls_settings
from order_service.app import service as order
from schemas.topics import INVENTORY, ORDERS


class Greeted(DomainEvent, version=1):
    who: str


class Greetings(ReadModel):
    """Counts nothing: only its name and version matter here."""

    name = "greetings"
    version = 3
    handles = frozenset({"Greeted"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None: ...


@dataclass(frozen=True)
class Nothing:
    """Resources of a service that needs none."""


EVENTS = EventRegistry([Greeted])
GREETER: Decider[int, str] = Decider(0, lambda _state, _command: [], lambda state, _event: state + 1)
TALK, ECHOES = Topic("talk.events"), Topic("greeter.events")
replies = Reactions("greeter-service.replies", GREETER)


@replies.on(Greeted)
def reply(_event: Greeted) -> None:
    """Nothing to do."""


def declared(**more: Any) -> Service[ServiceSettings, Nothing]:
    return Service(
        "greeter-service",
        ServiceSettings,
        topic=ECHOES,
        events=EVENTS,
        streams=[StreamKind("greeter-", GREETER)],
        subscriptions=[
            Subscription(replies, {TALK: EVENTS}, begins="now"),
            Subscription(Greetings(), {TALK: EVENTS}),
        ],
        **more,
    )


def consumers(service: Service[Any, Any]) -> dict[str, list[str]]:
    made = service.definition.build_consumers(cast(Pool, None), cast(EventStore, _Store()), SETTINGS)
    return {consumer.name: list(consumer.topics) for consumer in made}


class _Store:
    registry = EVENTS


SETTINGS = ServiceSettings(
    database_url="postgresql://nobody:secret@127.0.0.1:1/nothing", **tls_settings("greeter")
)


def test_names_groups_and_sources_follow_from_the_declaration() -> None:
    definition = declared().definition
    assert definition.source == "/greeter-service"
    assert definition.consumers == {
        "greeter-service.replies": (TALK,),
        "greeter-service.greetings_v3": (TALK,),  # each version of a read model in a group of its own
    }
    assert consumers(declared()) == {name: [TALK.name] for name in definition.consumers}


def test_reactions_must_say_from_where_on_they_act() -> None:
    """The type check says so as well: an ignored error that is none fails it."""
    with pytest.raises(
        TypeError, match=r'greeter-service\.replies: begins is None; say begins="history" \(react to'
    ):
        Subscription(replies, {TALK: EVENTS})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"greeter-service\.replies: begins is 'soon'; say"):
        Subscription(replies, {TALK: EVENTS}, begins="soon")  # type: ignore[call-overload]


def test_a_read_model_is_nothing_but_its_history() -> None:
    with pytest.raises(TypeError, match="greetings: a read model always begins with the history"):
        Subscription(Greetings(), {TALK: EVENTS}, begins="now")  # type: ignore[call-overload]


def test_a_consumer_begins_as_its_subscription_says() -> None:
    made = declared().definition.build_consumers(cast(Pool, None), cast(EventStore, _Store()), SETTINGS)
    assert [consumer.begins for consumer in made] == ["now", None]


def test_on_other_topics_a_service_is_the_same() -> None:
    mine, heard = Topic("mine", 1), Topic("heard", 1)
    moved = order.with_topics({ORDERS: mine, INVENTORY: heard})
    assert moved.definition.topic == mine
    assert consumers(moved) == {name: ["heard"] for name in order.definition.consumers}
    assert order.definition.topic == ORDERS, "the declared one stays as it is"


def test_a_type_that_means_two_things_needs_two_subscriptions() -> None:
    class Elsewhere(DomainEvent, version=1):
        """Another event of the same name."""

    Elsewhere.event_type = "Greeted"
    others = EventRegistry([Elsewhere])
    with pytest.raises(
        TypeError, match=r"replies: Greeted means different events in talk\.events, other\.events"
    ):
        Subscription(replies, {TALK: EVENTS, Topic("other.events"): others}, begins="now")
    assert Subscription(replies, {TALK: EVENTS, Topic("more.events"): EVENTS}, begins="now")
    with pytest.raises(TypeError, match="names no topic"):
        Subscription(replies, {}, begins="now")


async def test_a_service_without_resources_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"greeter-service: @service\.resources is missing"):
        async with declared().open(SETTINGS):
            pass


async def test_resources_are_closed_with_the_process() -> None:
    service = declared()
    seen: list[object] = []

    @service.resources
    async def resources(run: Runtime[ServiceSettings]) -> AsyncIterator[Nothing]:
        seen.append(run.settings.roles)
        yield Nothing()
        seen.append("closed")

    async with service.open(SETTINGS) as opened:
        names = {worker.name for worker in opened.workers}
        assert {"http", "certificate"} <= names
        assert "grpc" not in names, "a service that serves no method has no port for it"
        assert len(seen) == 1
    assert seen[1:] == ["closed"]


def test_snapshots_are_kept_where_a_kind_of_stream_says_so() -> None:
    assert [kind.prefix for kind in inventory.definition.streams if kind.snapshots] == ["product-"]

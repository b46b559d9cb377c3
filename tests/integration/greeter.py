"""A small service that reads the topics of two others: it greets people, in the language of the shop that
they entered."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import LiteralString

from pydantic_settings import SettingsConfigDict

from millrace import (
    Connection,
    Decider,
    DomainEvent,
    EventRegistry,
    Finding,
    Invariant,
    On,
    Place,
    Reactions,
    ReadModel,
    RecordedEvent,
    Runtime,
    Service,
    ServiceSettings,
    StreamKind,
    Subscription,
    Topic,
    violation,
)


class Entered(DomainEvent, version=1):
    """A person came in."""

    name: str


class Opened(DomainEvent, version=1):
    """A shop opened."""

    city: str


class Closed(DomainEvent, version=1):
    """A shop closed."""

    city: str


class Greeted(DomainEvent, version=1):
    """Somebody was greeted, or a shop was."""

    text: str


PEOPLE_EVENTS, SHOP_EVENTS = EventRegistry([Entered]), EventRegistry([Opened, Closed])
GREETINGS = EventRegistry([Greeted])
PEOPLE = Topic("people.events", source="/people-service")
SHOPS = Topic("shops.events", source="/shop-service")
GREETER_TOPIC = Topic("greeter.events", source="/greeter-service")


class GreeterSettings(ServiceSettings):
    """How it greets."""

    model_config = SettingsConfigDict(env_prefix="GREETER_")

    hello: str = "Hello"


GREETER: Decider[int, str] = Decider(
    0, lambda _state, text: [Greeted(text=text)], lambda count, _event: count + 1
)
welcome: Reactions[int, str] = Reactions("greeter-service.welcome", GREETER)
goodbye: Reactions[int, str] = Reactions("greeter-service.goodbye", GREETER)


@welcome.on(Entered)
def greet(event: Entered, settings: GreeterSettings) -> On:
    return On(f"greeting-{event.name}", f"{settings.hello}, {event.name}")


@welcome.on(Opened)
def congratulate(event: Opened, settings: GreeterSettings) -> On:
    return On(f"greeting-{event.city}", f"{settings.hello}, {event.city}")


@goodbye.on(Closed)
def part(event: Closed) -> On:
    return On(f"greeting-{event.city}", f"Goodbye, {event.city}")


class Names(ReadModel):
    """Every name that was in an event of either topic."""

    name = "names"
    version = 1
    tables: LiteralString = "CREATE TABLE names (stream_id text PRIMARY KEY, name text)"
    handles = frozenset({"Entered", "Opened"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        for one in events:
            event = one.event
            name = (
                event.name if isinstance(event, Entered) else event.city if isinstance(event, Opened) else ""
            )
            await connection.execute(
                "INSERT INTO names VALUES (%s, %s) ON CONFLICT (stream_id) DO UPDATE SET name ="
                " excluded.name",
                (one.stream_id, name),
            )


class EachIsGreeted(Invariant):
    """As many greetings as events that were consumed, of all consumers and topics together."""

    name = "each is greeted"
    listens = (welcome.name, goodbye.name)

    def __init__(self) -> None:
        self._greetings = 0
        self.read: Counter[str] = Counter()

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        self._greetings += 1
        return ()

    def heard(self, recorded: RecordedEvent, place: Place) -> Iterable[Finding]:
        self.read[f"{place.consumer} {place.topic.partition('_')[0]}"] += 1
        return ()

    async def conclude(self, connection: Connection, relayed: int) -> Iterable[Finding]:
        if self.read.total() == self._greetings:
            return ()
        return [violation("not-greeted", f"{self._greetings} greetings of {self.read.total()}", "greet")]

    @property
    def figures(self) -> Counter[str]:
        """Consumer and topic -> events."""
        return self.read


@dataclass(frozen=True)
class Nothing:
    """It needs no resources."""


service: Service[GreeterSettings, Nothing] = Service(
    "greeter-service",
    GreeterSettings,
    topic=GREETER_TOPIC,
    events=GREETINGS,
    streams=[StreamKind("greeting-", GREETER)],
    subscriptions=[
        Subscription(welcome, {PEOPLE: PEOPLE_EVENTS, SHOPS: SHOP_EVENTS}, begins="history"),
        Subscription(Names(), {PEOPLE: PEOPLE_EVENTS, SHOPS: SHOP_EVENTS}),
        Subscription(goodbye, {SHOPS: SHOP_EVENTS}, begins="history"),
    ],
    invariants=lambda _settings: [EachIsGreeted()],
)


@service.resources
async def resources(_run: Runtime[GreeterSettings]) -> AsyncIterator[Nothing]:
    """Nothing."""
    yield Nothing()

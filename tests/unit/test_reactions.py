"""Reactions map events to commands; the unit of work decides them on the streams' states in one go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from millrace.application.reactions import On, Reactions
from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.decider import CommandRefused, Decider
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.store import Appended, EventStore, StreamAppend


class Ordered(DomainEvent):
    tables: tuple[int, ...]


class Returned(DomainEvent):
    table: int


class Taken(DomainEvent):
    left: int


@dataclass(frozen=True)
class Take:
    """A command: one table less."""


REGISTRY = EventRegistry([Ordered, Returned, Taken])


def _decide(left: int, command: Take) -> Sequence[DomainEvent]:
    if left < 0:
        raise CommandRefused("broken", "there is no such table")
    return [Taken(left=left - 1)] if left > 0 else []


def _evolve(left: int, event: DomainEvent) -> int:
    return event.left if isinstance(event, Taken) else left


TABLES: Decider[int, Take] = Decider(initial=2, decide=_decide, evolve=_evolve)


@dataclass
class MemoryStore:
    """As much of an event store as a unit of work needs."""

    streams: dict[str, list[RecordedEvent]] = field(default_factory=dict)
    queries: list[list[str]] = field(default_factory=list)
    appended: list[StreamAppend] = field(default_factory=list)

    async def read_streams(
        self, after_versions: Mapping[str, int], *, connection: Any
    ) -> dict[str, list[RecordedEvent]]:
        self.queries.append(list(after_versions))
        return {stream_id: self.streams.get(stream_id, []) for stream_id in after_versions}

    async def append_in(self, connection: Any, appends: Sequence[StreamAppend]) -> tuple[Appended, ...]:
        self.appended.extend(appends)
        return ()


def recorded(event: DomainEvent, stream_id: str = "s", version: int = 1) -> RecordedEvent:
    return RecordedEvent(
        position=version,
        stream_id=stream_id,
        version=version,
        event_id=new_id(),
        event_type=event.event_type,
        schema_version=event.schema_version,
        data=event.to_json(),
        metadata=Metadata("the request", traceparent="00-trace"),
        recorded_at=datetime.now(UTC),
        registry=REGISTRY,
    )


def unit_on(store: MemoryStore) -> UnitOfWork:
    return UnitOfWork(cast(Any, None), cast(EventStore, store), "table-service.stock")


def table_reactions() -> Reactions[int, Take]:
    reactions = Reactions("table-service.stock", TABLES)

    @reactions.on(Ordered)
    def take(event: Ordered) -> Sequence[On]:
        return [On(f"table-{table}", Take()) for table in event.tables]

    @reactions.on(Returned)
    def ignore(event: Returned) -> None:
        return None

    return reactions


async def test_each_command_is_decided_on_what_the_ones_before_it_left() -> None:
    store = MemoryStore()
    unit = unit_on(store)
    batch = [recorded(Ordered(tables=(1, 2))), recorded(Ordered(tables=(1,))), recorded(Ordered(tables=(1,)))]
    await table_reactions()(batch, unit)
    await unit.flush()
    first, second = store.appended
    assert [one.event for one in first.events] == [Taken(left=1), Taken(left=0)]
    assert [one.event for one in second.events] == [Taken(left=1)]
    assert unit.state(TABLES, "table-1") == 0
    assert unit.version("table-1") == 2


async def test_all_streams_of_a_batch_are_read_with_one_query() -> None:
    store = MemoryStore()
    await table_reactions()([recorded(Ordered(tables=(n,))) for n in range(50)], unit_on(store))
    assert [len(query) for query in store.queries] == [50]


async def test_appends_expect_the_version_that_was_loaded() -> None:
    store = MemoryStore({"table-1": [recorded(Taken(left=5), "table-1", 7)]})
    unit = unit_on(store)
    await table_reactions()([recorded(Ordered(tables=(1, 2)))], unit)
    await unit.flush()
    assert {one.stream_id: one.expected_version for one in store.appended} == {"table-1": 7, "table-2": 0}


async def test_an_appended_event_tells_its_cause() -> None:
    store = MemoryStore()
    unit = unit_on(store)
    cause = recorded(Ordered(tables=(1,)))
    await table_reactions()([cause], unit)
    await unit.flush()
    assert store.appended[0].events[0].metadata == Metadata(
        correlation_id="the request",
        causation_id=str(cause.event_id),
        actor="table-service.stock",
        traceparent="00-trace",
    )


async def test_a_reaction_to_nothing_appends_nothing() -> None:
    store = MemoryStore()
    unit = unit_on(store)
    await table_reactions()([recorded(Returned(table=1))], unit)
    await unit.flush()
    assert (store.queries, store.appended) == ([], [])


async def test_a_refusal_comes_out() -> None:
    store = MemoryStore({"table-1": [recorded(Taken(left=-1), "table-1")]})
    with pytest.raises(CommandRefused):
        await table_reactions()([recorded(Ordered(tables=(1,)))], unit_on(store))


async def test_a_batch_function_gets_the_whole_batch() -> None:
    reactions = Reactions("table-service.stock", TABLES)
    seen: list[Sequence[RecordedEvent]] = []

    @reactions.batch(Ordered, Returned)
    async def decide_all(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        seen.append(batch)

    batch = [recorded(Ordered(tables=())), recorded(Returned(table=1))]
    await reactions(batch, unit_on(MemoryStore()))
    assert seen == [batch]
    assert reactions.handles == {"Ordered", "Returned"}


def test_an_event_type_has_one_reaction() -> None:
    reactions = table_reactions()
    with pytest.raises(TypeError, match="Ordered has a reaction already"):
        reactions.on(Ordered)(lambda event: None)


def test_either_a_batch_function_or_reactions() -> None:
    reactions = table_reactions()
    with pytest.raises(TypeError, match="not both"):
        reactions.batch(Taken)(reactions)
    batched = Reactions("other", TABLES)
    batched.batch(Ordered)(reactions)
    with pytest.raises(TypeError, match="batch handler"):
        batched.on(Returned)(lambda event: None)


async def test_a_unit_without_a_store_can_only_write_its_tables() -> None:
    unit = UnitOfWork(cast(Any, None), None, "reader")
    with pytest.raises(RuntimeError, match="no event store"):
        await unit.load(TABLES, ["table-1"])
    await unit.flush()


async def test_a_stream_belongs_to_one_decider() -> None:
    unit = unit_on(MemoryStore())
    await unit.load(TABLES, ["table-1"])
    other: Decider[int, Take] = Decider(0, _decide, _evolve)
    with pytest.raises(ValueError, match="another decider"):
        unit.state(other, "table-1")


async def test_a_reaction_gets_the_settings_that_its_service_was_started_with() -> None:
    reactions = Reactions("table-service.stock", TABLES)

    @reactions.on(Ordered)
    def take(event: Ordered, settings: Mapping[str, str]) -> On:
        return On(f"{settings['room']}-{event.tables[0]}", Take())

    store = MemoryStore()
    hall, terrace = (reactions.with_settings({"room": room}) for room in ("hall", "terrace"))
    for bound in (hall, terrace):
        unit = unit_on(store)
        await bound([recorded(Ordered(tables=(1,)))], unit)
        await unit.flush()
    assert [one.stream_id for one in store.appended] == ["hall-1", "terrace-1"]
    assert hall.handles == reactions.handles


async def test_so_does_a_batch_handler() -> None:
    reactions = Reactions("table-service.stock", TABLES)
    seen: list[tuple[int, str]] = []

    @reactions.batch(Ordered)
    async def take(batch: Sequence[RecordedEvent], unit: UnitOfWork, settings: str) -> None:
        seen.append((len(batch), settings))

    await reactions.with_settings("hall")([recorded(Ordered(tables=(1,)))], unit_on(MemoryStore()))
    assert seen == [(1, "hall")]

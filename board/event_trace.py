"""Where is my event? An id, the events that belong to it in every store, and how far each of them came.

An event has passed a stage if its position is not above the stage's (own store), or if the consumer has
applied its version. So a hop is known exactly. When an event passed is known for its commit; for later hops
as far as the board looked just then (crossing_times.py).
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from board import formatting
from board.clocks import age_of
from board.crossing_times import CrossingTimes, consumer_key, model_key, relay_key
from board.declared import Declared, Projection
from board.document import EventTrace, HeldEvent, Hop, StageKind, TracedEvent
from board.measures import clock_error, store_clock
from board.observations import StoreView, Views
from board.stalls import current
from board.store_stages import consumer_of, newest_cursor
from board.stores import Store
from millrace.kafka.partitioning import partition_of

LISTED = 100
"""Events of one answer, for each store."""
_BACK = 200_000
"""How far back, in positions, a correlation is looked for where nothing says where to look."""

_COLUMNS: LiteralString = "SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.recorded_at,"
_BY_STREAM: LiteralString = (
    _COLUMNS
    + """ public.correlation_of(e.position) AS correlation FROM public.events e
    WHERE e.stream_id = ANY(%(streams)s) OR e.event_id = %(event)s ORDER BY e.position LIMIT %(limit)s
"""
)
_BY_CORRELATION: LiteralString = (
    _COLUMNS
    + """ %(correlation)s AS correlation
    FROM public.positions_of_correlation(%(correlation)s, %(after)s, %(until)s) AS found
    JOIN public.events e ON e.position = found ORDER BY e.position LIMIT %(limit)s
"""
)
# Positions grow with the time: halving finds the last position before a moment, in some twenty reads of an
# index.
_BEFORE: LiteralString = """
    SELECT e.position, e.recorded_at < %(moment)s FROM public.events e
    WHERE e.position >= %(position)s ORDER BY e.position LIMIT 1
"""
_APPLIED: LiteralString = """
    SELECT s.version, (
        SELECT count(*) FROM public.parked_events p
        WHERE p.consumer = %(consumer)s AND p.stream_id = %(stream)s AND p.version <= %(version)s
    ) FROM (SELECT 1) AS one LEFT JOIN public.consumer_streams s ON s.consumer = %(consumer)s
        AND s.stream_id = %(stream)s
"""


@dataclass(frozen=True, slots=True)
class Found:
    """An event of a store, without its data."""

    position: int
    stream_id: str
    version: int
    event_id: UUID
    type: str
    recorded_at: datetime
    correlation: str | None


class EventTraces:
    """Looks events up, on connections of its own: a long search never delays a pass."""

    def __init__(
        self, databases: Mapping[str, str], declared: Declared, crossing_times: CrossingTimes
    ) -> None:
        self._stores = {service: Store(service, url) for service, url in databases.items()}
        self._declared = declared
        self._crossing_times = crossing_times
        self._turn = asyncio.Lock()

    async def of(self, wanted: str, views: Views) -> EventTrace:
        """Raises ValueError for what can't be an id."""
        name = wanted.strip()
        if not re.fullmatch(r"[\w.:@-]{1,255}", name):
            raise ValueError(
                f"'{wanted[:80]}' is no id: give an order, an event, a stream or a correlation id"
            )
        async with self._turn:
            found, complete = await self._found(name, views)
            events = [
                await self._traced(service, one, views)
                for service, one in sorted(found, key=lambda pair: pair[1].recorded_at)
            ]
        return EventTrace(
            id=name,
            at=views.wall,
            text=_summary(name, events, complete=complete),
            complete=complete,
            events=events,
        )

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()

    async def _found(self, name: str, views: Views) -> tuple[list[tuple[str, Found]], bool]:
        """First by stream and event id, then all that has one of their correlations, or the id itself as
        correlation."""
        event = _uuid(name)
        streams = [name, *(f"{prefix}{name}" for prefix in self._declared.streams)]
        first, complete = await self._everywhere(
            _BY_STREAM, lambda _: {"streams": streams, "event": event, "limit": LISTED}, views
        )
        correlations = {one.correlation for _, one in first if one.correlation}
        since = min((one.recorded_at for _, one in first), default=None)
        related: list[tuple[str, Found]] = []
        for correlation in sorted(correlations or {name})[:10]:
            some, whole = await self._correlated(correlation, since, views)
            related += some
            complete = complete and whole
        unique = {(service, one.position): (service, one) for service, one in (*first, *related)}
        return list(unique.values()), complete

    async def _correlated(
        self, correlation: str, since: datetime | None, views: Views
    ) -> tuple[list[tuple[str, Found]], bool]:
        after: dict[str, int] = {}
        for service, store in views.stores.items():
            after[service] = max(0, store.head - _BACK)
            if since is not None:
                after[service] = max(after[service], await self._position_before(service, since, store.head))

        def parameters(service: str) -> dict[str, Any]:
            head = views.stores[service].head if service in views.stores else 0
            return {
                "correlation": correlation,
                "after": after.get(service, 0),
                "until": head,
                "limit": LISTED,
            }

        return await self._everywhere(_BY_CORRELATION, parameters, views)

    async def _position_before(self, service: str, moment: datetime, head: int) -> int:
        low, high = 0, head
        try:
            connection = await self._stores[service].connection()
            while low < high:
                middle = (low + high + 1) // 2
                row = await (
                    await connection.execute(_BEFORE, {"moment": moment, "position": middle})
                ).fetchone()
                low, high = (middle, high) if row is not None and row[1] else (low, middle - 1)
        except psycopg.Error:
            return 0
        return low

    async def _everywhere(
        self, query: LiteralString, parameters: Any, views: Views
    ) -> tuple[list[tuple[str, Found]], bool]:
        async def ask(service: str, store: Store) -> list[tuple[str, Found]] | None:
            try:
                connection = await store.connection()
                async with connection.cursor(row_factory=class_row(Found)) as cursor:
                    await cursor.execute(query, parameters(service))
                    return [(service, one) for one in await cursor.fetchall()]
            except (psycopg.Error, OSError):
                await store.close()
                return None

        answers = await asyncio.gather(*(ask(*each) for each in self._stores.items()))
        complete = all(answer is not None and len(answer) < LISTED for answer in answers)
        return [one for answer in answers for one in answer or ()], complete

    async def _traced(self, service: str, event: Found, views: Views) -> TracedEvent:
        topic = self._declared.topics.get(service)
        view = views.kafka.topics.get(topic) if views.kafka and topic else None
        partition = partition_of(event.stream_id.encode(), len(view.ends)) if view and view.ends else None
        hops = [_passed(StageKind.STORE, service, event.recorded_at, f"appended to the store of {service}")]
        if topic is not None:
            hops.append(_relay_hop(service, topic, event, views, self._crossing_times))
        for projection in self._declared.projections:
            if projection.topics and topic in projection.topics:
                hops.append(await self._consumed(projection, service, event, views, partition, sent=hops[1]))
            elif not projection.topics and projection.service == service:
                hops.append(_projected(projection, event, views, self._crossing_times))
        return TracedEvent(
            service=service,
            event_id=str(event.event_id),
            stream_id=event.stream_id,
            version=event.version,
            type=event.type,
            position=event.position,
            committed_at=event.recorded_at.astimezone(UTC),
            correlation_id=event.correlation,
            topic=topic,
            partition=partition,
            hops=hops,
        )

    async def _consumed(
        self,
        projection: Projection,
        source: str,
        event: Found,
        views: Views,
        partition: int | None,
        *,
        sent: Hop,
    ) -> Hop:
        store = views.stores.get(projection.service)
        _, consumer = consumer_of(projection, store)
        row = None
        if projection.service in self._stores and consumer is not None:
            parameters = {"consumer": consumer, "stream": event.stream_id, "version": event.version}
            try:
                connection = await self._stores[projection.service].connection()
                row = await (await connection.execute(_APPLIED, parameters)).fetchone()
            except (psycopg.Error, OSError):
                await self._stores[projection.service].close()
        path = f"{projection.service}/{projection.name}"
        if row is None:
            return _hop(projection, path, "unknown", None, f"{projection.name} can't be seen")
        version, parked = row
        if parked:
            return _hop(projection, path, "parked", None, f"parked by {consumer}")
        if version is not None and version >= event.version:
            at = self._applied_at(projection, consumer or "", source, event, views, partition)
            return _hop(projection, path, "passed", None, f"applied by {projection.name}", at=at)
        if sent.state != "passed":
            return _hop(projection, path, "unknown", None, "it has not been sent yet")
        waiting = _waiting(source, event, views)
        text = f"waits for {projection.name} {_for(waiting)}"
        topic = self._declared.topics[source]
        if store is not None and (why := _stuck(store, consumer or "", topic, partition, views)):
            text = f"{text}: {why}"
        return _hop(projection, path, "waiting", waiting, text)

    def _applied_at(
        self,
        projection: Projection,
        consumer: str,
        source: str,
        event: Found,
        views: Views,
        partition: int | None,
    ) -> datetime | None:
        if partition is None or source not in views.stores:
            return None
        epoch, topic = views.stores[source].epoch, self._declared.topics[source]
        key = consumer_key(projection.service, consumer, epoch, topic, partition)
        return _not_before(event, self._crossing_times.when(key, event.position))


def _not_before(event: Found, moment: datetime | None) -> datetime | None:
    """Two clocks: what was seen to pass before its commit passed a moment after it."""
    return None if moment is None else max(moment, event.recorded_at)


def _passed(kind: StageKind, name: str, at: datetime | None, text: str) -> Hop:
    moment = at.astimezone(UTC) if at else None
    return Hop(kind=kind, name=name, path=None, state="passed", at=moment, waiting=None, text=text)


def _stuck(store: StoreView, consumer: str, topic: str, partition: int | None, views: Views) -> str:
    """What is in front of it, or itself, and does not pass; empty when nobody said that."""
    log = views.kafka.topics.get(topic) if views.kafka else None
    stall = current(store, consumer, topic, log).get(-1 if partition is None else partition)
    if stall is None:
        return ""
    held = HeldEvent(
        type=stall.event_type, stream_id=stall.stream_id, attempts=stall.attempts, error=stall.error
    )
    return f"partition {partition} is held up at {formatting.held(held)}"


def _relay_hop(service: str, topic: str, event: Found, views: Views, crossing_times: CrossingTimes) -> Hop:
    store = views.stores.get(service)
    cursor = newest_cursor(store, topic) if store else None
    if cursor is not None and cursor.position >= event.position:
        at = _not_before(event, crossing_times.when(relay_key(service, topic), event.position))
        return _passed(StageKind.RELAY, service, at, f"sent to {topic}")
    waiting = _waiting(service, event, views)
    state, text = ("unknown", f"the relay of {service} can't be seen") if store is None else (
        "waiting", f"waits here for {_for(waiting)}")  # fmt: skip
    return Hop.model_validate(
        {"kind": StageKind.RELAY, "name": service, "path": None, "state": state, "at": None,
         "waiting": waiting if state == "waiting" else None, "text": text}
    )  # fmt: skip


def _projected(projection: Projection, event: Found, views: Views, crossing_times: CrossingTimes) -> Hop:
    path = f"{projection.service}/{projection.name}"
    store: StoreView | None = views.stores.get(projection.service)
    version, _ = consumer_of(projection, store)
    row = next((one for one in (store.checkpoints if store else ())
                if (one.read_model, one.version) == (projection.name, version)), None)  # fmt: skip
    if store is None:
        return _hop(projection, path, "unknown", None, f"{projection.name} can't be seen")
    if row is not None and row.position >= event.position:
        key = model_key(projection.service, projection.name, version)
        at = _not_before(event, crossing_times.when(key, event.position))
        return _hop(projection, path, "passed", None, f"applied by {projection.name}", at=at)
    waiting = _waiting(projection.service, event, views)
    return _hop(projection, path, "waiting", waiting, f"waits for {projection.name} {_for(waiting)}")


def _hop(
    projection: Projection,
    path: str,
    state: str,
    waiting: float | None,
    text: str,
    *,
    at: datetime | None = None,
) -> Hop:
    moment = at.astimezone(UTC) if at else None
    return Hop.model_validate(
        {"kind": StageKind.READ_MODEL, "name": projection.name, "path": path, "state": state, "at": moment,
         "waiting": waiting, "text": text}
    )  # fmt: skip


def _waiting(service: str, event: Found, views: Views) -> float | None:
    """Seconds; None for an event of the future."""
    clock = store_clock(service, views.at, views)
    return age_of(event.recorded_at, clock, error=clock_error(service, views))


def _for(waiting: float | None) -> str:
    return "an unknown time: its store's clock was ahead" if waiting is None else formatting.duration(waiting)


def _summary(name: str, events: Sequence[TracedEvent], *, complete: bool) -> str:
    if not events:
        return f"No event of {name} is in any store" + ("." if complete else " that I can see.")
    waiting = [(hop, event) for event in events for hop in event.hops if hop.state == "waiting"]
    parked = [(hop, event) for event in events for hop in event.hops if hop.state == "parked"]
    count = f"{len(events)} event{'' if len(events) == 1 else 's'}"
    if waiting:
        hop, event = max(waiting, key=lambda pair: pair[0].waiting or 0.0)
        where = f"the relay of {hop.name}" if hop.kind is StageKind.RELAY else hop.name
        return f"{count}; {event.type} waits at {where} for {_for(hop.waiting)}."
    if parked:
        hop, event = parked[0]
        return f"{count}; {event.type} is parked at {hop.name}."
    return f"{count}, and all of them passed everywhere." if complete else f"{count} that I can see."


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

"""Discard: a parked record that can never be applied is written down and let go, so that its stream can go
on."""

from dataclasses import dataclass
from uuid import UUID

from millrace.consumer import parking, positions
from millrace.consumer.consumer import Consumer
from millrace.consumer.parking import ParkedEvent, Queue
from millrace.consumer.plan import FOREIGN, Failure, Seen
from millrace.consumer.true_event import NoAnswer, find_candidates, true_event
from millrace.domain.errors import MillraceError
from millrace.domain.ids import derived_id
from millrace.kafka.incoming import Incoming, unparsable_key
from millrace.postgres.database import Connection
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

NO_EVENT = 0
"""Said as the version of a record that is none of the stream's events."""


class NotDiscarded(MillraceError):
    """Nothing was changed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """The record that went. `version` of its stream counts as seen from now on; None: the record counts as
    none.

    `left` later events of the stream are still parked. `asked`: the topic was searched for this version of
    the stream, and `found` is its true event there (None: it isn't there). `in_place`: that event is parked
    in the record's place; otherwise the consumer will come to it. `open`: should an event with `version` come
    next, it is parked, not dropped.
    """

    record: ParkedEvent
    version: int | None
    left: int
    asked: int | None = None
    found: Incoming | None = None
    in_place: bool = False
    open: bool = False


async def discard(
    consumer: Consumer, stream_id: str, *, reason: str, by: str, version: int | None = None
) -> Discarded:
    """Take the first parked record of a stream away, for this consumer only, and keep it in
    `discarded_events`.

    The version that the record has, or that `version` says it had, counts as seen: the stream goes on behind
    it, and the same event is dropped should it be sent again, and an event that comes with the version of a
    record that could not be read is parked as a conflict, which a redrive applies. A record that names none
    and has no event parked behind it (then its place is known) needs `version`: the stream's next one, or
    NO_EVENT for a record that is no event of it. A wrong guess would either lose the stream's next event or
    stop its partition, so nobody guesses.

    Before a version counts for a record that can't be read, the topic is searched for the true event of that
    version. If it is there, nothing counts as seen: it will be applied, from the record's place if the
    consumer would not come to it. A version that was applied before the record came is never put there.

    The consumer may be running, here or elsewhere. Raises LookupError when the stream is not parked,
    NotDiscarded (the topic can't be searched, for instance), ValueError without a reason, psycopg.Error.
    """
    if not reason.strip() or not by.strip():
        raise ValueError("say why, and who decides it")
    async with consumer.transaction.pool.connection() as connection:
        record = await parking.oldest_parked(connection, consumer.name, stream_id)
        if record is None:
            raise LookupError(f"{consumer.name} has no parked stream {stream_id}")
        queue = await _queue(connection, consumer, record)
    counted, asked = _place(record, version, queue)
    # Before the partition is locked: to read a topic can take a while.
    candidates = await _candidates(consumer, record, asked) if asked is not None else []
    async with consumer.transaction.pool.connection() as connection, connection.transaction():
        # As in a redrive: the consumer neither parks nor applies an event of the stream before the commit.
        same = await parking.take(connection, consumer.name, record)
        queue = await _queue(connection, consumer, record)
        if not same or _place(record, version, queue) != (counted, asked):
            raise NotDiscarded(f"somebody else is at work on {stream_id}: look again what is parked")
        found, in_place = await _true_event(connection, consumer, record, candidates, queue)
        if found is not None:
            counted = None
        if counted is not None:
            seen = Seen(counted, _stand_in(record))
            await positions.raise_version(connection, consumer.name, stream_id, seen)
        if not in_place:
            await _pass_on(connection, consumer, record, counted)
        await parking.move_to_discarded(connection, record, version=counted, reason=reason, by=by)
        if found is not None and in_place:
            await _put_in_place(connection, consumer, record, found)
    log.warning("parked event discarded", consumer=consumer.name, stream_id=stream_id, by=by, reason=reason)
    return Discarded(
        record, counted, queue.records - 1 + in_place, asked, found, in_place, (counted or 0) > queue.seen
    )


def _stand_in(record: ParkedEvent) -> UUID:
    """For the version that the record covers: no event has this id, so one that comes with the version is a
    conflict."""
    where = (record.topic, record.generation, record.partition, record.offset)
    return derived_id("discarded record", *map(str, where))


async def _pass_on(
    connection: Connection, consumer: Consumer, record: ParkedEvent, counted: int | None
) -> None:
    """What is parked behind the record is neither what was applied before it, nor the version that counts
    now."""
    if record.error_class not in (FOREIGN, *parking.NOT_ITS_EVENTS):
        await parking.pass_on(connection, consumer.name, record, max(record.seen or 0, counted or 0))


async def _queue(connection: Connection, consumer: Consumer, record: ParkedEvent) -> Queue:
    return await parking.queue_of(connection, consumer.name, record)


def _place(record: ParkedEvent, said: int | None, queue: Queue) -> tuple[int | None, int | None]:
    """The version that counts as seen, and the one whose true event is to be searched for; None: none."""
    if record.error_class == FOREIGN:
        return None, None
    if record.stream_id == unparsable_key(record.topic, record.partition):
        if said:
            raise NotDiscarded("the record is of no stream and has no version: leave --version away")
        return None, None
    if record.version is not None:
        if said not in (None, record.version):
            raise NotDiscarded(
                f"the record says itself that it is version {record.version}: leave --version away"
            )
        conflict = record.error_class in parking.NOT_ITS_EVENTS
        return None if conflict and record.version <= queue.seen else record.version, None
    # What the header of a record that can't be read says is a hint. To believe it could drop a true event of
    # that version.
    hint = record.number("millrace_version")
    if queue.next_event is None:
        return _place_at_the_end(record, said, hint, queue.seen)
    return _place_before(queue.next_event, said, hint, queue, record.seen or 0)


def _place_at_the_end(
    record: ParkedEvent, said: int | None, hint: int | None, seen: int
) -> tuple[int | None, int | None]:
    """No event of the stream came after the record: it is the next one, or none."""
    if said is None:
        says = f" (its header says {hint})" if hint is not None else ""
        raise NotDiscarded(
            f"the record can't be read, so it does not say which version of {record.stream_id} it is{says}:"
            f" add"
            f" --version {seen + 1} when it was the stream's next event and no true one of that version"
            f" will come,"
            f" --version {NO_EVENT} when it was none of its events"
        )
    if said > seen + 1:
        raise NotDiscarded(f"the stream is at version {seen} here: the record can only be version {seen + 1}")
    return said or None, said if said == seen + 1 else None


def _place_before(
    next_event: int, said: int | None, hint: int | None, queue: Queue, seen: int
) -> tuple[int | None, int | None]:
    """An event is parked behind the record, and one for each such record, at most, is missing between `seen`,
    the last version before the record, and that event."""
    first = max(next_event - queue.unreadable, seen + 1)
    if said and not first <= said < next_event:
        raise NotDiscarded(
            f"version {next_event} is parked behind the record: it can only be"
            f" {_range_text(first, next_event - 1)}"
        )
    if first >= next_event:
        return None, None
    if first == next_event - 1:
        place: int | None = first
    else:
        place = said or (hint if hint is not None and first <= hint < next_event else None)
    return (None if said == NO_EVENT else place), place


def _range_text(first: int, last: int) -> str:
    if first > last:
        return f"none of the stream's events: say --version {NO_EVENT}"
    return f"version {first}" if first == last else f"one of the versions {first} to {last}"


async def _candidates(consumer: Consumer, record: ParkedEvent, version: int) -> list[Incoming]:
    try:
        return await find_candidates(consumer, record, version)
    except NoAnswer as problem:
        raise NotDiscarded(
            f"whether the true version {version} is in {record.topic} can't be found out: {problem}; run"
            f" the command again"
            " when Kafka answers"
        ) from problem


async def _true_event(
    connection: Connection, consumer: Consumer, record: ParkedEvent, candidates: list[Incoming], queue: Queue
) -> tuple[Incoming | None, bool]:
    """The true event, and whether the consumer would not come to it by itself."""
    if not candidates:
        return None, False
    known = await positions.lock_and_read(connection, consumer.name, candidates, {})
    found = true_event(candidates, consumer.topics[record.topic].source, known)
    if found is None:
        return None, False
    read = max(
        (offset for key, (_, offset) in known.positions.items() if (key[1], key[3]) == found.source),
        default=0,
    )
    return found, queue.next_event is not None or found.offset < read


async def _put_in_place(
    connection: Connection, consumer: Consumer, record: ParkedEvent, found: Incoming
) -> None:
    assert found.event is not None, "only events are found"
    why = "its place was taken by a record that can't be read"
    waited = Failure(why, "StreamParked", 0, seen=record.seen)
    await parking.park_as(connection, consumer.name, record.id, found, waited)
    seen = Seen(found.event.version, found.event.event_id, found.event.position)
    await positions.raise_version(connection, consumer.name, record.stream_id, seen)

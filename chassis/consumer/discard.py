"""Discard: a parked record that can never be applied is written down and let go, so that its stream can go on."""

from dataclasses import dataclass

from chassis.consumer import parking, positions
from chassis.consumer.consumer import Consumer
from chassis.consumer.parking import ParkedEvent
from chassis.logging import get_logger

log = get_logger(__name__)

NO_EVENT = 0
"""Said as the version of a record that is none of the stream's events."""


class NotDiscarded(Exception):
    """Nothing was changed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Discarded:
    """The record that went. `version` of its stream counts as seen from now on; None: the record counts as none.

    `left` later events of the stream are still parked.
    """

    record: ParkedEvent
    version: int | None
    left: int


async def discard(
    consumer: Consumer, stream_id: str, *, reason: str, by: str, version: int | None = None
) -> Discarded:
    """Take the first parked record of a stream away, for this consumer only, and keep it in `discarded_events`.

    The version that the record has, or that `version` says it had, counts as seen: the stream goes on behind it, and
    the same event is dropped should it be sent again. A record that names none and has nothing parked behind it
    (then its place is known) needs `version`: the stream's next one, or NO_EVENT for a record that is no event of it.
    A wrong guess would either lose the stream's next event or stop its partition, so nobody guesses.

    The consumer may be running, here or elsewhere. Raises LookupError when the stream is not parked, NotDiscarded,
    ValueError without a reason, psycopg.Error.
    """
    if not reason.strip() or not by.strip():
        raise ValueError("say why, and who decides it")
    async with consumer.transaction.pool.connection() as connection:
        record = await parking.oldest_parked(connection, consumer.name, stream_id)
        if record is None:
            raise LookupError(f"{consumer.name} has no parked stream {stream_id}")
        async with connection.transaction():
            # As in a redrive: the consumer neither parks nor applies an event of the stream before the commit.
            if not await parking.take(connection, consumer.name, record):
                raise NotDiscarded(f"somebody else is at work on {stream_id}: look again what is parked")
            seen = await positions.version_of(connection, consumer.name, stream_id)
            left = await parking.count_parked(connection, consumer.name, stream_id) - 1
            counted = _counted(record, version, seen, left)
            if counted is not None:
                await positions.raise_version(connection, consumer.name, stream_id, counted)
            await parking.move_to_discarded(connection, record, version=counted, reason=reason, by=by)
    log.warning("parked event discarded", consumer=consumer.name, stream_id=stream_id, by=by, reason=reason)
    return Discarded(record, counted, left)


def _counted(record: ParkedEvent, said: int | None, seen: int, left: int) -> int | None:
    """The version that counts as seen. `seen`: the last one that was applied or parked, by what is behind it also."""
    named = record.version or record.number("millrace_version")
    if record.version is None and named is not None and named > seen + 1:
        named = None  # in a record that can't be read; to believe it would drop the versions before it
    if said is not None and named is not None and said != named:
        raise NotDiscarded(f"the record says itself that it is version {named}: leave --version away")
    if said is not None and said > seen + 1:
        raise NotDiscarded(f"the stream is at version {seen} here: the record can only be version {seen + 1}")
    if said is None and named is None and left == 0:
        raise NotDiscarded(
            f"the record does not say which version of {record.stream_id} it is: add --version {seen + 1} when it was the"
            f" stream's next event, --version {NO_EVENT} when it was none of its events"
        )
    return named if said is None else said or None

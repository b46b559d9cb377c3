"""Redrive: parked streams through the same handler again, oldest event first."""

from dataclasses import dataclass
from enum import Enum, auto

from chassis.consumer import parking, positions
from chassis.consumer.consumer import Consumer
from chassis.consumer.faults import is_passing
from chassis.consumer.incoming import read_record
from chassis.consumer.parking import ParkedEvent, ParkedStream
from chassis.database import Connection
from chassis.events import UnknownEvent
from chassis.logging import get_logger
from chassis.unit_of_work import UnitOfWork

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a parked stream: `applied` events, `left` that are still parked, and why."""

    stream_id: str
    applied: int
    left: int
    error: str | None = None


async def parked(consumer: Consumer) -> list[ParkedStream]:
    """The consumer's parked streams, oldest first."""
    async with consumer.transaction.pool.connection() as connection:
        return await parking.parked_streams(connection, consumer.name)


async def redrive(
    consumer: Consumer, stream_id: str | None = None, *, dry_run: bool = False
) -> list[Redriven]:
    """Send one parked stream, or all of them, through the consumer's handler again.

    Each event is a transaction of its own: the handler's effects and the end of its parking. A stream stops at
    the first event that fails again; its error is written down. When none is left, the stream flows again. The
    consumer may be running, here or elsewhere, and needs no broker. `dry_run` changes nothing: it tells what
    would be tried. Raises LookupError when `stream_id` is not parked, and what passes (the database is away).
    """
    streams = [one for one in await parked(consumer) if stream_id in (None, one.stream_id)]
    if stream_id is not None and not streams:
        raise LookupError(f"{consumer.name} has no parked stream {stream_id}")
    if dry_run:
        return [Redriven(one.stream_id, 0, one.events, one.error) for one in streams]
    return [await _redrive_stream(consumer, one) for one in streams]


async def _redrive_stream(consumer: Consumer, stream: ParkedStream) -> Redriven:
    applied = 0
    error: str | None = None
    try:
        while (attempt := await _redrive_oldest(consumer, stream.stream_id)) is not _Attempt.NOTHING_LEFT:
            applied += attempt is _Attempt.APPLIED
    except _FailedAgain as failure:
        error = str(failure)
    left = sum(one.events for one in await parked(consumer) if one.stream_id == stream.stream_id)
    log.info("stream redriven", consumer=consumer.name, stream=stream.stream_id, applied=applied, left=left)
    return Redriven(stream.stream_id, applied, left, error)


class _Attempt(Enum):
    APPLIED = auto()
    OVERTAKEN = auto()  # by another redrive: look again
    NOTHING_LEFT = auto()


class _FailedAgain(Exception):
    pass


async def _redrive_oldest(consumer: Consumer, stream_id: str) -> _Attempt:
    transaction = consumer.transaction
    async with transaction.pool.connection() as connection:
        candidate = await parking.oldest_parked(connection, consumer.name, stream_id)
        if candidate is None:
            return _Attempt.NOTHING_LEFT
        if unknown := _unknown(consumer, candidate):
            await parking.failed_again(connection, candidate, unknown)
            raise _FailedAgain(f"{type(unknown).__name__}: {unknown}")
        try:
            async with connection.transaction():
                # The position row keeps the consumer out of this partition until the commit: no younger event
                # of the stream is applied or parked while this one is under way.
                await positions.lock_partition(
                    connection, consumer.name, (candidate.topic, candidate.partition)
                )
                if await parking.oldest_parked(connection, consumer.name, stream_id) != candidate:
                    return _Attempt.OVERTAKEN
                unit = await _apply(consumer, connection, candidate)
        except Exception as error:
            if is_passing(error):
                raise
            await parking.failed_again(connection, candidate, error)
            raise _FailedAgain(f"{type(error).__name__}: {error}") from error
    transaction.announce(unit)
    return _Attempt.APPLIED


def _unknown(consumer: Consumer, candidate: ParkedEvent) -> UnknownEvent | None:
    """Why nothing here can read the event (yet): no handler gets to see it."""
    item = read_record(candidate.topic, candidate, consumer.registry, candidate.generation)
    return consumer.transaction.policy.problem(item.event) if item.event else None


async def _apply(consumer: Consumer, connection: Connection, candidate: ParkedEvent) -> UnitOfWork:
    item = read_record(candidate.topic, candidate, consumer.registry, candidate.generation)
    if item.event is None:
        raise item.problem or LookupError("no event")
    # A record that could not be read had no version until now.
    await positions.raise_version(connection, consumer.name, item.stream_id, item.event.version)
    await parking.remove(connection, candidate)
    return await consumer.transaction.apply_parked(connection, [item.event])

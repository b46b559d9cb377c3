"""Redrive: parked streams through the same handler again, oldest event first."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from chassis.backoff import Backoff
from chassis.consumer import parking, positions
from chassis.consumer.consumer import Consumer
from chassis.consumer.faults import is_conflict, is_passing
from chassis.consumer.incoming import read_record
from chassis.consumer.parking import ParkedEvent, ParkedStream
from chassis.consumer.positions import StreamMoved
from chassis.events import RecordedEvent
from chassis.logging import get_logger

log = get_logger(__name__)
T = TypeVar("T")

CONFLICTS = 20
"""How often in a row somebody else may be faster before a redrive gives up."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a parked stream: `applied` events, `left` that are still parked, and why.

    After a dry run: what would have become of it.
    """

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
    """`redrive_stream` for one parked stream, or for all of them, oldest first.

    Raises LookupError when `stream_id` is not parked, and what `redrive_stream` raises.
    """
    streams = [one.stream_id for one in await parked(consumer) if stream_id in (None, one.stream_id)]
    if stream_id is not None and not streams:
        raise LookupError(f"{consumer.name} has no parked stream {stream_id}")
    return [await redrive_stream(consumer, one, dry_run=dry_run) for one in streams]


async def redrive_stream(consumer: Consumer, stream_id: str, *, dry_run: bool = False) -> Redriven:
    """Send what is parked of a stream through the consumer's handler again; nothing parked is nothing done.

    Each event is a transaction of its own: the handler's effects and the end of its parking. The stream stops at
    the first event that fails again; its error is written down. When none is left, the stream flows again. The
    consumer may be running, here or elsewhere, and needs no broker. `dry_run` does all of it in one transaction and
    rolls that back. Raises what passes (the database is away); what was applied until then stays.
    """
    if dry_run:
        return await _patiently(lambda: _rehearse(consumer, stream_id))
    applied = 0
    error: str | None = None
    try:
        while (
            attempt := await _patiently(lambda: _redrive_oldest(consumer, stream_id))
        ) is not _Attempt.DONE:
            applied += attempt is _Attempt.APPLIED
    except _FailedAgain as failure:
        error = str(failure)
    async with consumer.transaction.pool.connection() as connection:
        left = await parking.count_parked(connection, consumer.name, stream_id)
    log.info("stream redriven", consumer=consumer.name, stream_id=stream_id, applied=applied, left=left)
    return Redriven(stream_id, applied, left, error)


class _Attempt(Enum):
    APPLIED = auto()
    OVERTAKEN = auto()  # by another redrive: look again
    DONE = auto()  # nothing is left


class _FailedAgain(Exception):
    """It is the event's own fault: trying once more would not help."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Again, when a command or the consumer appended to the same stream first: the event is decided anew on that."""
    backoff = Backoff(initial=0.01, maximum=0.5)
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_conflict(error) or backoff.attempts >= CONFLICTS:
                raise
        await backoff.wait()


async def _redrive_oldest(consumer: Consumer, stream_id: str) -> _Attempt:
    transaction = consumer.transaction
    async with transaction.pool.connection() as connection:
        candidate = await parking.oldest_parked(connection, consumer.name, stream_id)
        if candidate is None:
            return _Attempt.DONE
        try:
            event = _readable(consumer, candidate)
            with _judging():
                async with connection.transaction():
                    if not await parking.take(connection, consumer.name, candidate):
                        return _Attempt.OVERTAKEN
                    # A record that could not be read had no version until now.
                    await positions.raise_version(connection, consumer.name, event.stream_id, event.version)
                    await parking.remove(connection, candidate)
                    unit = transaction.unit_for_parked(connection)
                    await transaction.apply_parked(event, unit)
                    await unit.flush()
        except _FailedAgain as failure:
            await parking.failed_again(connection, candidate, failure.cause)
            raise
    transaction.announce(unit)
    return _Attempt.APPLIED


async def _rehearse(consumer: Consumer, stream_id: str) -> Redriven:
    """All of the stream's events as they would be applied, each on what the ones before it left; then rolled back.

    One unit of work keeps what they decide: the store's append lock, which stops every writer, is taken for a moment
    at the end instead of from the first event on.
    """
    transaction, name = consumer.transaction, consumer.name
    applied, last = 0, 0
    error: str | None = None
    async with transaction.pool.connection() as connection:
        try:
            with _judging():
                async with connection.transaction(force_rollback=True):
                    unit = transaction.unit_for_parked(connection)
                    while candidate := await parking.oldest_parked(connection, name, stream_id, after=last):
                        if not await parking.take(connection, name, candidate, after=last):
                            raise StreamMoved(f"{stream_id}: somebody else redrives it")
                        await transaction.apply_parked(_readable(consumer, candidate), unit)
                        applied, last = applied + 1, candidate.id
                    await unit.flush()
        except _FailedAgain as failure:
            error = str(failure)
        left = await parking.count_parked(connection, name, stream_id) - applied
    return Redriven(stream_id, applied, left, error)


def _readable(consumer: Consumer, candidate: ParkedEvent) -> RecordedEvent:
    """The event; no handler gets to see what nothing here can read (yet)."""
    item = read_record(candidate.topic, candidate, consumer.registry, candidate.generation)
    if item.event is None:
        raise _FailedAgain(item.problem or LookupError("no event"))
    if unknown := consumer.transaction.policy.problem(item.event):
        raise _FailedAgain(unknown)
    return item.event


@contextmanager
def _judging() -> Iterator[None]:
    """Whatever does not pass by itself is the event's fault."""
    try:
        yield
    except _FailedAgain:
        raise
    except Exception as error:
        if is_passing(error):
            raise
        raise _FailedAgain(error) from error

"""Redrive: parked streams through the same handler again, oldest event first."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import parking, positions
from millrace.consumer.beginning_rows import read_beginnings
from millrace.consumer.consumer import Consumer
from millrace.consumer.faults import is_conflict, is_passing
from millrace.consumer.parking import ParkedEvent, ParkedStream
from millrace.consumer.plan import Seen
from millrace.consumer.positions import StreamMoved
from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming, read_record
from millrace.postgres.database import Connection
from millrace.runtime.backoff import Backoff
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)
T = TypeVar("T")

CONFLICTS = 20
"""How often in a row somebody else may be faster before a redrive gives up."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of a parked stream: `applied` events, `left` that are still parked, and why.

    `dropped`: events that were not applied because their version was applied before, comes again behind them,
    or is from before the consumer began; they are in discarded_events, with the reason.

    After a dry run: what would have become of it.
    """

    stream_id: str
    applied: int
    left: int
    error: str | None = None
    dropped: int = 0


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

    Each event is a transaction of its own: the handler's effects and the end of its parking. The stream stops
    at the first event that fails again; its error is written down. When none is left, the stream flows again.
    The consumer may be running, here or elsewhere, and needs no broker. `dry_run` does all of it in one
    transaction and rolls that back. Raises what passes (the database is away); what was applied until then
    stays.
    """
    if dry_run:
        return await _patiently(lambda: _rehearse(consumer, stream_id))
    applied, dropped = 0, 0
    error: str | None = None
    try:
        while (
            attempt := await _patiently(lambda: _redrive_oldest(consumer, stream_id))
        ) is not _Attempt.DONE:
            applied += attempt is _Attempt.APPLIED
            dropped += attempt is _Attempt.DROPPED
    except _FailedAgain as failure:
        error = str(failure)
    async with consumer.transaction.pool.connection() as connection:
        left = await parking.count_parked(connection, consumer.name, stream_id)
    log.info("stream redriven", consumer=consumer.name, stream_id=stream_id, applied=applied, left=left)
    return Redriven(stream_id, applied, left, error, dropped)


class _Attempt(Enum):
    APPLIED = auto()
    OVERTAKEN = auto()  # by another redrive: look again
    DROPPED = (
        auto()
    )  # its version was applied before, or the event comes again at the version that it has in the end
    DONE = auto()  # nothing is left


class _FailedAgain(MillraceError):
    """It is the event's own fault: trying once more would not help."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


class NeverApplied(MillraceError):
    """A record that no attempt can help."""

    def __init__(self, candidate: ParkedEvent) -> None:
        conflict = candidate.error_class in parking.NOT_ITS_EVENTS
        what = "contradicts what was seen" if conflict else "can't be the relay's"
        super().__init__(
            f"it {what} and is never applied: discard it, once the audit has said which one is right"
        )


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Again, when a command or the consumer appended to the same stream first: the event is decided again on
    that."""
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
            if await _superseded(connection, consumer, candidate):
                return await _let_go(connection, consumer, candidate)
            item, event = _readable(consumer, candidate)
            with _judging():
                async with connection.transaction():
                    if not await parking.take(connection, consumer.name, candidate):
                        return _Attempt.OVERTAKEN
                    if reason := await _dropped(connection, consumer, candidate, item, event):
                        await parking.move_to_discarded(
                            connection, candidate, version=None, reason=reason, by="redrive"
                        )
                        log.warning("parked event dropped", consumer=consumer.name, reason=reason)
                        return _Attempt.DROPPED
                    await _note_version(connection, consumer, candidate, event)
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
    """All of the stream's events as they would be applied, each on what the ones before it left; then rolled
    back.

    One unit of work keeps what they decide: the store's append lock, which stops every writer, is taken for a
    moment at the end instead of from the first event on.
    """
    transaction, name = consumer.transaction, consumer.name
    applied, dropped, last = 0, 0, 0
    error: str | None = None
    async with transaction.pool.connection() as connection:
        try:
            with _judging():
                async with connection.transaction(force_rollback=True):
                    unit = transaction.unit_for_parked(connection)
                    while candidate := await parking.oldest_parked(connection, name, stream_id, after=last):
                        if not await parking.take(connection, name, candidate, after=last):
                            raise StreamMoved(f"{stream_id}: somebody else redrives it")
                        if await _rehearse_one(connection, consumer, candidate, unit):
                            applied += 1
                        else:
                            dropped += 1
                        last = candidate.id
                    await unit.flush()
        except _FailedAgain as failure:
            error = str(failure)
        left = await parking.count_parked(connection, name, stream_id) - applied - dropped
    return Redriven(stream_id, applied, left, error, dropped)


async def _rehearse_one(
    connection: Connection, consumer: Consumer, candidate: ParkedEvent, unit: UnitOfWork
) -> bool:
    """Whether it would be applied; False: dropped."""
    if await _superseded(connection, consumer, candidate):
        return False
    item, event = _readable(consumer, candidate)
    if await _dropped(connection, consumer, candidate, item, event):
        return False
    await _note_version(connection, consumer, candidate, event)
    await consumer.transaction.apply_parked(event, unit)
    return True


async def _superseded(connection: Connection, consumer: Consumer, candidate: ParkedEvent) -> int | None:
    """The version at which a conflicting event comes again, further back in what is parked; None where it
    doesn't."""
    if candidate.error_class not in parking.NOT_ITS_EVENTS:
        return None
    return await parking.comes_again_as(connection, consumer.name, candidate)


async def _let_go(connection: Connection, consumer: Consumer, candidate: ParkedEvent) -> _Attempt:
    async with connection.transaction():
        if not await parking.take(connection, consumer.name, candidate):
            return _Attempt.OVERTAKEN
        version = await parking.comes_again_as(connection, consumer.name, candidate)
        reason = f"its store was restored and has the same event as version {version}"
        await parking.move_to_discarded(connection, candidate, version=None, reason=reason, by="redrive")
    return _Attempt.DROPPED


async def _dropped(
    connection: Connection, consumer: Consumer, candidate: ParkedEvent, item: Incoming, event: RecordedEvent
) -> str | None:
    """Why a record is not applied, noted for what is parked behind it; None: apply it."""
    beginning = (await read_beginnings(connection, consumer.name)).get(item.topic)
    if beginning is not None and beginning.is_past(item.epoch, event):
        await _note_version(connection, consumer, candidate, event)
        return f"version {event.version} of {event.stream_id} is from before {consumer.name} began"
    reason = await _seen_before(connection, consumer, candidate, event)
    if reason is not None:
        await parking.pass_on(connection, consumer.name, candidate, candidate.seen or 0)
    return reason


async def _seen_before(
    connection: Connection, consumer: Consumer, candidate: ParkedEvent, event: RecordedEvent
) -> str | None:
    """Why a record must not be applied: its version was applied before, or came in another record. None:
    apply it.

    Raises _FailedAgain when it could not be read until now and a version before it is missing.
    """
    if candidate.stream_id == event.stream_id and event.version <= (candidate.seen or 0):
        return f"version {event.version} of {event.stream_id} was applied or discarded before"
    if candidate.version is not None:
        return None
    seen = await positions.version_of(connection, consumer.name, event.stream_id)
    behind = await parking.first_version(connection, consumer.name, event.stream_id, after=candidate.id)
    missed = event.version == seen + 1 if behind is None else event.version < behind
    if missed and candidate.stream_id == event.stream_id:
        return None
    if event.version <= seen:
        return f"version {event.version} of {event.stream_id} came in another record"
    raise _FailedAgain(
        LookupError(
            f"it is version {event.version} of {event.stream_id}, of which version {seen} was seen last"
        )
    )


async def _note_version(
    connection: Connection, consumer: Consumer, candidate: ParkedEvent, event: RecordedEvent
) -> None:
    """What is parked behind it can't be the same version; a record that could not be read had none until
    now."""
    seen = Seen(event.version, event.event_id, event.position)
    await positions.raise_version(connection, consumer.name, event.stream_id, seen)
    if candidate.error_class in parking.NOT_ITS_EVENTS:
        await positions.fill_discarded(connection, consumer.name, event.stream_id, seen)
    await parking.pass_on(connection, consumer.name, candidate, max(event.version, candidate.seen or 0))


def _readable(consumer: Consumer, candidate: ParkedEvent) -> tuple[Incoming, RecordedEvent]:
    """The record and its event; no handler gets to see what nothing here can read (yet), nor what is not of
    its stream's history."""
    if candidate.never_applied:
        raise _FailedAgain(NeverApplied(candidate))
    item = read_record(
        candidate.topic, candidate, consumer.registry_of(candidate.topic), candidate.generation
    )
    if item.event is None:
        raise _FailedAgain(item.problem or LookupError("no event"))
    if unknown := consumer.transaction.policy.problem(item.event):
        raise _FailedAgain(unknown)
    return item, item.event


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

"""Carrying out commands: load the stream, decide, append; again when somebody else was faster.

The idempotency record of a keyed command is its events: their ids are derived from the key, so that a repeat
finds them in the store. Nothing else is written, and it can't be out of step with the events. A command that
had nothing to do leaves no record: its repeat is decided again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic
from uuid import UUID
from weakref import WeakValueDictionary

from structlog.contextvars import bind_contextvars

from millrace.application.loading import load_state
from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import StateCache
from millrace.domain.decider import C, CommandRefused, Decider, S
from millrace.domain.errors import MillraceError
from millrace.domain.events import DomainEvent, Metadata, NewEvent, RecordedEvent
from millrace.domain.ids import derived_id, new_id
from millrace.store import NO_STREAM, EventIdsReused, EventStore, StreamAppend, WrongExpectedVersion
from millrace.telemetry.tracing.events import appending

MAX_ATTEMPTS = 50  # each lost one means that another process appended to the same stream


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The client's key. `scope` says whose and what for; `fingerprint` tells another request with the same
    key."""

    scope: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Who asks, and which request or event it belongs to; goes into the events' metadata."""

    actor: str | None
    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None
    idempotency: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class Committed(Generic[S]):
    """What a command led to: the stream and its state at `version`.

    `position` is that of the last event, None when nothing had to be done. `replayed`: the key was used
    before, this is the first result.
    """

    stream_id: str
    version: int
    position: int | None
    state: S
    replayed: bool


class IdempotencyKeyReused(MillraceError):
    """The key was used before, for another request."""

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency key {key!r} was used before for another request: use a new key")
        self.key = key


class CommandHandler(Generic[S, C]):
    """Commands for one kind of stream. Their states are kept in memory (StateCache), those of long ones in
    snapshots."""

    def __init__(
        self,
        store: EventStore,
        decider: Decider[S, C],
        *,
        cache_size: int = 10_000,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._store = store
        self._decider = decider
        self._cache = StateCache(cache_size)
        self._snapshots = snapshots
        # One command at a time for a stream: those of one process wait for each other instead of losing
        # races.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(self, stream_id: str, command: C, context: CommandContext) -> Committed[S]:
        """Carry out the first command of a new stream, in one round trip.

        A repeat of a keyed command returns the first result, which is in the stream of the first request.
        Raises CommandRefused, IdempotencyKeyReused, WrongExpectedVersion when the stream exists.
        """
        _log_with(stream_id)
        return await self._attempt(stream_id, NO_STREAM, self._decider.initial, command, context)

    async def execute(
        self, stream_id: str, command: C, context: CommandContext, *, expected_version: int | None = None
    ) -> Committed[S]:
        """Carry out a command on a stream that may exist.

        With `expected_version` the command is for the state at that version, and for no other. Raises
        CommandRefused with `current_version` set, IdempotencyKeyReused, WrongExpectedVersion.
        """
        _log_with(stream_id)
        async with self._turns.setdefault(stream_id, asyncio.Lock()):
            for _ in range(MAX_ATTEMPTS - 1):
                try:
                    return await self._load_and_attempt(stream_id, command, context, expected_version)
                except WrongExpectedVersion as conflict:
                    self._cache.conflicted(conflict)
            return await self._load_and_attempt(stream_id, command, context, expected_version)

    async def _load_and_attempt(
        self, stream_id: str, command: C, context: CommandContext, expected_version: int | None
    ) -> Committed[S]:
        version, state = await self._load(stream_id)
        if expected_version is not None and version != expected_version:
            return await self._first_result(
                context, otherwise=WrongExpectedVersion(stream_id, expected_version, version)
            )
        return await self._attempt(stream_id, version, state, command, context)

    async def _attempt(
        self, stream_id: str, version: int, state: S, command: C, context: CommandContext
    ) -> Committed[S]:
        try:
            events = self._decider.decide(state, command)
        except CommandRefused as refusal:
            # What the first request did may be the very reason why the repeat is refused.
            refusal.current_version = version
            return await self._first_result(context, otherwise=refusal)
        if not events:
            nothing_done = Committed(stream_id, version, None, state, replayed=False)
            return await self._first_result(context, otherwise=nothing_done)
        try:
            with appending(stream_id, events, context.traceparent) as span:
                if span.traceparent is not None:  # what follows from these events goes on behind their append
                    context = replace(context, traceparent=span.traceparent)
                new = new_events(events, context)
                append = StreamAppend(stream_id, version, new)
                (appended,) = await self._store.append([append])
        except EventIdsReused as reused:
            # The repeat decided more events than the first request did.
            return await self._first_result(context, otherwise=reused)
        if appended.replayed:
            return await self._first_result(context, otherwise=EventIdsReused(stream_id))
        state = self._decider.fold(events, state)
        self._cache.keep(self._decider, stream_id, appended.version, state, new[-1].event_id)
        self._offer(stream_id, version, appended.version, state)
        return Committed(stream_id, appended.version, appended.position, state, replayed=False)

    async def _first_result(
        self, context: CommandContext, *, otherwise: Committed[S] | Exception
    ) -> Committed[S]:
        """What the first request with this key led to; if there was none, or there is no key: `otherwise`."""
        if context.idempotency is not None:
            first = await self._store.find([_event_id(context.idempotency, 0)])
            if first:
                return await self._replay(context.idempotency, first[0])
        if isinstance(otherwise, Exception):
            raise otherwise
        return otherwise

    async def _replay(self, key: IdempotencyKey, first: RecordedEvent) -> Committed[S]:
        if first.metadata.idempotency_fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(key.key)
        stream = await self._store.read_stream(first.stream_id)
        last = first
        for index, recorded in enumerate(stream[first.version - 1 :]):
            if recorded.event_id != _event_id(key, index):
                break
            last = recorded
        state = self._decider.fold(recorded.event for recorded in stream[: last.version])
        return Committed(last.stream_id, last.version, last.position, state, replayed=True)

    async def _load(self, stream_id: str) -> tuple[int, S]:
        loaded = await load_state(
            self._store, self._decider, stream_id, cache=self._cache, snapshots=self._snapshots
        )
        self._offer(stream_id, loaded.base, loaded.version, loaded.state)
        return loaded.version, loaded.state

    def _offer(self, stream_id: str, base: int, version: int, state: S) -> None:
        if self._snapshots is not None:
            self._snapshots.offer(self._decider, stream_id, base, version, state)


def _log_with(stream_id: str) -> None:
    # Not unbound: what the request fails of is logged at its outermost end. It has a context of its own.
    bind_contextvars(stream_id=stream_id)


def new_events(events: Sequence[DomainEvent], context: CommandContext) -> list[NewEvent]:
    """The events ready to be appended: ids derived from the idempotency key, or fresh ones without a key."""
    key = context.idempotency
    metadata = Metadata(
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
        actor=context.actor,
        traceparent=context.traceparent,
        idempotency_fingerprint=key.fingerprint if key else None,
    )
    return [
        NewEvent(event, metadata, _event_id(key, index) if key else new_id())
        for index, event in enumerate(events)
    ]


def _event_id(key: IdempotencyKey, index: int) -> UUID:
    return derived_id("command", key.scope, key.key, str(index))

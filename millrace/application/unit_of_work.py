"""What a handler does with one batch: decide on streams, buffer the events, append them at the end.

The unit lives inside one database transaction, which its owner (the consumer) opens and commits. So a batch's
read-model changes, its appended events and its consumed positions become true together, or not at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from millrace.application.loading import load_states
from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import StateCache
from millrace.domain.decider import C, Decider, S
from millrace.domain.events import DomainEvent, Metadata, NewEvent, RecordedEvent
from millrace.postgres.database import Connection
from millrace.store import EventStore, StreamAppend, WrongExpectedVersion
from millrace.telemetry.tracing.events import Handling


@dataclass(slots=True)
class _Stream:
    """A stream as this unit sees it: as it was loaded (folded on from version `base`), and what was decided
    since."""

    decider: Decider[Any, Any]
    state: Any
    loaded_version: int
    base: int
    pending: list[NewEvent] = field(default_factory=list)


class UnitOfWork:
    """The streams that one batch touches. `connection` is the batch's transaction, for reads and read models.

    `actor` is written into the metadata of the events that are decided here: the consumer's name. Without a
    `store` (a read model needs none) only the connection can be used. With a `cache` the streams that earlier
    units loaded are read on from there, with `snapshots` others from their snapshots. `handling` has the
    batch's spans.
    """

    def __init__(
        self,
        connection: Connection,
        store: EventStore | None,
        actor: str,
        *,
        cache: StateCache | None = None,
        snapshots: Snapshots | None = None,
        handling: Handling | None = None,
    ) -> None:
        self.connection = connection
        self._store = store
        self._actor = actor
        self._cache = cache or StateCache(0)
        self._snapshots = snapshots
        self._handling = handling or Handling(actor)
        self._streams: dict[str, _Stream] = {}

    async def load(self, decider: Decider[S, C], stream_ids: Iterable[str]) -> None:
        """Read the streams that are not in this unit yet, with one query."""
        missing = [stream_id for stream_id in dict.fromkeys(stream_ids) if stream_id not in self._streams]
        if not missing:
            return
        # What is read was committed by others: this transaction appends nothing before `flush`, its last
        # statement.
        loaded = await load_states(
            self._event_store(),
            decider,
            missing,
            cache=self._cache,
            snapshots=self._snapshots,
            connection=self.connection,
        )
        for stream_id, each in loaded.items():
            self._streams[stream_id] = _Stream(decider, each.state, each.version, each.base)

    def state(self, decider: Decider[S, C], stream_id: str) -> S:
        """The stream's state, with what this unit decided so far. Raises KeyError when it was not loaded."""
        return cast("S", self._stream(decider, stream_id).state)

    def version(self, stream_id: str) -> int:
        """The stream's version, with what this unit decided so far; 0: no such stream. KeyError as above."""
        stream = self._streams[stream_id]
        return stream.loaded_version + len(stream.pending)

    async def execute(
        self, decider: Decider[S, C], stream_id: str, command: C, cause: RecordedEvent
    ) -> Sequence[DomainEvent]:
        """Decide `command` on the stream's state in this unit; returns the events that follow, already
        applied.

        `cause` is the event that the consumer reacts to. Raises CommandRefused when the decider refuses: a
        reaction that must live with a "no" has a decider that answers with an event, or with none.
        """
        await self.load(decider, [stream_id])
        events = decider.decide(self.state(decider, stream_id), command)
        self.record(decider, stream_id, events, cause)
        return events

    def record(
        self, decider: Decider[S, C], stream_id: str, events: Iterable[DomainEvent], cause: RecordedEvent
    ) -> None:
        """Buffer `events` that were decided elsewhere (for a whole batch at once) on a loaded stream."""
        stream = self._stream(decider, stream_id)
        metadata: Metadata | None = None
        for event in events:
            metadata = metadata or Metadata(
                correlation_id=cause.metadata.correlation_id,
                causation_id=str(cause.event_id),
                actor=self._actor,
                traceparent=self._handling.traceparent(cause, stream_id, event.event_type),
            )
            stream.state = decider.evolve(stream.state, event)
            stream.pending.append(NewEvent(event, metadata))

    @property
    def pending(self) -> int:
        """How many events wait for `flush`."""
        return sum(len(stream.pending) for stream in self._streams.values())

    async def flush(self) -> None:
        """Append everything buffered, in the batch's transaction; must be its last statement, and is called
        by the consumer, not by a handler (the store's append lock is held from here to the commit).

        Raises WrongExpectedVersion when another writer was faster: the transaction is lost, decide again.
        """
        appends = [
            StreamAppend(stream_id, stream.loaded_version, tuple(stream.pending))
            for stream_id, stream in self._streams.items()
            if stream.pending
        ]
        if not appends:
            return
        try:
            await self._event_store().append_in(self.connection, appends)
        except WrongExpectedVersion as conflict:
            self._cache.conflicted(conflict)
            raise

    def committed(self) -> None:
        """The batch's transaction is committed: what was decided in it need not be read again."""
        for stream_id, stream in self._streams.items():
            version = self.version(stream_id)
            if stream.pending:
                self._cache.keep(
                    stream.decider, stream_id, version, stream.state, stream.pending[-1].event_id
                )
            if self._snapshots is not None:
                self._snapshots.offer(stream.decider, stream_id, stream.base, version, stream.state)

    def _stream(self, decider: Decider[Any, Any], stream_id: str) -> _Stream:
        stream = self._streams[stream_id]
        if stream.decider is not decider:
            raise ValueError(f"stream {stream_id} was loaded with another decider")
        return stream

    def _event_store(self) -> EventStore:
        if self._store is None:
            raise RuntimeError(f"{self._actor} was given no event store: it can't read or append streams")
        return self._store

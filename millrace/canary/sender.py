"""Sends the canaries of a service: an ordinary append, which the ordinary relay sends and ordinary consumers
pass."""

from collections.abc import Callable, Sequence
from typing import LiteralString
from uuid import UUID, uuid5

from millrace.canary.streams import canary_streams
from millrace.domain.events import CanarySent, Metadata, NewEvent
from millrace.kafka.topics import Topic
from millrace.postgres.database import Pool
from millrace.postgres.guard import Guard
from millrace.runtime.loop_worker import LoopWorker
from millrace.runtime.worker import Health, Role
from millrace.store import ANY, EventStore, StreamAppend

_IDS = UUID("5b1d0c7e-52c8-4d39-9a54-6f3a3f1f8f0e")
_CLOCK: LiteralString = (
    "SELECT extract(epoch FROM clock_timestamp())::float8, epoch FROM public.store_identity"
)


class CanarySender(LoopWorker):
    """Appends a canary every `interval` seconds, to the streams of the topic's partitions in turn.

    One process of a service sends: the one that relays, as far as it knows. That alone would let two of them
    send while one has not noticed that it lost the leadership. So the id of a canary follows from the number
    of its interval since 1970 by the database's clock, which all processes share, and the store has an event
    id once: the second append of an interval is a repetition, which changes nothing. Which stream it goes to
    follows from that number too, so that nothing has to be remembered over a restart or a change of the
    leader.
    """

    role = Role.RELAY
    name = "canary"

    def __init__(
        self, *, pool: Pool, store: EventStore, topic: Topic, interval: float, leads: Callable[[], bool]
    ) -> None:
        """`interval`: seconds. `leads`: whether it is this process's turn to send."""
        super().__init__()
        self._pool = pool
        self._store = store
        self._streams = canary_streams(topic.name, topic.partitions)
        self._interval = interval
        self._leads = leads
        self._guard = Guard(self.name, self._stopping)

    def health(self) -> Health:
        """Nobody needs it; what keeps it from sending it waits out."""
        problem = self._guard.problem
        detail = problem or ("sending" if self._leads() else "another process sends")
        patience = 60.0 + 2 * self._interval
        return Health(
            alive=self.seconds_since_beat < patience, ready=not problem, detail=detail, needed=False
        )

    async def _loop(self) -> None:
        pause = 0.0

        async def turn() -> None:
            nonlocal pause
            await self._pause(pause)
            pause = 0.0  # after a failure the guard waits
            if self._stopping.is_set():
                return
            pause = await self._send_due() if self._leads() else min(1.0, self._interval)

        await self._guard.keep(turn)

    async def _send_due(self) -> float:
        """Send the canary of the interval that it is now; returns the seconds until the next one."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_CLOCK)).fetchone()
        assert row is not None, "a store has an identity"
        now, epoch = row
        number = int(now // self._interval)
        await self._send(epoch, number)
        return float((number + 1) * self._interval - now)

    async def _send(self, epoch: UUID, number: int) -> None:
        stream_id = self._streams[number % len(self._streams)]
        event_id = uuid5(_IDS, f"{epoch} {stream_id} {self._interval} {number}")
        canary = NewEvent(CanarySent(), Metadata(str(event_id)), event_id)
        await self._store.append([StreamAppend(stream_id, ANY, [canary])])


def canary_senders(
    leads: Callable[[], bool], pool: Pool, store: EventStore, topic: Topic, interval: float
) -> Sequence[CanarySender]:
    """The sender of a process, for as long as `leads()` says that its relay leads; none when `interval` is
    0."""
    return (
        [CanarySender(pool=pool, store=store, topic=topic, interval=interval, leads=leads)]
        if interval
        else []
    )

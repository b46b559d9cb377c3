"""Sends the canaries of a service: an ordinary append, which the ordinary relay sends and ordinary consumers pass."""

from collections.abc import Callable, Sequence
from typing import LiteralString
from uuid import UUID, uuid5

import psycopg

from chassis.canary.streams import canary_streams
from chassis.database import Pool, is_transient
from chassis.events import CanarySent, Metadata, NewEvent
from chassis.logging import get_logger
from chassis.loop_worker import LoopWorker
from chassis.relay import Relay
from chassis.service import Health, Role
from chassis.store import ANY, EventStore, StreamAppend
from chassis.topics import Topic

log = get_logger(__name__)

_IDS = UUID("5b1d0c7e-52c8-4d39-9a54-6f3a3f1f8f0e")
_CLOCK: LiteralString = (
    "SELECT extract(epoch FROM clock_timestamp())::float8, epoch FROM public.store_identity"
)


class CanarySender(LoopWorker):
    """Appends a canary every `interval` seconds, to the streams of the topic's partitions in turn.

    One process of a service sends: the one that relays, as far as it knows. That alone would let two of them send while
    one has not noticed that it lost the leadership. So the id of a canary follows from the number of its interval since
    1970 by the database's clock, which all processes share, and the store has an event id once: the second append of
    an interval is a repetition, which changes nothing. Which stream it goes to follows from that number too, so that
    nothing has to be remembered over a restart or a change of the leader.
    """

    role = Role.RELAY
    name = "canary"

    def __init__(
        self, pool: Pool, store: EventStore, topic: Topic, interval: float, *, leads: Callable[[], bool]
    ) -> None:
        """`interval`: seconds. `leads`: whether it is this process's turn to send."""
        super().__init__()
        self._pool = pool
        self._store = store
        self._streams = canary_streams(topic.name, topic.partitions)
        self._interval = interval
        self._leads = leads
        self._problem = ""

    def health(self) -> Health:
        """Nobody needs it; without a database it waits for one."""
        detail = self._problem or ("sending" if self._leads() else "another process sends")
        patience = 60.0 + 2 * self._interval
        return Health(
            alive=self.seconds_since_beat < patience, ready=not self._problem, detail=detail, needed=False
        )

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            await self._pause(await self._turn() if self._leads() else min(1.0, self._interval))

    async def _turn(self) -> float:
        """Send the canary of the interval that it is now; returns the seconds until the next one."""
        try:
            async with self._pool.connection() as connection:
                row = await (await connection.execute(_CLOCK)).fetchone()
            assert row is not None, "a store has an identity"
            now, epoch = row
            number = int(now // self._interval)
            await self._send(epoch, number)
        except psycopg.Error as error:
            if not is_transient(error):
                raise
            self._say(f"no database: {error}")
            return self._interval
        self._say("")
        return float((number + 1) * self._interval - now)

    async def _send(self, epoch: UUID, number: int) -> None:
        stream_id = self._streams[number % len(self._streams)]
        event_id = uuid5(_IDS, f"{epoch} {stream_id} {self._interval} {number}")
        canary = NewEvent(CanarySent(), Metadata(str(event_id)), event_id)
        await self._store.append([StreamAppend(stream_id, ANY, [canary])])

    def _say(self, problem: str) -> None:
        if bool(problem) != bool(self._problem):
            log.info("canary", problem=problem or "none any more")
        self._problem = problem


def canary_senders(
    relay: Relay, pool: Pool, store: EventStore, topic: Topic, interval: float
) -> Sequence[CanarySender]:
    """The sender beside `relay`; none when `interval` is 0."""
    return [CanarySender(pool, store, topic, interval, leads=lambda: relay.leads)] if interval else []

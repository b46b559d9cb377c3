"""The relay: tails the event store and sends what was appended to the store's topic."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import psycopg
from aiokafka.errors import KafkaError

from chassis.backoff import Backoff
from chassis.database import Pool
from chassis.events import RecordedEvent
from chassis.leader import LeaderSession
from chassis.logging import get_logger
from chassis.loop_worker import AdaptivePoll, LoopWorker
from chassis.metrics import Metrics
from chassis.relay.leadership import Leadership, LeadershipLost, open_session, try_lead
from chassis.relay.lost_topic import TopicLost, lost, require_filled
from chassis.relay.metrics import RelayMetrics
from chassis.relay.order import VersionGap, VersionOrder
from chassis.relay.publisher import LogWentBack, NotAcknowledged, Publisher, TopicNotReady, open_publisher
from chassis.service import Health, Role
from chassis.store import EventStore
from chassis.topics import Topic
from chassis.troubles import Trouble, Troubles

log = get_logger(__name__)


class RelayState(StrEnum):
    """What the relay is doing; `RelayStatus.detail` says why."""

    STARTING = "starting"
    STANDBY = "standby"
    RELAYING = "relaying"
    NO_DATABASE = "no database"
    NO_KAFKA = "no kafka"
    NO_TOPIC = "no topic"
    TOPIC_LOST = "topic lost"
    BLOCKED = "blocked"
    STOPPED = "stopped"


@dataclass(frozen=True)
class RelayStatus:
    """A snapshot for health pages. `position` and `fencing_token` are those of the last leadership here."""

    state: RelayState = RelayState.STARTING
    detail: str = ""
    position: int | None = None
    fencing_token: int | None = None
    unacknowledged: int = 0
    """Events that were sent to Kafka without an answer so far."""
    since: float = field(default_factory=time.monotonic)
    """When this status began (time.monotonic)."""


_SLOW_ACK = 5.0  # seconds after which a missing answer from Kafka shows
_LOOK_AT_HEAD = 1.0  # seconds between two looks at where the store ends, while that is out of sight

# Whatever is not in here is a programming error and ends the process.
_FAULTS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], RelayState], ...] = (
    (LeadershipLost, RelayState.STANDBY),
    (VersionGap, RelayState.BLOCKED),
    (TopicNotReady, RelayState.NO_TOPIC),
    (TopicLost, RelayState.TOPIC_LOST),
    ((KafkaError, NotAcknowledged, OSError), RelayState.NO_KAFKA),  # OSError includes TimeoutError
    (psycopg.Error, RelayState.NO_DATABASE),
)
_RETRIED = tuple(kind for kinds, _ in _FAULTS for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


class Relay(LoopWorker):
    """Sends a store's events to `topic` in position order, at least once, never with a gap in a stream.

    One process of a service leads, the others stand by. The cursor moves after the broker's acknowledgement:
    what was sent but not noted is sent again after a crash, and consumers drop what they have seen.

    Any failure ends the leadership and the producer; after a back-off everything starts anew at the cursor.
    """

    role = Role.RELAY

    def __init__(
        self,
        pool: Pool,
        url: str,
        store: EventStore,
        topic: Topic,
        source: str,
        bootstrap_servers: str,
        *,
        chunk_size: int = 1000,
        poll: AdaptivePoll | None = None,
        standby_interval: float = 1.0,
        min_interval: float = 0.005,
        ack_timeout: float = 30.0,
        backoff: Backoff | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`url` is for a session of the relay's own. `min_interval` (seconds) between two chunks makes the
        appends of a busy store share a chunk; after a quiet moment an event is sent at once."""
        super().__init__()
        self.name = f"relay {topic.name}"
        self._pool = pool
        self._url = url
        self._store = store
        self._topic = topic
        self._source = source
        self._bootstrap_servers = bootstrap_servers
        self._chunk_size = chunk_size
        self._poll = poll or AdaptivePoll(initial=0.05, maximum=1.0)
        self._standby_interval = standby_interval
        self._min_interval = min_interval
        self._ack_timeout = ack_timeout
        self._backoff = backoff or Backoff(initial=0.2, maximum=5.0)
        self._status = RelayStatus()
        self.head: int | None = None
        """The last position that it saw in the store."""
        self._asked_for_head = 0.0
        self._troubles = Troubles(pool, self.name)
        self._metrics = RelayMetrics(metrics or Metrics(), topic.name)
        self._metrics.watch(self, RelayState)

    @property
    def status(self) -> RelayStatus:
        """What the relay is doing right now."""
        return self._status

    @property
    def leads(self) -> bool:
        """Whether it is this process that relays, or would if nothing kept it from it."""
        return self._status.state not in _OTHERS_LEAD

    def health(self) -> Health:
        """Not `needed`: commands are accepted without Kafka, their events wait in the store."""
        status = self._status
        patience = 30.0 + 2 * max(self._poll.maximum, self._ack_timeout)
        detail = f"{status.state}: {status.detail}" if status.detail else str(status.state)
        waiting = time.monotonic() - status.since if status.unacknowledged else 0.0
        if waiting > _SLOW_ACK:
            detail = f"{status.unacknowledged} events sent {waiting:.0f} s ago are not acknowledged"
        return Health(
            alive=self.seconds_since_beat < patience,
            ready=status.state in (RelayState.RELAYING, RelayState.STANDBY) and waiting <= _SLOW_ACK,
            detail=detail,
            needed=False,
        )

    def _wake(self) -> None:
        self._store.wakeup.notify(from_elsewhere=True)

    async def _loop(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    async with open_session(self._url, self._topic) as session:
                        await self._stand_by_then_lead(session)
                except _RETRIED as fault:
                    self._note(fault)
                    await self._pause(self._backoff.next_delay())
        finally:
            self._enter(RelayState.STOPPED)
            await self._troubles.close()

    async def _stand_by_then_lead(self, session: LeaderSession) -> None:
        while (leadership := await try_lead(session, self._topic)) is None:
            self._enter(RelayState.STANDBY, "another process leads")
            await self._pause(self._standby_interval)
            if self._stopping.is_set():
                return
        self._status = replace(self._status, position=leadership.position)
        self.head = await self._store.head()
        async with open_publisher(
            self._topic,
            epoch=await self._store.epoch(),
            source=self._source,
            bootstrap_servers=self._bootstrap_servers,
            ack_timeout=self._ack_timeout,
        ) as publisher:
            await require_filled(leadership, publisher, self._topic, self._source)
            await self._lead(leadership, publisher)

    async def _lead(self, leadership: Leadership, publisher: Publisher) -> None:
        """Send everything beyond the cursor, and then what comes; until stopped and caught up."""
        order = VersionOrder(self._pool)
        self._enter(RelayState.RELAYING, leadership=leadership)
        self._troubles.forget()
        while True:
            self._beat()
            seen = self._store.wakeup.generation  # before the read: an append after it is not missed
            started = time.monotonic()
            chunk = await self._store.read_all(after=leadership.position, limit=self._chunk_size)
            await self._note_head(chunk, leadership)
            if chunk:
                await self._send(chunk, leadership, publisher, order)
                self._poll.reset()
                self._backoff.reset()
                if len(chunk) < self._chunk_size:
                    await asyncio.sleep(max(0.0, started + self._min_interval - time.monotonic()))
            elif self._stopping.is_set():
                return
            else:
                self._backoff.reset()
                if not await self._store.wakeup.wait(self._poll.next(), since=seen):
                    await leadership.confirm()  # quiet: is the session still there, and the topic?
                    await publisher.confirm_topic()

    async def _note_head(self, chunk: Sequence[RecordedEvent], leadership: Leadership) -> None:
        """A chunk that isn't full ends where the store ends. Behind a full one it is asked for, now and then."""
        if len(chunk) < self._chunk_size:
            self.head = chunk[-1].position if chunk else leadership.position
        elif time.monotonic() - self._asked_for_head > _LOOK_AT_HEAD:
            self._asked_for_head = time.monotonic()
            self.head = await self._store.head()

    async def _send(
        self,
        chunk: Sequence[RecordedEvent],
        leadership: Leadership,
        publisher: Publisher,
        order: VersionOrder,
    ) -> None:
        try:
            await order.check(chunk, sent=leadership.position)
        except VersionGap as gap:
            # What is in front of the gap is sound and goes out; it may hold an earlier gap.
            sound = [event for event in chunk if event.position < gap.position]
            if sound:
                await self._send(sound, leadership, publisher, VersionOrder(self._pool))
            raise
        self._status = replace(self._status, unacknowledged=len(chunk), since=time.monotonic())
        try:
            await publisher.publish(chunk)
        except LogWentBack as back:
            raise await lost(leadership, back, self._source) from back
        self._metrics.acknowledged(len(chunk), time.monotonic() - self._status.since)
        await leadership.advance(chunk[-1].position, publisher.ends)
        self._status = replace(self._status, unacknowledged=0, position=leadership.position)

    def _note(self, fault: Exception) -> None:
        state = next(state for kinds, state in _FAULTS if isinstance(fault, kinds))
        self._metrics.fault(state)
        self._enter(state, str(fault) or type(fault).__name__)
        if self.leads and self._status.position is not None:
            attempts, detail = self._backoff.attempts + 1, self._status.detail
            error = f"{state}: {detail}"
            self._troubles.note(Trouble(self._status.position, error, type(fault).__name__, attempts))

    def _enter(self, state: RelayState, detail: str = "", leadership: Leadership | None = None) -> None:
        before = self._status
        position = leadership.position if leadership else before.position
        token = leadership.fencing_token if leadership else before.fencing_token
        if (before.state, before.detail) == (state, detail):
            return  # said already
        self._status = RelayStatus(state, detail, position, token)
        level = log.info if state in _CALM else log.error if state in _STUCK else log.warning
        level("relay", topic=self._topic.name, state=str(state), detail=detail, position=position)


_OTHERS_LEAD = (RelayState.STARTING, RelayState.STANDBY, RelayState.STOPPED)
_STUCK = (RelayState.BLOCKED, RelayState.TOPIC_LOST)
_CALM = (RelayState.STARTING, RelayState.STANDBY, RelayState.RELAYING, RelayState.STOPPED)

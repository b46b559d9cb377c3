"""The relay: tails the event store and sends what was appended to the store's topic."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from millrace.domain.events import RecordedEvent
from millrace.kafka.record import FORMAT_2, RecordFormat
from millrace.kafka.topics import Topic
from millrace.postgres.database import Pool
from millrace.postgres.leader import LeaderSession
from millrace.postgres.lease import LEASE
from millrace.postgres.stalls import Stall, Stalls
from millrace.relay.comparison import TopicComparison
from millrace.relay.leadership import Leadership, open_session, try_lead
from millrace.relay.lineage import send_lineage
from millrace.relay.lost_topic import lost, require_filled
from millrace.relay.metrics import RelayMetrics
from millrace.relay.order import VersionGap, VersionOrder
from millrace.relay.publisher import MAX_BATCH_BYTES, LogWentBack, Publisher, open_publisher
from millrace.relay.refusal import Caution, RecordRefused
from millrace.relay.status import (
    CALM,
    HELD_BY_AN_EVENT,
    OTHERS_LEAD,
    RETRIED,
    STUCK,
    RelayState,
    RelayStatus,
    state_for,
)
from millrace.runtime.backoff import Backoff
from millrace.runtime.loop_worker import AdaptivePoll, LoopWorker
from millrace.runtime.worker import Health, Role
from millrace.store import EventStore
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

_SLOW_ACK = 5.0  # seconds after which a missing answer from Kafka shows
_LOOK_AT_HEAD = 1.0  # seconds between two looks at where the store ends, while that is out of sight


class Relay(LoopWorker):
    """Sends a store's events to `topic` in position order, at least once, never with a gap in a stream.

    One process of a service leads, the others stand by. The cursor moves after the broker's acknowledgement:
    what was sent but not noted is sent again after a crash, and consumers drop what they have seen.

    Any failure ends the leadership and the producer; after a back-off everything starts again at the cursor.
    Only a record that the broker refuses ends the producer alone: the leadership remembers what was
    acknowledged (refusal.py).
    """

    role = Role.RELAY

    def __init__(
        self,
        *,
        pool: Pool,
        url: str,
        store: EventStore,
        topic: Topic,
        source: str,
        bootstrap_servers: str,
        chunk_size: int = 1000,
        poll: AdaptivePoll | None = None,
        standby_interval: float = 1.0,
        min_interval: float = 0.005,
        ack_timeout: float = 30.0,
        record_format: RecordFormat = FORMAT_2,
        lease: float = LEASE,
        is_replica: bool = True,
        backoff: Backoff | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`url` is for a session of the relay's own. `min_interval` (seconds) between two chunks makes the
        appends of a busy store share a chunk; after a quiet moment an event is sent at once. `lease`
        (seconds): for so long a leader that is frozen keeps its leadership. `is_replica`: the topic is the
        store's own, which tells whether the store went back; False for a second copy of it."""
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
        self._format = record_format
        self._lease = lease
        self._is_replica = is_replica
        self._backoff = backoff or Backoff(initial=0.2, maximum=5.0)
        self._status = RelayStatus()
        self.head: int | None = None
        """The last position that it saw in the store."""
        self._asked_for_head = 0.0
        self._stalls = Stalls(pool, self.name)
        self._metrics = RelayMetrics(metrics or Metrics(), topic.name)
        self._metrics.watch(self, RelayState)

    @property
    def status(self) -> RelayStatus:
        """What the relay is doing right now."""
        return self._status

    @property
    def leads(self) -> bool:
        """Whether it is this process that relays, or would if nothing kept it from it."""
        return self._status.state not in OTHERS_LEAD

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
                except RETRIED as fault:
                    self._note(fault)
                    await self._pause(self._backoff.next_delay())
        finally:
            self._enter(RelayState.STOPPED)
            await self._stalls.close()

    async def _stand_by_then_lead(self, session: LeaderSession) -> None:
        while (leadership := await try_lead(session, self._topic, lease=self._lease)) is None:
            self._enter(RelayState.STANDBY, "another process leads")
            await self._pause(self._standby_interval)
            if self._stopping.is_set():
                return
        self._status = replace(self._status, position=leadership.position)
        try:
            await session.while_leased(
                self._lead_past_refusals(session, leadership), confirm=leadership.confirm
            )
        except RETRIED:
            # In a process that thaws its session fails, or a deadline has passed: Kafka and Postgres are
            # well.
            session.require_lease()
            raise

    async def _lead_past_refusals(self, session: LeaderSession, leadership: Leadership) -> None:
        caution = Caution(MAX_BATCH_BYTES)
        while True:
            try:
                await self._connect_then_lead(session, leadership, caution)
                return
            except RecordRefused as refusal:
                if refusal.is_found:
                    self._note(refusal)
                    await self._pause(self._backoff.next_delay())
                else:
                    log.info("relay batch refused", topic=self._topic.name, detail=str(refusal))
            if self._stopping.is_set():
                return
            await leadership.confirm()

    async def _connect_then_lead(
        self, session: LeaderSession, leadership: Leadership, caution: Caution
    ) -> None:
        self.head = await self._store.head()
        async with open_publisher(
            self._topic,
            epoch=await self._store.epoch(),
            source=self._source,
            bootstrap_servers=self._bootstrap_servers,
            ack_timeout=self._ack_timeout,
            record_format=self._format,
            batch_bytes=caution.batch_bytes,
            still_leads=session.require_lease,
        ) as publisher:
            await require_filled(leadership, self._topic, publisher.topic_id, publisher.ends, self._source)
            await self._compare(leadership.end_offsets, publisher.ends, sent=leadership.position)
            await send_lineage(self._store, leadership, publisher, self._source, self._topic, self._format)
            await self._lead(leadership, publisher, caution)

    async def _compare(self, starts: Mapping[int, int], ends: Mapping[int, int], *, sent: int) -> None:
        """Raises StoreBehind when this part of the topic has an event that the store lacks."""
        if self._is_replica:
            comparison = TopicComparison(
                topic=self._topic,
                source=self._source,
                bootstrap_servers=self._bootstrap_servers,
                store=self._store,
            )
            await comparison.require_complete(starts, ends, sent=sent)

    async def _lead(self, leadership: Leadership, publisher: Publisher, caution: Caution) -> None:
        """Send everything beyond the cursor, and then what comes; until stopped and caught up."""
        order = VersionOrder(self._pool)
        if self._status.state not in HELD_BY_AN_EVENT:
            self._gets_on(leadership)
        while True:
            self._beat()
            seen = self._store.wakeup.generation  # before the read: an append after it is not missed
            started = time.monotonic()
            chunk = await self._store.read_all(after=leadership.position, limit=self._chunk_size)
            await self._note_head(chunk, leadership)
            if chunk:
                await self._send(chunk, leadership, publisher, order, caution)
                if caution.suspects:
                    continue  # only what stands before them has been sent
                self._gets_on(leadership)
                self._poll.reset()
                self._backoff.reset()
                if len(chunk) < self._chunk_size:
                    await asyncio.sleep(max(0.0, started + self._min_interval - time.monotonic()))
            elif self._stopping.is_set():
                return
            else:
                self._backoff.reset()
                self._gets_on(leadership)
                if not await self._store.wakeup.wait(self._poll.next(), since=seen):
                    await leadership.confirm()  # quiet: is the session still there, and the topic?
                    await publisher.confirm_topic()

    async def _note_head(self, chunk: Sequence[RecordedEvent], leadership: Leadership) -> None:
        """A chunk that isn't full ends where the store ends. Behind a full one it is asked for, now and
        then."""
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
        caution: Caution,
    ) -> None:
        if caution.active:  # a part of the chunk may be left for the next time, and is then checked again
            order = VersionOrder(self._pool)
        try:
            await order.check(chunk, sent=leadership.position)
        except VersionGap as gap:
            # What is in front of the gap is sound and goes out; it may hold an earlier gap.
            sound = [event for event in chunk if event.position < gap.position]
            if sound:
                await self._send(sound, leadership, publisher, VersionOrder(self._pool), caution)
            raise
        events, singly = caution.next_of(chunk)
        if events:
            try:
                await self._publish(events, leadership, publisher, singly=singly)
            except RecordRefused as refusal:
                caution.refused(refusal)
                await self._note_sent(chunk, len(refusal.acknowledged), leadership, publisher, caution)
                raise
        caution.sent(events, singly=singly)
        await self._note_sent(chunk, len(events), leadership, publisher, caution)

    async def _publish(
        self,
        events: Sequence[RecordedEvent],
        leadership: Leadership,
        publisher: Publisher,
        *,
        singly: bool,
    ) -> None:
        self._status = replace(self._status, unacknowledged=len(events), since=time.monotonic())
        try:
            await publisher.publish(events, singly=singly)
        except LogWentBack as back:
            raise await lost(leadership, back, self._source) from back

    async def _note_sent(
        self,
        chunk: Sequence[RecordedEvent],
        acknowledged: int,
        leadership: Leadership,
        publisher: Publisher,
        caution: Caution,
    ) -> None:
        if any((foreign := publisher.take_foreign())[1]):
            # Somebody else writes to the topic. It may be a second primary of this store: before the cursor
            # moves.
            await self._compare(*foreign, sent=leadership.position)
        if acknowledged:
            self._metrics.acknowledged(acknowledged, time.monotonic() - self._status.since)
        await leadership.advance(caution.passed(chunk, leadership.position), publisher.ends)
        self._status = replace(self._status, unacknowledged=0, position=leadership.position)

    def _gets_on(self, leadership: Leadership) -> None:
        if self._status.state is not RelayState.RELAYING:
            self._enter(RelayState.RELAYING, leadership=leadership)
            self._stalls.forget()

    def _note(self, fault: Exception) -> None:
        state = state_for(fault)
        self._metrics.fault(state)
        self._enter(state, str(fault) or type(fault).__name__)
        if self.leads and self._status.position is not None:
            self._stalls.note(self._stall(fault, self._status.position))

    def _stall(self, fault: Exception, position: int) -> Stall:
        status = self._status
        error, attempts = f"{status.state}: {status.detail}", self._backoff.attempts + 1
        stall = Stall(position, error, type(fault).__name__, attempts)
        event = fault.record if isinstance(fault, RecordRefused) else None
        if event is None:
            return stall
        return replace(
            stall,
            position=event.position - 1,  # over when the event itself has passed
            event_id=event.event_id,
            event_type=event.event_type,
            stream_id=event.stream_id,
        )

    def _enter(self, state: RelayState, detail: str = "", leadership: Leadership | None = None) -> None:
        before = self._status
        position = leadership.position if leadership else before.position
        token = leadership.fencing_token if leadership else before.fencing_token
        if (before.state, before.detail) == (state, detail):
            self._status = replace(before, unacknowledged=0)
            return  # said already
        self._status = RelayStatus(state, detail, position, token)
        level = log.info if state in CALM else log.error if state in STUCK else log.warning
        level("relay", topic=self._topic.name, state=str(state), detail=detail, position=position)

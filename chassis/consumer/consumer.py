"""The consumer: the one way in which events of a topic take effect in a service."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

import psycopg
from aiokafka.errors import KafkaError

from chassis.backoff import Backoff
from chassis.consumer.incoming import Partition, read_record
from chassis.consumer.membership import ClientFault, Membership
from chassis.consumer.metrics import ConsumerMetrics
from chassis.consumer.policy import ReadingPolicy, UnknownTypes
from chassis.consumer.positions import next_offsets
from chassis.consumer.processor import BatchProcessor, Counters, Settled
from chassis.consumer.subscription import Records, Subscription
from chassis.consumer.transaction import BatchTransaction
from chassis.database import Pool
from chassis.events import DomainEvent, EventRegistry
from chassis.logging import get_logger
from chassis.loop_worker import LoopWorker, done_before
from chassis.metrics import Metrics
from chassis.reactions import BatchFunction
from chassis.service import Health, Role
from chassis.snapshots import Snapshots
from chassis.store import EventStore
from chassis.topic_ids import TopicIds
from chassis.topics import Topic
from chassis.troubles import Troubles, told

log = get_logger(__name__)

_FINISH_BATCH = 4.0  # seconds in which a batch may finish when the process stops
_HANGING = 120.0  # seconds without progress in a batch, after which only a restart helps


class Consumer(LoopWorker):
    """Applies the events of `topics` through `handler`, each exactly once in effect. See docs/consumers.md.

    `name` is the consumer group, the key of its rows in the database and the actor of what it appends.
    `handler` gets batches of events (several streams, in order within each) in a transaction: a `Reactions`, a
    `handler_for(read_model)`, or any async function of (batch, unit). Its writes, the events that it appends
    through the unit (which needs `store`) and the consumed positions are committed together. With `snapshots`, long
    streams that it decides on are loaded from near their end.

    Event types that the handler does not name are passed over; one that it names, in a version that is newer than
    `registry` knows, is parked with its stream, untried. `unknown_types` ("ignore" or "park") says what becomes of
    types that the registry doesn't know: by default they are ignored, and parked when the handler names no types.

    What it raises: a fault that passes is retried in place, for ever; anything else is tried three times, then
    the event's stream is parked and the rest flows on.
    """

    role = Role.CONSUMERS

    def __init__(
        self,
        name: str,
        topics: Sequence[Topic],
        registry: EventRegistry,
        handler: BatchFunction,
        pool: Pool,
        store: EventStore | None = None,
        *,
        bootstrap_servers: str,
        unknown_types: UnknownTypes | None = None,
        max_records: int = 2000,
        backoff: Backoff | None = None,
        blocked_retry: float = 5.0,
        snapshots: Snapshots | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(drain_timeout=9.0)
        self.name = name
        self.registry = registry
        self.generations = {topic.name: topic.generation for topic in topics}
        policy = ReadingPolicy(name, registry, handler, unknown_types)
        self.subscription = Subscription(name, topics, _event_classes(policy, registry), max_records)
        self.transaction = BatchTransaction(name, handler, pool, store, self.generations, policy, snapshots)
        measured = ConsumerMetrics(metrics or Metrics(), name)
        self._pool = pool
        self._troubles = Troubles(pool, name)
        self._processor = BatchProcessor(
            self.transaction, backoff or Backoff(initial=0.1, maximum=5.0), measured, self._troubles
        )
        self._bootstrap_servers = bootstrap_servers
        self._blocked_retry = blocked_retry
        self._membership: Membership | None = None
        self._joining = Backoff(initial=0.2, maximum=5.0)
        self._fault = "not started"
        measured.watch(
            self.counters,
            appended=lambda: self.transaction.appended,
            partitions=lambda: len(self.partitions),
            stopped=lambda: len(self._membership.blocked) if self._membership else 0,
        )

    @property
    def counters(self) -> Counters:
        """What it has done since the start of the process."""
        return self._processor.counters

    @property
    def partitions(self) -> frozenset[Partition]:
        """What is assigned to it now."""
        return self._membership.partitions if self._membership else frozenset()

    def health(self) -> Health:
        """Not alive when a batch hangs; not ready while Kafka or the database is away or a partition is stopped."""
        membership = self._membership
        blocked = [*membership.missing, *membership.blocked.values()] if membership else []
        problems = [text for text in (self._fault, self._processor.fault or "", *blocked) if text]
        return Health(
            alive=self._processor.busy_for() < _HANGING,
            ready=not problems,
            detail="; ".join(problems) or f"consuming {len(self.partitions)} partitions",
            needed=False,
        )

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            self._fault = "joining the group"
            self._membership = Membership(
                self.subscription,
                self._bootstrap_servers,
                self._settle,
                self._next_offsets,
                blocked_retry=self._blocked_retry,
                on_assignment=self._count_rebalance,
                on_commit_failure=self._count_failed_commit,
            )
            try:
                if await done_before(self._stopping, self._membership.join()):
                    self._fault = ""
                    self._joining.reset()
                    await done_before(self._stopping, self._membership.ended)
            except (KafkaError, ClientFault, OSError) as error:
                self._fault = f"Kafka: {type(error).__name__}: {error}"
                log.warning("consumer interrupted", consumer=self.name, error=self._fault)
            finally:
                await self._membership.leave(_FINISH_BATCH)
            await self._joining.wait(self._stopping)
        await self._troubles.close()
        self._fault = "stopped"

    async def _settle(
        self, records: Records, interrupt: asyncio.Event, trusted: Mapping[Partition, int]
    ) -> Settled:
        if self._membership is not None:
            self.transaction.topic_ids = self._membership.topic_ids
        batch = [
            read_record(record.topic, record, self.registry, self.generations[record.topic])
            for record in records
        ]
        return await self._processor.settle(batch, interrupt, trusted)

    async def _next_offsets(
        self, partitions: Collection[Partition], topic_ids: TopicIds
    ) -> Mapping[Partition, int] | None:
        try:
            async with self._pool.connection() as connection:
                return await next_offsets(connection, self.name, partitions, topic_ids)
        except psycopg.Error as error:
            log.debug("no answer about positions", consumer=self.name, error=told(error))
            return None

    def _count_rebalance(self) -> None:
        self.counters.rebalances += 1

    def _count_failed_commit(self) -> None:
        self.counters.failed_commits += 1


def _event_classes(policy: ReadingPolicy, registry: EventRegistry) -> list[type[DomainEvent]]:
    handles = policy.handles
    return [cls for cls in registry.classes if handles is None or cls.event_type in handles]

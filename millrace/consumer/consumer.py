"""The consumer: the one way in which events of a topic take effect in a service."""

import asyncio
import math
import time
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

import psycopg
from aiokafka.errors import KafkaError

from millrace.application.reactions import BatchFunction
from millrace.application.snapshots import Snapshots
from millrace.consumer.beginning import Begins
from millrace.consumer.beginning_rows import NotBegun
from millrace.consumer.counters import Counters
from millrace.consumer.first_start import begin
from millrace.consumer.group import ConsumerGroup, Records
from millrace.consumer.membership import ClientFault, Membership
from millrace.consumer.metrics import ConsumerMetrics
from millrace.consumer.newer import Outdated, has_newer_member, knowledge, newer_version
from millrace.consumer.policy import ReadingPolicy, UnknownTypes
from millrace.consumer.positions import next_offsets, pass_holes
from millrace.consumer.processor import BatchProcessor, Settled
from millrace.consumer.transaction import BatchTransaction
from millrace.domain.events import DomainEvent, EventRegistry
from millrace.kafka.incoming import Partition, read_record
from millrace.kafka.last_positions import last_positions
from millrace.kafka.topic_ids import TopicIds
from millrace.kafka.topics import Sources, Topic
from millrace.postgres.database import Pool
from millrace.postgres.stalls import Stalls, told
from millrace.runtime.backoff import Backoff
from millrace.runtime.errors import ReplayError
from millrace.runtime.loop_worker import LoopWorker, done_before
from millrace.runtime.worker import Health, Role
from millrace.store import EventStore
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

_FINISH_BATCH = 4.0  # seconds in which a batch may finish when the process stops
_LOOK_FOR_NEWER = 2.0  # seconds between two looks whether newer members are still in the group
_HANGING = 120.0  # seconds without progress in a batch, after which only a restart helps


class Consumer(LoopWorker):
    """Applies the events of the topics of `sources`, each of which decodes its own, through `handler`, each
    exactly once in effect. See docs/consumers.md.

    `name` is the consumer group, the key of its rows in the database and the actor of what it appends.
    `handler` gets batches of events (several streams, in order within each) in a transaction: a `Reactions`,
    a `handler_for(read_model)`, or any async function of (batch, unit). Its writes, the events that it
    appends through the unit (which needs `store`) and the consumed positions are committed together. With
    `snapshots`, long streams that it decides on are loaded from near their end.

    `begins` is for one with effects: "history", it acts on everything that its topics hold, or "now", only on
    what is recorded after its first start (first_start.py). None: a read model, which is nothing but its
    history.

    Event types that the handler does not name are passed over; one that it names, in a version that is newer
    than its topic's registry knows, is parked with its stream, untried, unless a newer member can apply it.
    `unknown_types` ("ignore" or "park") says what becomes of types that the registry doesn't know: by default
    they are ignored, and parked when the handler names no types.

    An event of its own store that a newer program wrote stops its partition. While a newer member is in the
    group, one that meets such an event, there or in a topic, leaves the group to it (newer.py).

    What it raises: a fault that passes is retried in place, forever; anything else is tried three times,
    then the event's stream is parked and the rest flows on.
    """

    role = Role.CONSUMERS

    def __init__(
        self,
        *,
        name: str,
        sources: Sources,
        handler: BatchFunction,
        pool: Pool,
        store: EventStore | None = None,
        bootstrap_servers: str,
        begins: Begins | None = None,
        unknown_types: UnknownTypes | None = None,
        max_records: int = 2000,
        backoff: Backoff | None = None,
        blocked_retry: float = 5.0,
        snapshots: Snapshots | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(drain_timeout=9.0)
        self.name = name
        self.topics = {topic.name: topic for topic in sources}
        self._registries = {topic.name: registry for topic, registry in sources.items()}
        policy = ReadingPolicy(name, handler, unknown_types)
        self._knows = knowledge([*sources.values(), store.registry if store is not None else None])
        self.group = ConsumerGroup(
            name, list(sources), _event_classes(policy, sources.values()), max_records, self._knows
        )
        self.transaction = BatchTransaction(
            consumer=name,
            handler=handler,
            pool=pool,
            store=store,
            topics=self.topics,
            policy=policy,
            snapshots=snapshots,
            begins=begins,
        )
        measured = ConsumerMetrics(metrics or Metrics(), name)
        self._pool = pool
        self._stalls = Stalls(pool, name)
        self._processor = BatchProcessor(
            transaction=self.transaction,
            backoff=backoff or Backoff(initial=0.1, maximum=5.0),
            metrics=measured,
            stalls=self._stalls,
        )
        self._bootstrap_servers = bootstrap_servers
        self.begins = begins
        self._begun = False
        self._blocked_retry = blocked_retry
        self._membership: Membership | None = None
        self._joining = Backoff(initial=0.2, maximum=5.0)
        self._fault = "not started"
        self._newer: bool | None = None
        self._looked = -math.inf
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

    def registry_of(self, topic: str) -> EventRegistry:
        """What decodes the events of a topic. A topic that is not read any more may still have parked
        records: if all topics share one registry it is that, else one that knows nothing."""
        if topic in self._registries:
            return self._registries[topic]
        known = {*self._registries.values()}
        return known.pop() if len(known) == 1 else EventRegistry([])

    def health(self) -> Health:
        """Not alive when a batch hangs; not ready while Kafka or the database is away or a partition is
        stopped."""
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
            outdated = False
            self._fault = "joining the group"
            self._membership = Membership(
                group=self.group,
                bootstrap_servers=self._bootstrap_servers,
                settle=self._settle,
                next_offsets=self._next_offsets,
                move_on=self._move_on,
                newer_member=self._newer_member,
                blocked_retry=self._blocked_retry,
                on_assignment=self._count_rebalance,
                on_commit_failure=self._count_failed_commit,
            )
            try:
                if await done_before(self._stopping, self._join(self._membership)):
                    self._fault = ""
                    self._joining.reset()
                    await done_before(self._stopping, self._membership.ended)
            except Outdated as reason:
                outdated = True
                self._fault = f"left its partitions to newer processes: {reason}"
                log.warning("partitions left to newer processes", consumer=self.name, reason=str(reason))
            except (NotBegun, ReplayError, psycopg.Error) as error:
                self._begun = False
                self._fault = told(error)
                log.warning("consumer interrupted", consumer=self.name, error=self._fault)
            except (KafkaError, ClientFault, OSError, MemoryError) as error:
                source = "" if isinstance(error, MemoryError) else "Kafka: "
                self._fault = f"{source}{type(error).__name__}: {error}"
                log.warning("consumer interrupted", consumer=self.name, error=self._fault)
            finally:
                await self._membership.leave(_FINISH_BATCH)
            if outdated:
                await self._stay_out()
            else:
                await self._joining.wait(self._stopping)
        await self._stalls.close()
        self._fault = "stopped"

    async def _join(self, membership: Membership) -> None:
        """Joins the group once it is fixed where the consumer begins. Raises KafkaError, ReplayError,
        psycopg.Error."""
        if self.begins is not None and not self._begun:
            await begin(self._pool, self.name, self.topics.values(), self.begins, self._last_positions)
            self._begun = True
        await membership.join()

    async def _last_positions(self, topic: Topic) -> Mapping[UUID, int]:
        return await last_positions(self._bootstrap_servers, topic, self._registries[topic.name])

    async def _settle(
        self, records: Records, interrupt: asyncio.Event, trusted: Mapping[Partition, int]
    ) -> Settled:
        if self._membership is not None:
            self.transaction.topic_ids = self._membership.topic_ids
        batch = [
            read_record(
                record.topic, record, self._registries[record.topic], self.topics[record.topic].generation
            )
            for record in records
        ]
        if (newer := newer_version(batch, self.transaction.policy)) and await self._newer_member():
            raise Outdated(newer)  # which applies what this one would have to park
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

    async def _move_on(self, holes: Mapping[Partition, tuple[int, int]], topic_ids: TopicIds) -> bool:
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await pass_holes(connection, self.name, holes, topic_ids)
        except psycopg.Error as error:
            log.debug("no answer about positions", consumer=self.name, error=told(error))
            return False
        return True

    async def _newer_member(self) -> bool | None:
        """As in newer.py; asked again after a moment, however many batches want to know."""
        if time.monotonic() - self._looked >= _LOOK_FOR_NEWER:
            try:
                self._newer = await has_newer_member(self._bootstrap_servers, self.name, self._knows)
            except (KafkaError, OSError) as error:
                log.debug("no answer about the group", consumer=self.name, error=told(error))
                self._newer = None
            self._looked = time.monotonic()
        return self._newer

    async def _stay_out(self) -> None:
        """Returns when no newer member is in the group, or when stopped. To join earlier would take
        partitions from the newer members, and hold them up at the next event that they wrote."""
        looking = Backoff(initial=_LOOK_FOR_NEWER, maximum=_LOOK_FOR_NEWER)
        while not await looking.wait(self._stopping):
            if await self._newer_member() is False:
                return

    def _count_rebalance(self) -> None:
        self._looked = -math.inf  # there may be other members
        self.counters.rebalances += 1

    def _count_failed_commit(self) -> None:
        self.counters.failed_commits += 1


def _event_classes(policy: ReadingPolicy, registries: Iterable[EventRegistry]) -> list[type[DomainEvent]]:
    handles = policy.handles
    classes = dict.fromkeys(cls for registry in registries for cls in registry.classes)
    return [cls for cls in classes if handles is None or cls.event_type in handles]

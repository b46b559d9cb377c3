"""One batch, one transaction: what is written, what is appended and how far it got, all or nothing."""

from collections.abc import Mapping, Sequence

from millrace.application.reactions import BatchFunction
from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import StateCache
from millrace.application.unit_of_work import UnitOfWork
from millrace.canary.passed import note_passed
from millrace.consumer import parking, positions
from millrace.consumer.beginning import Begins
from millrace.consumer.plan import Failure, Plan, make_plan
from millrace.consumer.policy import ReadingPolicy
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming, Partition
from millrace.kafka.topic_ids import TopicIds
from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection, Pool
from millrace.store import EventStore
from millrace.telemetry.tracing.events import Handling


class BatchTransaction:
    """Applies batches for one consumer. Knows nothing of Kafka, so that `redrive` can use it too."""

    notes_canaries = True
    """Whether it is the live consumer, whose time a canary shows."""

    def __init__(
        self,
        *,
        consumer: str,
        handler: BatchFunction,
        pool: Pool,
        store: EventStore | None,
        topics: Mapping[str, Topic],
        policy: ReadingPolicy,
        snapshots: Snapshots | None = None,
        begins: Begins | None = None,
    ) -> None:
        """`begins`: what a consumer with effects declares; None: it acts on everything, and nothing is noted
        of it."""
        self.consumer = consumer
        self.pool = pool
        self._handler = handler
        self.policy = policy
        self._store = store
        self._topics = topics
        self._cache = StateCache()
        self._snapshots = snapshots
        self._begins = begins
        self.topic_ids: TopicIds = {}
        """The topics that the offsets of the next batch are of; not known where nothing is said."""
        self.appended = 0
        """Events that were appended in the transactions of batches so far."""

    async def apply(
        self,
        batch: Sequence[Incoming],
        *,
        trusted: Mapping[Partition, int] | None = None,
        failure: Failure | None = None,
    ) -> Plan:
        """Carry out `batch` and return what became of each record; whatever is raised leaves no trace of it.

        See `make_plan` for `trusted` and `failure`.
        """
        with Handling(self.consumer) as handling:
            plan, unit = await self._commit(batch, trusted or {}, failure, handling)
        unit.committed()
        self.appended += unit.pending
        self.announce(unit)
        return plan

    async def _commit(
        self,
        batch: Sequence[Incoming],
        trusted: Mapping[Partition, int],
        failure: Failure | None,
        handling: Handling,
    ) -> tuple[Plan, UnitOfWork]:
        async with self.pool.connection() as connection, connection.transaction():
            known = await positions.lock_and_read(
                connection,
                self.consumer,
                batch,
                self.topic_ids,
                verified=self._store is not None,
                begun=self._begins is not None,
            )
            plan = make_plan(
                batch,
                known,
                topics=self._topics,
                trusted=trusted,
                policy=self.policy,
                failure=failure,
            )
            wanted = [item for item in plan.apply if item.event and self.policy.concerns(item.event)]
            handling.begin(wanted)
            unit = UnitOfWork(
                connection,
                self._store,
                self.consumer,
                cache=self._cache,
                snapshots=self._snapshots,
                handling=handling,
            )
            if wanted:
                await self._handler([item.event for item in wanted if item.event], unit)
            await parking.set_aside(connection, self.consumer, plan.set_aside)
            await parking.park(connection, self.consumer, plan.park)
            if plan.next_offsets:
                # What was seen beyond the end of an epoch need not be among the streams of the batch.
                before = {**known.beyond, **known.versions}
                await positions.save(connection, self.consumer, plan, self.topic_ids, before)
            if self.notes_canaries:
                await note_passed(
                    connection, self.consumer, (item.event for item in plan.apply if item.event)
                )
            await unit.flush()  # last: the store's append lock is held from here to the commit
        return plan, unit

    def unit_for_parked(self, connection: Connection) -> UnitOfWork:
        """For `apply_parked`, inside the caller's transaction. Flush it last; announce it after the
        commit."""
        # Without the cache: the caller's transaction may have appended before, and may yet be rolled back.
        return UnitOfWork(connection, self._store, self.consumer, snapshots=self._snapshots)

    async def apply_parked(self, event: RecordedEvent, unit: UnitOfWork) -> None:
        """The handler alone, for a redrive or its rehearsal."""
        if self.policy.concerns(event):
            await self._handler([event], unit)

    def announce(self, unit: UnitOfWork) -> None:
        """Behind the commit: anyone who tails the store learns of the unit's events."""
        if unit.pending and self._store is not None:
            self._store.wakeup.notify()

"""One batch, one transaction: what is written, what is appended and how far it got, all or nothing."""

from collections.abc import Mapping, Sequence

from chassis.canary.passed import note_passed
from chassis.consumer import parking, positions
from chassis.consumer.incoming import Incoming, Partition
from chassis.consumer.plan import Failure, Plan, make_plan
from chassis.consumer.policy import ReadingPolicy
from chassis.database import Connection, Pool
from chassis.events import RecordedEvent
from chassis.reactions import BatchFunction
from chassis.snapshots import Snapshots
from chassis.state_cache import StateCache
from chassis.store import EventStore
from chassis.topic_ids import TopicIds
from chassis.tracing.events import Handling
from chassis.unit_of_work import UnitOfWork


class BatchTransaction:
    """Applies batches for one consumer. Knows nothing of Kafka, so that `redrive` can use it too."""

    notes_canaries = True
    """Whether it is the live consumer, whose time a canary shows."""

    def __init__(
        self,
        consumer: str,
        handler: BatchFunction,
        pool: Pool,
        store: EventStore | None,
        generations: Mapping[str, int],
        policy: ReadingPolicy,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.consumer = consumer
        self.pool = pool
        self._handler = handler
        self.policy = policy
        self._store = store
        self._generations = generations
        self._cache = StateCache()
        self._snapshots = snapshots
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
            known = await positions.lock_and_read(connection, self.consumer, batch, self.topic_ids)
            plan = make_plan(
                batch,
                known,
                generations=self._generations,
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
            await parking.park(connection, self.consumer, plan.park)
            if plan.next_offsets:
                await positions.save(
                    connection,
                    self.consumer,
                    next_offsets=plan.next_offsets,
                    topic_ids=self.topic_ids,
                    positions=plan.positions,
                    versions=plan.versions,
                    before=known.versions,
                )
            if self.notes_canaries:
                await note_passed(
                    connection, self.consumer, (item.event for item in plan.apply if item.event)
                )
            await unit.flush()  # last: the store's append lock is held from here to the commit
        return plan, unit

    def unit_for_parked(self, connection: Connection) -> UnitOfWork:
        """For `apply_parked`, inside the caller's transaction. Flush it last; announce it after the commit."""
        # Without the cache: the caller's transaction may have appended before, and may yet be rolled back.
        return UnitOfWork(connection, self._store, self.consumer, snapshots=self._snapshots)

    async def apply_parked(self, event: RecordedEvent, unit: UnitOfWork) -> None:
        """The handler alone, for a redrive or its rehearsal."""
        if self.policy.concerns(event):
            await self._handler([event], unit)

    def announce(self, unit: UnitOfWork) -> None:
        """Behind the commit: whoever tails the store learns of the unit's events."""
        if unit.pending and self._store is not None:
            self._store.wakeup.notify()

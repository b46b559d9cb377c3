"""Getting a batch done: retry what passes, find and park what does not, let everything else flow."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chassis.backoff import Backoff
from chassis.consumer.faults import is_conflict, is_passing
from chassis.consumer.incoming import Incoming, Partition
from chassis.consumer.metrics import ConsumerMetrics
from chassis.consumer.plan import Blocked, Failure, Plan, Skipped
from chassis.consumer.transaction import BatchTransaction
from chassis.logging import get_logger
from chassis.tracing import trace_id
from chassis.troubles import Trouble, Troubles, told

log = get_logger(__name__)

ATTEMPTS = 3
"""How often a single event is tried before it is parked."""


class Interrupted(Exception):
    """The partitions were taken away, or the process stops: the batch is abandoned, nothing of it is half done."""


@dataclass(slots=True)
class Counters:
    """What a consumer has done since its start."""

    batches: int = 0
    applied: int = 0
    duplicates: int = 0
    parked: int = 0
    retries: int = 0
    failed_commits: int = 0
    rebalances: int = 0
    """How often partitions were assigned."""


@dataclass(slots=True)
class Settled:
    """How far each partition of a batch got."""

    next_offsets: dict[Partition, int] = field(default_factory=dict)
    blocked: dict[Partition, Blocked] = field(default_factory=dict)
    skipped: dict[Partition, Skipped] = field(default_factory=dict)

    def add(self, plan: Plan) -> None:
        """A part of the batch is done."""
        self.next_offsets.update(plan.next_offsets)
        self.blocked.update(plan.blocked)
        self.skipped.update(plan.skipped)

    def stopped(self, partition: Partition) -> bool:
        """Whether the rest of this partition has to wait."""
        return partition in self.blocked or partition in self.skipped


class BatchProcessor:
    """Settles batches through `transaction`. `fault` is what it is retrying at this moment, for people.

    What it can't get past it notes in `troubles`, and goes on trying meanwhile.
    """

    def __init__(
        self,
        transaction: BatchTransaction,
        backoff: Backoff,
        metrics: ConsumerMetrics | None = None,
        troubles: Troubles | None = None,
    ) -> None:
        self.counters = Counters()
        self.fault: str | None = None
        self._working_since: float | None = None
        self._transaction = transaction
        self._backoff = backoff
        self._metrics = metrics
        self._troubles = troubles
        self._stopped: dict[Partition, tuple[int, int]] = {}  # where it stopped, and how often there

    def busy_for(self) -> float:
        """Seconds since the last sign of life of the batch in hand; 0.0 when there is none."""
        return 0.0 if self._working_since is None else time.monotonic() - self._working_since

    async def settle(
        self, batch: Sequence[Incoming], interrupt: asyncio.Event, trusted: Mapping[Partition, int]
    ) -> Settled:
        """Apply or park every record of `batch`, except behind a place where its partition can't go on.

        Raises Interrupted, at once, when `interrupt` is set during a wait or between two attempts; what was done
        until then is committed and will be recognised.
        """
        settled = Settled()
        began = self._working_since = time.monotonic()
        try:
            await self._settle(batch, interrupt, trusted, settled)
        finally:
            self.fault = None
            self._working_since = None
        self.counters.batches += 1
        if self._metrics is not None:
            self._metrics.settled(len(batch), time.monotonic() - began)
        return settled

    async def _settle(
        self,
        batch: Sequence[Incoming],
        interrupt: asyncio.Event,
        trusted: Mapping[Partition, int],
        settled: Settled,
    ) -> None:
        """Depth first, in order: a half that fails is halved again until the failing event stands alone."""
        attempts = failures = 0
        failure: Failure | None = None
        while batch := [item for item in batch if not settled.stopped(item.source)]:
            if interrupt.is_set():
                raise Interrupted
            try:
                plan = await self._transaction.apply(batch, trusted=trusted, failure=failure)
            except Exception as error:
                attempts += 1
                if is_passing(error):
                    await self._wait(error, interrupt, batch, attempts)
                    continue
                if len(batch) > 1:
                    middle = len(batch) // 2
                    await self._settle(batch[:middle], interrupt, trusted, settled)
                    await self._settle(batch[middle:], interrupt, trusted, settled)
                    return
                if failure is not None:
                    raise  # parking it failed as well: that is our own mistake, not the event's
                failures += 1
                if failures < ATTEMPTS:
                    await self._wait(error, interrupt, batch, attempts)
                else:
                    failure = Failure(f"{error}", type(error).__name__, failures)
                    self._log_parking(batch[0], error)
            else:
                self._done(plan, batch)
                settled.add(plan)
                return

    async def _wait(
        self, error: Exception, interrupt: asyncio.Event, batch: Sequence[Incoming], attempts: int
    ) -> None:
        self.counters.retries += 1
        self._working_since = time.monotonic()
        if is_conflict(error) and self._backoff.attempts == 0:
            self._backoff.next_delay()  # the first time at once; if it goes on, with a pause
            return
        self.fault = f"{type(error).__name__}: {error}"
        self._note(batch, told(error), type(error).__name__, attempts)
        if not is_conflict(error):
            log.warning("batch failed, trying again", consumer=self._transaction.consumer, error=self.fault)
        if await self._backoff.wait(interrupt):
            raise Interrupted

    def _note(self, batch: Sequence[Incoming], error: str, error_class: str, attempts: int) -> None:
        """The whole batch waits for it: in each partition its first record is where that stands."""
        if self._troubles is not None:
            first: dict[Partition, Incoming] = {}
            for item in batch:
                first.setdefault(item.source, item)
            self._troubles.note(
                *(self._trouble(item, error, error_class, attempts) for item in first.values())
            )

    def _trouble(self, item: Incoming, error: str, error_class: str, attempts: int) -> Trouble:
        event = item.event
        return Trouble(
            place=item.offset,
            error=error,
            error_class=error_class,
            attempts=attempts,
            where=item.source,
            topic_id=self._transaction.topic_ids.get(item.topic),
            event_id=event.event_id if event else None,
            event_type=event.event_type if event else None,
            stream_id=item.stream_id,
        )

    def _note_stops(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        if self._troubles is not None:
            self._troubles.passed(plan.next_offsets)
        for partition in self._stopped.keys() & plan.next_offsets.keys() - plan.blocked.keys():
            del self._stopped[partition]
        for partition, blocked in plan.blocked.items():
            offset, times = self._stopped.get(partition, (blocked.offset, 0))
            times = times + 1 if offset == blocked.offset else 1
            self._stopped[partition] = (blocked.offset, times)
            there = [one for one in batch if (one.source, one.offset) == (partition, blocked.offset)]
            self._note(there, blocked.reason, "Blocked", times)

    def _done(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        self._backoff.reset()
        self.fault = None
        self._note_stops(plan, batch)
        self._working_since = time.monotonic()
        self.counters.applied += len(plan.apply)
        self.counters.duplicates += plan.duplicates
        self.counters.parked += len(plan.park)
        for item, failure in plan.park:
            if failure.cause is not None:
                self._log_parking(item, failure.cause)

    def _log_parking(self, item: Incoming, error: Exception) -> None:
        log.error(
            "event parked",
            consumer=self._transaction.consumer,
            stream_id=item.stream_id,
            trace_id=trace_id(item.event.metadata.traceparent) if item.event else None,
            topic=item.topic,
            partition=item.partition,
            offset=item.offset,
            event_type=item.event.event_type if item.event else None,
            exc_info=error,
        )

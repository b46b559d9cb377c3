"""Getting a batch done: retry what passes, find and park what does not, let everything else flow."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from millrace.consumer.beginning_rows import NotBegun
from millrace.consumer.counters import Counters
from millrace.consumer.faults import is_conflict, is_passing
from millrace.consumer.metrics import ConsumerMetrics
from millrace.consumer.plan import Blocked, Failure, Plan, Skipped
from millrace.consumer.transaction import BatchTransaction
from millrace.domain.errors import MillraceError
from millrace.domain.events import UnknownEvent
from millrace.kafka.incoming import Incoming, Partition
from millrace.postgres.faults import needs_less
from millrace.postgres.stalls import Stall, Stalls, told
from millrace.runtime.backoff import Backoff
from millrace.telemetry.logging import get_logger
from millrace.telemetry.tracing import trace_id

log = get_logger(__name__)

ATTEMPTS = 3
"""How often a single event is tried before it is parked."""


class Interrupted(MillraceError):
    """The partitions were taken away, or the process stops: the batch is abandoned, nothing of it is half
    done."""


@dataclass(slots=True)
class Settled:
    """How far each partition of a batch got."""

    next_offsets: dict[Partition, int] = field(default_factory=dict)
    blocked: dict[Partition, Blocked] = field(default_factory=dict)
    skipped: dict[Partition, Skipped] = field(default_factory=dict)
    outdated: str | None = None
    """Which event of its own store this program can't read; some of the partitions are blocked for it."""

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

    What it can't get past it notes in `stalls` while it goes on trying.
    """

    def __init__(
        self,
        *,
        transaction: BatchTransaction,
        backoff: Backoff,
        metrics: ConsumerMetrics | None = None,
        stalls: Stalls | None = None,
    ) -> None:
        self.counters = Counters()
        self.fault: str | None = None
        self._working_since: float | None = None
        self._transaction = transaction
        self._backoff = backoff
        self._metrics = metrics
        self._stalls = stalls
        self._stopped: dict[Partition, tuple[int, int]] = {}  # where it stopped, and how often there

    def busy_for(self) -> float:
        """Seconds since the last sign of life of the batch in hand; 0.0 when there is none."""
        return 0.0 if self._working_since is None else time.monotonic() - self._working_since

    async def settle(
        self, batch: Sequence[Incoming], interrupt: asyncio.Event, trusted: Mapping[Partition, int]
    ) -> Settled:
        """Apply or park every record of `batch`, except behind a place where its partition can't go on.

        Raises NotBegun before anything is done. Raises Interrupted, at once, when `interrupt` is set during a
        wait or between two attempts; what was done until then is committed and will be recognised.
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
            except NotBegun:
                raise  # the consumer begins first
            except Exception as error:  # noqa: BLE001 - whatever a record leads to, it ends no process
                attempts += 1
                outdated = isinstance(error, UnknownEvent)
                if outdated and len(batch) == 1:
                    self._stop_before_newer(batch[0], error, settled)
                    return
                if not outdated and is_passing(error):
                    await self._wait(error, interrupt, batch, attempts)
                    if not (needs_less(error) and len(batch) > 1):
                        continue
                if len(batch) > 1:
                    middle = len(batch) // 2
                    await self._settle(batch[:middle], interrupt, trusted, settled)
                    await self._settle(batch[middle:], interrupt, trusted, settled)
                    return
                if failure is not None:
                    # Parking it failed as well. That is our own mistake, and stops this partition, not the
                    # process.
                    self._stop_at(batch[0], error, settled)
                    return
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

    def _stop_at(self, item: Incoming, error: Exception, settled: Settled) -> None:
        """The partition waits in front of a record that can be neither applied nor parked, and is tried
        again."""
        reason = (
            f"the record at offset {item.offset} of partition {item.partition} can be neither applied nor"
            f" parked:"
            f" {told(error)}"
        )
        log.error("record can't be parked", consumer=self._transaction.consumer, exc_info=error)
        self._block(item, reason, settled)

    def _stop_before_newer(self, item: Incoming, error: Exception, settled: Settled) -> None:
        """Its handler read a stream of the service's store that a newer program wrote. The partition waits
        for a process of that program; the event is not at fault."""
        reason = (
            f"the event at offset {item.offset} of partition {item.partition} waits for a newer"
            f" program: {error}"
        )
        self._block(item, reason, settled, type(error).__name__)
        settled.outdated = reason

    def _block(self, item: Incoming, reason: str, settled: Settled, error_class: str = "Blocked") -> None:
        plan = Plan(blocked={item.source: Blocked(item.offset, reason)})
        self._note_stops(plan, [item], error_class)
        settled.add(plan)

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
        if self._stalls is not None:
            first: dict[Partition, Incoming] = {}
            for item in batch:
                first.setdefault(item.source, item)
            self._stalls.note(*(self._stall(item, error, error_class, attempts) for item in first.values()))

    def _stall(self, item: Incoming, error: str, error_class: str, attempts: int) -> Stall:
        event = item.event
        return Stall(
            position=item.offset,
            error=error,
            error_class=error_class,
            attempts=attempts,
            where=item.source,
            topic_id=self._transaction.topic_ids.get(item.topic),
            event_id=event.event_id if event else None,
            event_type=event.event_type if event else None,
            stream_id=item.stream_id,
        )

    def _note_stops(self, plan: Plan, batch: Sequence[Incoming], error_class: str = "Blocked") -> None:
        if self._stalls is not None:
            self._stalls.passed(plan.next_offsets)
        for partition in self._stopped.keys() & plan.next_offsets.keys() - plan.blocked.keys():
            del self._stopped[partition]
        for partition, blocked in plan.blocked.items():
            offset, times = self._stopped.get(partition, (blocked.offset, 0))
            times = times + 1 if offset == blocked.offset else 1
            self._stopped[partition] = (blocked.offset, times)
            there = [one for one in batch if (one.source, one.offset) == (partition, blocked.offset)]
            self._note(there, blocked.reason, error_class, times)

    def _done(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        self._backoff.reset()
        self.fault = None
        self._note_stops(plan, batch)
        self._working_since = time.monotonic()
        self.counters.applied += len(plan.apply)
        self.counters.duplicates += plan.duplicates
        self.counters.past += plan.past
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

"""One life in the consumer group: from joining to leaving, or to the first fault of the Kafka client.

Why it is right. aiokafka moves its own position with every batch that it hands out, whether we finished it or
not; what counts are the committed offsets, and the database. So after anything that leaves a batch unfinished
no later batch may be taken until partitions are assigned again (aiokafka then starts from the committed
offsets) or this life has ended: `_assigned` says so. It changes only between awaits, in the event loop's one
thread. Should it ever be wrong, the database refuses a batch that does not follow on what it has seen
(plan.py, Skipped).

An offset belongs to one topic. A topic that is deleted and created again, or another Kafka at the same
address, would be read on at an offset of the old one, and everything before it missed. So the topics' ids are
asked for before partitions are assigned, and again behind each fetch, before the batch counts: if they are
the same, so was the topic in between. The id goes into the position rows, and an offset that was noted for
another topic is as good as none.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.client import ConnectionGroup
from aiokafka.errors import IllegalStateError, KafkaError

from millrace.consumer.group import REBALANCE_TIMEOUT, ConsumerGroup, Records
from millrace.consumer.newer import Outdated
from millrace.consumer.plan import Blocked, Skipped
from millrace.consumer.polling import PollingBroker
from millrace.consumer.processor import Interrupted, Settled
from millrace.domain.errors import MillraceError
from millrace.kafka.aiokafka_parts import client_of
from millrace.kafka.incoming import Partition
from millrace.kafka.topic_ids import TopicIds, topic_ids
from millrace.postgres.guard import Guard
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

_COMMIT_TIMEOUT = 5.0  # seconds; a commit that fails is made up for by the next one
_LEAVE_TIMEOUT = 3.0  # seconds
_REVOKE_GRACE = REBALANCE_TIMEOUT / 2  # seconds in which a batch may finish while the group waits
_LOOK_AROUND = 5.0  # seconds; aiokafka would notice a topic that is there again within five minutes


class Settle(Protocol):
    """What gets a batch done; see BatchProcessor.settle."""

    async def __call__(
        self, records: Records, interrupt: asyncio.Event, trusted: Mapping[Partition, int]
    ) -> Settled: ...


class NextOffsets(Protocol):
    """Where the database says to read on, without what was never read. None: it does not answer."""

    async def __call__(
        self, partitions: Collection[Partition], topic_ids: TopicIds
    ) -> Mapping[Partition, int] | None: ...


class MoveOn(Protocol):
    """Notes in the database that the log has nothing between two offsets. False: it does not answer."""

    async def __call__(self, holes: Mapping[Partition, tuple[int, int]], topic_ids: TopicIds) -> bool: ...


class NewerMember(Protocol):
    """Whether a member whose program knows more than this one is in the group. None: it is not known."""

    async def __call__(self) -> bool | None: ...


class ClientFault(MillraceError):
    """The Kafka client failed; only a new one helps."""


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the batches of its partitions to `settle`, and commits what was settled."""

    def __init__(
        self,
        *,
        group: ConsumerGroup,
        bootstrap_servers: str,
        settle: Settle,
        next_offsets: NextOffsets,
        move_on: MoveOn,
        newer_member: NewerMember,
        blocked_retry: float,
        on_assignment: Callable[[], None],
        on_commit_failure: Callable[[], None],
    ) -> None:
        self.partitions: frozenset[Partition] = frozenset()
        self.blocked: dict[Partition, str] = {}
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with the first fault: ClientFault, Outdated, or what `settle` raised by mistake."""
        self._topics = [topic.name for topic in group.topics]
        self.topic_ids: TopicIds = dict.fromkeys(self._topics)
        """The topics that the assigned partitions are of; without those that did not exist."""
        self._name = group.group_id
        self._settle = settle
        self._next_offsets = next_offsets
        self._move_on = move_on
        self._newer_member = newer_member
        self._blocked_retry = blocked_retry
        self._on_assignment = on_assignment
        self._on_commit_failure = on_commit_failure
        self._broker = PollingBroker(bootstrap_servers, client_id=group.group_id, on_fault=self._fault)
        self._subscriber = group.declare(self._broker, self._on_batch, listener=self)
        self._assigned = False
        self._leaving = False
        self._interrupt = asyncio.Event()
        self._batch: asyncio.Task[Settled] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._sought: dict[Partition, int] = {}
        self._told: dict[Partition, Skipped] = {}  # the last jump that was logged
        self._trusted: dict[Partition, int] = {}
        self._passed: dict[Partition, int] = {}  # ends of holes that were committed
        self._timers: set[asyncio.TimerHandle] = set()
        self._watching: asyncio.Task[None] | None = None

    @property
    def missing(self) -> list[str]:
        """What is in the way of consuming, for people: topics that do not exist."""
        return [f"topic {name} does not exist" for name in self._topics if name not in self.topic_ids]

    async def join(self) -> None:
        """Connect and join the group; returns when partitions are assigned. Raises KafkaError."""
        await self._broker.start()
        self._watching = asyncio.create_task(Guard(f"watch of {self._name}").keep(self._watch))

    async def leave(self, grace: float) -> None:
        """Finish the batch (abandon it after `grace` seconds), commit its offsets, leave the group."""
        self._leaving = True  # a rebalance that ends right now brings no more batches
        self._assigned = False
        if self._watching is not None:
            self._watching.cancel()
        await self._end_batch(grace)
        self._cancel_timers()
        self.partitions = frozenset()
        self.blocked.clear()
        # Not cancelled when it takes too long (a broker that does not answer): it then ends by itself later.
        stopping = asyncio.create_task(self._broker.stop())
        _, late = await asyncio.wait({stopping}, timeout=_LEAVE_TIMEOUT)
        if late:
            log.warning("leaving the group without an answer", consumer=self._name)
            stopping.add_done_callback(_observe)
        else:
            _observe(stopping)
        if self.ended.done() and not self.ended.cancelled():
            self.ended.exception()  # seen: no complaint about an exception that nobody fetched

    # -- batches

    async def _on_batch(self, records: Records) -> None:
        """FastStream's handler. Never raises: FastStream would log that and take the next batch."""
        if not self._assigned:
            return  # fetched before the partitions were revoked; they are read again by who owns them then
        self._idle.clear()
        self._batch = asyncio.create_task(self._settle_if_same_topics(records))
        try:
            await asyncio.wait({self._batch})
            if settled := self._outcome(self._batch):
                await self._follow(settled)
        except KafkaError as error:
            self._fault(error)
        except Exception as error:  # noqa: BLE001 - ends the consumer, and comes out of its `run`
            self._end(error)
        finally:
            self._batch.cancel()  # only alive when FastStream's task was cancelled
            self._batch = None
            self._idle.set()

    async def _settle_if_same_topics(self, records: Records) -> Settled:
        await self._require_same_topics({record.topic for record in records})
        return await self._settle(records, self._interrupt, self._trusted)

    def _outcome(self, batch: asyncio.Task[Settled]) -> Settled | None:
        """The result; None when the batch was abandoned, after which no other one of this assignment is
        taken."""
        if not batch.cancelled() and batch.exception() is None:
            return batch.result()
        self._assigned = False
        error = None if batch.cancelled() else batch.exception()
        if error is not None and not isinstance(error, Interrupted):
            self._end(error)
        return None

    async def _follow(self, settled: Settled) -> None:
        for partition, blocked in settled.blocked.items():
            self._block(partition, blocked)
        starts = await self._starts(settled.skipped) if settled.skipped else {}
        for partition, skipped in settled.skipped.items():
            self._go_back(partition, skipped, starts[partition])
        for partition in settled.next_offsets:
            # What they were sought for is behind them: the next jump is another one.
            self._sought.pop(partition, None)
            self._trusted.pop(partition, None)
            if not settled.stopped(partition):
                self.blocked.pop(partition, None)
        await self._commit(settled.next_offsets)
        if settled.outdated and await self._newer_member():
            self._end(Outdated(settled.outdated))

    async def _commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Explicit offsets of these partitions only. The database has the truth: a failure costs
        duplicates."""
        if not next_offsets:
            return
        offsets = {TopicPartition(*partition): offset for partition, offset in next_offsets.items()}
        try:
            # aiokafka retries forever while the broker is away.
            async with asyncio.timeout(_COMMIT_TIMEOUT):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            self._on_commit_failure()
            log.warning(
                "offsets not committed", consumer=self._name, error=f"{type(error).__name__}: {error}"
            )

    # -- places where a partition can't simply go on

    def _block(self, partition: Partition, blocked: Blocked) -> None:
        """Read from there again later; the other partitions flow."""
        if self.blocked.get(partition) != blocked.reason:
            log.error("partition stopped", consumer=self._name, partition=partition, reason=blocked.reason)
        self.blocked[partition] = blocked.reason
        topic_partition = TopicPartition(*partition)
        if self._seek(partition, blocked.offset):
            self._consumer.pause(topic_partition)
            timer = asyncio.get_running_loop().call_later(self._blocked_retry, self._resume, topic_partition)
            self._timers.add(timer)

    def _resume(self, topic_partition: TopicPartition) -> None:
        if self._assigned and topic_partition in self._consumer.assignment():
            self._consumer.resume(topic_partition)

    def _go_back(self, partition: Partition, skipped: Skipped, first: int) -> None:
        """The committed offset is ahead of the database: read on where the database says. The log begins at
        `first`.

        For a partition that stands at `skipped.offset`, or whose batch in hand began there. What was fetched
        before and is handed out afterwards would be taken for what lies behind a hole of the log.
        """
        if self._told.get(partition) != skipped:  # it is tried again every few seconds
            self._told[partition] = skipped
            log.warning(
                "offset ahead of the database", consumer=self._name, partition=partition, skipped=skipped
            )
        if first > skipped.expected > 0:
            reason = (
                f"{partition[0]} partition {partition[1]}: the records from offset {skipped.expected} to "
                f"{first - 1} were deleted before they were consumed; make the topic again from its store:"
                f" millrace replay"
                " republish SERVICE --recreate, with the service that writes it"
            )
            self._block(partition, Blocked(skipped.offset, reason))
        elif first > skipped.expected:  # a new consumer of a topic whose beginning is gone
            self._trust(partition, first)
        elif self._sought.get(partition) == skipped.expected:  # the log itself has a hole there
            self._trust(partition, skipped.offset)
        else:
            self._sought[partition] = skipped.expected
            self._seek(partition, skipped.expected)

    async def _starts(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Where their logs begin."""
        starts = await self._consumer.beginning_offsets([TopicPartition(*one) for one in partitions])
        return {(one.topic, one.partition): start for one, start in starts.items()}

    def _trust(self, partition: Partition, offset: int) -> None:
        self._trusted[partition] = offset
        self._seek(partition, offset)

    def _seek(self, partition: Partition, offset: int) -> bool:
        """Returns whether the partition is still ours."""
        try:
            self._consumer.seek(TopicPartition(*partition), offset)
        except IllegalStateError:
            return False
        return True

    # -- rebalances (called by aiokafka, which keeps heart-beating meanwhile and joins again when we return)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Finish or abandon the batch. Waiting for a retry is given up at once, work in hand gets a grace."""
        self._assigned = False
        await self._end_batch(_REVOKE_GRACE)
        self._cancel_timers()
        self.partitions = frozenset()
        self.blocked.clear()
        try:
            # Here, and not when they are assigned: from then on aiokafka fetches.
            self.topic_ids = await self._ask_topic_ids(self._topics)
        except KafkaError as error:
            self._fault(error)

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """From here on batches are ours; aiokafka starts from the committed offsets, without any pause."""
        self.partitions = frozenset((one.topic, one.partition) for one in assigned)
        self._interrupt = asyncio.Event()
        self._sought.clear()
        self._passed.clear()
        self._assigned = not self._leaving
        self._on_assignment()
        log.info("partitions assigned", consumer=self._name, partitions=sorted(self.partitions))

    async def _end_batch(self, grace: float) -> None:
        self._interrupt.set()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            log.warning("batch abandoned", consumer=self._name, after=grace)
            if self._batch is not None:
                self._batch.cancel()
            await self._idle.wait()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    # -- are the topics still the same?

    async def _ask_topic_ids(self, topics: Collection[str]) -> TopicIds:
        # Over the group's connection: on the others a fetch may be waiting for records.
        return await topic_ids(client_of(self._consumer), topics, group=ConnectionGroup.COORDINATION)

    async def _require_same_topics(self, topics: Collection[str]) -> None:
        """Raises ClientFault when one of them was deleted or replaced; KafkaError when nobody answers."""
        now = await self._ask_topic_ids(topics)
        for topic in topics:
            if now.get(topic, _MISSING) != self.topic_ids.get(topic, _MISSING):
                what = "was replaced by another topic of that name" if topic in now else "was deleted"
                raise ClientFault(f"topic {topic} {what if topic in self.topic_ids else 'was created'}")

    async def _watch(self) -> None:
        """What batches would show, also while no records come.

        Ends this life when a topic is another one: the next life starts right.
        """
        await asyncio.sleep(_LOOK_AROUND)
        if self._assigned:
            try:
                await self._require_same_topics(self._topics)
                await self._leave_nothing_behind()
            except ClientFault as fault:
                self._end(fault)
            except (KafkaError, TimeoutError) as error:  # the client itself waits until the broker is back
                log.debug("no answer of Kafka", consumer=self._name, error=str(error))

    async def _leave_nothing_behind(self) -> None:
        """Go back where the group's offset was ahead of the database and no record has come that would show
        it.

        An offset that somebody moved to the end hides what is before it until the next record, which may
        never come. Why it is right: while no batch is in hand the database has everything that was handed
        out, so a position beyond its rows was not reached by reading; the rows are asked for afterwards, and
        only grow. If a batch has come in between, the position has moved, and the batch itself shows what was
        skipped.
        """
        while not self._idle.is_set():
            await self._idle.wait()
        # No await between here and the rows gives way to a batch: aiokafka knows the positions, or is asked
        # later.
        begun = [TopicPartition(*one) for one in self.partitions - self.blocked.keys()]
        async with asyncio.timeout(_COMMIT_TIMEOUT):
            at = {(one.topic, one.partition): await self._consumer.position(one) for one in begun}
        rows = await self._next_offsets(at.keys(), self.topic_ids)
        if rows is None:
            return
        await self._pass_holes(
            {
                partition: (rows.get(partition, 0), offset)
                for partition, offset in at.items()
                if self._sought.get(partition, -1) == rows.get(partition, 0) < offset
                and self._consumer.handed.get(TopicPartition(*partition), 0) <= rows.get(partition, 0)
            }
        )
        ahead = {
            partition: Skipped(rows.get(partition, 0), offset)
            for partition, offset in at.items()
            if self._sought.get(partition, -1) != rows.get(partition, 0) < offset
        }
        if not ahead:
            return
        starts = await self._starts(ahead)
        for partition, skipped in ahead.items():
            # The position of an assigned partition is known, so nothing comes between this look at it and
            # going back.
            at_it = await self._consumer.position(TopicPartition(*partition)) == skipped.offset
            deleted = (
                starts[partition] > skipped.expected > 0
            )  # all of it, so that no record comes that shows it
            if self._assigned and at_it and (deleted or starts[partition] < skipped.offset):
                self._go_back(partition, skipped, starts[partition])

    async def _pass_holes(self, holes: Mapping[Partition, tuple[int, int]]) -> None:
        """The markers and aborted records of transactions come in no batch: without this the partition would
        stay behind.

        Read from the database's offset on, the log had nothing up to the position: a hole. No record from
        there on was handed out, not even one that is still on its way to `_on_batch`: that is what would be
        lost otherwise. Should a batch come meanwhile and move the rows, they stay, and the next commit is its
        own.
        """
        if not holes or not await self._move_on(holes, self.topic_ids):
            return
        still = {
            partition: end
            for partition, (_, end) in holes.items()
            if self._assigned
            and self._idle.is_set()
            and await self._consumer.position(TopicPartition(*partition)) == end
        }
        for partition in still:
            if holes[partition][
                0
            ]:  # else there is no row that could be moved, and it is known that we went back
                self._sought.pop(partition, None)
        await self._commit({one: end for one, end in still.items() if self._passed.get(one) != end})
        self._passed.update(still)

    # -- the end

    def _fault(self, error: BaseException) -> None:
        self._assigned = False
        fault = ClientFault(f"{type(error).__name__}: {error}")
        fault.__cause__ = error
        self._end(fault)

    def _end(self, error: BaseException) -> None:
        self._assigned = False
        if not self.ended.done():
            self.ended.set_exception(error)

    @property
    def _consumer(self) -> Any:
        return self._subscriber.consumer


_MISSING = UUID(int=0)  # stands for no topic, beside the None of a broker that knows no ids


def _observe(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("leaving the group failed", error=f"{type(error).__name__}: {error}")

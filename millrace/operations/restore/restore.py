"""Restoring one store from its topic: survey, then repair. See docs/restore.md."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from millrace.kafka.lineage import Lineage
from millrace.operations.definition import ServiceDefinition
from millrace.operations.replay.topic_state import open_topic_state
from millrace.operations.restore import repair, staging
from millrace.operations.restore.forks import Base, Decision, ForkOutcome, Forks
from millrace.operations.restore.repair import StoreMoved, Tail
from millrace.operations.restore.staging import OnRead
from millrace.postgres.database import Pool
from millrace.relay.comparison import history_of
from millrace.relay.cursor import Cursor, read_cursor
from millrace.relay.leadership import DISTRUSTED
from millrace.relay.lost_topic import service_of, what_is_wrong
from millrace.runtime.errors import ToolError
from millrace.store import EventStore

_ATTEMPTS = 5  # somebody may append while the store is not suspended yet


class NotRestorable(ToolError):
    """The topic was read, and what the store lacks can't be taken back from it."""


@dataclass(frozen=True)
class Survey:
    """What a restore found, and what it would do, or has done.

    `head`: the last position of the store as it is; `tail`: what the topic holds beyond, None: nothing is
    missing. `decisions`: about the events that were appended after the backup came back. `published`: how
    many of these are in the topic. `renewals`: those of the epoch that the store lacks. `topic_problem`: why
    the topic can't be the one that the store filled, None when it can. `stale`: read models (name, version)
    that had applied events which are no longer there.
    """

    head: int
    tail: Tail | None
    decisions: Sequence[Decision]
    published: int
    topic_problem: str | None
    renewals: Sequence[Lineage] = ()
    stale: Sequence[tuple[str, int]] = ()

    @property
    def outcomes(self) -> Counter[ForkOutcome]:
        """How many fork events ended how."""
        return Counter(one.outcome for one in self.decisions)


class Restore:
    """Restores the store of one service. `pool` and `store` are those of the owner of its tables."""

    def __init__(self, *, definition: ServiceDefinition, pool: Pool, store: EventStore, kafka: str) -> None:
        self._definition = definition
        self._pool = pool
        self._store = store
        self._kafka = kafka

    async def survey(self, on_read: OnRead) -> Survey:
        """Stage what the topic holds and the store lacks, and decide what becomes of the rest. Changes no
        event.

        Raises NotRestorable when the tail does not fit the store, or there is no topic; ToolError,
        KafkaError, psycopg.Error when Kafka or Postgres does not answer.
        """
        # What an earlier run staged the store may have by now: its own events would be taken for a fork.
        await staging.clear(self._pool)
        return await self._survey(on_read)

    async def _survey(self, on_read: OnRead) -> Survey:
        topic = self._definition.topic
        async with self._pool.connection() as connection:
            cursor = await read_cursor(connection, topic)
        starts, problem = await self._where_to_begin(cursor)
        history = await history_of(self._store, self._definition.source, sent=cursor.position)
        scan = await staging.stage_tail(self._pool, self._store, topic, self._kafka, history, starts, on_read)
        async with self._pool.connection() as connection:
            tail = await repair.read_tail(connection)
            head = await self._store.head()
            if tail is None:
                return Survey(head, None, [], 0, problem, scan.renewals)
            if why := await repair.what_cannot_be_restored(connection):
                raise NotRestorable(
                    f"the store can't be restored from {topic.name}: {why}. If those events are lost for"
                    f" good, run"
                    " this with --tail-lost: the store goes on where it ends now"
                )
            fork = await repair.read_fork(connection, self._store.registry)
            touched = await repair.touched_streams(connection, self._store.registry, fork)
            in_tail = await repair.ids_in_tail(connection, fork)
        forks = Forks(
            self._definition.streams, {one: self._base(one, touched[one]) for one in touched}, in_tail
        )
        published = sum(event.event_id in scan.seen and event.event_id not in in_tail for event in fork)
        return Survey(head, tail, forks.decide(fork), published, problem, scan.renewals)

    async def run(self, on_read: OnRead) -> Survey:
        """Survey, and carry it out; what is missing is put back in one transaction. Raises as `survey`."""
        await staging.clear(self._pool)
        for _ in range(_ATTEMPTS):
            survey = await self._survey(on_read)
            if survey.tail is None:
                if survey.renewals:
                    await repair.take_on_renewals(self._pool, self._definition.topic, survey.renewals)
                elif survey.topic_problem is None:  # a topic that was lost proves nothing
                    await self._store.note_verified()
                return survey
            # From here on nobody appends: the next survey, if there must be one, is the last.
            await self._store.note_behind(
                f"the store is being restored: run `millrace restore {service_of(self._definition.source)}`"
                f" again"
                " if that was interrupted"
            )
            try:
                stale = await repair.repair(
                    self._pool,
                    self._definition.topic,
                    survey.tail,
                    survey.decisions,
                    survey.head,
                    survey.renewals,
                )
            except StoreMoved:
                continue
            return replace(survey, stale=stale)
        raise ToolError("somebody keeps appending to the store: stop the service, then run this again")

    async def give_up_tail(self, by: str, on_read: OnRead) -> int:
        """The tail is lost: go on with a new epoch. Returns the position where the old one ended.

        Raises ToolError when the topic holds events that could be taken back, or when nobody can say whether
        it does.
        """
        try:
            survey: Survey | None = await self.survey(on_read)
        except NotRestorable:
            survey = None
        name = self._definition.topic.name
        if survey is not None and survey.tail is not None:
            raise ToolError(
                f"{name} holds {survey.tail.events:,} events that this store lacks: run this without"
                f" --tail-lost, to take"
                " them back"
            )
        if survey is not None and survey.topic_problem is None:
            raise ToolError(
                f"nothing is lost: {name} is the topic that this store filled, and holds no event that the"
                f" store lacks;"
                " --tail-lost is for a topic that was lost with the tail"
            )
        prefixes = [kind.prefix for kind in self._definition.streams] + ["canary-"]
        return await repair.renew_epoch(self._pool, self._definition.topic, prefixes, by)

    async def _where_to_begin(self, cursor: Cursor) -> tuple[dict[int, int], str | None]:
        """Where to read on in each partition, and why the topic is not the one that was filled up to the
        cursor."""
        topic = self._definition.topic
        async with open_topic_state(topic.name, self._kafka) as place:
            if await place.partitions() is None:
                raise NotRestorable(
                    f"topic {topic.name} does not exist at {self._kafka}: create it as your deployment"
                    f" does, then run"
                    " this again"
                )
            topic_id, ends = await place.topic_id(), await place.ends()
        problem = what_is_wrong(cursor, topic_id, ends, topic.name) if cursor.position > 0 else None
        same = cursor.topic_id == topic_id and topic_id not in (None, DISTRUSTED)
        return dict(cursor.end_offsets or {}) if same and problem is None else {}, problem

    def _base(self, stream_id: str, events: Sequence[Any]) -> Base:
        kind = next((one for one in self._definition.streams if stream_id.startswith(one.prefix)), None)
        state = None if kind is None else kind.decider.fold(event.event for event in events)
        return Base(events[-1].version, state)

"""The audit of one service: fixes the cut, carries out the checks, reports.

Memory grows with the number of streams, not of events: events and records pass by in batches, and what is kept is
a few numbers for each stream. Everything is read in sessions in which Postgres refuses every write, without a group
and without a producer.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from chassis.audit.cut import Cut, take_cut
from chassis.audit.findings import Check, Finding, Report, pending, violation
from chassis.audit.hearing import Hearing
from chassis.audit.invariants import Invariant
from chassis.audit.progress import Progress
from chassis.audit.read_models import check_read_model
from chassis.audit.records import Extent, TopicReader, open_topics
from chassis.audit.store import StoreCheck
from chassis.audit.topic import REPUBLISH, TopicCheck
from chassis.database import Pool, open_read_only_pool
from chassis.definition import ServiceDefinition
from chassis.events import CanarySent, RecordedEvent
from chassis.settings import ServiceSettings
from chassis.store import EventStore

_PAGE = 5_000  # events of the store at once


async def run_audit(
    definition: ServiceDefinition, settings: ServiceSettings, progress: Progress, *, read_models: bool = True
) -> Report:
    """Audit the service; `read_models`: also build each of them anew, to compare.

    Raises psycopg.Error, KafkaError and ReplayError when it can't look at everything.
    """
    started = time.monotonic()
    invariants = definition.invariants(settings)
    async with (
        open_read_only_pool(settings.database_url, name=f"{definition.name}-audit", max_size=3) as pool,
        EventStore(pool, definition.registry) as store,
        open_topics(settings.kafka_bootstrap_servers, definition) as reader,
    ):
        cut = await take_cut(pool, reader, definition, invariants)
        audit = _Audit(definition, pool, store, reader, cut, invariants, progress)
        checks = await audit.run()
        if read_models:
            service = definition.name.removesuffix("-service")
            checks += [await check_read_model(feed, service, settings, progress) for feed in definition.feeds]
    return Report(definition.name, cut.to_json(), checks, time.monotonic() - started)


class _Audit:
    """All checks on one cut. The topic comes first: the store's events are then looked for in what was seen."""

    def __init__(
        self,
        definition: ServiceDefinition,
        pool: Pool,
        store: EventStore,
        reader: TopicReader,
        cut: Cut,
        invariants: Sequence[Invariant],
        progress: Progress,
    ) -> None:
        self._definition = definition
        self._pool = pool
        self._store = store
        self._reader = reader
        self._cut = cut
        self._progress = progress
        self._short_name = definition.name.removesuffix("-service")
        self._invariants = {invariant: Check(invariant.name) for invariant in invariants}
        self._topic, self._sound = Check("store → topic"), Check("store")
        self._copy = TopicCheck(definition.topic, cut.epoch, self._short_name)

    async def run(self) -> list[Check]:
        """Carry them out; in the order in which they are shown."""
        hearing = Hearing(self._definition, self._cut, self._invariants)
        await self._read_topic()
        await self._read_store()
        await hearing.run(self._pool, self._reader, self._progress)
        await self._conclude()
        return [self._topic, self._sound, hearing.check, *self._invariants.values()]

    async def _read_topic(self) -> None:
        """Every record of the own topic before its end at the cut, beside the event that it claims to carry."""
        topic, check, copy = self._definition.topic, self._topic, self._copy
        extent = self._cut.extents[topic.name]
        check.add(self._declared(extent))
        if extent is None:
            return
        async with (
            self._pool.connection() as connection,
            aclosing(self._reader.read(topic, extent)) as batches,
        ):
            async for batch in batches:
                positions = {record.position for record in batch if record.position is not None}
                stored = await self._store.read_at(positions, connection=connection)
                check.add(copy.apply(batch, {event.position: event for event in stored}))
                self._progress(f"topic {topic.name}", copy.records, extent.records)
        check.figures |= {"records": copy.records, "events": copy.events, "duplicates": copy.duplicates}
        if copy.older_generations:
            check.figures["records of older generations"] = copy.older_generations

    def _declared(self, extent: Extent | None) -> Iterable[Finding]:
        topic = self._definition.topic
        if extent is None and self._cut.relayed:
            yield violation(
                "no-topic",
                f"topic {topic.name} does not exist, but the events up to position {self._cut.relayed} were sent to it",
                f"create it, then {REPUBLISH.format(service=self._short_name)}",
                topic=topic.name,
            )
        if extent is not None and len(extent.ends) != topic.partitions:
            yield violation(
                "partition-count",
                f"topic {topic.name} has {len(extent.ends)} partitions, declared are {topic.partitions}",
                "another number of partitions is a new generation of the topic (docs/relay.md)",
                topic=topic.name,
            )

    async def _read_store(self) -> None:
        """Every event up to the head: is the store sound, is the event in the topic, what do invariants say?"""
        store, relayed, head = StoreCheck(), self._cut.relayed, self._cut.head
        first_waiting: RecordedEvent | None = None
        waiting = 0
        async with aclosing(self._store.batches(until=head, size=_PAGE)) as batches:
            async for batch in batches:
                for event in batch:
                    self._sound.add(store.apply(event))
                    if event.position <= relayed:
                        self._topic.add(self._copy.missing(event))
                    else:
                        first_waiting = first_waiting or event
                        waiting += 1
                    if store.readable and event.event_type != CanarySent.event_type:
                        for invariant, check in self._invariants.items():
                            check.add(invariant.apply(event))
                self._progress("store", batch[-1].position, head)
        if first_waiting is not None:
            self._topic.add([_not_relayed(first_waiting, waiting, relayed)])
        self._sound.figures |= {
            "events": store.events,
            "streams": store.streams,
            "clock steps back": store.clock_steps_back,
        }

    async def _conclude(self) -> None:
        async with self._pool.connection() as connection:
            for invariant, check in self._invariants.items():
                check.add(await invariant.conclude(connection, self._cut.relayed))
                check.figures |= invariant.figures


def _not_relayed(first: RecordedEvent, count: int, relayed: int) -> Finding:
    return pending(
        "not-relayed",
        f"{count} events are not relayed yet: the relay is at position {relayed}, the next event was recorded at"
        f" {first.recorded_at:%Y-%m-%d %H:%M:%S} UTC",
        "the relay's state is in /readyz",
        position=first.position,
        events=count,
    )

"""The audit of one service: fixes the snapshot, carries out the checks, reports.

Memory grows with the number of streams, not of events: events and records pass by in batches, and what is
kept is a few numbers for each stream. Everything is read in sessions in which Postgres refuses every write,
without a group and without a producer.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing

from millrace.domain.events import CanarySent, RecordedEvent
from millrace.operations.audit.consumed import ConsumedCheck
from millrace.operations.audit.findings import Check, Finding, Report, pending, violation
from millrace.operations.audit.invariants import Invariant
from millrace.operations.audit.progress import AuditProgress
from millrace.operations.audit.read_models import check_read_model
from millrace.operations.audit.records import Extent, TopicReader, open_topics
from millrace.operations.audit.snapshot import Snapshot, take_snapshot
from millrace.operations.audit.store import StoreCheck
from millrace.operations.audit.topic import RECREATE, REPUBLISH, TopicCheck
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Pool, open_read_only_pool
from millrace.process.settings import ServiceSettings
from millrace.store import EventStore

_PAGE = 5_000  # events of the store at once


async def run_audit(
    definition: ServiceDefinition,
    settings: ServiceSettings,
    progress: AuditProgress,
    *,
    read_models: bool = True,
) -> Report:
    """Audit the service; `read_models`: also build each of them again, to compare.

    Raises psycopg.Error, KafkaError and ReplayError when it can't look at everything.
    """
    started = time.monotonic()
    invariants = definition.invariants(settings)
    async with (
        open_read_only_pool(settings.database_url, name=f"{definition.name}-audit", max_size=3) as pool,
        EventStore(pool, definition.registry) as store,
        open_topics(settings.kafka_bootstrap_servers, definition) as reader,
    ):
        snapshot = await take_snapshot(pool, reader, definition, invariants)
        audit = _Audit(
            definition=definition,
            pool=pool,
            store=store,
            reader=reader,
            snapshot=snapshot,
            invariants=invariants,
            progress=progress,
        )
        checks = await audit.run()
        if read_models:
            service = definition.name.removesuffix("-service")
            checks += [
                await check_read_model(feed, service, settings, snapshot, progress)
                for feed in definition.feeds
            ]
    return Report(definition.name, snapshot.to_json(), checks, time.monotonic() - started)


class _Audit:
    """All checks on one snapshot. The topic comes first: the store's events are then looked for in what was
    seen."""

    def __init__(
        self,
        *,
        definition: ServiceDefinition,
        pool: Pool,
        store: EventStore,
        reader: TopicReader,
        snapshot: Snapshot,
        invariants: Sequence[Invariant],
        progress: AuditProgress,
    ) -> None:
        self._definition = definition
        self._pool = pool
        self._store = store
        self._reader = reader
        self._snapshot = snapshot
        self._progress = progress
        self._short_name = definition.name.removesuffix("-service")
        self._invariants = {invariant: Check(invariant.name) for invariant in invariants}
        self._topic, self._sound = Check("store → topic"), Check("store")
        self._copy = TopicCheck(
            definition.topic,
            snapshot.epoch,
            self._short_name,
            source=definition.source,
            ended=snapshot.ended,
            head=snapshot.head,
            beginning_deleted=_beginning_deleted(snapshot.extents[definition.topic.name]),
        )

    async def run(self) -> list[Check]:
        """Carry them out; in the order in which they are shown."""
        consumed = ConsumedCheck(self._definition, self._snapshot, self._invariants)
        await self._read_topic()
        await self._read_store()
        await consumed.run(self._pool, self._reader, self._progress)
        await self._conclude()
        return [self._topic, self._sound, consumed.check, *self._invariants.values()]

    async def _read_topic(self) -> None:
        """Every record of the service's topic before its end at the snapshot, beside the event that it
        claims to carry."""
        topic, check, copy = self._definition.topic, self._topic, self._copy
        extent = self._snapshot.extents[topic.name]
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
                at = {event.position: event for event in stored}
                elsewhere = [
                    one.event.event_id
                    for one in batch
                    if one.event
                    and (here := at.get(one.event.position))
                    and here.event_id != one.event.event_id
                ]
                check.add(copy.apply(batch, at, await self._store.find_anywhere(elsewhere)))
                self._progress(f"topic {topic.name}", copy.records, extent.records)
        check.figures |= {"records": copy.records, "events": copy.events, "duplicates": copy.duplicates}
        if copy.lineage_records:
            check.figures["lineage records"] = copy.lineage_records
        if copy.lost_for_good:
            check.figures["records of events that are lost for good"] = copy.lost_for_good
        if copy.older_generations:
            check.figures["records of older generations"] = copy.older_generations

    def _declared(self, extent: Extent | None) -> Iterable[Finding]:
        topic = self._definition.topic
        if extent is None and self._snapshot.relayed:
            yield violation(
                "no-topic",
                f"topic {topic.name} does not exist, but the events up to position {self._snapshot.relayed}"
                f" were sent to it",
                f"create it, then {REPUBLISH.format(service=self._short_name)}",
                topic=topic.name,
            )
        if extent is not None and len(extent.ends) != topic.partitions:
            yield violation(
                "partition-count",
                f"topic {topic.name} has {len(extent.ends)} partitions, declared are {topic.partitions}",
                f"{RECREATE.format(service=self._short_name)}; or declare the other number with a new"
                f" generation",
                topic=topic.name,
            )

    async def _read_store(self) -> None:
        """Every event up to the head: is the store sound, is the event in the topic, what do invariants
        say?"""
        store, relayed, head = StoreCheck(), self._snapshot.relayed, self._snapshot.head
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
                check.add(await invariant.conclude(connection, self._snapshot.relayed))
                check.figures |= invariant.figures


def _not_relayed(first: RecordedEvent, count: int, relayed: int) -> Finding:
    return pending(
        "not-relayed",
        f"{count} events are not relayed yet: the relay is at position {relayed}, the next event was"
        f" recorded at"
        f" {first.recorded_at:%Y-%m-%d %H:%M:%S} UTC",
        "the relay's state is in /readyz",
        position=first.position,
        events=count,
    )


def _beginning_deleted(extent: Extent | None) -> bool:
    return extent is not None and any(extent.starts.values())

"""Two services for audits: one writes a topic, the other (which is audited) hears it and echoes every
event."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from aiokafka import AIOKafkaProducer

from infra.testing import KafkaServer, PostgresServer, unique
from millrace.application.reactions import Reactions
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import Begins, Subscription
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.kafka.topics import Topic
from millrace.operations.audit.audit import run_audit
from millrace.operations.audit.findings import Finding, Report, Severity, violation
from millrace.operations.audit.invariants import Invariant, Place
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Connection
from millrace.process.settings import ServiceSettings
from millrace.read_models.model import ReadModel
from millrace.read_models.projector import Projector
from millrace.relay import Relay
from millrace.runtime.loop_worker import LoopWorker
from tests.integration.store_kit import REGISTRY, SOURCE, Counted, StoreKit, open_store_kit
from tests.support import eventually

PARTITIONS = 3
_ADD: LiteralString = """
    INSERT INTO totals AS t SELECT stream_id, sum(n) FROM unnest(%s::text[], %s::int[]) AS e(stream_id, n)
        GROUP BY 1
    ON CONFLICT (stream_id) DO UPDATE SET total = t.total + excluded.total
"""


class Totals(ReadModel):
    """The sum of each stream's numbers, of the service's store. Adding twice, or not at all, would show."""

    name = "totals"
    version = 1
    tables: LiteralString = "CREATE TABLE totals (stream_id text PRIMARY KEY, total bigint NOT NULL)"
    handles = frozenset({"Counted"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        numbers = [event.event.n for event in events if isinstance(event.event, Counted)]
        await connection.execute(_ADD, ([event.stream_id for event in events], numbers))


class HeardTotals(Totals):
    """The same, of the topic that is heard."""

    name = "heard"


def _echo(_state: int, n: int) -> Sequence[DomainEvent]:
    return [Counted(n=n)]


ECHO: Decider[int, int] = Decider(initial=0, decide=_echo, evolve=lambda state, event: state + 1)


class EveryEventIsEchoed(Invariant):
    """As many echoes as consumed events: one more, or one less, would show."""

    name = "echoes"

    def __init__(self, consumer: str) -> None:
        self.listens = (consumer,)
        self._echoes: dict[str, int] = {}

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        assert isinstance(recorded.event, Counted), "only what happened in the domain is shown to it"
        self._echoes[recorded.stream_id] = recorded.version
        return ()

    def heard(self, recorded: RecordedEvent, place: Place) -> Iterable[Finding]:
        if place.consumed and self._echoes.get(f"echo-{recorded.stream_id}", 0) < recorded.version:
            yield violation("no-echo", f"{place}: {recorded.stream_id} {recorded.version}", "shout")


@dataclass
class AuditKit:
    """`speaker` writes the topic `heard`; `service` hears it, and is the one that is audited."""

    speaker: StoreKit
    service: StoreKit
    kafka: KafkaServer
    heard: Topic
    own: Topic
    producer: AIOKafkaProducer
    name: str = field(default_factory=lambda: unique("echo"))
    poison: set[int] = field(default_factory=set)
    """Events with these numbers can't be echoed."""

    @property
    def definition(self) -> ServiceDefinition:
        """What is audited."""
        return self._definition("history")

    def _definition(self, begins: Begins) -> ServiceDefinition:
        return ServiceDefinition(
            name=f"{self.name}-service",
            topic=self.own,
            registry=REGISTRY,
            projected=[Totals()],
            subscriptions=[
                Subscription(self._echoes(), {self.heard: REGISTRY}, begins=begins),
                Subscription(HeardTotals(), {self.heard: REGISTRY}),
            ],
            invariants=lambda _settings: [EveryEventIsEchoed(self.name)],
        )

    @property
    def feeding(self) -> str:
        """The name of the consumer that feeds its read model."""
        return f"{self.definition.name}.{HeardTotals().schema}"

    @property
    def settings(self) -> ServiceSettings:
        """As the audited service gets them."""
        return ServiceSettings(
            database_url=self.service.database.service, kafka_bootstrap_servers=self.kafka.bootstrap_servers
        )

    async def audit(self, **options: Any) -> Report:
        """Audit the service."""
        return await run_audit(self.definition, self.settings, lambda *_: None, **options)

    def speaking(self) -> list[LoopWorker]:
        """The speaker's relay."""
        return [self._relay(self.speaker, self.heard)]

    def telling(self) -> list[LoopWorker]:
        """What the audited service does with what is in its store."""
        return [
            self._relay(self.service, self.own),
            Projector(self.service.store, Totals(), self.service.pool),
        ]

    def hearing(self, begins: Begins = "history") -> list[LoopWorker]:
        """What the audited service does with what the speaker writes."""
        return [
            *self._definition(begins).build_consumers(self.service.pool, self.service.store, self.settings)
        ]

    def _echoes(self) -> Reactions[int, int]:
        reactions = Reactions(self.name, ECHO)

        @reactions.batch(Counted)
        async def echo(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
            await unit.load(ECHO, {f"echo-{recorded.stream_id}" for recorded in batch})
            for recorded in batch:
                event = recorded.event
                assert isinstance(event, Counted)
                if event.n in self.poison:
                    raise KeyError(f"no echo of {event.n}")
                await unit.execute(ECHO, f"echo-{recorded.stream_id}", event.n, recorded)

        return reactions

    def _relay(self, kit: StoreKit, topic: Topic) -> Relay:
        servers = self.kafka.bootstrap_servers
        source = self.definition.source if topic == self.own else SOURCE
        return Relay(
            pool=kit.pool,
            url=kit.database.service,
            store=kit.store,
            topic=topic,
            source=source,
            bootstrap_servers=servers,
        )

    async def speaker_is_relayed(self) -> bool:
        """Whether everything that the speaker wrote is in the topic."""
        rows = await self.speaker.fetch("SELECT position FROM relay_cursor")
        return rows == [(await self.speaker.store.head(),)]

    async def settled(self) -> Report:
        """Wait until nothing is pending; the audit that says so."""

        async def nothing_left() -> Report | None:
            report = await self.audit()
            assert report.pending == 0, report.to_json()
            return report

        report = await eventually(nothing_left, 30.0, "an audit without anything pending")
        assert report is not None
        return report

    async def owner(self, statement: LiteralString, *parameters: Any) -> None:
        """What nobody may do: a change behind the back of the audited service."""
        async with await psycopg.AsyncConnection.connect(self.service.database.superuser) as connection:
            await connection.execute("ALTER TABLE events DISABLE TRIGGER append_only")
            await connection.execute(statement, parameters)
            await connection.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_only")


def found(report: Report, severity: Severity = Severity.VIOLATION) -> dict[str, list[Finding]]:
    """Kind -> what was found."""
    return {kind: kept for check in report.checks for one, kind, _, kept in check.kinds() if one is severity}


@asynccontextmanager
async def open_audit_kit(postgres: PostgresServer, kafka: KafkaServer) -> AsyncIterator[AuditKit]:
    """Two fresh databases, two fresh topics."""
    heard, own = [Topic(await kafka.create_topic(partitions=PARTITIONS), PARTITIONS) for _ in range(2)]
    databases = [await postgres.create_database() for _ in range(2)]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    await producer.start()
    try:
        async with (
            open_store_kit(databases[0]) as speaker,
            open_store_kit(databases[1], Totals(), HeardTotals()) as service,
        ):
            yield AuditKit(speaker, service, kafka, heard, own, producer)
    finally:
        await producer.stop()
        for database in databases:
            await postgres.drop_database(database.name)
